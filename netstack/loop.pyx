"""The engine thread: poll, bursts, timers, calls.

One round reads what the links hold (a burst of frames, then the segments and acknowledgements due for all of them
together), then serves the host's sockets, then timers, and sleeps when nothing is left. No line of it takes the GIL.
Other threads ask by calls, which the engine runs between bursts; what the engine has to tell goes to the mailbox.
"""
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strncpy
from netstack.capture.tap cimport record_t, tap_link, tap_t
from netstack.host.clock cimport clock_now_ns, clock_realtime_ns
from netstack.host.poller cimport (
    POLL_READ, POLL_WRITE, poller_add, poller_event, poller_rearm, poller_remove, poller_wait,
)
from netstack.host.sync cimport (
    flag_load, flag_store, pthread_cond_destroy, pthread_cond_init, pthread_cond_signal, pthread_cond_wait,
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock,
    thread_setup,
)
from netstack.host.sockets cimport iovec, wake_clear, wake_signal
from netstack.iface.fragments cimport fragments_deadline
from netstack.iface.input cimport IFACE_DROPPED, IFACE_HELD, IFACE_REPLY, iface_input
from netstack.iface.neighbors cimport (
    neighbor, neighbors_at, neighbors_forget_port, neighbors_learn,
)
from netstack.iface.packet cimport packet
from netstack.iface.source cimport SOURCE_HELD, source_check, source_hold
from netstack.link.framing cimport framing_send
from netstack.link.impaired cimport (
    impaired_change, impaired_is_over, impaired_link_new, impaired_unwrap, is_impaired,
)
from netstack.link.link cimport LINK_ABSENT, LINK_AGAIN, LINK_CLOSED, LINK_OK, link_frame, link_t
from netstack.nat.command cimport COMMAND_FIRST, nat_command
from netstack.nat.context cimport MAIL_CAPTURE, MAIL_LINK_CLOSED, PORT_ALL, nat_post, nat_send_udp
from netstack.nat.flow cimport POLLED_LINK, POLLED_LINK_WRITE, POLLED_WAKE, polled
from netstack.nat.nat cimport (
    nat_expire_fragments, nat_flush, nat_host_event, nat_packet, nat_port_ready, nat_reap, nat_timer,
)
from netstack.nat.snapshot cimport flows_arg, nat_neighbors, nat_snapshot, neighbors_arg
from netstack.nat.tcp_host cimport tcp_host_attach
from netstack.services.dns_table cimport dns_table
from netstack.storage.counters cimport (
    DOWN_BYTES, DOWN_FRAMES, ENGINE_WAKEUPS, FRAME_NOT_OURS, FRAME_SPOOFED, LINK_DOWN,
    LINK_FULL, LINK_REFUSED, SWITCH_FULL, SWITCHED_FRAMES, UP_BYTES, UP_FRAMES, count, counter,
)
from netstack.storage.decision cimport DECIDED_NOTHING
from netstack.storage.frame cimport frame_meta
from netstack.storage.wheel cimport (
    wheel_arm, wheel_cancel, wheel_expire, wheel_next, wheel_timer, wheel_timer_init,
)
from netstack.switch cimport SWITCH_FLOOD, switch_forget_port, switch_learn, switch_lookup
from netstack.wire.addr cimport addr_v4

cdef extern from *:
    """
    /* Guards every engine's list of calls; held for a few instructions only. */
    static pthread_mutex_t calls_lock = PTHREAD_MUTEX_INITIALIZER;
    """
    pthread_mutex_t calls_lock

cdef enum:
    BURST = 64                  # frames of one link before others have their turn
    EVENTS = 64
    SUPER_FRAME = 81920         # bytes of the largest super-frame when it is cut into pieces, with their headers


# --- towards the links

cdef uint64_t engine_time(const engine_t *e) noexcept nogil:
    return e.now_ns if e.stepped else clock_realtime_ns()


