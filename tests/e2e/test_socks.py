"""The proxy into the network: curl and small clients on the host, servers in the guest namespace."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
import struct
import sys
import time
from collections.abc import Iterator

import pytest

import netstack
from netstack.control import socks as module
from netstack.gateway import Gateway
from netstack.socks import SocksMethods
from netstack.testing.lab import GATEWAY, GUEST, HOST_ALIAS, WORLD, WORLD_HOST, Lab, python_environment
from netstack.testing.namespace import Namespace, in_thread, unavailable
from netstack.testing.servers import TcpServer, UdpEcho
from netstack.wire.socks import SocksUDPHeader

pytestmark = pytest.mark.netns

WEB = "web.internal"
PORT = 8000
ACCEPTED = b"\x05\x00\x00\x01" + bytes(6)
NETWORK = netstack.Config(dns=(), leases=(("02:00:00:00:00:77", GUEST, "web"),))


class Bench:
    """A laboratory with a gateway of this process, its proxy at 127.0.0.1:1080, and a web server in the guest."""

    def __init__(self, lab: Lab, world: Namespace, gateway: Gateway, proxy: module.SocksServer) -> None:
        self.lab, self.world, self.gateway, self.proxy = lab, world, gateway, proxy

    def connect(self, *data: bytes) -> socket.socket:
        """A client of the proxy that has said something."""
        sock = self.lab.host.connect("127.0.0.1", 1080)
        for piece in data:
            sock.sendall(piece)
        return sock

    def curl(self, *args: str) -> tuple[int, str]:
        """(exit status, what it prints)."""
        done = self.lab.host.run("curl", "-sS", "--max-time", "20", *args, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab:
        _, world = lab.world()
        with lab.gateway(NETWORK) as gateway:
            with lab.host.entered():
                proxy = gateway.serve_socks("127.0.0.1:1080")
            assert gateway.socks() == [proxy]
            folder = lab.directory / "www"
            folder.mkdir()
            (folder / "page").write_text("a page")
            server = lab.guest.spawn("python3", "-m", "http.server", str(PORT), cwd=folder)
            server.wait_listening(PORT)
            yield Bench(lab, world, gateway, proxy)
            server.stop()


def until(test, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def receive(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n and (piece := sock.recv(n - len(data))):
        data += piece
    return data


def to_end(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(1 << 18):
        data += piece
    return data


def connect_to(host: str, port: int) -> bytes:
    """A request of SOCKS 5 with a name, its greeting in front."""
    name = host.encode()
    return b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big")


def reply_to(bench: Bench, data: bytes) -> bytes:
    with bench.connect(data) as sock:
        return to_end(sock)


# --- curl


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
@pytest.mark.parametrize(
    "way",
    [
        ("--proxy", "socks5h://127.0.0.1:1080"),
        ("--proxy", "socks4a://127.0.0.1:1080"),
        ("--proxy", "http://127.0.0.1:1080", "--proxytunnel"),
        ("--proxy", "http://127.0.0.1:1080"),
    ],
    ids=["socks5h", "socks4a", "connect", "absolute"],
)
def test_reach_a_guest_by_its_name_with_curl(bench: Bench, way: tuple[str, ...]) -> None:
    assert bench.curl(*way, f"http://{WEB}:{PORT}/page") == (0, "a page")
    assert bench.curl(*way, f"http://web:{PORT}/page", f"http://{WEB}:{PORT}/page") == (0, "a page" * 2)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
def test_by_address_with_curl(bench: Bench) -> None:
    for scheme in ("socks5", "socks4", "http"):
        assert bench.curl("--proxy", f"{scheme}://127.0.0.1:1080", f"http://{GUEST}:{PORT}/page") == (
            0,
            "a page",
        )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
def test_curl_is_told_why_not(bench: Bench) -> None:
    """Nothing but the virtual network: not the world, not the host behind its alias; each with its reason."""
    socks, http = "socks5h://127.0.0.1:1080", "http://127.0.0.1:1080"
    nobody = bench.connect(connect_to("192.168.65.99", 80))  # ARP takes its time
    for host, socks_reply, status, why in (
        (f"{GUEST}:9", 5, 502, "refuses the connection"),
        (f"{GATEWAY}:80", 5, 502, "refuses the connection"),
        ("nobody.internal", 4, 502, "is no name of the virtual network"),
        ("host.internal", 2, 403, "is this host itself"),
        (f"{HOST_ALIAS}:1080", 2, 403, "is this host itself"),
        (f"{WORLD}:80", 2, 403, "is not of the virtual network"),
        ("127.0.0.1:1080", 2, 403, "is not of the virtual network"),
        ("192.168.65.255:80", 5, 502, "refuses the connection"),
        ("[::1]:80", 8, 501, "has no IPv6"),
    ):
        status_97, text = bench.curl("--proxy", socks, f"http://{host}/")
        assert (status_97, f"({socks_reply})" in text) == (97, True), (host, text)
        done, text = bench.curl("--proxy", http, "-w", "%{http_code}", f"http://{host}/")
        assert done == 0
        assert why in text, (host, text)
        assert text.endswith(str(status))
    with nobody:
        assert to_end(nobody) == b"\x05\x00\x05\x04\x00\x01" + bytes(6)


# --- what the engine sends


def test_bytes_behind_the_request_are_the_guests(bench: Bench) -> None:
    """A client that does not wait, and a server that speaks first: no byte is lost, none comes before the reply."""
    data = os.urandom(300_000)
    for greeting in (connect_to(WEB, 7100), f"CONNECT {WEB}:7100 HTTP/1.1\r\nHost: x\r\n\r\n".encode()):
        with bench.lab.guest.listen("0.0.0.0", 7100) as listener:
            listener.settimeout(20)
            with bench.connect(greeting + data[:1000]) as client:
                guest, peer = listener.accept()
                assert peer[0] == GATEWAY
                with guest:
                    guest.settimeout(20)
                    guest.sendall(b"220 ready\r\n")
                    want = (
                        b"\x05\x00" + ACCEPTED
                        if greeting[0] == 5
                        else b"HTTP/1.1 200 Connection established\r\n\r\n"
                    )
                    assert receive(client, len(want) + 11) == want + b"220 ready\r\n"
                    writing = in_thread(
                        lambda: (client.sendall(data[1000:]), client.shutdown(socket.SHUT_WR))
                    )
                    assert to_end(guest) == data
                    guest.sendall(b"the end")
                writing(20)
                assert to_end(client) == b"the end"


def test_the_guest_is_asked_as_a_server_is(bench: Bench) -> None:
    """An absolute URI becomes a path; what was for the proxy is taken out; the body is passed on."""
    request = (
        b"POST http://user:secret@web.internal:7101/a?b=c#d HTTP/1.1\r\nHost: elsewhere\r\n"
        b"Proxy-Authorization: Basic eA==\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\nContent-Length: 4\r\n\r\nbody"
    )
    with bench.lab.guest.listen("0.0.0.0", 7101) as listener:
        listener.settimeout(20)
        with bench.connect(request[:50], request[50:]) as client:
            guest, _ = listener.accept()
            with guest:
                guest.settimeout(20)
                client.shutdown(socket.SHUT_WR)
                got = to_end(guest)
                guest.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert to_end(client) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert got == (
        b"POST /a?b=c HTTP/1.1\r\nHost: web.internal:7101\r\nX-Kept: 2\r\nContent-Length: 4\r\n"
        b"Via: 1.1 netstack\r\nConnection: close\r\n\r\nbody"
    )


def test_a_guest_that_resets_and_a_client_that_goes(bench: Bench) -> None:
    with bench.lab.guest.listen("0.0.0.0", 7102) as listener:
        listener.settimeout(20)
        for who in ("guest", "client"):
            client = bench.connect(connect_to(WEB, 7102))
            guest, _ = listener.accept()
            assert receive(client, 12) == b"\x05\x00" + ACCEPTED
            first, second = (guest, client) if who == "guest" else (client, guest)
            second.settimeout(20)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            with second, pytest.raises(ConnectionResetError):
                second.recv(1)


def test_five_hundred_connections_leave_nothing_behind(bench: Bench) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def client(number: int) -> None:
        sock = bench.lab.host.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", 1080))
        reader, writer = await asyncio.open_connection(sock=sock)
        data = b"%04d" % number * 50
        writer.write(connect_to(WEB, 7103) + data)
        assert await reader.readexactly(12 + len(data)) == b"\x05\x00" + ACCEPTED + data
        writer.close()
        await writer.wait_closed()

    async def all_of_them() -> None:
        await asyncio.gather(*(client(n) for n in range(500)))

    with TcpServer(bench.lab.guest.listen("0.0.0.0", 7103, 4096)) as server:
        asyncio.run(asyncio.wait_for(all_of_them(), 100))
        until(lambda: server.open == 0)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_program_that_is_a_host_of_the_network(bench: Bench) -> None:
    """It gets the client's own socket."""
    with bench.gateway.listen("198.51.100.77", 80) as listener:
        with bench.connect(connect_to("198.51.100.77", 80) + b"early") as client:
            server, peer = listener.accept(20)
            assert peer == client.getsockname()
            with server:
                assert receive(server, 5) == b"early"
                server.sendall(b"hello")
            assert to_end(client) == b"\x05\x00" + ACCEPTED + b"hello"
        assert b"501" in reply_to(bench, b"GET http://198.51.100.77/ HTTP/1.0\r\n\r\n")
    assert reply_to(bench, connect_to("198.51.100.77", 80))[2:4] == b"\x05\x02"


