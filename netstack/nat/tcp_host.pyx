"""The host's side of a TCP flow: a descriptor that comes, is exchanged for another, fails, and goes.

An exchange is how a program that has begun a connection (a proxy's handshake, over a socket pair) gets out of its way.
Both directions end with an end of file on the old descriptor, so that nothing need be counted: the program forwards
what was still on its way to it, closes its end, and the flow goes on with the new descriptor.
"""
from libc.errno cimport EACCES, ECONNREFUSED, ECONNRESET, ENETUNREACH, EPERM
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from netstack.host.poller cimport POLL_READ, POLL_WRITE, poller_add, poller_remove
from netstack.host.sockets cimport sock_close, sock_set_abort, sock_shutdown_write
from netstack.nat.context cimport MAIL_FLOW_GONE, nat_post, nat_send_icmp_error, nat_t
from netstack.nat.flow cimport HOST_CLOSED, HOST_OPEN, HOST_PENDING, tcp_flow
from netstack.nat.tcp_entry cimport tcp_entry_quote_syn, tcp_entry_touch
from netstack.storage.counters cimport TCP_REFUSED, TCP_RESET_BY_HOST, TCP_UNREACHABLE, count
from netstack.storage.decision cimport DECIDED_FAILED, DECIDED_NOTHING
from netstack.storage.table cimport table_next
from netstack.tcp.tcb cimport tcp_abort, tcp_established_ok
from netstack.wire.icmp4 cimport ICMP4_HOST_UNREACHABLE, ICMP4_NET_UNREACHABLE, ICMP4_UNREACHABLE


cdef void tcp_host_close(nat_t *nat, tcp_flow *flow, bint abort) noexcept nogil:
    if flow.polled.fd >= 0:
        if abort:
            sock_set_abort(flow.polled.fd)
        poller_remove(nat.poller, flow.polled.fd)
        sock_close(flow.polled.fd)
        flow.polled.fd = -1
    elif flow.host == HOST_PENDING:
        nat_post(nat, MAIL_FLOW_GONE, &flow.id, sizeof(flow.id), NULL, 0)
    if flow.next_fd >= 0:
        if abort:
            sock_set_abort(flow.next_fd)
        sock_close(flow.next_fd)
        flow.next_fd = -1
    flow.host = HOST_CLOSED
    flow.host_readable = 0


cdef void tcp_host_adopt(nat_t *nat, tcp_flow *flow, int fd, uint8_t state, uint64_t now_ns) noexcept nogil:
    flow.polled.fd = fd
    flow.host = state
    if poller_add(nat.poller, fd, POLL_READ | POLL_WRITE, &flow.polled) < 0:
        sock_close(fd)
        flow.polled.fd = -1
        flow.host = HOST_CLOSED
        tcp_host_failed(nat, flow, ECONNREFUSED, now_ns)
        return
    if state == HOST_OPEN:
        tcp_host_open(nat, flow, now_ns)


cdef void tcp_host_open(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil:
    flow.host = HOST_OPEN
    flow.host_writable = 1
    tcp_established_ok(&flow.tcb, now_ns)
    tcp_entry_touch(nat, flow)


cdef void tcp_host_failed(nat_t *nat, tcp_flow *flow, int error, uint64_t now_ns) noexcept nogil:
    """Unreachable is told as ICMP as well. A host that has reset was reached: its listener went before we saw that it
    had let us in."""
    cdef uint8_t code = ICMP4_HOST_UNREACHABLE
    cdef uint8_t[28] quote
    flow.host_error = error
    if error == ECONNREFUSED or error == ECONNRESET or error == EACCES or error == EPERM:
        count(nat.counters, TCP_REFUSED)
    else:
        count(nat.counters, TCP_UNREACHABLE)
        if error == ENETUNREACH:
            code = ICMP4_NET_UNREACHABLE
        tcp_entry_quote_syn(flow, quote)
        nat.told.kind = DECIDED_FAILED
        nat.told.error = error
        nat_send_icmp_error(nat, flow.guest, 0, ICMP4_UNREACHABLE, code, 0, quote, sizeof(quote), now_ns)
        nat.told.kind = DECIDED_NOTHING
    tcp_host_close(nat, flow, False)
    tcp_abort(&flow.tcb, now_ns)
    tcp_entry_touch(nat, flow)


cdef void tcp_host_refuses(tcp_flow *flow) noexcept nogil:
    """The peer has reset. What it sent before that is still read; then the guest gets its RST."""
    flow.up_dead = 1
    flow.host_readable = 1


# --- the control plane's calls

cdef tcp_flow *flow_of(nat_t *nat, uint64_t id) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef tcp_flow *flow = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    while flow != NULL and flow.id != id:
        flow = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    return flow


cdef int tcp_host_attach(nat_t *nat, uint64_t id, int fd, uint64_t now_ns) noexcept nogil:
    cdef tcp_flow *flow = flow_of(nat, id)
    if flow == NULL or flow.host != HOST_PENDING:
        return -1
    if fd < 0:
        flow.host = HOST_CLOSED
        tcp_host_failed(nat, flow, -fd, now_ns)
    else:
        tcp_host_adopt(nat, flow, fd, HOST_OPEN, now_ns)
    return 0


cdef int tcp_host_replace(nat_t *nat, uint64_t id, int fd, uint64_t now_ns) noexcept nogil:
    cdef tcp_flow *flow = flow_of(nat, id)
    if flow == NULL or flow.host != HOST_OPEN or flow.next_fd >= 0 or flow.host_eof:
        return -1
    if fd < 0:
        flow.host_reset = 1
        flow.host_error = -fd
        count(nat.counters, TCP_RESET_BY_HOST)
        tcp_host_close(nat, flow, False)
        tcp_abort(&flow.tcb, now_ns)
    else:
        flow.next_fd = fd
        flow.host_writable = 0
        sock_shutdown_write(flow.polled.fd)
    tcp_entry_touch(nat, flow)
    return 0


cdef void tcp_host_exchange(nat_t *nat, tcp_flow *flow) noexcept nogil:
    poller_remove(nat.poller, flow.polled.fd)
    sock_close(flow.polled.fd)
    flow.polled.fd = flow.next_fd
    flow.next_fd = -1
    flow.host_rdhup = 0
    flow.host_readable = 1
    flow.host_writable = 1
    flow.host_shut = 0              # what the guest has ended is passed on to the new one
    flow.up_dead = 0
    if poller_add(nat.poller, flow.polled.fd, POLL_READ | POLL_WRITE, &flow.polled) < 0:
        flow.host_rdhup = 1         # no edge will come: read to the end, and let writing fail
        sock_set_abort(flow.polled.fd)
        sock_shutdown_write(flow.polled.fd)
        flow.up_dead = 1
    tcp_entry_touch(nat, flow)