cdef void introduce(engine_t *e, port_t *port, const uint8_t *mac) noexcept nogil:
    """Describes a link to the capture; ``mac`` (or NULL) is one that its first frame has shown."""
    cdef tap_link link
    cdef neighbor *guest
    memset(&link, 0, sizeof(link))
    link.port = port.index
    link.name = port.name
    guest = neighbors_at(&e.iface.neighbors, port.index)
    if guest != NULL:
        mac = guest.mac
        link.address = addr_v4(&guest.address)
        link.netmask = e.iface.netmask
    elif port.mac[0] or port.mac[1] or port.mac[2] or port.mac[3] or port.mac[4] or port.mac[5]:
        mac = port.mac
    if mac != NULL and not mac[0] & 1:
        link.has_mac = 1
        memcpy(link.mac, mac, 6)
    e.tap.describe(e.tap, &link, engine_time(e))


cdef record_t *record(engine_t *e, port_t *port, bint outbound, const frame_meta *meta, const iovec *iov,
                      int n) noexcept nogil:
    if not e.tap.known[port.index]:
        introduce(e, port, <const uint8_t *>iov[0].iov_base + (0 if outbound else 6) if iov[0].iov_len >= 12 else NULL)
    return e.tap.frame(e.tap, port.index, outbound, engine_time(e), meta, iov, n)


cdef int64_t set_tap(engine_t *e, tap_t *tap) noexcept nogil:
    cdef int i
    if e.tap != NULL:
        for i in range(1, e.n_ports):   # those that were silent are in the file as well
            if e.ports[i] != NULL and not e.ports[i].closed and not e.tap.known[i]:
                introduce(e, e.ports[i], NULL)
        e.tap.stop(e.tap, engine_time(e))
    e.tap = tap
    if tap != NULL:
        tap.counters = e.counters
        tap.engine_wake = e.wake_write
    return 0


cdef void close_port(engine_t *e, port_t *port) noexcept nogil:
    """The link is gone: nothing more is sent there; its memory goes back at the end of the round."""
    if port.closed:
        return
    port.closed = 1
    port.readable = 0
    if port.polled.fd >= 0:
        poller_remove(e.poller, port.polled.fd)
    unblock(e, port)
    neighbors_forget_port(&e.iface.neighbors, port.index)
    switch_forget_port(e.switch, port.index)
    e.guests -= 1
    if e.tap != NULL:
        e.tap.gone(e.tap, port.index, engine_time(e))
    nat_post(e.nat, MAIL_LINK_CLOSED, &port.index, sizeof(int), NULL, 0)


# --- links that are full

cdef bint has_room(engine_t *e, port_t *port) noexcept nogil:
    """Lets TCP go on when the link has room again; True when it was waited for."""
    if not e.nat.port_full[port.index] or (not port.closed and port.link.room(port.link) < port.reserve):
        return False
    e.nat.port_full[port.index] = 0
    nat_port_ready(e.nat, port.index)
    return True


cdef void block(engine_t *e, port_t *port) noexcept nogil:
    """The link cannot be written to: the poller, or a timer, will say when."""
    if not port.blocked and port.link.write_fd and \
            poller_add(e.poller, port.link.write_fd, POLL_WRITE, &port.writer.polled) == 0:
        port.writer.polled.fd = port.link.write_fd
    elif port.blocked and port.writer.polled.fd >= 0:
        poller_rearm(e.poller, port.writer.polled.fd, POLL_WRITE)
    port.blocked = 1
    if port.link.retry_ns or port.writer.polled.fd < 0:
        wheel_arm(e.wheel, &port.retry, e.now_ns + (port.link.retry_ns if port.link.retry_ns else 1000000))


cdef void unblock(engine_t *e, port_t *port) noexcept nogil:
    if port.writer.polled.fd >= 0:
        poller_remove(e.poller, port.writer.polled.fd)
        port.writer.polled.fd = -1
    wheel_cancel(e.wheel, &port.retry)
    port.blocked = 0
    has_room(e, port)


