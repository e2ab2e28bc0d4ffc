"""HTTP and HTTPS proxies: the host's settings reach the guests, and are followed while they change.

Theory of operation
    ``sources`` reads what options, VPNKit's JSON, the environment, GNOME and macOS say; ``settings`` holds it, typed,
    and decides which proxy a host is for; ``patterns`` matches lists of hosts (``no_proxy``, what is allowed).
    ``service`` finds the settings, follows them, and has the engine bring the connections that are affected: guests'
    connections to ports 80 and 443 (*transparent*), and to port 3128 of the gateway (*explicit*).

    A connection arrives as a pending flow and gets one end of a socket pair; ``server`` reads the other.
    ``sniff`` tells by the first bytes what the guest speaks. TLS, and what is neither TLS nor HTTP, becomes a tunnel:
    CONNECT to the name in the ClientHello (or the address), and the proxy's status is checked. HTTP becomes an
    ``exchange``: each request is parsed (h11), routed by its own host, and passed on (``http`` says what changes in
    it); a request to switch protocols that succeeds becomes a tunnel as well. A tunnel's socket goes to the engine
    with ``Engine.replace``, together with the bytes that either side had said by then, so that it is an ordinary
    flow from there on. What goes straight to the host that the guest has dialled anyway ends the same way.

    ``plan`` knows the virtual network: its own hosts are never asked of a proxy, and a loopback is never a proxy's
    target, since there it would be the host's. ``environment`` makes the variables of ``netstack run``.

May import
    ``errors``, ``outbound``, and ``config`` and ``engine`` as types; asyncio and h11 only in ``server`` and below,
    which are imported with the first connection.

Invariants
    - Credentials go to the proxy that they belong to, and to nobody else.
    - A connection without a proxy to go through is answered when its host has answered, unless a name decides.
    - A guest's SYN, request and tunnel go by the settings of that moment; a change ends nothing that goes on.
    - An answer of the proxy's own is one sentence that names the cause, with the status that fits; what is no HTTP
      gets a reset, or for what is forbidden TLS's alert.

RFCs
    9110 and 9112 (HTTP), 7617 (Basic), 6455 (WebSocket), 6066 and 8446 (the name in TLS).

Tests
    ``tests/proxy``: tables and generated lists for the pure parts; tinyproxy and a scripted proxy with curl and git
    in a namespace for the rest.
"""
