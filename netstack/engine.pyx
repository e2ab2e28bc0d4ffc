"""The engine thread: poll, bursts, timers, calls.

One round reads what the links hold (a burst of frames, then the segments and acknowledgements due for all of them
together), then serves the host's sockets, then timers, and sleeps when nothing is left. No line of it takes the GIL.
Other threads ask by calls, which the engine runs between bursts; what the engine has to tell goes to the mailbox.
"""
from libc.errno cimport EINTR
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strncpy

from netstack.capture.pcap cimport pcap_close, pcap_flush, pcap_open, pcap_part, pcap_write, pcap_writer
from netstack.host.clock cimport clock_now_ns, clock_realtime_ns, random_fill
from netstack.host.poller cimport (
    POLL_READ, POLL_WRITE, poller_add, poller_event, poller_free, poller_new, poller_rearm, poller_remove, poller_wait,
)
from netstack.host.sockets cimport iovec, sock_close, wake_clear, wake_open, wake_signal
from netstack.iface.fragments cimport fragments_deadline, fragments_expire
from netstack.iface.input cimport IFACE_DROPPED, IFACE_HELD, IFACE_REPLY, iface_input
from netstack.iface.interface cimport iface_free, iface_new
from netstack.iface.neighbors cimport neighbor, neighbors_find, neighbors_forget_port, neighbors_learn
from netstack.iface.packet cimport packet
from netstack.link.framing cimport framing_send
from netstack.link.link cimport LINK_AGAIN, LINK_CLOSED, LINK_OK, link_frame, link_t
from netstack.link.memory cimport MemoryLink
from netstack.link.tap cimport tap_link_new
from netstack.nat.context cimport MAIL_LINK_CLOSED, nat_post, nat_send_icmp_error, nat_send_udp, nat_t, upstream
from netstack.nat.flow cimport POLLED_LINK, POLLED_WAKE, flow_key, polled, tcp_flow, udp_flow
from netstack.nat.nat cimport (
    nat_flush, nat_free, nat_host_event, nat_make_tables, nat_new, nat_packet, nat_reap, nat_timer,
)
from netstack.nat.tcp_flow cimport tcp_flow_attach
from netstack.services.dns_table cimport DnsTable, dns_table
from netstack.storage.counters cimport (
    COUNTERS, DOWN_BYTES, DOWN_FRAMES, ENGINE_WAKEUPS, LINK_DOWN, LINK_FULL, LINK_REFUSED, PCAP_LOST, SWITCH_FULL,
    SWITCHED_FRAMES, UP_BYTES, UP_FRAMES, count,
)
from netstack.storage.counters import NAMES
from netstack.storage.frame cimport CSUM_FULL, GSO_NONE, frame_meta
from netstack.storage.mailbox cimport mailbox_take
from netstack.storage.table cimport table_len, table_next
from netstack.storage.wheel cimport (
    wheel_arm, wheel_cancel, wheel_expire, wheel_free, wheel_new, wheel_next, wheel_timer, wheel_timer_init,
)
from netstack.switch cimport SWITCH_FLOOD, switch_forget_port, switch_free, switch_learn, switch_lookup, switch_new
from netstack.tcp.states import STATES
from netstack.wire.addr cimport addr_from_object, addr_from_v4, addr_t, addr_to_object, addr_v4
from netstack.wire.icmp4 cimport ICMP4_TIME_EXCEEDED
from netstack.wire.ipv4 cimport IPPROTO_ICMP4

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_signal(pthread_cond_t *)
    int pthread_cond_destroy(pthread_cond_t *)

cdef extern from *:
    """
    #include <pthread.h>
    #include <signal.h>
    #include <sys/prctl.h>
    /* Guards every engine's list of calls; held for a few instructions only. */
    static pthread_mutex_t engine_calls_lock = PTHREAD_MUTEX_INITIALIZER;
    static int engine_load(int *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static void engine_store(int *p, int v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    /* Signals are the main thread's business; timers should fire when they say. */
    static void engine_thread_setup(void) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, NULL);
    #ifdef PR_SET_TIMERSLACK
        prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    #endif
    }
    """
    pthread_mutex_t engine_calls_lock
    int engine_load(int *p) noexcept nogil
    void engine_store(int *p, int v) noexcept nogil
    void engine_thread_setup() noexcept nogil

cdef enum:
    BURST = 64                  # frames of one link before others have their turn
    EVENTS = 64
    TIMER_FRAGMENTS = 64        # kind of the engine's own timer