cdef bint flush_port(engine_t *e, port_t *port) noexcept nogil:
    """Pushes out what the link has gathered; True when TCP waited for the room."""
    cdef int r
    if port.closed:
        return False
    r = port.link.flush(port.link)
    if port.link.tx_lost != port.lost:
        e.counters[<int>LINK_DOWN] += port.link.tx_lost - port.lost
        port.lost = port.link.tx_lost
    if r == LINK_CLOSED:
        close_port(e, port)
        return False
    if r == LINK_AGAIN:
        block(e, port)
    else:
        port.unflushed = 0
        if port.blocked:
            unblock(e, port)
    return has_room(e, port)


cdef counter refusal(int result) noexcept nogil:
    """The counter of a frame that a link did not take."""
    if result == LINK_AGAIN:
        return LINK_FULL
    return LINK_DOWN if result == LINK_ABSENT or result == LINK_CLOSED else LINK_REFUSED


cdef int send_on(engine_t *e, port_t *port, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    cdef uint32_t sent = 0
    cdef int r
    cdef int i
    cdef uint64_t length = 0
    cdef record_t *recorded = NULL
    if port == NULL or port.closed:
        count(e.counters, LINK_DOWN)
        return LINK_CLOSED
    if e.tap != NULL:
        recorded = record(e, port, True, meta, iov, n)
        if recorded != NULL:
            recorded.decision = e.nat.told
    r = framing_send(port.link, meta, iov, n, &sent)
    if r == LINK_OK:
        for i in range(n):
            length += iov[i].iov_len
        e.counters[<int>DOWN_FRAMES] += 1
        e.counters[<int>DOWN_BYTES] += length
        if not port.unflushed:
            port.unflushed = 1
        if port.link.bounded and port.link.room(port.link) < port.reserve:
            e.nat.port_full[port.index] = 1
    else:
        if sent:
            port.unflushed = 1
        count(e.counters, refusal(r))
        if recorded != NULL:
            recorded.counters[0] = <uint16_t>refusal(r) + 1
    if e.tap != NULL:
        e.tap.settle(e.tap)
    if r == LINK_CLOSED:
        close_port(e, port)
    return r


cdef int engine_sink(void *context, int index, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    cdef engine_t *e = <engine_t *>context
    if index == PORT_ALL:
        for index in range(1, e.n_ports):
            if e.ports[index] != NULL and not e.ports[index].closed:
                engine_sink(context, index, meta, iov, n)
        return LINK_OK
    if index <= 0 or index >= e.n_ports:
        count(e.counters, LINK_DOWN)
        return LINK_CLOSED
    return send_on(e, e.ports[index], meta, iov, n)


# --- from the links

cdef bint switch_frame(engine_t *e, port_t *port, const link_frame *frame) noexcept nogil:
    """Passes a frame on to other guests; True when the gateway should see it as well."""
    cdef iovec iov
    cdef int where
    cdef int i
    if frame.length < 14:
        return True
    if e.source_rule and not same_mac(frame.data + 6, port.mac):
        where = switch_lookup(e.switch, frame.data + 6, e.now_ns)
        if where > 0 and where != port.index:
            count(e.counters, FRAME_SPOOFED)
            return False
    if switch_learn(e.switch, frame.data + 6, port.index, e.now_ns) < 0:
        count(e.counters, SWITCH_FULL)
    if same_mac(frame.data, e.iface.mac):
        return True
    if e.isolated:
        if frame.data[0] & 1:
            return True
        count(e.counters, FRAME_NOT_OURS)
        return False
    where = switch_lookup(e.switch, frame.data, e.now_ns)
    iov.iov_base = <void *>frame.data
    iov.iov_len = frame.length
    if where == SWITCH_FLOOD:
        for i in range(1, e.n_ports):
            if i != port.index and e.ports[i] != NULL:
                send_on(e, e.ports[i], &frame.meta, &iov, 1)
                count(e.counters, SWITCHED_FRAMES)
        return frame.data[0] & 1
    if where != port.index and where > 0 and where < e.n_ports:
        send_on(e, e.ports[where], &frame.meta, &iov, 1)
        count(e.counters, SWITCHED_FRAMES)
        return False
    return where == port.index


cdef bint same_mac(const uint8_t *a, const uint8_t *b) noexcept nogil:
    return (a[0] == b[0] and a[1] == b[1] and a[2] == b[2] and a[3] == b[3] and a[4] == b[4] and a[5] == b[5])


cdef void take_frame(engine_t *e, port_t *port, const link_frame *frame) noexcept nogil:
    cdef packet p
    cdef iovec iov
    cdef frame_meta plain
    cdef int reason, verdict
    if e.source_rule and (e.guests > 1 or e.source_rule == SOURCE_HELD):
        reason = source_check(e.iface, e.source_rule, frame.data, frame.length, port.index, port.mac, e.now_ns)
        if reason:
            count(e.counters, <counter>reason)
            return
    if e.guests > 1 and not switch_frame(e, port, frame):
        return
    verdict = iface_input(e.iface, frame.data, frame.length, &frame.meta, port.index, e.now_ns, &p)
    if verdict == IFACE_REPLY:
        memset(&plain, 0, sizeof(plain))
        iov.iov_base = e.iface.reply
        iov.iov_len = e.iface.reply_length
        engine_sink(e, port.index, &plain, &iov, 1)
    elif verdict != IFACE_DROPPED and verdict != IFACE_HELD:
        nat_packet(e.nat, verdict, &p, e.now_ns)


cdef void take_recorded(engine_t *e, port_t *port, const link_frame *frame) noexcept nogil:
    """The same with what became of the frame in the capture."""
    cdef record_t *recorded
    cdef iovec iov
    iov.iov_base = <void *>frame.data
    iov.iov_len = frame.length
    e.nat.decided.kind = DECIDED_NOTHING
    recorded = record(e, port, False, &frame.meta, &iov, 1)
    take_frame(e, port, frame)
    e.tap.judge(e.tap, recorded, &e.nat.decided)


cdef void read_port(engine_t *e, port_t *port) noexcept nogil:
    """One burst."""
    cdef link_frame frame
    cdef int budget = BURST
    cdef int r
    if e.tap != NULL:
        e.tap.look(e.tap)
    while budget > 0 and not port.closed:
        r = port.link.recv(port.link, &frame)
        if r == 0:
            port.readable = 0
            if port.polled.fd >= 0:
                poller_rearm(e.poller, port.polled.fd, POLL_READ)
            break
        if r < 0:
            close_port(e, port)
            break
        budget -= 1
        e.counters[<int>UP_FRAMES] += 1
        e.counters[<int>UP_BYTES] += frame.length
        if e.tap == NULL:
            take_frame(e, port, &frame)
        else:
            take_recorded(e, port, &frame)


# --- timers

cdef void arm_fragments(engine_t *e) noexcept nogil:
    cdef uint64_t deadline = fragments_deadline(&e.iface.fragments)
    if deadline != UINT64_MAX:
        wheel_arm(e.wheel, &e.fragments_timer, deadline)


cdef void run_timers(engine_t *e) noexcept nogil:
    cdef wheel_timer *t = wheel_expire(e.wheel, e.now_ns)
    cdef int budget = 4096
    while t != NULL:
        if t.kind == TIMER_FRAGMENTS:
            nat_expire_fragments(e.nat, e.now_ns)
            arm_fragments(e)
        elif t.kind == TIMER_LINK:
            flush_port(e, <port_t *>t.owner)
        else:
            nat_timer(e.nat, t, e.now_ns)
        budget -= 1
        if budget == 0:
            break
        t = wheel_expire(e.wheel, e.now_ns)


# --- calls

cdef int64_t add_port(engine_t *e, const new_port *new) noexcept nogil:
    """``fd`` tells when the link has frames: its own descriptor, or the wake-up of a link in memory."""
    cdef port_t *port
    cdef link_t *link = new.link
    cdef int fd = new.fd
    cdef int i
    for i in range(1, MAX_PORTS):
        if e.ports[i] == NULL and not e.taken[i]:
            break
    else:
        return -1
    port = <port_t *>calloc(1, sizeof(port_t))
    if port == NULL:
        return -1
    port.polled.kind = POLLED_LINK
    port.polled.fd = fd
    port.link = link
    port.index = i
    port.readable = 1
    if new.name[0]:
        strncpy(port.name, new.name, sizeof(port.name) - 1)
    else:
        snprintf(port.name, sizeof(port.name), "link%d", i)
    port.writer.polled.kind = POLLED_LINK_WRITE
    port.writer.polled.fd = -1
    port.writer.port = port
    port.reserve = 1 + SUPER_FRAME / <int>(link.mtu + 16)
    wheel_timer_init(&port.retry, TIMER_LINK, port)
    if fd >= 0 and poller_add(e.poller, fd, POLL_READ, &port.polled) < 0:
        free(port)
        return -1
    e.ports[i] = port
    e.taken[i] = 1
    if i >= e.n_ports:
        e.n_ports = i + 1
    e.guests += 1
    return i


cdef void put_link(engine_t *e, port_t *port, link_t *link) noexcept nogil:
    """Another link in a port's place: the same one behind a bad path, or without it."""
    port.link = link
    port.lost = link.tx_lost
    port.readable = 1
    port.unflushed = 1
    if port.blocked:
        unblock(e, port)            # what the other one waited for is tried again
    else:
        has_room(e, port)


cdef int64_t impair_links(engine_t *e, const impair_paths *paths) noexcept nogil:
    """The bad path of all links that there are, but those in memory (no descriptor); -1: no memory for one of them."""
    cdef link_t *link
    cdef port_t *port
    cdef int64_t rc = 0
    cdef int i
    for i in range(1, e.n_ports):
        port = e.ports[i]
        if port == NULL or port.closed or port.link.fd < 0:
            continue
        if is_impaired(port.link):
            impaired_change(port.link, &paths.up, &paths.down, paths.whole, e.now_ns)
        elif not paths.whole:
            link = impaired_link_new(port.link, &paths.up, &paths.down, e.counters)
            if link == NULL:
                rc = -1
                continue
            link.advance(link, e.now_ns)
            put_link(e, port, link)
    return rc


cdef int64_t perform(engine_t *e, call_t *call) noexcept nogil:
    cdef udp_out *out
    cdef neighbor *known
    cdef port_mac *given
    cdef held_address *held
    if call.kind == CALL_ADD_PORT:
        return add_port(e, <const new_port *>call.arg)
    if call.kind == CALL_REMOVE_PORT:
        if call.number <= 0 or call.number >= e.n_ports or e.ports[call.number] == NULL:
            return -1
        close_port(e, e.ports[call.number])
        return 0
    if call.kind == CALL_ATTACH:
        return tcp_host_attach(e.nat, <uint64_t><size_t>call.arg, <int>call.number, e.now_ns)
    if call.kind == CALL_SEND_UDP:
        out = <udp_out *>call.arg
        nat_send_udp(e.nat, &out.to, out.src, out.sport, out.dst, out.dport, out.data, out.length, 0, e.now_ns)
        return 0
    if call.kind == CALL_NEIGHBOR:
        known = <neighbor *>call.arg
        return 0 if neighbors_learn(&e.iface.neighbors, &known.address, known.mac, known.port, e.now_ns) != NULL else -1
    if call.kind == CALL_FORGET_PORT:
        e.taken[call.number] = 0
        return 0
    if call.kind == CALL_PORT_MAC:
        given = <port_mac *>call.arg
        if given.port <= 0 or given.port >= e.n_ports or e.ports[given.port] == NULL:
            return -1
        memcpy(e.ports[given.port].mac, given.mac, 6)
        return 0
    if call.kind == CALL_HOLD:
        held = <held_address *>call.arg
        return source_hold(e.iface, held.address, NULL if held.let_go else held.mac, held.port, e.now_ns)
    if call.kind == CALL_NAMES:
        e.nat.names = <const dns_table *>call.arg
        return 0
    if call.kind == CALL_FLOWS:
        return nat_snapshot(e.nat, <flows_arg *>call.arg, e.now_ns)
    if call.kind == CALL_NEIGHBORS:
        return nat_neighbors(e.nat, <neighbors_arg *>call.arg)
    if call.kind == CALL_TAP:
        return set_tap(e, <tap_t *>call.arg)
    if call.kind == CALL_IMPAIR:
        return impair_links(e, <const impair_paths *>call.arg)
    if call.kind >= COMMAND_FIRST:
        return nat_command(e.nat, call.kind, call.arg, call.number, e.now_ns)
    return -1


cdef void run_calls(engine_t *e) noexcept nogil:
    cdef call_t *call
    cdef call_t *first = NULL
    cdef call_t *next_call
    pthread_mutex_lock(&calls_lock)
    call = e.calls
    e.calls = NULL
    pthread_mutex_unlock(&calls_lock)
    while call != NULL:                 # they were pushed in front: oldest first
        next_call = call.next
        call.next = first
        first = call
        call = next_call
    while first != NULL:
        call = first
        first = call.next
        call.result = perform(e, call)
        pthread_mutex_lock(&call.lock)
        call.done = 1
        pthread_cond_signal(&call.ready)
        pthread_mutex_unlock(&call.lock)


# --- links that hold frames for a while

cdef void advance_links(engine_t *e) noexcept nogil:
    cdef link_t *link
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] == NULL or e.ports[i].closed:
            continue
        link = e.ports[i].link
        if link.advance != NULL:
            link.advance(link, e.now_ns)
            e.ports[i].readable = 1
            if is_impaired(link) and impaired_is_over(link):
                put_link(e, e.ports[i], impaired_unwrap(link))


cdef uint64_t engine_deadline(engine_t *e) noexcept nogil:
    cdef uint64_t at = wheel_next(e.wheel), due
    cdef link_t *link
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] == NULL or e.ports[i].closed:
            continue
        link = e.ports[i].link
        if link.deadline != NULL:
            due = link.deadline(link)
            if due < at:
                at = due
    return at


