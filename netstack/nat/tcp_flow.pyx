"""TCP translation: two directions of bytes, two ends of file, one reset, each passed on truthfully.

Up: in-order payload goes from the frame straight to the descriptor; what that refuses stays in the receive ring and
closes the window. Down: the descriptor is read straight into the send ring. A flow ends when both directions have.
"""
from libc.errno cimport EAGAIN, ECONNABORTED, ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from netstack.host.memory cimport memory_give_back
from netstack.host.poller cimport (
    POLL_ERROR, POLL_HUP, POLL_RDHUP, POLL_READ, POLL_WRITE, poller_add, poller_rearm,
)
from netstack.host.sockets cimport (
    iovec, sock_error_of, sock_recvv, sock_send, sock_sendv, sock_shutdown_write, sock_tcp_connect,
)
from netstack.iface.neighbors cimport neighbor
from netstack.iface.output cimport iface_tcp_headers
from netstack.iface.packet cimport packet
from netstack.nat.context cimport (
    MAIL_PENDING_FLOW, mail_flow, nat_decide, nat_post, nat_send_arp_request, nat_send_icmp_error, nat_t,
)
from netstack.nat.divert cimport divert
from netstack.nat.opening cimport opening_drop, opening_say
from netstack.nat.flow cimport (
    HOST_CLOSED, HOST_CONNECTING, HOST_OPEN, HOST_PENDING, ORIGIN_DIALED, ORIGIN_GUEST, flow_key, tcp_flow,
)
from netstack.nat.policy cimport TO_CONTROL, TO_HOST, TO_NOWHERE, policy_of, verdict
from netstack.nat.tcp_entry cimport (
    tcp_entry_make, tcp_entry_tell, tcp_entry_tell_dialer, tcp_entry_touch, tcp_entry_unmake,
)
from netstack.nat.tcp_host cimport (
    tcp_host_adopt, tcp_host_close, tcp_host_exchange, tcp_host_failed, tcp_host_open, tcp_host_refuses,
)
from netstack.storage.counters cimport (
    FORWARD_ABANDONED, FORWARD_NO_GUEST, FORWARD_REFUSED, FORWARD_TCP, FORWARD_TIMED_OUT,
    TCP_BAD_ADDRESS, TCP_BYTES_DOWN, TCP_BYTES_UP, TCP_CLOSED_NORMALLY, TCP_CONNECTED, TCP_FLOWS_FULL,
    TCP_NO_CONNECTION, TCP_NOT_ALLOWED, TCP_OPENED, TCP_RESET_BY_GUEST, TCP_RESET_BY_HOST,
    TCP_RETRANSMITS, TCP_TIMED_OUT, TCP_UNREACHABLE, count,
)
from netstack.storage.decision cimport DECIDED_CONTROL, DECIDED_NOTHING, DECIDED_TCP
from netstack.storage.frame cimport frame_meta
from netstack.storage.pool cimport pool_put
from netstack.storage.ring cimport ring_span
from netstack.storage.table cimport table_del, table_get, table_len, table_next
from netstack.storage.wheel cimport wheel_arm, wheel_armed, wheel_cancel
from netstack.tcp.tcb cimport (
    TCP_CLOSED, TCP_EV_CONNECTED, TCP_EV_DATA, TCP_EV_FIN, TCP_EV_RESET, TCP_EV_TIMEOUT, TCP_SYN_SENT,
    TCP_TIME_WAIT, tcb_free, tcp_abort, tcp_accept, tcp_ack_waits, tcp_close, tcp_consumed, tcp_deadline,
    tcp_delivery, tcp_icmp_error, tcp_may_reopen, tcp_next_segment, tcp_open, tcp_read_spans,
    tcp_readable, tcp_reset_for, tcp_segment, tcp_segment_arrives, tcp_take, tcp_timeout, tcp_unacked,
    tcp_write_spans, tcp_wrote,
)
from netstack.wire.addr cimport addr_eq, addr_from_v4, addr_t, addr_v4
from netstack.wire.be cimport be16, be32
from netstack.wire.icmp4 cimport (
    ICMP4_FRAG_NEEDED, ICMP4_HOST_UNREACHABLE, ICMP4_PORT_UNREACHABLE, ICMP4_PROTOCOL_UNREACHABLE,
    ICMP4_UNREACHABLE,
)
from netstack.wire.ipv4 cimport IPPROTO_TCP4
from netstack.wire.tcp cimport TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN

cdef enum:
    TRIM_FLOWS = 1024           # that ended since memory was last given back
    DOWN_ROUNDS = 4             # reads of one descriptor before others have their turn
    DOWN_BYTES = 131072         # bytes of one read
    WAIT_NS = 1000000           # how often the timer of a flow looks that waits for its link


# --- the end of a flow

cdef void bury(nat_t *nat, tcp_flow *flow) noexcept nogil:
    """Takes the flow out of the table; its memory goes back when this round of events is over."""
    if flow.dead:
        return
    flow.dead = 1
    stop_waiting(nat, flow)
    tcp_host_close(nat, flow, False)
    wheel_cancel(nat.wheel, &flow.timer)
    table_del(nat.tcp_table, &flow.key)
    if not flow.touched:            # flush frees what is touched
        flow.next_touched = nat.dead_tcp
        nat.dead_tcp = flow


# --- links that are full

cdef void wait_for_room(nat_t *nat, tcp_flow *flow, int port) noexcept nogil:
    """At the end of the ring of those that wait for this port."""
    cdef tcp_flow *first = nat.waiting[port]
    if flow.next_waiting != NULL:
        return
    flow.waits_for = port
    if first == NULL:
        flow.next_waiting = flow.prev_waiting = flow
        nat.waiting[port] = flow
        return
    flow.next_waiting = first
    flow.prev_waiting = first.prev_waiting
    first.prev_waiting.next_waiting = flow
    first.prev_waiting = flow


cdef void stop_waiting(nat_t *nat, tcp_flow *flow) noexcept nogil:
    if flow.next_waiting == NULL:
        return
    if flow.next_waiting == flow:
        nat.waiting[flow.waits_for] = NULL
    else:
        flow.prev_waiting.next_waiting = flow.next_waiting
        flow.next_waiting.prev_waiting = flow.prev_waiting
        if nat.waiting[flow.waits_for] == flow:
            nat.waiting[flow.waits_for] = flow.next_waiting
    flow.next_waiting = flow.prev_waiting = NULL


cdef void tcp_flows_port_ready(nat_t *nat, int port) noexcept nogil:
    cdef tcp_flow *flow
    while nat.waiting[port] != NULL:
        flow = nat.waiting[port].prev_waiting       # the newest: the list of touched flows is worked off from its front
        stop_waiting(nat, flow)
        tcp_entry_touch(nat, flow)


# --- segments to the guest

cdef void send_segment(nat_t *nat, int port, neighbor *guest, uint32_t src, uint32_t dst,
                       tcp_segment *segment) noexcept nogil:
    cdef uint8_t[128] headers
    cdef iovec[3] iov
    cdef frame_meta meta
    cdef int i
    iov[0].iov_base = headers
    iov[0].iov_len = iface_tcp_headers(nat.iface, guest, src, dst, &segment.hdr, segment.length, segment.gso_size,
                                       segment.ecn, headers, sizeof(headers), &meta)
    for i in range(segment.n_spans):
        iov[1 + i].iov_base = segment.span[i].data
        iov[1 + i].iov_len = segment.span[i].length
    nat.sink(nat.sink_context, port, &meta, iov, 1 + segment.n_spans)


