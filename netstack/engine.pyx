"""One virtual network's data path, as Python sees it: made, told, run or stepped, and asked."""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.errno cimport EBUSY
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from os import strerror
from threading import Lock

from netstack.host.clock cimport clock_now_ns, random_fill
from netstack.host.poller cimport POLL_READ, poller_add, poller_free, poller_new
from netstack.host.spin cimport spin_init
from netstack.host.sync cimport flag_load
from netstack.host.sockets cimport sock_close, wake_clear, wake_open
from netstack.iface.interface cimport iface_free, iface_new
from netstack.iface.neighbors cimport neighbor
from netstack.link.datagram cimport datagram_link_new
from netstack.link.datagram import KINDS
from netstack.link.link cimport link_t
from netstack.link.memory cimport MemoryLink
from netstack.link.stream cimport stream_link_new
from netstack.link.stream import FRAMINGS
from netstack.link.tap cimport tap_link_new
from netstack.loop cimport (
    CALL_ADD_PORT, CALL_ATTACH, CALL_FLOWS, CALL_FORGET_PORT, CALL_HOLD, CALL_IMPAIR, CALL_NAMES, CALL_NEIGHBOR,
    CALL_NEIGHBORS, CALL_PORT_MAC, CALL_REMOVE_PORT, CALL_SEND_UDP, CALL_TAP, MAX_PORTS,
    TIMER_FRAGMENTS, engine_call, engine_close_links, engine_deadline, engine_look_at_links, engine_round, engine_run,
    engine_sink, engine_stop, engine_t, engine_time, held_address, impair_paths, new_port, port_mac, udp_out,
)
from netstack.link.impaired cimport impaired_link_new
from netstack.nat.command cimport (
    COMMAND_ADDRESS_GONE, COMMAND_DIAL, COMMAND_DIVERT, COMMAND_DNS_ANSWER, COMMAND_DNS_CACHED, COMMAND_DNS_KEEP,
    COMMAND_DNS_PLAN, COMMAND_FORWARD, COMMAND_HIDE, COMMAND_PATHS, COMMAND_PING, COMMAND_PREFIXES, COMMAND_REPLACE,
    COMMAND_RETARGET, COMMAND_UNDIVERT, COMMAND_UNFORWARD, retarget_arg,
)
from netstack.nat.context cimport divert_prefix_t, nat_t
from netstack.nat.divert cimport diversion
from netstack.nat.dns_cache cimport CACHE_MESSAGE_MAX
from netstack.nat.dns_flow cimport dns_cached, dns_from_control, dns_keep
from netstack.nat.dns_plan cimport dns_plan_fill
from netstack.nat.dns_servers cimport dns_plan
from netstack.nat.flow cimport POLLED_WAKE, polled, socks_relay
from netstack.nat.forward cimport dial_new, forward_new
from netstack.nat.nat cimport nat_configure, nat_free, nat_make_tables, nat_new
from netstack.nat.ping_guest cimport ping_new
from netstack.nat.snapshot cimport flows_arg, flows_list, neighbors_arg, neighbors_list
from netstack.services.dns_table cimport DnsTable
from netstack.storage.counters cimport COUNTERS
from netstack.storage.counters import NAMES
from netstack.storage.mailbox cimport mailbox_take
from netstack.storage.wheel cimport wheel_free, wheel_new, wheel_timer_init
from netstack.switch cimport switch_free, switch_new
from netstack.wire.addr cimport addr_from_object, addr_t, addr_v4, v4_from_object