# --- the loop

cdef bint ports_have_work(engine_t *e) noexcept nogil:
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL and e.ports[i].readable and not e.ports[i].closed:
            return True
    return False


cdef bint flush_ports(engine_t *e) noexcept nogil:
    """True when that made room for which TCP waits."""
    cdef port_t *port
    cdef bint more = False
    cdef int i
    for i in range(1, e.n_ports):
        port = e.ports[i]
        if port != NULL and port.unflushed and not port.blocked and flush_port(e, port):
            more = True
    return more


cdef void reap_ports(engine_t *e) noexcept nogil:
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL and e.ports[i].closed:
            e.ports[i].link.close(e.ports[i].link)
            free(e.ports[i])
            e.ports[i] = NULL


cdef bint engine_round(engine_t *e, uint64_t timeout_ns, uint64_t virtual_ns) noexcept nogil:
    cdef poller_event[EVENTS] events
    cdef polled *what
    cdef int i
    cdef bint more
    cdef int n = poller_wait(e.poller, events, EVENTS, timeout_ns)
    e.now_ns = virtual_ns if virtual_ns else clock_now_ns()
    e.stepped = virtual_ns != 0
    e.counters[<int>ENGINE_WAKEUPS] += 1
    advance_links(e)                # before anything is sent: what a link holds, it holds from now on
    for i in range(n):
        what = <polled *>events[i].token
        if what.kind == POLLED_LINK:
            (<port_t *>what).readable = 1
        elif what.kind == POLLED_LINK_WRITE:
            flush_port(e, (<port_writer *>what).port)
        elif what.kind == POLLED_WAKE:
            wake_clear(e.wake_read)
            poller_rearm(e.poller, e.wake_read, POLL_READ)
            run_calls(e)
            advance_links(e)        # it may have made a path bad, or good
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL and e.ports[i].readable:
            read_port(e, e.ports[i])
    if e.iface.fragments.used:
        arm_fragments(e)
    nat_flush(e.nat, e.now_ns)
    for i in range(n):
        what = <polled *>events[i].token
        if what.kind != POLLED_LINK and what.kind != POLLED_LINK_WRITE and what.kind != POLLED_WAKE:
            nat_host_event(e.nat, what, events[i].events, e.now_ns)
    run_timers(e)
    more = nat_flush(e.nat, e.now_ns)
    more = flush_ports(e) or more
    nat_reap(e.nat)
    reap_ports(e)
    if e.tap != NULL and e.tap.turn(e.tap):
        nat_post(e.nat, MAIL_CAPTURE, NULL, 0, NULL, 0)
    return more or ports_have_work(e)