cdef enum call_kind:
    CALL_ADD_PORT = 1
    CALL_REMOVE_PORT = 2
    CALL_ATTACH = 3
    CALL_SEND_UDP = 4
    CALL_NAMES = 5
    CALL_UPSTREAMS = 6
    CALL_FLOWS = 7
    CALL_PCAP = 8
    CALL_NEIGHBOR = 9

ctypedef struct call_t:
    call_t *next
    int kind
    int done
    void *arg
    int64_t number
    int64_t result
    pthread_mutex_t lock
    pthread_cond_t ready

ctypedef struct udp_out:        # CALL_SEND_UDP: a datagram of the gateway's services
    neighbor to                 # address, MAC and port; need not be in the table
    uint32_t src, dst
    uint16_t sport, dport
    const uint8_t *data
    uint32_t length

ctypedef struct upstreams_arg:
    upstream list[8]
    uint32_t n

ctypedef struct flow_info:
    uint8_t protocol
    uint8_t state
    addr_t guest
    addr_t peer
    uint16_t guest_port
    uint16_t peer_port
    uint64_t id
    uint64_t bytes_up, bytes_down
    uint64_t age_ns
    uint64_t srtt_ns
    uint64_t retransmits
    uint32_t cwnd
    uint32_t buffered_up, buffered_down

ctypedef struct flows_arg:
    flow_info *items
    uint32_t n


# --- towards the links

cdef void record(engine_t *e, const iovec *iov, int n) noexcept nogil:
    cdef pcap_part[8] parts
    cdef int i
    cdef uint32_t length = 0
    for i in range(n):
        parts[i].data = <const uint8_t *>iov[i].iov_base
        parts[i].length = <uint32_t>iov[i].iov_len
        length += <uint32_t>iov[i].iov_len
    if not pcap_write(e.pcap, clock_realtime_ns(), parts, n, length):
        count(e.counters, PCAP_LOST)
    e.pcap_dirty = 1


cdef void close_port(engine_t *e, port_t *port) noexcept nogil:
    """The link is gone: nothing more is sent there; its memory goes back at the end of the round."""
    if port.closed:
        return
    port.closed = 1
    port.readable = 0
    if port.polled.fd >= 0:
        poller_remove(e.poller, port.polled.fd)
    neighbors_forget_port(&e.iface.neighbors, port.index)
    switch_forget_port(e.switch, port.index)
    e.guests -= 1
    nat_post(e.nat, MAIL_LINK_CLOSED, &port.index, sizeof(int), NULL, 0)


