"""The operating system: sockets, polling, clocks, devices and namespaces.

Purpose
    The layers above see addresses of 16 bytes, results that are >= 0 or -errno, and the same calls on Linux and macOS.

    * ``posix``, ``message``, ``names``, ``sync``: the C library's declarations, what a datagram and an error are,
      socket names, and threads. No modules stand behind them.
    * ``sockets``: TCP, UDP in batches, echo, error queues; ``outbound``: the mark, interface and address that outgoing
      ones have; ``endpoints``: the same calls as Python objects, for tests.
    * ``poller``: edge-triggered readiness from epoll, kqueue or poll(2); ``spin``: how long to look before sleeping;
      ``wake``: how one thread wakes another; ``clock``: time and randomness.
    * ``scripted``: a host that exists in memory. ``sockets`` and ``poller`` send what is done with its descriptors
      there, so that a replay has the engine of live traffic.
    * ``tun``: TAP devices; ``namespace``: namespaces, mounts, interfaces; ``memory``: the heap; ``inotify``,
      ``routes``, ``sock_diag``, ``boot``: what has changed in a folder and in the routing table, which ports are open,
      and the clock that a change of the wall clock leaves alone.

May import
    Nothing of ours.

Invariants
    - Sockets, polling, clocks and namespaces are asked for here only. Reading and writing a descriptor, mutexes and
      pages are declared where they are needed, too.
    - Every descriptor is non-blocking and close-on-exec, and belongs to whoever asked for it.
    - Nothing here knows a flow, a guest or a protocol. The engine's clock is read once a round, by the loop.
    - What a system lacks is said (-ENOSYS, or OSError with it), never simulated; but for edge-triggered readiness,
      which poll(2) is given, and for the wake-up, which may be a pipe.

Sources
    Linux: tcp(7), udp(7), ip(7), icmp(7), epoll(7), rtnetlink(7), sock_diag(7), inotify(7), namespaces(7), and the
    kernel's documentation of TUN/TAP. RFC 3542 (IPv6's control messages).

Tests
    ``tests/host`` uses real sockets on the loopback, each poller, and namespaces of its own; ``tests/replay`` the
    scripted host; ``./dev test-poll`` runs what waits for descriptors over poll(2).
"""