cdef void engine_run(engine_t *e) noexcept nogil:
    cdef uint64_t deadline, timeout
    cdef bint more = False
    thread_setup()
    pthread_mutex_lock(&calls_lock)     # a call may be under way in another thread
    flag_store(&e.running, 1)
    pthread_mutex_unlock(&calls_lock)
    while not flag_load(&e.stop):
        timeout = 0
        if not more:
            deadline = engine_deadline(e)
            timeout = UINT64_MAX
            if deadline != UINT64_MAX:
                e.now_ns = clock_now_ns()
                timeout = deadline - e.now_ns if deadline > e.now_ns else 0
        more = engine_round(e, timeout, 0)
    pthread_mutex_lock(&calls_lock)
    flag_store(&e.running, 0)
    pthread_mutex_unlock(&calls_lock)
    run_calls(e)


cdef void engine_stop(engine_t *e) noexcept nogil:
    flag_store(&e.stop, 1)
    wake_signal(e.wake_write)


cdef int64_t engine_call(engine_t *e, int kind, void *arg, int64_t number) noexcept nogil:
    cdef call_t request
    cdef bint direct
    memset(&request, 0, sizeof(request))
    request.kind = kind
    request.arg = arg
    request.number = number
    pthread_mutex_lock(&calls_lock)
    direct = not flag_load(&e.running)
    if not direct:
        pthread_mutex_init(&request.lock, NULL)
        pthread_cond_init(&request.ready, NULL)
        request.next = e.calls
        e.calls = &request
    else:
        request.result = perform(e, &request)
    pthread_mutex_unlock(&calls_lock)
    if direct:
        return request.result
    wake_signal(e.wake_write)
    pthread_mutex_lock(&request.lock)
    while not request.done:
        pthread_cond_wait(&request.ready, &request.lock)
    pthread_mutex_unlock(&request.lock)
    pthread_mutex_destroy(&request.lock)
    pthread_cond_destroy(&request.ready)
    return request.result


cdef void engine_look_at_links(engine_t *e) noexcept nogil:
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL:
            e.ports[i].readable = 1


cdef void engine_close_links(engine_t *e) noexcept nogil:
    cdef int i
    for i in range(1, MAX_PORTS):
        if e.ports[i] == NULL:
            continue
        if e.ports[i].unflushed and not e.ports[i].closed:
            e.ports[i].link.flush(e.ports[i].link)
        e.ports[i].link.close(e.ports[i].link)
        free(e.ports[i])
        e.ports[i] = NULL
