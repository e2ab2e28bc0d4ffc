# Ethernet frames as messages: one frame in each datagram or packet.
from libc.stdint cimport uint8_t, uint32_t
from netstack.link.link cimport link_t

cdef enum datagram_kind:
    DATAGRAM_CONNECTED = 0      # a connected datagram socket (a socketpair); a refusal ends the link
    DATAGRAM_PACKETS = 1        # SOCK_SEQPACKET, connected (BESS); the other side's end ends the link
    DATAGRAM_LEARN = 2          # a bound datagram socket (Unix or UDP): whoever speaks first is the other side

# A link over a socket that it owns from here on. NULL: no memory or no descriptor is left; nothing was taken then.
cdef link_t *datagram_link_new(int fd, int kind, uint32_t mtu) noexcept nogil
