"""The control plane's sockets: guests' handshakes, the proxy's clients, and the control API of a running instance.

Theory of operation
    The gateway itself uses three modules: ``listeners`` (who comes in as a guest, and with which handshake), ``socks``
    (requests of clients of ``--socks``) and ``loop`` (the asyncio loop in which both run). All else stands on top of a
    gateway.

    The API is HTTP with JSON over a Unix socket. ``routes`` has its operations as data; ``api`` serves them with
    aiohttp, in a thread and a loop of its own, so that a slow client holds up neither packets nor the gateway's control
    thread; ``operations`` answers them in worker threads; ``answers`` are the messages as types, of which ``openapi``
    makes the description that it gives of itself. ``streams`` and ``captures`` are the requests that go on when their
    answer has begun, ``metrics`` is the same knowledge in Prometheus' format, ``refused`` is how a request fails, and
    ``guard`` what one client may cost. ``vpnkit`` and ``gvproxy`` answer other programs' clients on the same socket;
    ``ninep`` and ``port9p`` are VPNKit's ports over 9P.

    ``instances`` says where sockets lie and who may reach them; ``client`` is the other end, without aiohttp.
    ``notify`` tells the service manager, the log and whoever gave a descriptor.

May import
    ``gateway`` and everything below it; ``listeners`` only ``link``, ``loop`` only ``services``, ``socks`` what a proxy
    needs. aiohttp and prometheus_client are imported when the API is served.

Invariants
    - Nothing of it listens in any network: a socket's mode (0600) and its folder's (0700) are all the authentication.
    - What is refused is one sentence. Clients are bounded in number, in bytes and in time.
    - The engine is reached by the gateway's methods alone.

Standards
    RFC 9110 and 9112 (HTTP), OpenAPI 3.1, Prometheus' text format, 9P2000; sd_notify(3).

Tests
    ``tests/control``: every operation through a real socket, answers held against the description, hostile clients,
    VPNKit's and gvproxy's; ``tests/cli`` the commands that ask; ``tests/test_guests.py`` the handshakes.
"""
