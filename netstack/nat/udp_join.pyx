"""Datagrams of one size that follow each other, as one message.

A burst of datagrams between the same two ends costs a walk through the kernel's stack for each. As one message
(``UDP_SEGMENT`` towards the host, a super-frame towards a guest whose link takes them) it costs one, and is cut again
where it arrives, or not at all. The last one may be shorter, as for TCP's segments; what differs in anything else
(destination, TTL, TOS) begins a new message, so that order and contents are as if nothing had been joined.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from netstack.host.message cimport UDP_MAX_SEGMENTS, udp_message


cdef bint udp_joins(const udp_message *last, uint32_t length, uint8_t ttl, uint8_t tos, const uint8_t *addr,
                    uint16_t port) noexcept nogil:
    cdef uint32_t size = last.gso_size if last.gso_size else last.length
    if length == 0 or length > size or last.length % size or last.length + length > UDP_JOINED_MOST:
        return False
    if last.length >= UDP_MAX_SEGMENTS * size or last.port != port or last.tos != tos or last.ttl != ttl:
        return False
    return memcmp(last.addr, addr, 16) == 0


cdef void udp_join(udp_message *last, uint32_t length) noexcept nogil:
    if last.gso_size == 0:
        last.gso_size = <uint16_t>last.length
    last.length += length


cdef int udp_join_run(udp_message *m, int n, uint32_t room, uint32_t longest) noexcept nogil:
    """longest: bytes of a datagram that one frame can carry; larger ones stay as they are."""
    cdef int k = 1
    if m.gso_size or m.length > longest or m.length == 0:
        return 1
    while k < n and m[k].gso_size == 0 and m.length + m[k].length <= room \
            and udp_joins(m, m[k].length, m[k].ttl, m[k].tos, m[k].addr, m[k].port):
        memcpy(m.data + m.length, m[k].data, m[k].length)
        udp_join(m, m[k].length)
        k += 1
    return k


cdef uint32_t udp_datagrams(const udp_message *m) noexcept nogil:
    return (m.length + m.gso_size - 1) // m.gso_size if m.gso_size and m.length > m.gso_size else 1