cdef void output(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil:
    cdef tcp_segment segment
    cdef int port = flow.guest.port if flow.guest != NULL else -1
    while True:
        if port >= 0 and nat.port_full[port]:
            wait_for_room(nat, flow, port)
            return
        if not tcp_next_segment(&flow.tcb, now_ns, &segment):
            return
        if segment.retransmit:
            flow.retransmits += 1
            count(nat.counters, TCP_RETRANSMITS)
        if port >= 0:
            if segment.hdr.flags & (TCP_SYN | TCP_RST):
                tcp_entry_tell(nat, flow, segment.hdr.flags)
            send_segment(nat, port, flow.guest, addr_v4(&flow.key.peer), addr_v4(&flow.key.guest), &segment)
            nat.told.kind = DECIDED_NOTHING


cdef void answer_reset(nat_t *nat, const packet *p) noexcept nogil:
    """A segment that belongs to no connection (RFC 9293 3.10.7.1)."""
    cdef tcp_segment segment
    count(nat.counters, TCP_NO_CONNECTION)
    if tcp_reset_for(&p.tcp, p.payload_length, &segment):
        send_segment(nat, p.port, p.guest, p.ip.dst, p.ip.src, &segment)


# --- opening

cdef void open_flow(nat_t *nat, const packet *p, const flow_key *key, uint64_t now_ns) noexcept nogil:
    cdef addr_t target
    cdef verdict where
    cdef uint16_t port = p.tcp.dport
    cdef tcp_flow *flow
    cdef mail_flow mail
    cdef int fd = -1
    if p.tcp.dport == 0 or p.tcp.sport == 0:
        count(nat.counters, TCP_BAD_ADDRESS)
        return
    if not divert(nat, p.ip.dst, &port, IPPROTO_TCP4, &where, &target):
        where = policy_of(nat, p.ip.dst, p.tcp.dport, True, &target)
    if where == TO_NOWHERE:
        count(nat.counters, TCP_UNREACHABLE)
        nat_send_icmp_error(nat, p.guest, 0, ICMP4_UNREACHABLE, ICMP4_HOST_UNREACHABLE, 0, p.l3,
                            p.ip.total_length, now_ns)
        answer_reset(nat, p)
        return
    if where != TO_HOST and where != TO_CONTROL:
        count(nat.counters, TCP_NOT_ALLOWED)
        answer_reset(nat, p)
        return
    flow = tcp_entry_make(nat, key, p.guest, now_ns)
    if flow != NULL and tcp_accept(&flow.tcb, &p.tcp, p.ip.tos & 3, now_ns) < 0:
        tcp_entry_unmake(nat, flow)
        flow = NULL
    if flow == NULL:
        count(nat.counters, TCP_FLOWS_FULL)
        answer_reset(nat, p)
        return
    count(nat.counters, TCP_OPENED)
    if where == TO_CONTROL:
        flow.host = HOST_PENDING
        nat_decide(nat, DECIDED_CONTROL, &key.peer, port, 0, False)
        memset(&mail, 0, sizeof(mail))
        mail.id = flow.id
        mail.guest = key.guest
        mail.peer = key.peer
        mail.guest_port = key.guest_port
        mail.peer_port = key.peer_port
        if nat_post(nat, MAIL_PENDING_FLOW, &mail, sizeof(mail), NULL, 0) < 0:
            tcp_host_failed(nat, flow, ECONNREFUSED, now_ns)
    else:
        nat_decide(nat, DECIDED_TCP, &target, port, 0, port != p.tcp.dport or not addr_eq(&target, &key.peer))
        fd = sock_tcp_connect(<const uint8_t *>&target, port, &nat.options)
        if fd < 0:
            flow.host = HOST_CLOSED
            tcp_host_failed(nat, flow, -fd, now_ns)
        else:
            tcp_host_adopt(nat, flow, fd, HOST_CONNECTING, now_ns)
    tcp_entry_touch(nat, flow)


# --- opening towards the guest

cdef tcp_flow *tcp_flow_open_down(nat_t *nat, const flow_key *key, neighbor *guest, int fd, uint8_t origin,
                                  uint64_t now_ns) noexcept nogil:
    cdef tcp_flow *flow = tcp_entry_make(nat, key, guest, now_ns)
    if flow == NULL:
        return NULL
    if poller_add(nat.poller, fd, POLL_READ | POLL_WRITE, &flow.polled) < 0:
        tcp_entry_unmake(nat, flow)
        return NULL
    flow.polled.fd = fd
    flow.host = HOST_OPEN
    flow.host_writable = 1
    flow.origin = origin
    count(nat.counters, FORWARD_TCP)
    if guest == NULL:
        flow.resolving = 1
    else:
        tcp_open(&flow.tcb, now_ns)
    tcp_entry_touch(nat, flow)
    return flow


cdef void tcp_flow_resolved(nat_t *nat, tcp_flow *flow, neighbor *guest, uint64_t now_ns) noexcept nogil:
    if not flow.resolving or flow.dead:
        return
    if guest == NULL:
        count(nat.counters, FORWARD_NO_GUEST)
        open_failed(nat, flow, EHOSTUNREACH, now_ns)
        return
    flow.resolving = 0
    flow.guest = guest
    tcp_open(&flow.tcb, now_ns)
    tcp_entry_touch(nat, flow)


cdef void open_failed(nat_t *nat, tcp_flow *flow, int error, uint64_t now_ns) noexcept nogil:
    """The guest has refused, or does not answer: the host's client gets a reset."""
    flow.resolving = 0
    flow.host_reset = 1
    tcp_entry_tell_dialer(nat, flow, error)
    tcp_host_close(nat, flow, flow.opening == NULL)     # else the dialler has a word for its client
    tcp_abort(&flow.tcb, now_ns)
    tcp_entry_touch(nat, flow)


# --- up

cdef uint32_t push_up(nat_t *nat, tcp_flow *flow, const uint8_t *data, uint32_t length) noexcept nogil:
    """Sends straight from the frame; how many bytes are done with."""
    cdef uint32_t done = 0
    cdef ssize_t n
    if flow.up_dead:
        return length
    if flow.host != HOST_OPEN or not flow.host_writable or flow.opening != NULL:
        return 0
    while done < length:
        n = sock_send(flow.polled.fd, data + done, length - done)
        if n >= 0:
            done += <uint32_t>n
            continue
        if n == -EAGAIN:
            flow.host_writable = 0
            poller_rearm(nat.poller, flow.polled.fd, POLL_WRITE)
        else:
            tcp_host_refuses(flow)
            done = length
        break
    flow.bytes_up += done
    nat.counters[<int>TCP_BYTES_UP] += done
    return done


cdef void drain_up(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil:
    """Sends what waits in the receive ring."""
    cdef ring_span[2] spans
    cdef iovec[2] iov
    cdef int k, i
    cdef ssize_t n
    while flow.host == HOST_OPEN and (flow.host_writable or flow.up_dead) and flow.opening == NULL:
        k = tcp_read_spans(&flow.tcb, spans)
        if k == 0:
            break
        if flow.up_dead:
            tcp_consumed(&flow.tcb, tcp_readable(&flow.tcb), now_ns)
            break
        for i in range(k):
            iov[i].iov_base = spans[i].data
            iov[i].iov_len = spans[i].length
        n = sock_sendv(flow.polled.fd, iov, k)
        if n >= 0:
            tcp_consumed(&flow.tcb, <uint32_t>n, now_ns)
            flow.bytes_up += <uint64_t>n
            nat.counters[<int>TCP_BYTES_UP] += <uint64_t>n
        elif n == -EAGAIN:
            flow.host_writable = 0
            poller_rearm(nat.poller, flow.polled.fd, POLL_WRITE)
        else:
            tcp_host_refuses(flow)
    if (flow.guest_fin and not flow.host_shut and flow.host == HOST_OPEN and flow.next_fd < 0
            and tcp_readable(&flow.tcb) == 0):
        flow.host_shut = 1
        if not flow.host_eof:           # else the socket is closed at the end of the round, which says the same
            sock_shutdown_write(flow.polled.fd)


# --- down

cdef bint pump_down(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil:
    """Reads the descriptor straight into the send ring, as far as there is room, and sends. True when only its
    turn is over."""
    cdef ring_span[2] spans
    cdef iovec[2] iov
    cdef int k, i
    cdef int rounds = DOWN_ROUNDS
    cdef uint32_t room
    cdef ssize_t n
    while flow.host_readable and not flow.host_eof and rounds > 0:
        k = tcp_write_spans(&flow.tcb, DOWN_BYTES, spans)
        if k == 0:
            return False                    # acknowledgements will touch the flow again
        rounds -= 1
        room = 0
        for i in range(k):
            iov[i].iov_base = spans[i].data
            iov[i].iov_len = spans[i].length
            room += spans[i].length
        n = sock_recvv(flow.polled.fd, iov, k)
        if n > 0:
            flow.bytes_down += <uint64_t>n
            nat.counters[<int>TCP_BYTES_DOWN] += <uint64_t>n
            tcp_wrote(&flow.tcb, <uint32_t>n, now_ns)
            if <uint32_t>n == room:
                output(nat, flow, now_ns)   # else the caller's: one segment with the FIN, if that is next
            elif not flow.host_rdhup:
                flow.host_readable = 0      # a short read: an edge will tell of more
                poller_rearm(nat.poller, flow.polled.fd, POLL_READ)
        elif n == 0 and flow.next_fd >= 0:
            tcp_host_exchange(nat, flow)
            drain_up(nat, flow, now_ns)
        elif n == 0:
            flow.host_eof = 1
            tcp_close(&flow.tcb, now_ns)
        elif n == -EAGAIN:
            flow.host_readable = 0
            poller_rearm(nat.poller, flow.polled.fd, POLL_READ)
        else:
            flow.host_eof = 1
            flow.host_reset = 1
            flow.host_error = <int>-n
            count(nat.counters, TCP_RESET_BY_HOST)
            output(nat, flow, now_ns)       # what it sent before
            tcp_host_close(nat, flow, False)
            tcp_abort(&flow.tcb, now_ns)
    return flow.host_readable and not flow.host_eof


cdef void tcp_flow_lost(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil:
    if flow.host == HOST_CONNECTING:
        tcp_host_close(nat, flow, False)
        tcp_host_failed(nat, flow, EHOSTUNREACH, now_ns)
    else:
        flow.host_eof = 1
        flow.host_reset = 1
        tcp_host_close(nat, flow, True)
        tcp_abort(&flow.tcb, now_ns)
    tcp_entry_touch(nat, flow)


cdef void events_of(nat_t *nat, tcp_flow *flow, uint32_t events, uint64_t now_ns) noexcept nogil:
    """Acts on what tcp_segment_arrives or tcp_timeout has returned."""
    if events & TCP_EV_CONNECTED and not flow.connected:
        flow.connected = 1
        count(nat.counters, TCP_CONNECTED)
        if flow.opening != NULL and opening_say(flow, now_ns) < 0:
            count(nat.counters, FORWARD_ABANDONED)
            open_failed(nat, flow, ECONNABORTED, now_ns)
            return
        tcp_entry_tell_dialer(nat, flow, 0)
    if events & TCP_EV_FIN:
        flow.guest_fin = 1
    if events & (TCP_EV_DATA | TCP_EV_FIN):
        drain_up(nat, flow, now_ns)
    if events & (TCP_EV_RESET | TCP_EV_TIMEOUT) and flow.origin != ORIGIN_GUEST and not flow.connected:
        count(nat.counters, FORWARD_REFUSED if events & TCP_EV_RESET else FORWARD_TIMED_OUT)
        open_failed(nat, flow, ECONNREFUSED if events & TCP_EV_RESET else ETIMEDOUT, now_ns)
    elif events & (TCP_EV_RESET | TCP_EV_TIMEOUT):
        count(nat.counters, TCP_RESET_BY_GUEST if events & TCP_EV_RESET else TCP_TIMED_OUT)
        flow.host_reset = 1
        tcp_host_close(nat, flow, True)
    tcp_entry_touch(nat, flow)


cdef void tcp_flow_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil:
    cdef flow_key key
    cdef tcp_flow *flow
    cdef tcp_delivery delivery
    cdef uint32_t events, done
    key.guest = p.src
    key.peer = p.dst
    key.guest_port = p.tcp.sport
    key.peer_port = p.tcp.dport
    key.protocol = IPPROTO_TCP4
    flow = <tcp_flow *>table_get(nat.tcp_table, &key)
    if (flow != NULL and flow.tcb.state == TCP_TIME_WAIT and p.tcp.flags & TCP_SYN
            and tcp_may_reopen(&flow.tcb, &p.tcp, now_ns)):
        bury(nat, flow)
        flow = NULL
    if flow == NULL:
        if p.tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN) == TCP_SYN:
            open_flow(nat, p, &key, now_ns)
        else:
            answer_reset(nat, p)
        return
    delivery.length = 0
    events = tcp_segment_arrives(&flow.tcb, &p.tcp, p.payload, p.payload_length, p.ip.tos & 3, now_ns, &delivery)
    if delivery.length:
        done = push_up(nat, flow, delivery.data, delivery.length)
        tcp_take(&flow.tcb, &delivery, done, now_ns)
    if events:
        events_of(nat, flow, events, now_ns)
    else:
        tcp_entry_touch(nat, flow)
    if tcp_ack_waits(&flow.tcb, &flow.ack_step):
        output(nat, flow, now_ns)


cdef void tcp_flow_host_event(nat_t *nat, tcp_flow *flow, uint32_t events, uint64_t now_ns) noexcept nogil:
    cdef int error
    if flow.dead or flow.polled.fd < 0:
        return
    if flow.origin != ORIGIN_GUEST and not flow.connected and (
            events & POLL_ERROR or (events & POLL_HUP and flow.origin == ORIGIN_DIALED)):
        count(nat.counters, FORWARD_ABANDONED)      # the client has gone; nobody is left to be told
        open_failed(nat, flow, ECONNABORTED, now_ns)
        return
    if flow.host == HOST_CONNECTING:
        if not events & (POLL_WRITE | POLL_ERROR | POLL_HUP):
            return
        # without either, there is no error to be asked for
        error = sock_error_of(flow.polled.fd) if events & (POLL_ERROR | POLL_HUP) else 0
        if error:
            tcp_host_failed(nat, flow, error, now_ns)
            return
        if events & POLL_HUP and not events & POLL_WRITE:
            return
        tcp_host_open(nat, flow, now_ns)
    if events & POLL_RDHUP or events & POLL_HUP or events & POLL_ERROR:
        flow.host_rdhup = 1
    if events & (POLL_READ | POLL_RDHUP | POLL_HUP | POLL_ERROR):
        flow.host_readable = 1
    if events & (POLL_WRITE | POLL_HUP | POLL_ERROR) and flow.next_fd < 0:
        flow.host_writable = 1
        drain_up(nat, flow, now_ns)
    tcp_entry_touch(nat, flow)


cdef bint opening_down(const tcp_flow *flow) noexcept nogil:
    """The guest has been sent a SYN that it has not answered."""
    return flow.tcb.state == TCP_SYN_SENT


cdef void tcp_flow_timer(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil:
    cdef uint32_t events
    if flow.dead:
        return
    if flow.host == HOST_CONNECTING and now_ns - flow.opened_ns >= nat.settings.connect_timeout_ns:
        tcp_host_failed(nat, flow, ETIMEDOUT, now_ns)
        return
    if opening_down(flow) and now_ns - flow.opened_ns >= nat.settings.connect_timeout_ns:
        count(nat.counters, FORWARD_TIMED_OUT)
        open_failed(nat, flow, ETIMEDOUT, now_ns)
        return
    if opening_down(flow):              # no answer: perhaps the address has moved to another MAC
        nat_send_arp_request(nat, addr_v4(&flow.key.guest))
    if tcp_deadline(&flow.tcb) <= now_ns:
        events = tcp_timeout(&flow.tcb, now_ns)
        events_of(nat, flow, events, now_ns)
    tcp_entry_touch(nat, flow)


cdef void tcp_flow_icmp_error(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil:
    """RFC 1122 4.2.3.9, RFC 5927: the quoted segment must be one that is outstanding; tcp_icmp_error sees to that."""
    cdef const uint8_t *quoted = p.payload
    cdef uint32_t ihl, mtu = 0
    cdef flow_key key
    cdef tcp_flow *flow
    cdef bint hard = False
    if p.payload_length < 28:
        return
    ihl = (quoted[0] & 0xf) * 4
    if quoted[0] >> 4 != 4 or ihl < 20 or p.payload_length < ihl + 8 or quoted[9] != IPPROTO_TCP4:
        return
    if be32(quoted + 16) != p.ip.src:
        return                          # quotes a packet that went to somebody else
    key.guest = p.src
    key.peer = addr_from_v4(be32(quoted + 12))
    key.guest_port = be16(quoted + ihl + 2)
    key.peer_port = be16(quoted + ihl)
    key.protocol = IPPROTO_TCP4
    flow = <tcp_flow *>table_get(nat.tcp_table, &key)
    if flow == NULL:
        return
    if p.icmp.type == ICMP4_UNREACHABLE:
        if p.icmp.code == ICMP4_FRAG_NEEDED:
            mtu = p.icmp.rest & 0xffff
            if mtu < 68:
                mtu = 576               # a router that does not say (RFC 1191 section 5): a safe plateau
        else:
            hard = p.icmp.code == ICMP4_PROTOCOL_UNREACHABLE or p.icmp.code == ICMP4_PORT_UNREACHABLE
    events_of(nat, flow, tcp_icmp_error(&flow.tcb, be32(quoted + ihl + 4), hard, mtu, now_ns), now_ns)


# --- the end of a round

cdef bint finished(tcp_flow *flow) noexcept nogil:
    """Both directions have ended, and nothing acknowledged waits for the host."""
    if flow.tcb.state != TCP_CLOSED:
        return False
    return flow.host == HOST_CLOSED or flow.host_reset or tcp_readable(&flow.tcb) == 0


cdef inline uint64_t u64_min(uint64_t a, uint64_t b) noexcept nogil:
    return a if a < b else b


cdef bint settle(nat_t *nat, tcp_flow *flow, uint64_t now_ns) noexcept nogil:
    """One touched flow at the end of a round: read, send, set the timer, or end. True when there is more to read."""
    cdef uint64_t deadline
    cdef bint more = False
    if flow.resolving:
        return False
    if flow.host == HOST_OPEN and flow.host_readable and (flow.connected or flow.up_dead):
        more = pump_down(nat, flow, now_ns)
    if flow.up_dead and flow.host_eof and not flow.host_reset and tcp_unacked(&flow.tcb) == 0:
        # the host has answered the guest's bytes with a reset, behind an end of file that the guest has got
        flow.host_reset = 1
        count(nat.counters, TCP_RESET_BY_HOST)
        tcp_host_close(nat, flow, False)
        tcp_abort(&flow.tcb, now_ns)
    output(nat, flow, now_ns)
    if flow.host == HOST_OPEN and flow.host_eof and flow.host_shut:
        tcp_host_close(nat, flow, False)
    if finished(flow):
        if not flow.host_reset and flow.guest_fin:
            count(nat.counters, TCP_CLOSED_NORMALLY)
        bury(nat, flow)
        return False
    deadline = tcp_deadline(&flow.tcb)
    if flow.host == HOST_CONNECTING or opening_down(flow):
        deadline = u64_min(deadline, flow.opened_ns + nat.settings.connect_timeout_ns)
    if flow.next_waiting != NULL and deadline < now_ns + WAIT_NS:
        deadline = now_ns + WAIT_NS         # what is due cannot go; the link's room comes before that
    # a timer that fires too early looks again; moving it for every acknowledgement would cost more
    if deadline != <uint64_t>-1 and (not wheel_armed(&flow.timer) or deadline < flow.timer.deadline_ns):
        wheel_arm(nat.wheel, &flow.timer, deadline)
    return more


cdef void tcp_flows_flush(nat_t *nat, uint64_t now_ns) noexcept nogil:
    cdef tcp_flow *flow = nat.touched
    cdef tcp_flow *next_flow
    cdef tcp_flow *again = NULL
    nat.touched = NULL
    while flow != NULL:
        next_flow = flow.next_touched
        flow.touched = 0
        flow.ack_step = 0
        if flow.dead:
            flow.next_touched = nat.dead_tcp
            nat.dead_tcp = flow
        elif settle(nat, flow, now_ns):
            flow.touched = 1                # its budget is used up, not its work
            flow.next_touched = again
            again = flow
        flow = next_flow
    while again != NULL:
        flow = again
        again = flow.next_touched
        flow.next_touched = nat.touched
        nat.touched = flow


cdef void tcp_flows_reap(nat_t *nat) noexcept nogil:
    """Frees what has ended. After a crowd of connections the heap would keep their memory for ever; it is asked
    to let go of it when most of them have gone or fallen silent, so the cost is shared by at least ``TRIM_FLOWS``."""
    cdef tcp_flow *flow = nat.dead_tcp
    cdef tcp_flow *next_flow
    nat.dead_tcp = NULL
    while flow != NULL:
        next_flow = flow.next_touched
        opening_drop(flow)
        tcb_free(&flow.tcb)
        pool_put(nat.tcp_pool, flow)
        flow = next_flow
        nat.tcp_freed += 1
    if nat.memory.released >= TRIM_FLOWS or (nat.tcp_freed >= TRIM_FLOWS
                                             and table_len(nat.tcp_table) <= nat.tcp_freed // 8):
        nat.tcp_freed = nat.memory.released = 0
        memory_give_back()


cdef void tcp_flows_free_all(nat_t *nat, uint64_t now_ns) noexcept nogil:
    """The end of the engine: guests get a RST, hosts as well."""
    cdef uint32_t cursor = 0
    cdef tcp_flow *flow = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    while flow != NULL:
        if flow.tcb.state != TCP_TIME_WAIT:
            tcp_host_close(nat, flow, True)
            tcp_abort(&flow.tcb, now_ns)
            output(nat, flow, now_ns)
        bury(nat, flow)
        flow = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    tcp_flows_flush(nat, now_ns)
    tcp_flows_reap(nat)
