"""DF and the MTU of paths (RFC 1191, RFC 5508 section 7.1).

A guest's datagram with DF leaves the host with DF, one without may be cut on its way. What this host knows to be too
long for the path, a tunnel's smaller MTU or what a router has said before, is not sent, and the guest is told by ICMP;
what only a router finds out comes back through the socket's error queue.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from netstack.host.outbound cimport sock_fragments, sock_is_loopback, sock_options, sock_options_near, sock_path_mtu
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_send_icmp_error, nat_t
from netstack.wire.icmp4 cimport ICMP4_FRAG_NEEDED, ICMP4_UNREACHABLE


cdef void fragments_set(int fd, uint8_t *mode, uint8_t wanted) noexcept nogil:
    if mode[0] != wanted:
        mode[0] = wanted
        sock_fragments(fd, wanted == FRAGMENTS_ALLOWED)


cdef uint32_t path_mtu(const nat_t *nat, const uint8_t *addr, uint32_t length) noexcept nogil:
    cdef uint32_t[10] plateaus = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68]
    cdef sock_options near
    cdef int mtu, i
    if sock_is_loopback(addr):
        near = sock_options_near(&nat.options)
        mtu = sock_path_mtu(addr, &near)
    else:
        mtu = sock_path_mtu(addr, &nat.options)
    if mtu > 0:
        return <uint32_t>min(mtu, 65535)
    for i in range(9):
        if plateaus[i] < length:
            return plateaus[i]
    return plateaus[9]


cdef void path_too_long(nat_t *nat, const packet *p, const uint8_t *addr, uint64_t now_ns) noexcept nogil:
    cdef uint32_t length = p.ip.header_length + p.l4_length
    nat_send_icmp_error(nat, p.guest, 0, ICMP4_UNREACHABLE, ICMP4_FRAG_NEEDED, path_mtu(nat, addr, length), p.l3,
                        length, now_ns)
