# DF and the MTU of paths: what guests learn of them for their datagrams (TCP's segments are the host's own).
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t

cdef enum fragments_mode:       # what a socket of the host does with a datagram that is longer than its path's MTU
    FRAGMENTS_UNSET = 0
    FRAGMENTS_ALLOWED = 1
    FRAGMENTS_NONE = 2          # DF, and -EMSGSIZE where this host knows the MTU

cdef inline uint8_t fragments_of(const packet *p) noexcept nogil:
    return FRAGMENTS_NONE if p.ip.dont_fragment else FRAGMENTS_ALLOWED

# Has the socket treat what follows as the guest's DF says; mode is what it does now.
cdef void fragments_set(int fd, uint8_t *mode, uint8_t wanted) noexcept nogil
# The next-hop MTU for an ICMP error about an IPv4 packet of length bytes to addr: what this system knows of the path,
# else the largest common MTU below the length (RFC 1191 section 7.1).
cdef uint32_t path_mtu(const nat_t *nat, const uint8_t *addr, uint32_t length) noexcept nogil
# Tells a guest that a packet of it was too long for the path to addr.
cdef void path_too_long(nat_t *nat, const packet *p, const uint8_t *addr, uint64_t now_ns) noexcept nogil
