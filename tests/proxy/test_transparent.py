"""Guests that know of no proxy, and a proxy that does all that HTTP allows."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scripted_proxy import Net, Request, ScriptedProxy, everything, hello, until, wait

from netstack.testing.lab import ROUTER, UNREACHABLE
from netstack.testing.servers import TcpServer, echo

pytestmark = pytest.mark.netns

FAR = "203.0.113.9"  # nobody has it: only the proxy answers for it


def exchange(net: Net, data: bytes, *, port: int = 80, end: bool = True, address: str = FAR) -> bytes:
    """What comes back for bytes of the guest, up to the end."""
    with net.lab.guest.connect(address, port) as sock:
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        out = b""
        while piece := sock.recv(65536):
            out += piece
        return out


def get(path: str, *headers: str, method: str = "GET", host: str = "a.test") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class TestHttp:
    def test_host_header_chooses_the_name(self, net: Net) -> None:
        with net.gateway(http_proxy=net.proxy.url.replace("//", "//me:secret@")):
            assert net.curl("-H", "Host: www.test", f"http://{FAR}/hello?x=1") == "hello of www.test"
            (request,) = net.proxy.requests
            assert request.target == "http://www.test/hello?x=1"
            assert request.headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
            assert request.headers["host"] == "www.test"
            net.curl("-H", "Host: www.test:8000", f"http://{FAR}/hello")
            assert net.proxy.requests[-1].target == "http://www.test:8000/hello"
            net.curl("-0", "-H", "Host:", f"http://{FAR}/hello")  # HTTP/1.0 needs no Host
            assert net.proxy.requests[-1].target == f"http://{FAR}/hello"

    def test_what_concerns_one_hop_goes_no_further(self, net: Net) -> None:
        with net.gateway():
            fields = (
                "Connection: keep-alive, X-Mine",
                "X-Mine: 1",
                "TE: trailers",
                "Upgrade: h2c",
                "X-Kept: ü",
            )
            answer = exchange(net, get("/odd", *fields))
            assert answer.startswith(b"HTTP/1.1 299 Odd Indeed\r\n")
            assert answer.endswith(b"odd")
            assert b"x-hop" not in answer.lower()
            assert b"keep-alive" not in answer.lower()
            (request,) = net.proxy.requests
            assert {"connection", "x-mine", "te", "upgrade"}.isdisjoint(request.headers)
            assert request.headers["x-kept"] == "ü".encode().decode("latin-1")

    def test_keep_alive_and_pipelining(self, net: Net) -> None:
        with net.gateway():
            before = net.proxy.connections
            answer = exchange(net, get("/one") + get("/two", method="HEAD") + get("/empty") + get("/three"))
            bodies = [b"one of a.test", b"three of a.test"]
            assert answer.count(b"HTTP/1.1 ") == 4
            assert all(body in answer for body in bodies)
            assert b"two of" not in answer
            assert [r.target for r in net.proxy.requests] == [
                f"http://a.test/{name}" for name in ("one", "two", "empty", "three")
            ]
            assert net.proxy.connections == before + 1
            net.curl(f"http://{FAR}/last", f"http://{FAR}/one")  # the proxy ends the first connection
            assert net.proxy.connections == before + 3

    def test_kept_connection_that_the_proxy_has_ended(self, net: Net) -> None:
        """Whether its end is seen before or after the next request is written: the guest does not notice."""
        quiet = asyncio.Event()

        async def ends_after_one(
            request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> bool:
            await everything(request, reader, writer)
            if request.path == "/lingers":
                await reader.read(1)  # the next request, which is never answered
                quiet.set()
            return False

        with net.gateway(), net.lab.guest.connect(FAR, 80) as sock:
            net.proxy.reply = ends_after_one
            for path in ("/a", "/lingers", "/a", "/a"):
                sock.sendall(get(path))
                want = f"{path[1:]} of a.test".encode()
                answer = b""
                while not answer.endswith(want):
                    answer += until(sock, 1)
            assert quiet.is_set()

    @pytest.mark.parametrize(
        ("path", "status", "body"),
        [
            ("/empty", "204", ""),
            ("/same", "304", ""),
            ("/chunked", "200", "abcdefg"),
            ("/hints", "200", "ok"),
            ("/until-end", "200", "up to the end"),
        ],
    )
    def test_answers_of_every_shape(self, net: Net, path: str, status: str, body: str) -> None:
        with net.gateway():
            for version in ("--http1.1", "--http1.0"):
                out = net.curl(version, "-w", "|%{http_code}", f"http://{FAR}{path}")
                assert out == f"{body}|{status}"

    def test_early_hints_and_trailers_pass(self, net: Net) -> None:
        with net.gateway():
            assert exchange(net, get("/hints")).startswith(b"HTTP/1.1 103 ")
            assert exchange(net, get("/chunked")).endswith(b"0\r\nA: b\r\n\r\n")

    def test_bodies_of_requests(self, net: Net, tmp_path: Path) -> None:
        big = tmp_path / "big"
        big.write_bytes(os.urandom(3_000_000))
        with net.gateway():
            for options in (
                ["-H", "Expect:"],
                ["-H", "Expect: 100-continue"],
                ["-H", "Transfer-Encoding: chunked"],
            ):
                out = tmp_path / "out"
                net.curl(*options, "--data-binary", f"@{big}", "-o", str(out), f"http://{FAR}/up")
                assert out.read_bytes() == big.read_bytes()
                assert net.proxy.requests[-1].body == big.read_bytes()
            refused = ["-H", "Expect: 100-continue", "--data-binary", f"@{big}", "-o", "/dev/null"]
            assert net.curl("-w", "%{http_code}", *refused, f"http://{FAR}/reject") == "417"

    def test_upgrade(self, net: Net) -> None:
        with net.gateway() as gateway, net.lab.guest.connect(FAR, 80) as sock:
            sock.sendall(get("/switch", "Connection: Upgrade", "Upgrade: echo") + b"sent ahead;")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += until(sock, 1)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"upgrade: echo" in head.lower()
            assert until(sock, 17) == b"early;sent ahead;"
            sock.sendall(b"and more")
            assert until(sock, 8) == b"and more"
            assert gateway.stats()["proxy_tunnels"] == 1

    def test_websocket_takes_a_tunnel_and_does_without(self, net: Net) -> None:
        upgrade = ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket")
        with net.gateway():
            request = get("/chat", *upgrade)
            with net.lab.guest.connect(FAR, 80) as sock:
                sock.sendall(request + b"frame")
                echoed = until(sock, len(b"GET /chat HTTP/1.1\r\n"))
                assert echoed == b"GET /chat HTTP/1.1\r\n"
                rest = b""
                while not rest.endswith(b"frame"):
                    rest += until(sock, 1)
                assert b"Upgrade: WebSocket" in rest
            assert net.proxy.requests[-1].target == "a.test:80"
            assert exchange(net, get("/plain", *upgrade, host="refused.test")).endswith(
                b"plain of refused.test"
            )

    @pytest.mark.parametrize(
        ("path", "status", "words"),
        [
            ("/never", 502, "has ended the connection"),
            ("/garbage", 502, "does not answer as HTTP"),
            ("/needs", 407, "asks for credentials"),
        ],
    )
    def test_pages_for_what_fails(self, net: Net, path: str, status: int, words: str) -> None:
        with net.gateway() as gateway:
            answer = exchange(net, get(path), end=False).decode()
            assert answer.startswith(f"HTTP/1.1 {status} ")
            assert words in answer
            assert gateway.stats()["proxy_failed"] == 1

    def test_proxy_that_is_not_there_or_says_nothing(self, net: Net) -> None:
        with net.gateway(http_proxy=f"http://{ROUTER}:1"):
            assert b" 502 " in exchange(net, get("/"), end=False)
        with net.gateway(http_proxy=f"http://{UNREACHABLE}:1"):
            assert b" 502 " in exchange(net, get("/"), end=False)
        with net.gateway(http_proxy="http://no-such-name.invalid:1"):
            assert b"cannot be found" in exchange(net, get("/"), end=False)
        with net.gateway() as gateway:
            exchange(net, get("/one"))
            assert gateway._proxy is not None
            assert gateway._proxy._server is not None
            gateway._proxy._server.response_seconds = 0.0
            assert exchange(net, get("/silent"), end=False).startswith(b"HTTP/1.1 504 ")

    def test_truncated_answers_are_not_taken_for_whole(self, net: Net) -> None:
        with net.gateway():
            argv = ("curl", "-s", "-m", "20", "--noproxy", "*", f"http://{FAR}/short")
            assert net.lab.guest.run(*argv, check=False).returncode == 18
            with pytest.raises(ConnectionResetError):
                exchange(net, b"GET /short HTTP/1.0\r\nHost: a\r\n\r\n", end=False)

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET nothing HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70000, 431),
        ],
    )
    def test_requests_that_are_none(self, net: Net, request_: bytes, status: int) -> None:
        with net.gateway():
            assert exchange(net, request_, end=False).startswith(b"HTTP/1.1 %d " % status)
            assert net.proxy.requests == []

    def test_guest_that_goes_away_is_not_waited_for(self, net: Net) -> None:
        with net.gateway() as gateway:
            sock = net.lab.guest.connect(FAR, 80)
            sock.sendall(get("/silent"))
            wait(lambda: net.proxy.requests)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
            wait(lambda: gateway._loop is not None and not gateway._loop._tasks)


class TestTls:
    def test_name_in_the_hello_chooses_the_tunnel(self, net: Net) -> None:
        first = hello("www.test")
        with net.gateway(https_proxy=net.proxy.url.replace("//", "//me:secret@")) as gateway:
            with net.lab.guest.connect(FAR, 443) as sock:
                for piece in (first[:1], first[1:40], first[40:]):
                    sock.sendall(piece)
                    time.sleep(0.02)
                assert until(sock, len(first)) == first  # to the byte, after the handshake with the proxy
                (request,) = net.proxy.requests
                assert request.target == request.headers["host"] == "www.test:443"
                assert request.headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
                big = os.urandom(5_000_000)
                with ThreadPoolExecutor(1) as pool:
                    sending = pool.submit(sock.sendall, big)
                    assert until(sock, len(big)) == big
                    sending.result()
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
            assert gateway.stats()["proxy_tunnels"] == 1

    def test_bytes_that_come_right_behind_the_proxys_answer(self, net: Net) -> None:
        first = hello("greets.test")
        with net.gateway(), net.lab.guest.connect(FAR, 443) as sock:
            sock.sendall(first)
            want = b"hello first;" + first
            assert until(sock, len(want)) == want

    def test_hello_without_a_name_goes_by_its_address(self, net: Net) -> None:
        with net.gateway(), net.lab.guest.connect(FAR, 443) as sock:
            first = hello(None)
            sock.sendall(first)
            assert until(sock, len(first)) == first
            assert net.proxy.requests[-1].target == f"{FAR}:443"

    def test_port_and_protocol_are_the_guests(self, net: Net) -> None:
        """Not always 443, and not always TLS."""
        with net.gateway(transparent_https_ports=(443, 8443)), net.lab.guest.connect(FAR, 8443) as sock:
            sock.sendall(b"SSH-2.0-x\r\n")
            assert until(sock, 11) == b"SSH-2.0-x\r\n"
            assert net.proxy.requests[-1].target == f"{FAR}:8443"

    @pytest.mark.parametrize("name", ["refused.test", "dies.test"])
    def test_refused_and_dying_tunnels_are_reset(self, net: Net, name: str) -> None:
        with net.gateway(), net.lab.guest.connect(FAR, 443) as sock:
            sock.sendall(hello(name))
            with pytest.raises(ConnectionResetError):
                until(sock, 1000)

    @pytest.mark.skipif(
        sys.version_info < (3, 11), reason="asyncio's streams turn to TLS from Python 3.11 on"
    )
    def test_real_tls_through_the_tunnel(self, net: Net, tmp_path: Path) -> None:
        key, certificate = tmp_path / "key", tmp_path / "certificate"
        net.lab.host.run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=www.test", "-keyout", str(key), "-out", str(certificate)),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        async def to_the_server(
            request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> bool:
            writer.write(b"HTTP/1.0 200 Go\r\n\r\n")
            await writer.drain()
            transport = writer.transport
            await writer.start_tls(context)
            assert transport
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
            return False

        with net.gateway():
            net.proxy.reply = to_the_server
            out = net.curl("-k", "--resolve", f"www.test:443:{FAR}", "https://www.test/")
            assert out == "secret"
            assert [r.target for r in net.proxy.requests] == ["www.test:443"]


class TestExceptions:
    def test_straight_to_the_host_that_was_dialled(self, net: Net) -> None:
        """By address before the SYN is answered, by name after the first bytes; the proxy hears nothing."""
        with TcpServer(net.router.listen(ROUTER, 80), echo), TcpServer(net.router.listen(ROUTER, 443), echo):
            with net.gateway(no_proxy="*.direct.test, 198.51.100.128/25") as gateway:
                for port, data in ((80, get("/", host="x.direct.test")), (443, hello("y.direct.test"))):
                    with net.lab.guest.connect(ROUTER, port) as sock:
                        sock.sendall(data)
                        assert until(sock, len(data)) == data
                assert net.proxy.requests == []
                assert gateway.stats()["proxy_tunnels"] == 2
            with net.gateway(no_proxy="198.51.100/24") as gateway:
                for port in (80, 443):
                    with net.lab.guest.connect(ROUTER, port) as sock:
                        sock.sendall(b"anything")
                        assert until(sock, 8) == b"anything"
                assert net.proxy.requests == []
                assert gateway.stats()["proxy_direct"] == 2
        with net.gateway(no_proxy="198.51.100/24,192.0.2/24"):
            with pytest.raises(ConnectionRefusedError):
                net.lab.guest.connect(ROUTER, 80)
            with pytest.raises(OSError, match="No route"):
                net.lab.guest.connect(UNREACHABLE, 80)

    def test_other_ports_and_the_virtual_network_are_left_alone(self, net: Net) -> None:
        with TcpServer(net.lab.host.listen("127.0.0.1", 80), echo), net.gateway():
            with net.lab.guest.connect("192.168.65.2", 80) as sock:
                sock.sendall(b"x")
                assert until(sock, 1) == b"x"
            assert net.proxy.requests == []

    def test_credentials_never_reach_an_origin(self, net: Net) -> None:
        """Neither those of the settings nor the guest's own, on the way that a proxy takes by itself."""
        own = "Proxy-Authorization: Basic Z3Vlc3Q6eA=="
        with ScriptedProxy(net.router.listen(ROUTER, 8000), everything) as origin:
            with net.gateway(http_proxy=net.proxy.url.replace("//", "//me:secret@"), no_proxy=ROUTER):
                asked = net.curl("-x", "http://192.168.65.1:3128", "-H", own, f"http://{ROUTER}:8000/hello")
                assert asked == f"hello of {ROUTER}:8000"
            assert "proxy-authorization" not in origin.requests[-1].headers
            assert net.proxy.requests == []

    def test_only_what_is_allowed(self, net: Net) -> None:
        options = {"allow_host": ("good.test",), "allow_url": ("http://part.test/open",)}
        with net.gateway(**options):
            assert exchange(net, get("/x", host="www.good.test"), end=True).endswith(b"x of www.good.test")
            assert exchange(net, get("/open/y", host="part.test")).endswith(b"open/y of part.test")
            for path, host in (("/shut", "part.test"), ("/", "bad.test"), ("/", f"{FAR}")):
                answer = exchange(net, get(path, host=host), end=False).decode()
                assert answer.startswith("HTTP/1.1 403 Forbidden\r\n")
                assert f"does not allow {host}" in answer
            with net.lab.guest.connect(FAR, 443) as sock:
                sock.sendall(hello("bad.test"))
                assert sock.recv(100) == bytes((21, 3, 3, 0, 2, 2, 49))  # fatal, access_denied
            first = hello("good.test")
            with net.lab.guest.connect(FAR, 443) as sock:
                sock.sendall(first)
                assert until(sock, len(first)) == first
        with net.gateway(http_proxy="", https_proxy="", **options):  # without any proxy, too
            assert exchange(net, get("/", host="bad.test"), end=False).startswith(b"HTTP/1.1 403 ")