cdef class Engine:
    """One virtual network's data path.

    Args:
        settings: the keys that ``netstack.gateway`` gives; addresses as strings, times in nanoseconds.

    Made, configured and then either run in a thread (``run``, which returns after ``request_stop``) or stepped by
    hand on virtual time (``step``). Every other method may be called from any thread.
    """

    def __cinit__(self):
        self.e = NULL
        self.mail_read = -1
        self.mail_write = -1
        self.links = {}
        self.changing = Lock()
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
        if settings.get("impair") is not None:
            self.impair_up, self.impair_down = settings["impair"]
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
        spin_init(&e.poller.spin, settings["busy_poll_ns"])
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
        self.e.source_rule = s["source_rule"]
        self.e.isolated = s["isolated"]
        nat.iface = self.e.iface
        nat.poller = self.e.poller
        nat.wheel = self.e.wheel
        nat.counters = self.e.counters
        nat.mail_fd = self.mail_write
        nat.sink = engine_sink
        nat.sink_context = self.e
        nat.k0 = k0
        nat.k1 = k1
        nat_configure(nat, s)

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        """Ends every flow and link and gives everything back; the engine must not run. Harmless when called again."""
        cdef engine_t *e = self.e
        if e == NULL:
            return
        if flag_load(&e.running):
            raise RuntimeError("the engine runs: request_stop first")
        self.last_counters = self.counters()
        self.e = NULL
        nat_free(e.nat, e.now_ns)       # resets go out while there are links
        engine_close_links(e)
        if e.tap != NULL:
            e.tap.stop(e.tap, engine_time(e))
            e.tap = NULL                # whoever gave the recorder closes it
        self.recorder = None
        iface_free(e.iface)
        switch_free(e.switch)
        wheel_free(e.wheel)
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
        with nogil:
            engine_run(self.e)

    def request_stop(self) -> None:
        """Makes ``run`` return after its present round."""
        engine_stop(self.e)

    def step(self, uint64_t now_ns) -> int | None:
        """Does all that is due at ``now_ns`` (virtual time) and returns the next deadline in nanoseconds, or None.

        Raises:
            RuntimeError: the engine runs in a thread.
        """
        cdef engine_t *e = self.e
        cdef uint64_t deadline
        cdef bint more = True
        if flag_load(&e.running):
            raise RuntimeError("the engine runs in a thread: it cannot be stepped as well")
        with nogil:
            engine_look_at_links(e)
            while more:
                more = engine_round(e, 0, now_ns)
            deadline = engine_deadline(e)
        return None if deadline == UINT64_MAX else deadline

    cdef int64_t call(self, int kind, void *arg, int64_t number) except? -1:
        """Has the engine do something between two bursts and waits for it, without the GIL."""
        cdef engine_t *e = self.e
        cdef int64_t result
        if e == NULL:
            raise RuntimeError("the gateway is stopped")
        with nogil:
            result = engine_call(e, kind, arg, number)
        return result

    # --- links

    def add_tap(self, int fd, uint32_t granted, uint32_t mtu, str name="") -> int:
        """Takes over the descriptor of a TAP (``granted``: TUN_* bits). Returns the port. ``name`` is what captures
        call the link, here and below.

        Raises:
            OSError: the descriptor cannot be polled, or there are too many links.
        """
        cdef link_t *link = tap_link_new(fd, granted, mtu)
        if link == NULL:
            raise OSError("the TAP cannot be used")
        return self._add(link, link.fd, None, name)

    def add_stream(self, int fd, int out_fd, str framing, uint32_t mtu, str name="") -> int:
        """Takes over connected descriptors (the same, or one to read from and one to write to) that carry frames behind
        their lengths: framing "hyperkit", "qemu" or "offload". Returns the port.

        Raises:
            OSError: the descriptors cannot be used (they are still the caller's), or there are too many links.
        """
        cdef link_t *link = stream_link_new(fd, out_fd, FRAMINGS[framing], mtu)
        if link == NULL:
            raise OSError(f"descriptor {fd} cannot be used as a link")
        return self._add(link, link.fd, None, name)

    def add_datagram(self, int fd, str kind, uint32_t mtu, str name="") -> int:
        """Takes over a socket that carries a frame in each message: kind "connected", "packets" or "learn".
        Returns the port.

        Raises:
            OSError: the socket cannot be used (it is still the caller's), or there are too many links.
        """
        cdef link_t *link = datagram_link_new(fd, KINDS[kind], mtu)
        if link == NULL:
            raise OSError(f"descriptor {fd} cannot be used as a link")
        return self._add(link, link.fd, None, name)

    def set_port_mac(self, int port, bytes mac) -> None:
        """Tells which MAC a link's handshake has given to its guest: that one it may use, wherever it was seen
        before."""
        cdef port_mac given
        if len(mac) != 6:
            raise ValueError("a MAC address has six bytes")
        given.port = port
        memcpy(given.mac, <const char *>mac, 6)
        self.call(CALL_PORT_MAC, &given, 0)

    def hold(self, address, bytes mac, int port=-1) -> bool:
        """Gives an address to a MAC, for the check of sources; with ``mac`` None it is nobody's again. False
        when the table is full."""
        cdef held_address held
        cdef addr_t a = addr_from_object(address)
        memset(&held, 0, sizeof(held))
        held.address = addr_v4(&a)
        held.port = port
        held.let_go = mac is None
        if mac is not None:
            if len(mac) != 6:
                raise ValueError("a MAC address has six bytes")
            memcpy(held.mac, <const char *>mac, 6)
        return self.call(CALL_HOLD, &held, 0) == 0

    def add_memory(self, MemoryLink link not None, str name="") -> int:
        """Attaches a link in memory. Returns the port."""
        return self._add(link.link, link.wake_fd, link, name)

    cdef _add(self, link_t *link, int fd, owner, str name):
        """``owner``: whose the link is; without one it is the engine's, and behind the bad path, if there is one."""
        cdef int64_t port = -1
        cdef link_t *behind
        cdef new_port new
        cdef bytes text = name.encode(errors="replace")
        with self.changing:
            if self.impair_up is not None and owner is None:
                behind = impaired_link_new(link, &self.impair_up.config, &self.impair_down.config,
                                           self.e.counters)
                if behind == NULL:
                    link.close(link)
                    raise MemoryError
                link = behind
            new.link, new.fd, new.name = link, fd, text
            port = self.call(CALL_ADD_PORT, &new, 0)
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
        """Drops the Python side of a link that the engine has closed; its number may be used again."""
        self.links.pop(port, None)
        if self.e != NULL:
            self.call(CALL_FORGET_PORT, NULL, port)

    def set_impairment(self, Impairment up, Impairment down) -> None:
        """A bad path for all links but those in memory, now and later; with None a good one. What is held arrives."""
        cdef impair_paths paths
        memset(&paths, 0, sizeof(paths))
        paths.whole = up is None
        if up is not None:
            paths.up, paths.down = up.config, down.config
        with self.changing:
            self.impair_up, self.impair_down = up, down
            if self.call(CALL_IMPAIR, &paths, 0) < 0:
                raise MemoryError

    # --- services

    def set_names(self, DnsTable table not None) -> None:
        """The names that the gateway answers itself."""
        self.call(CALL_NAMES, <void *>table.pointer(), 0)
        self.names = table              # the one before is let go only now
        recorder = self.recorder
        if recorder is not None:
            try:
                recorder.set_names(table.names)
            except ValueError:          # it has been closed meanwhile
                pass

    def set_dns_routes(self, routes: list) -> None:
        """Which name servers know what: (zone, servers) pairs, the zone "" being everything else.

        A server is (address, port, 0), asked by UDP, or (None, 0, N): the control plane is asked for it by a
        MAIL_DNS_ASK with the number N > 0. At most 64 zones, of 8 servers each, 64 servers in all; what is beyond is
        left out.
        """
        cdef dns_plan *plan = <dns_plan *>calloc(1, sizeof(dns_plan))
        if plan == NULL:
            raise MemoryError
        try:
            dns_plan_fill(plan, routes)
            self.call(COMMAND_DNS_PLAN, plan, 0)
        finally:
            free(plan)

    def dns_answer(self, bytes key, uint32_t attempt, bytes reply) -> None:
        """What a server has said that a MAIL_DNS_ASK was about (its key and attempt): nothing (empty), or that it
        does not know the name (one byte)."""
        cdef dns_from_control answer
        memset(&answer, 0, sizeof(answer))
        if len(key) != sizeof(answer.key):
            raise ValueError("this is no key of a query")
        memcpy(&answer.key, <const char *>key, sizeof(answer.key))
        answer.attempt = attempt
        answer.data = <const uint8_t *><const char *>reply
        answer.length = len(reply)
        self.call(COMMAND_DNS_ANSWER, &answer, 0)

    def dns_cached(self, bytes query, bint stale=False) -> bytes | None:
        """The answer that the cache has for a query as it came over TCP; with ``stale`` also one whose time is over."""
        cdef dns_cached asked
        cdef bytearray room = bytearray(CACHE_MESSAGE_MAX)
        cdef int64_t n
        asked.query = <const uint8_t *><const char *>query
        asked.length = len(query)
        asked.stale = stale
        asked.out = <uint8_t *><char *>room
        asked.room = CACHE_MESSAGE_MAX
        n = self.call(COMMAND_DNS_CACHED, &asked, 0)
        return bytes(room[:n]) if n > 0 else None

    def dns_keep(self, bytes query, bytes reply) -> None:
        """Gives the cache an answer that came over TCP."""
        cdef dns_keep keep
        keep.query = <const uint8_t *><const char *>query
        keep.length = len(query)
        keep.reply = <const uint8_t *><const char *>reply
        keep.reply_length = len(reply)
        self.call(COMMAND_DNS_KEEP, &keep, 0)

    def paths_changed(self) -> None:
        """The host's routes are others: name servers are asked through new sockets."""
        self.call(COMMAND_PATHS, NULL, 0)

    def address_gone(self, address) -> int:
        """The host has lost an address: connections that came from it are reset. How many there were."""
        cdef addr_t gone = addr_from_object(address)
        return self.call(COMMAND_ADDRESS_GONE, &gone, 0)

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
        """Gives a pending connection its descriptor (a connected stream, the engine's from here on), or refuses it
        with ``fd`` = -errno. False when the flow is gone: then the descriptor is still the caller's."""
        return self.call(CALL_ATTACH, <void *><size_t>flow, fd) == 0

    def replace(self, uint64_t flow, int fd) -> bool:
        """Exchanges the descriptor of an open connection for another (a connected stream, the engine's from here on),
        or resets the guest with ``fd`` = -errno. False when there is no such connection: then the descriptor is still
        the caller's.

        The program at the other end of the old one reads it to its end of file (the guest's bytes that were on their
        way), sends those on itself, and then closes its end: up to there what it has sent goes to the guest.
        """
        return self.call(COMMAND_REPLACE, &flow, fd) == 0

    # --- into the guests

    def forward(self, int fd, int protocol, uint64_t rule, guest, uint16_t guest_port, bint as_gateway) -> None:
        """Serves a published port: a listening stream socket (``protocol`` 6) or a bound UDP socket (17), owned by the
        engine from here on. ``guest`` is an IPv4 address, or None while nobody is known by the rule's name.

        Raises:
            OSError: the socket cannot be polled.
        """
        cdef forward_new new
        cdef int64_t rc
        memset(&new, 0, sizeof(new))
        new.fd = fd
        new.protocol = protocol
        new.rule = rule
        new.guest = 0 if guest is None else v4_from_object(guest)
        new.guest_port = guest_port
        new.as_gateway = as_gateway
        rc = self.call(COMMAND_FORWARD, &new, 0)
        if rc < 0:
            raise OSError(-rc, strerror(-rc))

    def unforward(self, int64_t rule) -> int:
        """Closes the sockets of a rule at once; how many there were."""
        return self.call(COMMAND_UNFORWARD, NULL, rule)

    def retarget(self, uint64_t rule, guest) -> None:
        """The guest that a rule means is now at this address, or nowhere (None)."""
        cdef retarget_arg arg
        arg.rule = rule
        arg.guest = 0 if guest is None else v4_from_object(guest)
        self.call(COMMAND_RETARGET, &arg, 0)

    def relay_socks(self, int fd, uint16_t port, uint64_t rule, client, uint16_t client_port, str domain) -> None:
        """Serves the datagrams of one SOCKS client (RFC 1928 section 7): a bound UDP socket, owned by the engine from
        here on, until ``unforward``. Guests see them come from the gateway.

        Args:
            fd: the socket.
            port: that it is bound to; guests do not find it on the loopback.
            rule: its number.
            client: the only address that may send; ``client_port`` the only port, 0 = any.
            domain: where names without a dot are looked for.

        Raises:
            OSError: the socket cannot be polled.
        """
        cdef forward_new new
        cdef socks_relay socks
        cdef bytes text = domain.encode("ascii", "replace")[:255]
        cdef int64_t rc
        memset(&new, 0, sizeof(new))
        memset(&socks, 0, sizeof(socks))
        socks.client = addr_from_object(client)
        socks.client_port = client_port
        socks.own_port = port
        socks.domain_length = <uint8_t>len(text)
        memcpy(socks.domain, <const char *>text, len(text))
        new.fd = fd
        new.protocol = 17
        new.rule = rule
        new.as_gateway = 1
        new.socks = &socks
        rc = self.call(COMMAND_FORWARD, &new, 0)
        if rc < 0:
            raise OSError(-rc, strerror(-rc))

    def dial(self, int fd, guest, uint16_t guest_port, source=None, bytes to_host=b"", bytes to_guest=b"") -> int:
        """Opens a connection to a guest, whose other end is the connected stream ``fd`` (owned by the engine from here
        on). Returns the flow's id, which a MAIL_DIALED will name.

        Args:
            fd: a connected stream, non-blocking.
            guest: IPv4 address.
            guest_port: its port.
            source: whom the guest sees; None is the gateway.
            to_host: written to the descriptor when the guest has accepted, before any byte of the guest. Where it or
                ``to_guest`` is given, a failure closes the descriptor without a reset.
            to_guest: sent to the guest then, before any byte read from the descriptor.

        Raises:
            OSError: it could not even begin; the descriptor is still the caller's.
        """
        cdef dial_new new
        cdef int64_t rc
        memset(&new, 0, sizeof(new))
        new.fd = fd
        new.guest = v4_from_object(guest)
        new.guest_port = guest_port
        new.src = 0 if source is None else v4_from_object(source)
        new.to_host = <const uint8_t *><const char *>to_host
        new.n_host = <uint32_t>len(to_host)
        new.to_guest = <const uint8_t *><const char *>to_guest
        new.n_guest = <uint32_t>len(to_guest)
        rc = self.call(COMMAND_DIAL, &new, 0)
        if rc < 0:
            raise OSError(-rc, strerror(-rc))
        return rc

    def ping(self, guest, uint16_t sequence, uint32_t length) -> int:
        """Sends an echo request to a guest; the time at which it was sent (ns). A MAIL_ECHO_REPLY follows the answer.

        Raises:
            OSError: it cannot be sent.
        """
        cdef ping_new new
        cdef int64_t rc
        memset(&new, 0, sizeof(new))
        new.guest = v4_from_object(guest)
        new.sequence = sequence
        new.length = length
        rc = self.call(COMMAND_PING, &new, 0)
        if rc < 0:
            raise OSError(-rc, strerror(-rc))
        return new.sent_ns

    def divert(self, address, uint16_t port, int protocol, target=None) -> None:
        """Puts something at an address and port of the virtual network: the host's server at ``target``
        (address, port),
        or, with None, what the control plane gives for each connection (MAIL_PENDING_FLOW).

        Raises:
            OSError: EEXIST, something is there already; EADDRNOTAVAIL, a guest has the address.
        """
        cdef diversion d
        cdef int64_t rc
        memset(&d, 0, sizeof(d))
        d.addr = v4_from_object(address)
        d.port = port
        d.protocol = protocol
        d.to_control = target is None
        if target is not None:
            d.target = addr_from_object(target[0])
            d.target_port = target[1]
        rc = self.call(COMMAND_DIVERT, &d, 0)
        if rc < 0:
            raise OSError(-rc, strerror(-rc))

    def hide_port(self, uint16_t port, bint hide) -> None:
        """Has guests find a TCP port of the host's loopback closed, or open again."""
        self.call(COMMAND_HIDE, NULL, port if hide else port + 65536)

    def undivert(self, address, uint16_t port, int protocol) -> None:
        """Takes it away; harmless when it is gone."""
        cdef diversion d
        memset(&d, 0, sizeof(d))
        d.addr = v4_from_object(address)
        d.port = port
        d.protocol = protocol
        self.call(COMMAND_UNDIVERT, &d, 0)

    def set_prefixes(self, list prefixes) -> None:
        """Outgoing TCP that the control plane connects (protocol 6), and UDP that is refused (17): tuples of address,
        prefix length, port or 0 for any, and protocol; at most 256."""
        cdef divert_prefix_t[256] items
        cdef int i
        for i, (address, length, port, protocol) in enumerate(prefixes[:256]):
            items[i].addr = v4_from_object(address)
            items[i].mask = <uint32_t>(<uint64_t>0xffffffff << (32 - <int>length))
            items[i].port = port
            items[i].protocol = protocol
        self.call(COMMAND_PREFIXES, items, min(len(prefixes), 256))

    def start_capture(self, recorder) -> None:
        """Has a :class:`netstack.capture.recorder.Recorder` record all frames. OSError (EBUSY): another does."""
        with self.changing:
            if self.recorder is not None:
                raise OSError(EBUSY, "a capture is running")
            self.call(CALL_TAP, PyCapsule_GetPointer(recorder.tap_capsule(), "netstack.capture.tap"), 0)
            self.recorder = recorder

    def stop_capture(self):
        """Ends it: the recorder, which is still to be closed, or None where there was none."""
        with self.changing:
            recorder, self.recorder = self.recorder, None
            if recorder is not None and self.e != NULL:
                self.call(CALL_TAP, NULL, 0)
        return recorder

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
        memset(&arg, 0, sizeof(arg))
        if self.call(CALL_FLOWS, &arg, 0) < 0:
            raise MemoryError
        return flows_list(&arg)

    def neighbors(self) -> list:
        """Who has been seen on which link: (address as text, MAC, port)."""
        cdef neighbors_arg arg
        memset(&arg, 0, sizeof(arg))
        if self.call(CALL_NEIGHBORS, &arg, 0) < 0:
            raise MemoryError
        return neighbors_list(&arg)

    @property
    def now_ns(self) -> int:
        """The time of the engine's present round."""
        return self.e.now_ns
