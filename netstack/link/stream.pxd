# Ethernet frames over a byte stream, each behind its length.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.link.link cimport link_t

cdef enum stream_framing:
    FRAMING_HYPERKIT = 0        # 16 bits, little-endian (VPNKit, HyperKit, vfkit's older relatives)
    FRAMING_QEMU = 1            # 32 bits, big-endian (QEMU -netdev stream and socket, passt, slirp helpers)
    # 32 bits, big-endian, and a virtio_net_hdr_v1, little-endian, that the length does not count: what a relay of ours
    # and serve agree on in HyperKit's handshake. Super-frames and partial checksums pass.
    FRAMING_OFFLOAD = 2

cdef enum:
    STREAM_LARGEST_QEMU = 69632     # bytes; QEMU's own buffer (NET_BUFSIZE): more is a broken peer
    STREAM_LARGEST_OFFLOAD = 65553  # bytes; the largest IP packet, Ethernet and a tag
    STREAM_SEGMENTS = 2048          # that one super-frame may stand for
    STREAM_RX = 262144              # bytes of one read
    STREAM_TX = 524288              # bytes that wait for the other side at most

# A link over connected descriptors that it owns from here on; out_fd may be read_fd (a socket) or differ (a
# pair of pipes). Both are made non-blocking. NULL: no memory, or no descriptor is left; nothing was taken
# then.
cdef link_t *stream_link_new(int read_fd, int out_fd, int framing, uint32_t mtu) noexcept nogil