cdef int send_on(engine_t *e, port_t *port, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    cdef uint32_t sent = 0
    cdef int r
    cdef int i
    cdef uint64_t length = 0
    if port == NULL or port.closed:
        count(e.counters, LINK_DOWN)
        return LINK_CLOSED
    r = framing_send(port.link, meta, iov, n, &sent)
    if r == LINK_OK:
        for i in range(n):
            length += iov[i].iov_len
        e.counters[<int>DOWN_FRAMES] += 1
        e.counters[<int>DOWN_BYTES] += length
        if not port.unflushed:
            port.unflushed = 1
        return r
    if r == LINK_AGAIN:
        count(e.counters, LINK_FULL)
    elif r == LINK_CLOSED:
        count(e.counters, LINK_DOWN)
        close_port(e, port)
    else:
        count(e.counters, LINK_REFUSED)
    return r


cdef int engine_sink(void *context, int index, const frame_meta *meta, const iovec *iov, int n) noexcept nogil:
    """Where nat sends frames."""
    cdef engine_t *e = <engine_t *>context
    if index <= 0 or index >= e.n_ports:
        count(e.counters, LINK_DOWN)
        return LINK_CLOSED
    if e.pcap != NULL:
        record(e, iov, n)
    return send_on(e, e.ports[index], meta, iov, n)


# --- from the links

cdef bint switch_frame(engine_t *e, port_t *port, const link_frame *frame) noexcept nogil:
    """Passes a frame on to other guests; True when the gateway should see it as well."""
    cdef iovec iov
    cdef int where
    cdef int i
    if frame.length < 14:
        return True
    if switch_learn(e.switch, frame.data + 6, port.index, e.now_ns) < 0:
        count(e.counters, SWITCH_FULL)
    if memcmp6(frame.data, e.iface.mac):
        return True
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


cdef bint memcmp6(const uint8_t *a, const uint8_t *b) noexcept nogil:
    return (a[0] == b[0] and a[1] == b[1] and a[2] == b[2] and a[3] == b[3] and a[4] == b[4] and a[5] == b[5])


cdef void read_port(engine_t *e, port_t *port) noexcept nogil:
    """One burst."""
    cdef link_frame frame
    cdef packet p
    cdef iovec iov
    cdef frame_meta plain
    cdef int budget = BURST
    cdef int r, verdict
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
        if e.pcap != NULL:
            iov.iov_base = <void *>frame.data
            iov.iov_len = frame.length
            record(e, &iov, 1)
        if e.guests > 1 and not switch_frame(e, port, &frame):
            continue
        verdict = iface_input(e.iface, frame.data, frame.length, &frame.meta, port.index, e.now_ns, &p)
        if verdict == IFACE_REPLY:
            memset(&plain, 0, sizeof(plain))
            iov.iov_base = e.iface.reply
            iov.iov_len = e.iface.reply_length
            engine_sink(e, port.index, &plain, &iov, 1)
        elif verdict != IFACE_DROPPED and verdict != IFACE_HELD:
            nat_packet(e.nat, verdict, &p, e.now_ns)


# --- timers

cdef void arm_fragments(engine_t *e) noexcept nogil:
    cdef uint64_t deadline = fragments_deadline(&e.iface.fragments)
    if deadline != UINT64_MAX:
        wheel_arm(e.wheel, &e.fragments_timer, deadline)


cdef void expire_fragments(engine_t *e) noexcept nogil:
    cdef uint8_t[68] quote
    cdef uint32_t n = 0
    cdef addr_t src
    cdef neighbor *to
    while fragments_expire(&e.iface.fragments, e.now_ns, e.counters, quote, &n) > 0:
        if n == 0:
            break
        src = addr_from_v4((<uint32_t>quote[12] << 24) | (<uint32_t>quote[13] << 16)
                           | (<uint32_t>quote[14] << 8) | quote[15])
        to = neighbors_find(&e.iface.neighbors, &src)
        if to != NULL:
            nat_send_icmp_error(e.nat, to, 0, ICMP4_TIME_EXCEEDED, 1, 0, quote, n, e.now_ns)
    arm_fragments(e)


cdef void run_timers(engine_t *e) noexcept nogil:
    cdef wheel_timer *t = wheel_expire(e.wheel, e.now_ns)
    cdef int budget = 4096
    while t != NULL:
        if t.kind == TIMER_FRAGMENTS:
            expire_fragments(e)
        else:
            nat_timer(e.nat, t, e.now_ns)
        budget -= 1
        if budget == 0:
            break
        t = wheel_expire(e.wheel, e.now_ns)


# --- calls

cdef int64_t add_port(engine_t *e, link_t *link) noexcept nogil:
    cdef port_t *port
    cdef int i
    for i in range(1, MAX_PORTS):
        if e.ports[i] == NULL:
            break
    else:
        return -1
    port = <port_t *>calloc(1, sizeof(port_t))
    if port == NULL:
        return -1
    port.polled.kind = POLLED_LINK
    port.polled.fd = link.fd
    port.link = link
    port.index = i
    port.readable = 1
    if link.fd >= 0 and poller_add(e.poller, link.fd, POLL_READ, &port.polled) < 0:
        free(port)
        return -1
    e.ports[i] = port
    if i >= e.n_ports:
        e.n_ports = i + 1
    e.guests += 1
    return i


cdef int64_t snapshot(engine_t *e, flows_arg *arg) noexcept nogil:
    """Copies what is known of every flow."""
    cdef nat_t *nat = e.nat
    cdef uint32_t total = table_len(nat.tcp_table) + table_len(nat.udp_table) + table_len(nat.ping_table)
    cdef uint32_t cursor = 0
    cdef tcp_flow *t
    cdef flow_info *out
    arg.n = 0
    arg.items = <flow_info *>calloc(total + 1, sizeof(flow_info))
    if arg.items == NULL:
        return -1
    t = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    while t != NULL and arg.n < total:
        out = &arg.items[arg.n]
        arg.n += 1
        out.protocol = 6
        out.state = t.tcb.state
        out.guest = t.key.guest
        out.peer = t.key.peer
        out.guest_port = t.key.guest_port
        out.peer_port = t.key.peer_port
        out.id = t.id
        out.bytes_up = t.bytes_up
        out.bytes_down = t.bytes_down
        out.age_ns = e.now_ns - t.opened_ns
        out.srtt_ns = t.tcb.srtt_ns
        out.cwnd = t.tcb.cwnd
        out.retransmits = t.retransmits
        out.buffered_up = <uint32_t>(t.tcb.rcv_ring.tail - t.tcb.rcv_ring.head)
        out.buffered_down = <uint32_t>(t.tcb.snd_ring.tail - t.tcb.snd_ring.head)
        t = <tcp_flow *>table_next(nat.tcp_table, &cursor)
    datagram_flows(e, arg, total, False)
    datagram_flows(e, arg, total, True)
    return 0


cdef void datagram_flows(engine_t *e, flows_arg *arg, uint32_t total, bint ping) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef flow_info *out
    cdef udp_flow *u
    u = <udp_flow *>table_next(e.nat.ping_table if ping else e.nat.udp_table, &cursor)
    while u != NULL and arg.n < total:
        out = &arg.items[arg.n]
        arg.n += 1
        out.protocol = 1 if ping else 17
        out.guest = u.key.guest
        out.guest_port = u.key.guest_port
        out.peer = u.last_peer
        out.peer_port = u.last_peer_port
        out.bytes_up = u.bytes_up
        out.bytes_down = u.bytes_down
        out.age_ns = e.now_ns - u.last_ns
        u = <udp_flow *>table_next(e.nat.ping_table if ping else e.nat.udp_table, &cursor)


cdef int64_t perform(engine_t *e, call_t *call) noexcept nogil:
    cdef udp_out *out
    cdef upstreams_arg *ups
    cdef neighbor *known
    if call.kind == CALL_ADD_PORT:
        return add_port(e, <link_t *>call.arg)
    if call.kind == CALL_REMOVE_PORT:
        if call.number <= 0 or call.number >= e.n_ports or e.ports[call.number] == NULL:
            return -1
        close_port(e, e.ports[call.number])
        return 0
    if call.kind == CALL_ATTACH:
        return tcp_flow_attach(e.nat, <uint64_t><size_t>call.arg, <int>call.number, e.now_ns)
    if call.kind == CALL_SEND_UDP:
        out = <udp_out *>call.arg
        nat_send_udp(e.nat, &out.to, out.src, out.sport, out.dst, out.dport, out.data, out.length, 0, e.now_ns)
        return 0
    if call.kind == CALL_NEIGHBOR:
        known = <neighbor *>call.arg
        return 0 if neighbors_learn(&e.iface.neighbors, &known.address, known.mac, known.port, e.now_ns) != NULL else -1
    if call.kind == CALL_NAMES:
        e.nat.names = <const dns_table *>call.arg
        return 0
    if call.kind == CALL_UPSTREAMS:
        ups = <upstreams_arg *>call.arg
        memcpy(e.nat.upstreams, ups.list, sizeof(ups.list))
        e.nat.n_upstreams = ups.n
        return 0
    if call.kind == CALL_FLOWS:
        return snapshot(e, <flows_arg *>call.arg)
    if call.kind == CALL_PCAP:
        if e.pcap != NULL:
            pcap_close(e.pcap)
        e.pcap = <pcap_writer *>call.arg
        return 0
    return -1


cdef void run_calls(engine_t *e) noexcept nogil:
    cdef call_t *call
    cdef call_t *first = NULL
    cdef call_t *next_call
    pthread_mutex_lock(&engine_calls_lock)
    call = e.calls
    e.calls = NULL
    pthread_mutex_unlock(&engine_calls_lock)
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


# --- the loop

cdef bint ports_have_work(engine_t *e) noexcept nogil:
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL and e.ports[i].readable and not e.ports[i].closed:
            return True
    return False


cdef void flush_ports(engine_t *e) noexcept nogil:
    cdef port_t *port
    cdef int i, r
    for i in range(1, e.n_ports):
        port = e.ports[i]
        if port != NULL and port.unflushed and not port.closed:
            r = port.link.flush(port.link)
            if r == LINK_OK:
                port.unflushed = 0
            elif r == LINK_CLOSED:
                close_port(e, port)


cdef void flush_ports_last(engine_t *e) noexcept nogil:
    """The same when nat is gone already."""
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL and e.ports[i].unflushed and not e.ports[i].closed:
            e.ports[i].link.flush(e.ports[i].link)


cdef void reap_ports(engine_t *e) noexcept nogil:
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL and e.ports[i].closed:
            e.ports[i].link.close(e.ports[i].link)
            free(e.ports[i])
            e.ports[i] = NULL


cdef bint engine_round(engine_t *e, uint64_t timeout_ns, uint64_t virtual_ns) noexcept nogil:
    """One round. True when work is left that no event will announce. virtual_ns replaces the clock unless it is 0."""
    cdef poller_event[EVENTS] events
    cdef polled *what
    cdef int i
    cdef bint more
    cdef int n = poller_wait(e.poller, events, EVENTS, timeout_ns)
    e.now_ns = virtual_ns if virtual_ns else clock_now_ns()
    e.counters[<int>ENGINE_WAKEUPS] += 1
    for i in range(n):
        what = <polled *>events[i].token
        if what.kind == POLLED_LINK:
            (<port_t *>what).readable = 1
        elif what.kind == POLLED_WAKE:
            wake_clear(e.wake_read)
            run_calls(e)
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL and e.ports[i].readable:
            read_port(e, e.ports[i])
    if e.iface.fragments.used:
        arm_fragments(e)
    nat_flush(e.nat, e.now_ns)
    for i in range(n):
        what = <polled *>events[i].token
        if what.kind != POLLED_LINK and what.kind != POLLED_WAKE:
            nat_host_event(e.nat, what, events[i].events, e.now_ns)
    run_timers(e)
    more = nat_flush(e.nat, e.now_ns)
    flush_ports(e)
    nat_reap(e.nat)
    reap_ports(e)
    return more or ports_have_work(e)


cdef void engine_run(engine_t *e) noexcept nogil:
    """Until engine.stop is set."""
    cdef uint64_t deadline, timeout
    cdef bint more = False
    engine_thread_setup()
    while not engine_load(&e.stop):
        timeout = 0
        if not more:
            deadline = wheel_next(e.wheel)
            timeout = UINT64_MAX
            if deadline != UINT64_MAX:
                e.now_ns = clock_now_ns()
                timeout = deadline - e.now_ns if deadline > e.now_ns else 0
            if timeout and e.pcap_dirty:
                pcap_flush(e.pcap)
                e.pcap_dirty = 0
        more = engine_round(e, timeout, 0)


cdef class Engine:
    """One virtual network's data path.

    Args:
        settings: the keys that ``netstack.gateway`` gives; addresses as strings, times in nanoseconds.

    Made, configured and then either run in a thread (``run``, which returns after ``request_stop``) or stepped by hand on virtual time
    (``step``). Every other method may be called from any thread.
    """

    def __cinit__(self):
        self.e = NULL
        self.mail_read = -1
        self.mail_write = -1
        self.links = {}
        self.last_counters = {}

    def __init__(self, settings: dict):
        cdef engine_t *e = <engine_t *>calloc(1, sizeof(engine_t))
        cdef uint64_t[2] keys
        cdef bytes mac = settings["gateway_mac"]
        if e == NULL:
            raise MemoryError
        self.e = e
        e.wake_read = -1
        e.wake_write = -1
        if random_fill(keys, sizeof(keys)) < 0:
            raise OSError("the system gives no random bytes")
        if settings.get("seed") is not None:
            keys[0] = settings["seed"]
            keys[1] = ~keys[0]
        e.now_ns = settings.get("now_ns") or clock_now_ns()
        e.n_ports = 1
        e.poller = poller_new()
        e.wheel = wheel_new(e.now_ns)
        e.switch = switch_new(4096, 300 * <uint64_t>1000000000, keys[0], keys[1])
        e.iface = iface_new(mac, settings["gateway"], settings["host_alias"], settings["network"], settings["netmask"],
                            settings["mtu"], keys[0], keys[1], e.counters)
        e.nat = nat_new()
        if e.poller == NULL or e.wheel == NULL or e.switch == NULL or e.iface == NULL or e.nat == NULL:
            raise MemoryError
        if wake_open(&e.wake_read, &e.wake_write) < 0 or wake_open(&self.mail_read, &self.mail_write) < 0:
            raise OSError("no descriptors are left: raise the limit (ulimit -n)")
        self._configure(settings, keys[0], keys[1])
        if nat_make_tables(e.nat) < 0:
            raise MemoryError
        wheel_timer_init(&e.fragments_timer, TIMER_FRAGMENTS, e)
        self._wake_token()

    cdef _wake_token(self):
        cdef polled *token = <polled *>calloc(1, sizeof(polled))
        if token == NULL:
            raise MemoryError
        token.kind = POLLED_WAKE
        token.fd = self.e.wake_read
        if poller_add(self.e.poller, self.e.wake_read, POLL_READ, token) < 0:
            free(token)
            raise OSError("the poller refuses the wake-up descriptor")
        self.wake = token

    cdef _configure(self, dict s, uint64_t k0, uint64_t k1):
        cdef nat_t *nat = self.e.nat
        cdef bytes interface_name = s["outbound_interface"].encode()
        nat.iface = self.e.iface
        nat.poller = self.e.poller
        nat.wheel = self.e.wheel
        nat.counters = self.e.counters
        nat.mail_fd = self.mail_write
        nat.sink = engine_sink
        nat.sink_context = self.e
        nat.k0 = k0
        nat.k1 = k1
        nat.settings.udp_one_way_ns = s["udp_one_way_ns"]
        nat.settings.udp_two_way_ns = s["udp_two_way_ns"]
        nat.settings.dns_timeout_ns = s["dns_timeout_ns"]
        nat.settings.ping_timeout_ns = s["ping_timeout_ns"]
        nat.settings.connect_timeout_ns = s["connect_timeout_ns"]
        nat.settings.max_tcp = s["max_tcp"]
        nat.settings.max_udp = s["max_udp"]
        nat.settings.max_ping = s["max_ping"]
        nat.settings.max_dns = s["max_dns"]
        nat.settings.all_pending = s["all_pending"]
        nat.options.mark = s["outbound_mark"]
        strncpy(nat.options.interface_name, interface_name, 15)
        nat.memory.limit = s["tcp_memory"]
        nat.tcp.mss = s["mtu"] - 40
        nat.tcp.max_gso = 65535 - 20 - 60
        nat.tcp.rcv_buf_initial = s["tcp_buffer_initial"]
        nat.tcp.rcv_buf_max = s["tcp_buffer_max"]
        nat.tcp.snd_buf_initial = s["tcp_buffer_initial"]
        nat.tcp.snd_buf_max = s["tcp_buffer_max"]
        nat.tcp.congestion = s["congestion"]
        nat.tcp.timestamps = 1
        nat.tcp.sack = 1
        nat.tcp.ecn = 1
        nat.tcp.nagle = 0               # the host's sender has decided already
        nat.tcp.delayed_ack_ns = 40000000
        nat.tcp.rto_min_ns = 200000000
        nat.tcp.rto_max_ns = 120 * <uint64_t>1000000000
        nat.tcp.rto_initial_ns = 1000000000
        nat.tcp.keepalive_idle_ns = s["keepalive_ns"]
        nat.tcp.keepalive_interval_ns = 75 * <uint64_t>1000000000
        nat.tcp.keepalive_probes = 9
        nat.tcp.user_timeout_ns = 0
        nat.tcp.syn_timeout_ns = 180 * <uint64_t>1000000000
        nat.tcp.time_wait_ns = s["time_wait_ns"]
        nat.tcp.fin_wait_2_ns = 0
        nat.tcp.burst_packets = 0
        nat.tcp.challenge_interval_ns = 500000000
        nat.tcp.memory = &nat.memory

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        """Ends every flow and link and gives everything back; the engine must not run. Harmless when called again."""
        cdef engine_t *e = self.e
        cdef int i
        if e == NULL:
            return
        if engine_load(&e.running):
            raise RuntimeError("the engine runs: request_stop first")
        self.last_counters = self.counters()
        self.e = NULL
        if e.nat != NULL:
            nat_free(e.nat, e.now_ns)   # resets go out while there are links
            flush_ports_last(e)
        for i in range(1, MAX_PORTS):
            if e.ports[i] != NULL:
                e.ports[i].link.close(e.ports[i].link)
                free(e.ports[i])
        if e.pcap != NULL:
            pcap_close(e.pcap)
        if e.iface != NULL:
            iface_free(e.iface)
        if e.switch != NULL:
            switch_free(e.switch)
        if e.wheel != NULL:
            wheel_free(e.wheel)
        if e.poller != NULL:
            poller_free(e.poller)
        for fd in (e.wake_read, e.wake_write, self.mail_read, self.mail_write):
            if fd >= 0:
                sock_close(fd)
        free(self.wake)
        free(e)
        self.links.clear()

    # --- running

    def run(self) -> None:
        """The engine's loop, without the GIL, until ``request_stop``. To be called in a thread of its own."""
        cdef engine_t *e = self.e
        with nogil:
            engine_store(&e.running, 1)
            engine_run(e)
            pthread_mutex_lock(&engine_calls_lock)
            engine_store(&e.running, 0)
            pthread_mutex_unlock(&engine_calls_lock)
            run_calls(e)
            if e.pcap != NULL:
                pcap_flush(e.pcap)

    def request_stop(self) -> None:
        """Makes ``run`` return after its present round."""
        engine_store(&self.e.stop, 1)
        wake_signal(self.e.wake_write)

    def step(self, uint64_t now_ns) -> int | None:
        """Does all that is due at ``now_ns`` (virtual time) and returns the next deadline in nanoseconds, or None.

        Raises:
            RuntimeError: the engine runs in a thread.
        """
        cdef engine_t *e = self.e
        cdef uint64_t deadline
        cdef bint more = True
        if engine_load(&e.running):
            raise RuntimeError("the engine runs in a thread: it cannot be stepped as well")
        with nogil:
            mark_readable(e)
            while more:
                more = engine_round(e, 0, now_ns)
            deadline = wheel_next(e.wheel)
        return None if deadline == UINT64_MAX else deadline

    cdef int64_t call(self, int kind, void *arg, int64_t number) except? -1:
        """Has the engine do something between two bursts and waits for it, without the GIL."""
        cdef engine_t *e = self.e
        cdef call_t request
        cdef bint direct
        if e == NULL:
            raise RuntimeError("the gateway is stopped")
        memset(&request, 0, sizeof(request))
        request.kind = kind
        request.arg = arg
        request.number = number
        with nogil:
            pthread_mutex_lock(&engine_calls_lock)
            direct = not engine_load(&e.running)
            if not direct:
                pthread_mutex_init(&request.lock, NULL)
                pthread_cond_init(&request.ready, NULL)
                request.next = e.calls
                e.calls = &request
            pthread_mutex_unlock(&engine_calls_lock)
            if direct:
                request.result = perform(e, &request)
            else:
                wake_signal(e.wake_write)
                pthread_mutex_lock(&request.lock)
                while not request.done:
                    pthread_cond_wait(&request.ready, &request.lock)
                pthread_mutex_unlock(&request.lock)
                pthread_mutex_destroy(&request.lock)
                pthread_cond_destroy(&request.ready)
        return request.result

    # --- links

    def add_tap(self, int fd, uint32_t granted, uint32_t mtu) -> int:
        """Takes over the descriptor of a TAP (``granted``: TUN_* bits). Returns the port.

        Raises:
            OSError: the descriptor cannot be polled, or there are too many links.
        """
        cdef link_t *link = tap_link_new(fd, granted, mtu)
        if link == NULL:
            raise OSError("the TAP cannot be used")
        return self._add(link, None)

    def add_memory(self, MemoryLink link not None) -> int:
        """Attaches a link in memory. Returns the port."""
        return self._add(link.link, link)

    cdef _add(self, link_t *link, owner):
        cdef int64_t port = self.call(CALL_ADD_PORT, link, 0)
        if port < 0:
            link.close(link)
            raise OSError(f"the link cannot be attached: at most {MAX_PORTS - 1} may be at one time")
        self.links[port] = owner
        return port

    def remove_port(self, int port) -> None:
        """Closes the link on a port; harmless when it is gone."""
        self.call(CALL_REMOVE_PORT, NULL, port)
        self.links.pop(port, None)

    def forget_link(self, int port) -> None:
        """Drops the Python side of a link that the engine has closed."""
        self.links.pop(port, None)

    # --- services

    def set_names(self, DnsTable table not None) -> None:
        """The names that the gateway answers itself."""
        self.call(CALL_NAMES, <void *>table.pointer(), 0)
        self.names = table              # the one before is let go only now

    def set_upstreams(self, upstreams: list) -> None:
        """The host's resolvers as (address, port), at most eight, in order."""
        cdef upstreams_arg arg
        cdef addr_t a
        memset(&arg, 0, sizeof(arg))
        for address, port in upstreams[:8]:
            a = addr_from_object(address)
            arg.list[arg.n].addr = a
            arg.list[arg.n].port = port
            arg.n += 1
        self.call(CALL_UPSTREAMS, &arg, 0)

    def send_udp(self, int port, bytes mac, source, int sport, destination, int dport, bytes payload) -> None:
        """A datagram from the gateway to a guest by its port and MAC, whether or not its address is known."""
        cdef udp_out out
        cdef addr_t a
        memset(&out, 0, sizeof(out))
        if len(mac) != 6:
            raise ValueError("a MAC address has six bytes")
        a = addr_from_object(destination)
        out.to.address = a
        out.dst = addr_v4(&a)
        memcpy(out.to.mac, <const char *>mac, 6)
        out.to.port = port
        a = addr_from_object(source)
        out.src = addr_v4(&a)
        out.sport = sport
        out.dport = dport
        out.data = <const uint8_t *><const char *>payload
        out.length = len(payload)
        self.call(CALL_SEND_UDP, &out, 0)

    def learn(self, address, bytes mac, int port) -> None:
        """Notes which guest has an address before it has sent anything."""
        cdef neighbor known
        cdef addr_t a = addr_from_object(address)
        memset(&known, 0, sizeof(known))
        known.address = a
        memcpy(known.mac, <const char *>mac, 6)
        known.port = port
        self.call(CALL_NEIGHBOR, &known, 0)

    def attach(self, uint64_t flow, int fd) -> bool:
        """Gives a pending connection its descriptor (a connected stream, owned by the engine from here on), or refuses it with
        ``fd`` = -errno. False when the flow is gone: then the descriptor is still the caller's."""
        return self.call(CALL_ATTACH, <void *><size_t>flow, fd) == 0

    def set_pcap(self, path: str | None, uint32_t snaplen=262144) -> None:
        """Starts (or with None ends) the capture of all frames.

        Raises:
            OSError: the file cannot be written.
        """
        cdef pcap_writer *writer = NULL
        cdef bytes name
        if path is not None:
            name = path.encode()
            writer = pcap_open(name, snaplen)
            if writer == NULL:
                raise OSError(f"cannot write the capture file {path}")
        self.call(CALL_PCAP, writer, 0)

    # --- what there is to know

    @property
    def mail_fd(self) -> int:
        """Readable when ``mail`` has something."""
        return self.mail_read

    def mail(self) -> list:
        """All messages that wait, as (kind, bytes). For one thread only."""
        cdef list out = []
        cdef bytearray room = bytearray(70000)
        cdef uint32_t kind = 0
        cdef int n
        wake_clear(self.mail_read)
        while True:
            n = mailbox_take(&self.e.nat.mailbox, &kind, <uint8_t *><char *>room, <uint32_t>len(room))
            if n < 0:
                return out
            out.append((kind, bytes(room[:n])))

    def counters(self) -> dict:
        """All counters by name."""
        cdef int i
        if self.e == NULL:
            return dict(self.last_counters)
        return {NAMES[i]: self.e.counters[i] for i in range(<int>COUNTERS)}

    def flows(self) -> list:
        """One dict for each flow: protocol, state, guest, peer, bytes_up, bytes_down, age, rtt (seconds), ..."""
        cdef flows_arg arg
        cdef flow_info *f
        cdef list out = []
        cdef uint32_t i
        memset(&arg, 0, sizeof(arg))
        if self.call(CALL_FLOWS, &arg, 0) < 0:
            raise MemoryError
        for i in range(arg.n):
            f = &arg.items[i]
            out.append({
                "protocol": {1: "icmp", 6: "tcp", 17: "udp"}[f.protocol],
                "state": STATES[f.state] if f.protocol == 6 else "",
                "guest": str(addr_to_object(&f.guest)),
                "guest_port": f.guest_port,
                "peer": str(addr_to_object(&f.peer)),
                "peer_port": f.peer_port,
                "id": f.id,
                "bytes_up": f.bytes_up,
                "bytes_down": f.bytes_down,
                "age": f.age_ns / 1e9,
                "rtt": f.srtt_ns / 1e9,
                "cwnd": f.cwnd,
                "retransmits": f.retransmits,
                "buffered_up": f.buffered_up,
                "buffered_down": f.buffered_down,
            })
        free(arg.items)
        return out

    @property
    def now_ns(self) -> int:
        """The time of the engine's present round."""
        return self.e.now_ns


cdef void mark_readable(engine_t *e) noexcept nogil:
    """Stepping: links in memory are looked at without an edge."""
    cdef int i
    for i in range(1, e.n_ports):
        if e.ports[i] != NULL:
            e.ports[i].readable = 1
