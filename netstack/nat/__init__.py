"""Guest flows joined to descriptors of the host.

Theory of operation
    ``nat_packet`` takes what the interface has sorted, finds or opens the flow, and acts: a TCP flow joins
    a :c:type:`tcb_t` to a connected stream descriptor, a UDP flow joins a guest's port to one unconnected
    socket (endpoint-independent mapping), a ping flow joins an identifier to a ping socket, and a DNS query
    that neither the table of names nor the cache answers goes to a name server, through one of that server's sockets or
    by the control plane's hands (``dns_flow``, ``dns_servers``, ``dns_cache``). Frames to the guests go into the sink
    that the engine has given; messages to the control plane go into the mailbox. Where the host side of a TCP flow is
    to come from Python (a service of the gateway, a proxy, a replaceable dialler), the flow waits as *pending* until
    ``tcp_host_attach`` brings a descriptor: any connected stream will do. A program that has begun a connection itself
    (a proxy's handshake) hands it over with ``tcp_host_replace``, and is out of the way.

    A connection into a guest (``forward``: a client of a published port, or a program that dials) is the same flow,
    opened by our own TCP: its host side is a descriptor from the beginning, read only once the guest has accepted.
    A dial may bring an ``opening``: what both sides are told first, which is how a proxy's client is handed over.
    Where the guest's MAC is not known, ``resolve`` asks for it by ARP first. Published UDP ports have one socket for
    all clients and a mapping for each (``forward_udp``). ``divert`` says what stands at an address and port of the
    virtual network in place of what the network plan says (``policy``); ``command`` takes the control plane's calls,
    ``snapshot`` answers its questions about flows, and ``paths`` hears from it when the host's routes have changed.

    Datagrams and pings leave with DF where the guest has set it; what is too long for the path comes back as ICMP
    (``path_mtu``). A TCP flow's segments are the host's own, and so is their path MTU discovery.

    Flows that packets have touched are collected, and settled when every link has had its burst, so that
    acknowledgements coalesce; those that the host's events have touched, behind these. A flow that has ended leaves the
    tables at once, but its memory only at the end of the round, since events of the same round may still name it.

May import
    ``wire``, ``storage``, ``host``, ``tcp``, ``iface``, ``services``; not ``link``, ``switch`` or ``capture``.

Invariants
    - A SYN is answered when the host's connect has succeeded; refusal is RST, unreachable is ICMP and RST,
      a host's reset is a reset, an end of file is a FIN.
    - Bytes that were acknowledged to the guest are kept until the host has taken them.
    - Every table is bounded; at the limit a TCP SYN is refused, the UDP flow silent for longest makes room,
      an echo is dropped.
    - A client of a published port is served when the guest has accepted, and reset when it refuses, has no MAC or is
      silent. A connection from outside never takes the name of one that the guest has opened.
    - The host's loopback is seen as the host alias and as nothing else; without the alias it cannot be
      reached.

RFCs
    4787 and 7857 (UDP), 5382 (TCP), 5508 (ICMP), 6528 (initial sequence numbers), 5927 (ICMP against TCP),
    1191 (path MTU), 1035, 2308, 5452, 8767 (DNS).

Tests
    ``tests/nat`` steps a gateway on virtual time against sockets of the test; ``tests/e2e`` uses real
    programs.
"""