def test_guests_do_not_find_it(bench: Bench) -> None:
    """Behind the host alias it would lead each to every other, isolated or not."""
    guest = bench.lab.guest
    with pytest.raises(ConnectionRefusedError):
        guest.connect(HOST_ALIAS, 1080)
    with bench.lab.host.entered():
        again = bench.gateway.serve_socks("1082")
    again.close()
    with bench.lab.host.listen("127.0.0.1", 1082), guest.connect(HOST_ALIAS, 1082):
        pass
    client = Association(bench, bench.lab.host, "127.0.0.1")
    with contextlib.closing(client), guest.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.connect((HOST_ALIAS, client.relay[1]))
        sock.send(SocksUDPHeader(GUEST, 7200).build())
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)


# --- clients that do not behave


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"\x16\x03\x01\x02\x00", b""),  # TLS
        (b"\x05\x01\x02", b"\x05\xff"),  # wants to give a password
        (b"\x05\x00", b"\x05\xff"),
        (b"\x05\x01\x00\x04\x01\x00\x01", b"\x05\x00"),
        (b"\x05\x01\x00\x05\x02\x00\x01\xc0\xa8\x41\x03\x00\x50", b"\x05\x00\x05\x07\x00\x01" + bytes(6)),  # BIND
        (b"\x05\x01\x00\x05\x01\x00\x09\x00", b"\x05\x00\x05\x08\x00\x01" + bytes(6)),
        (b"\x05\x01\x00\x05\x01\x00\x03\x00", b"\x05\x00\x05\x01\x00\x01" + bytes(6)),
        (b"\x05\x01\x00\x05\x01\x00\x01\xc0\xa8\x41\x03\x00\x00", b"\x05\x00\x05\x01\x00\x01" + bytes(6)),
        (b"\x04\x02\x00\x50\xc0\xa8\x41\x03\x00", b"\x00\x5b" + bytes(6)),
        (b"\x04\x01\x00\x50\xc0\xa8\x41\x03" + b"a" * 256, b"\x00\x5b" + bytes(6)),
    ],
)  # fmt: skip
def test_socks_to_the_letter(bench: Bench, data: bytes, reply: bytes) -> None:
    with bench.connect(data) as sock:
        try:
            assert to_end(sock) == reply
        except ConnectionResetError:
            assert reply == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT web.internal HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT web.internal:99999 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET ftp://web.internal/ HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET http://web.internal/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40000, 431),
    ],
)  # fmt: skip
def test_http_to_the_letter(bench: Bench, data: bytes, status: int) -> None:
    assert reply_to(bench, data).startswith(b"HTTP/1.1 %d " % status)


