"""What is said when a dialled connection is there: to the client on the host, and to the guest.

Both come before any byte that the two say themselves. So a proxy that has read its client's request hands the client's
own socket over, and takes no further part: the engine sends the reply "connected" in front of the guest's first byte,
and the request's rewritten head in front of the client's next.
"""
from libc.errno cimport ENOBUFS
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from netstack.host.sockets cimport sock_send
from netstack.nat.flow cimport opening_t, tcp_flow
from netstack.storage.ring cimport ring_span
from netstack.tcp.tcb cimport tcp_write_spans, tcp_wrote


cdef opening_t *opening_new(const uint8_t *to_host, uint32_t n_host, const uint8_t *to_guest,
                            uint32_t n_guest) noexcept nogil:
    cdef opening_t *o = <opening_t *>malloc(sizeof(opening_t) + n_host + n_guest)
    if o == NULL:
        return NULL
    o.n_host = n_host
    o.n_guest = n_guest
    memcpy(o + 1, to_host, n_host)
    memcpy(<uint8_t *>(o + 1) + n_host, to_guest, n_guest)
    return o


cdef bint write_down(tcp_flow *flow, const uint8_t *data, uint32_t length, uint64_t now_ns) noexcept nogil:
    cdef ring_span[2] spans
    cdef uint32_t n
    cdef int i, k
    while length:
        k = tcp_write_spans(&flow.tcb, length, spans)
        if k == 0:
            return False
        for i in range(k):
            n = spans[i].length if spans[i].length < length else length
            memcpy(spans[i].data, data, n)
            tcp_wrote(&flow.tcb, n, now_ns)
            data += n
            length -= n
    return True


cdef int opening_say(tcp_flow *flow, uint64_t now_ns) noexcept nogil:
    cdef opening_t *o = flow.opening
    cdef const uint8_t *data = <const uint8_t *>(o + 1)
    cdef ssize_t n = 0
    flow.opening = NULL
    if o.n_host:
        n = sock_send(flow.polled.fd, data, o.n_host)
        if n >= 0:                      # a client's socket that has sent so little takes it whole
            n = 0 if n == o.n_host else -ENOBUFS
    if n == 0 and not write_down(flow, data + o.n_host, o.n_guest, now_ns):
        n = -ENOBUFS
    free(o)
    return <int>n


cdef void opening_drop(tcp_flow *flow) noexcept nogil:
    free(flow.opening)
    flow.opening = NULL
