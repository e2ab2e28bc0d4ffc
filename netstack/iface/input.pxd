# Frames from the guests: checked, parsed, and sorted by what is to be done with them.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.iface.interface cimport iface_t
from netstack.iface.packet cimport packet
from netstack.storage.frame cimport frame_meta

cdef enum:
    IFACE_DROPPED = 0       # a counter says why
    IFACE_REPLY = 1         # iface.reply holds a frame to be sent back by the same port
    IFACE_TCP = 2           # p.tcp, p.payload
    IFACE_UDP = 3           # p.udp, p.payload
    IFACE_ECHO = 4          # an echo request: p.icmp, p.l4
    IFACE_ICMP_ERROR = 5    # an ICMP error: p.icmp, whose body quotes one of our packets
    IFACE_HELD = 6          # a fragment, kept
    IFACE_ECHO_REPLY = 8    # an answer to a ping of the gateway's: p.icmp
    IFACE_UNREACHABLE = 7   # an IP protocol nobody speaks: protocol unreachable is due (RFC 1122 3.2.2.1)

# port is the switch port the frame came by. The frame is only read; p points into it (or into the reassembly
# buffer) and is
# valid until the next call.
cdef int iface_input(iface_t *f, const uint8_t *frame, uint32_t length, const frame_meta *meta, int port,
                     uint64_t now_ns, packet *p) noexcept nogil