def test_stalled_clients_make_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of too many that say nothing goes; each has its time; nobody else is kept waiting."""
    monkeypatch.setattr(module, "MAX_CLIENTS", 8)
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(bench.connect(b"\x05")) for _ in range(12)]
        for sock in stalled[:4]:
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        with bench.connect(connect_to(WEB, PORT)) as client:
            assert receive(client, 12) == b"\x05\x00" + ACCEPTED
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.2)
    with bench.connect(b"GET http://web.internal/ HT") as sock, contextlib.suppress(ConnectionResetError):
        assert sock.recv(1) == b""


# --- datagrams


class Association:
    """A client of UDP ASSOCIATE."""

    def __init__(self, bench: Bench, where: Namespace, address: str, port: int = 1080) -> None:
        self.control = where.connect(address, port)
        self.control.sendall(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
        reply = receive(self.control, 12)
        assert reply[:6] == b"\x05\x00\x05\x00\x00\x01"
        self.relay = (socket.inet_ntoa(reply[6:10]), int.from_bytes(reply[10:], "big"))
        self.sock = where.socket(kind=socket.SOCK_DGRAM)
        self.sock.settimeout(20)

    def ask(self, host: str, port: int, data: bytes) -> tuple[bytes, str, int]:
        """(data, address, port) of the answer to a datagram."""
        self.sock.sendto(SocksUDPHeader(host, port).build() + data, self.relay)
        got, source = self.sock.recvfrom(65536)
        assert source == self.relay
        header = SocksUDPHeader.parse(got)
        return got[header.length :], header.address, header.port

    def close(self) -> None:
        self.control.close()
        self.sock.close()


def test_datagrams(bench: Bench) -> None:
    guest = bench.lab.guest.socket(kind=socket.SOCK_DGRAM)
    guest.bind(("0.0.0.0", 7200))
    with UdpEcho(guest), contextlib.closing(Association(bench, bench.lab.host, "127.0.0.1")) as client:
        assert client.relay[0] == "127.0.0.1"
        for host in (GUEST, WEB, "web", "WEB.Internal."):
            for data in (b"", b"hello", os.urandom(1400), os.urandom(9000)):
                answer, address, port = client.ask(host, 7200, data)
                assert (answer, address, port) == (data, GUEST, 7200)
        before = bench.gateway.stats()
        stranger = bench.lab.host.socket(kind=socket.SOCK_DGRAM)
        stranger.bind(("127.0.0.2", 0))
        with stranger:
            stranger.sendto(SocksUDPHeader(GUEST, 7200).build(), client.relay)
        for bad in (
            b"",
            b"\0\0\0\x01",
            SocksUDPHeader(GUEST, 7200, 1).build(),
            SocksUDPHeader(GUEST, 0).build(),
            SocksUDPHeader("nobody.internal", 7200).build(),
            SocksUDPHeader("host.internal", 7200).build(),
            SocksUDPHeader(HOST_ALIAS, 7200).build(),
            SocksUDPHeader(GATEWAY, 53).build(),
            SocksUDPHeader(WORLD, 7200).build(),
            SocksUDPHeader("::1", 7200).build(),
        ):
            client.sock.sendto(bad, client.relay)
        assert client.ask(GUEST, 7200, b"still here")[0] == b"still here"
        after = bench.gateway.stats()
        assert after["socks_not_allowed"] - before["socks_not_allowed"] == 11
        relay = client.relay

    # the association ends with its connection
    def closed() -> bool:
        with bench.lab.host.socket(kind=socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            probe.connect(relay)
            try:
                probe.send(b"x")
                probe.recv(1)
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                pass
            return False

    until(closed)


def test_associations_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ASSOCIATIONS", 2)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(contextlib.closing(Association(bench, bench.lab.host, "127.0.0.1")))
        with bench.connect(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6)) as sock:
            assert to_end(sock) == b"\x05\x00\x05\x01\x00\x01" + bytes(6)


# --- the places


def test_another_address_and_a_unix_socket(bench: Bench) -> None:
    path = f"{bench.lab.directory}/proxy.sock"
    with bench.lab.host.entered():
        wide = bench.gateway.serve_socks(f"{WORLD_HOST}:0")
        unix = bench.gateway.serve_socks(f"unix:{path}")
    guest = bench.lab.guest.socket(kind=socket.SOCK_DGRAM)
    guest.bind(("0.0.0.0", 7201))
    with wide, unix, UdpEcho(guest):
        assert [server.place for server in bench.gateway.socks()[1:]] == [
            f"{WORLD_HOST}:{wide.address[1]}", f"unix:{path}",
        ]  # fmt: skip
        client = Association(bench, bench.world, *wide.address)
        with contextlib.closing(client):
            assert client.relay[0] == WORLD_HOST
            assert client.ask(WEB, 7201, b"far")[0] == b"far"
        assert os.stat(path).st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(path)
            sock.sendall(connect_to(WEB, PORT) + b"GET /page HTTP/1.0\r\n\r\n")
            assert to_end(sock).endswith(b"a page")
    assert not os.path.exists(path)
    assert bench.gateway.socks() == [bench.proxy]
    with pytest.raises(ConnectionRefusedError):
        bench.world.connect(*wide.address)


def test_connections_outlive_the_proxy(bench: Bench) -> None:
    with bench.lab.host.entered():
        proxy = bench.gateway.serve_socks("0")
    assert proxy.address[0] == "127.0.0.1"
    data = os.urandom(8 << 20)
    with TcpServer(bench.lab.guest.listen("0.0.0.0", 7300)), bench.lab.host.connect(*proxy.address) as client:
        client.sendall(connect_to(WEB, 7300))
        assert receive(client, 12) == b"\x05\x00" + ACCEPTED
        proxy.close()
        proxy.close()
        writing = in_thread(lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        got = to_end(client)
        writing(20)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3:80", "::1:80", "127.0.0.1:70000", "127.0.0.1:", "unix:x", ":1080"]
)
def test_places_that_cannot_be(text: str) -> None:
    with pytest.raises(netstack.ConfigError, match=r"write ADDRESS:PORT"):
        netstack.Gateway(netstack.Config(dns=(), socks=(text,)))


def test_a_place_that_is_taken(bench: Bench) -> None:
    with bench.lab.host.entered():
        with pytest.raises(
            netstack.NetstackError, match=r"TCP port 127\.0\.0\.1:1080 is in use: choose another"
        ):
            netstack.Gateway(netstack.Config(dns=(), socks=("1081", "1080")))
        netstack.Gateway(
            netstack.Config(dns=(), socks=("1081",))
        ).stop()  # what was begun has been given back


def test_the_commands(bench: Bench) -> None:
    """--socks of run and attach."""
    lab = bench.lab
    guest = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=80)"
    process = lab.host.spawn(
        sys.executable, "-m", "netstack", "run", "--socks", "127.0.0.1:1081", "--", "python3", "-c", guest,
        env=python_environment(),
    )  # fmt: skip
    try:
        process.wait_listening(1081)

        def served() -> bool:
            done, text = bench.curl("--proxy", "socks5h://127.0.0.1:1081", f"http://{GUEST}/")
            return done == 0 and "Directory listing" in text

        until(served)
    finally:
        process.stop()


def test_gateway_has_it() -> None:
    assert issubclass(Gateway, SocksMethods)
