"""Guests that know of the proxy: on the gateway, with real proxies behind it, and under ``netstack run``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scripted_proxy import Net, ScriptedProxy, everything, hello, until, wait

from netstack.gateway import Gateway
from netstack.testing.lab import GATEWAY, ROUTER
from netstack.testing.namespace import Process
from netstack.testing.servers import TcpServer, echo

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
ASK = f"http://{GATEWAY}:3128"
TINYPROXY = """
Port {port}
Listen {address}
Timeout 60
LogFile "{log}"
LogLevel Connect
MaxClients 200
ConnectPort 443
{more}
"""
FAR = "203.0.113.9"


def open_flows(gateway: Gateway) -> list[dict[str, Any]]:
    """Those that have a host side: all but what TIME-WAIT remembers."""
    return [flow for flow in gateway.flows() if flow["state"] != "TIME-WAIT"]


class TestScripted:
    def test_requests_and_tunnels(self, net: Net) -> None:
        with net.gateway(transparent_http_ports=(), transparent_https_ports=()) as gateway:
            assert net.curl("-x", ASK, "http://www.test/hello") == "hello of www.test"
            assert net.proxy.requests[-1].target == "http://www.test/hello"
            with net.lab.guest.connect(GATEWAY, 3128) as sock:
                sock.sendall(b"CONNECT greets.test:22 HTTP/1.1\r\nHost: greets.test:22\r\n\r\nsent ahead")
                want = b"HTTP/1.1 200 Connection established\r\n\r\nhello first;sent ahead"
                assert until(sock, len(want)) == want
            assert net.proxy.requests[-1].target == "greets.test:22"
            refused = ("-x", ASK, "-p", "-w", "%{http_connect}", "http://refused.test/")
            assert net.curl(*refused, check=False) == "403"
            assert gateway.stats()["proxy_tunnels"] == 1

    def test_guests_own_credentials_and_the_settings(self, net: Net) -> None:
        own = ("-x", f"http://guest:pw@{GATEWAY}:3128")
        with net.gateway():
            net.curl(*own, "http://www.test/hello")
            assert net.proxy.requests[-1].headers["proxy-authorization"] == "Basic Z3Vlc3Q6cHc="
            out = net.curl(*own, "-w", "%{http_code}", "http://www.test/needs")
            assert out == "407"  # the proxy's own answer, which this guest understands
        with net.gateway(http_proxy=net.proxy.url.replace("//", "//me:secret@")):
            net.curl(*own, "http://www.test/hello")
            assert net.proxy.requests[-1].headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"

    def test_hosts_of_the_virtual_network_and_exceptions(self, net: Net) -> None:
        """Asked straight: the host's loopback by its names, an exception, a guest; never a loopback."""
        with (
            TcpServer(net.lab.host.listen("127.0.0.1", 8000), echo),
            TcpServer(net.router.listen(ROUTER, 8000), echo),
            TcpServer(net.lab.guest.listen("0.0.0.0", 8000), echo),
            net.gateway(no_proxy=ROUTER) as gateway,
        ):
            for host in ("192.168.65.2", "host.internal", ROUTER, "192.168.65.3"):
                with net.lab.guest.connect(GATEWAY, 3128) as sock:
                    sock.sendall(f"CONNECT {host}:8000 HTTP/1.1\r\nHost: x\r\n\r\nping".encode())
                    want = b"HTTP/1.1 200 Connection established\r\n\r\nping"
                    assert until(sock, len(want)) == want, host
            for host, status in (("127.0.0.1", b"403"), ("localhost", b"403"), ("nobody.internal", b"502")):
                with net.lab.guest.connect(GATEWAY, 3128) as sock:
                    sock.sendall(f"CONNECT {host}:8000 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    assert until(sock, 12) == b"HTTP/1.1 " + status
            assert net.proxy.requests == []
            assert gateway.stats()["proxy_refused"] == 2

    def test_via_names_this_hop_and_ends_a_circle(self, net: Net) -> None:
        """RFC 9110 7.6.3: in requests and responses, behind those that were before, and with its own version."""
        with net.gateway() as gateway:
            for how, url in ((("-x", ASK), "http://www.test/hello"), ((), f"http://{FAR}/hello")):
                out = net.curl(*how, "-D", "-", "-H", "Via: 1.0 before", url)
                vias = [value for name, value in net.proxy.requests[-1].pairs if name.lower() == "via"]
                assert vias[0] == "1.0 before"
                version, name = vias[1].split()
                assert (len(vias), version) == (2, "1.1")
                assert name.startswith("netstack-")
                assert f"\nVia: 1.1 {name}\n" in out
                seen = len(net.proxy.requests)
                circle = net.curl(
                    *how, "-w", "|%{http_code}", "-H", f"Via: 1.0 before, 1.1 {name.upper()}", url
                )
                assert circle.endswith("|508")
                assert len(net.proxy.requests) == seen
            for via, status in (("1.0 before", b"200"), (f"1.1 {name}", b"508")):
                with net.lab.guest.connect(GATEWAY, 3128) as sock:
                    head = f"CONNECT www.test:443 HTTP/1.1\r\nHost: www.test\r\nVia: {via}\r\n\r\n"
                    sock.sendall(head.encode())
                    assert until(sock, 12) == b"HTTP/1.1 " + status
            vias = [value for name, value in net.proxy.requests[-1].pairs if name.lower() == "via"]
            assert vias == ["1.0 before", f"1.1 {name}"]
            assert gateway.stats()["proxy_refused"] == 3

    def test_trace_and_options_go_as_far_as_they_may(self, net: Net) -> None:
        """RFC 9110 7.6.2."""
        with net.gateway():
            ask = ("-x", ASK, "-X", "OPTIONS", "-D", "-")
            net.curl(*ask, "-H", "Max-Forwards: 3", "http://www.test/hello")
            assert net.proxy.requests[-1].headers["max-forwards"] == "2"
            net.curl("-x", ASK, "-H", "Max-Forwards: 3", "http://www.test/hello")
            assert net.proxy.requests[-1].headers["max-forwards"] == "3", "GET has no such limit"
            seen = len(net.proxy.requests)
            out = net.curl(*ask, "-H", "Max-Forwards: 0", "http://www.test/hello")
            assert out.startswith("HTTP/1.1 200 OK\n")
            assert "\nAllow: GET, HEAD," in out
            trace = ("-X", "TRACE", "-H", "Max-Forwards: 0", "-H", "X-Mine: 1", "-H", "Cookie: secret")
            for how, url in ((("-x", ASK), "http://www.test/hello"), ((), f"http://{FAR}/hello")):
                echoed = net.curl(*how, *trace, url)
                assert echoed.startswith("TRACE ")
                assert "\nX-Mine: 1\n" in echoed
                assert "secret" not in echoed
            assert len(net.proxy.requests) == seen

    def test_it_is_a_proxy_and_nothing_else(self, net: Net) -> None:
        with net.gateway():
            assert net.curl("-w", "|%{http_code}", f"{ASK}/").endswith("|400")
            with net.lab.guest.connect(GATEWAY, 3128) as sock:
                sock.sendall(hello("www.test"))
                assert until(sock, 12) == b"HTTP/1.1 400"

    def test_without_settings_there_is_none(self, net: Net) -> None:
        with net.gateway(http_proxy="", https_proxy="", proxy="off"), pytest.raises(ConnectionRefusedError):
            net.lab.guest.connect(GATEWAY, 3128)

    def test_a_thousand_requests_fifty_at_once(self, net: Net) -> None:
        with net.gateway() as gateway:
            net.curl(f"http://{FAR}/first")
            wait(lambda: not open_flows(gateway))
            before = len(os.listdir("/proc/self/fd"))
            connections = net.proxy.connections

            def ask(client: int) -> None:
                """Ten requests of one connection, transparent or explicit; the last one ends it."""
                transparent = client % 2
                place = (FAR, 80) if transparent else (GATEWAY, 3128)
                with net.lab.guest.connect(*place) as sock:
                    for number in range(client * 10, client * 10 + 10):
                        kind = ("GET", "POST", "HEAD")[number % 3]
                        target = f"/n{number}" if transparent else f"http://{FAR}/n{number}"
                        fields = ["Content-Length: 3"] if kind == "POST" else []
                        fields += ["Connection: close"] if number % 10 == 9 else []
                        head = "\r\n".join([f"{kind} {target} HTTP/1.1", f"Host: {FAR}", *fields, "", ""])
                        sock.sendall(head.encode() + (b"abc" if kind == "POST" else b""))
                        answer = b""
                        while b"\r\n\r\n" not in answer:
                            answer += sock.recv(65536)
                        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                        body = {"GET": f"n{number} of {FAR}".encode(), "POST": b"abc", "HEAD": b""}[kind]
                        got = answer.partition(b"\r\n\r\n")[2]
                        assert got + until(sock, len(body) - len(got)) == body
                    assert sock.recv(1) == b""

            with ThreadPoolExecutor(50) as pool:
                list(pool.map(ask, range(100)))
            assert len(net.proxy.requests) == 1001
            assert net.proxy.connections == connections + 100
            assert gateway.stats()["proxy_failed"] == 0
            wait(lambda: not gateway._loop._tasks)
            wait(lambda: not open_flows(gateway))
            wait(lambda: len(os.listdir("/proc/self/fd")) <= before)

    def test_settings_change_while_traffic_runs(self, net: Net, tmp_path: Path) -> None:
        """Followed within two seconds; a tunnel and a kept connection of before go on."""
        path = tmp_path / "http.json"

        def write(**settings: object) -> None:
            new = tmp_path / "new.json"
            new.write_text(json.dumps(settings))
            os.replace(new, path)

        def changes(true) -> None:
            begun = time.monotonic()
            wait(true, 10.0)
            took.append(time.monotonic() - begun)

        took: list[float] = []

        second = ScriptedProxy(net.router.listen(ROUTER, 8889), everything)
        with second, net.gateway(http_proxy="", https_proxy="", http_settings=str(path)) as gateway:
            with pytest.raises(OSError):  # noqa: PT011 - whichever: nobody is there
                net.lab.guest.connect(FAR, 80).recv(1)
            write(http=net.proxy.url, https=net.proxy.url, exclude="*.local, 169.254/16")
            changes(lambda: gateway._proxy.settings.active)
            tunnel = net.lab.guest.connect(FAR, 443)
            kept = net.lab.guest.connect(FAR, 80)
            first = hello("www.test")
            tunnel.sendall(first)
            assert until(tunnel, len(first)) == first
            stop = threading.Event()
            counted = [0]

            def traffic() -> None:
                while not stop.is_set():
                    tunnel.sendall(b"x" * 1000)
                    assert until(tunnel, 1000) == b"x" * 1000
                    counted[0] += 1

            def ask() -> str:
                kept.sendall(b"GET /one HTTP/1.1\r\nHost: a.test\r\n\r\n")
                answer = b""
                while not answer.endswith(b"one of a.test"):
                    answer += kept.recv(1000)
                return "second" if second.requests else "first"

            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(traffic)
                try:
                    assert ask() == "first"
                    write(http=second.url, https=second.url)
                    changes(lambda: gateway._proxy.settings.http.port == 8889)
                    assert ask() == "second"  # the same connection of the guest
                    count = counted[0]
                    write(http="", https="")
                    changes(lambda: not gateway._proxy.settings.active)
                    path.write_text("{ no JSON")
                    time.sleep(0.05)
                    wait(lambda: counted[0] > count + 10)
                    assert len(took) == 3
                    assert min(took) < 2.0, "a machine with other work may be late, but not each time"
                finally:
                    stop.set()
                running.result(20)
            tunnel.close()
            kept.close()


def tinyproxy(net: Net, name: str, more: str = "", port: int = 8080) -> tuple[Process, Path]:
    """A tinyproxy at the router, and its log."""
    if shutil.which("tinyproxy") is None:
        pytest.skip("the program 'tinyproxy' is missing")
    log, config = net.lab.directory / f"{name}.log", net.lab.directory / f"{name}.conf"
    config.write_text(TINYPROXY.format(port=port, address=ROUTER, log=log, more=more))
    process = net.router.spawn("tinyproxy", "-d", "-c", str(config))
    process.wait_listening(port)
    return process, log


class TestTinyproxy:
    URL = f"http://{ROUTER}:8080"

    def test_curl_and_git(self, net: Net, only_by_proxy: Path, tmp_path: Path) -> None:
        process, log = tinyproxy(net, "plain")
        environment = {
            **os.environ,
            "HOME": str(tmp_path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSL_NO_VERIFY": "1",
        }
        environment |= {
            f"GIT_{who}_{what}": "t@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }

        def git(*args: str) -> str:
            return subprocess.run(
                ["git", *args], check=True, capture_output=True, text=True, env=environment
            ).stdout

        git("init", "-q", "-b", "main", str(tmp_path / "work"))
        (tmp_path / "work" / "file").write_bytes(os.urandom(100_000))
        git("-C", str(tmp_path / "work"), "add", ".")
        git("-C", str(tmp_path / "work"), "commit", "-q", "-m", "one")
        git("clone", "-q", "--bare", str(tmp_path / "work"), str(only_by_proxy / "repo.git"))
        git("-C", str(only_by_proxy / "repo.git"), "update-server-info")
        with net.gateway(http_proxy=self.URL, https_proxy=self.URL, dns=("127.0.0.1",)) as gateway:
            got = tmp_path / "got"
            for scheme in ("http", "https"):
                for how in ([], ["-x", ASK]):
                    url = f"{scheme}://www.test"
                    assert net.curl("-k", *how, f"{url}/hello") == "hello of the world"
                    net.curl("-k", *how, "-o", str(got), f"{url}/big", f"{url}/hello", "-o", "/dev/null")
                    assert got.read_bytes() == (only_by_proxy / "big").read_bytes()
                net.lab.guest.run(
                    *("git", "clone", "-q", f"{scheme}://git.test/repo.git", str(tmp_path / scheme)),
                    env=environment,
                )
                assert git("-C", str(tmp_path / scheme), "fsck", "--full") == ""
            assert gateway.stats()["proxy_failed"] == 0
        text = log.read_text()
        assert "CONNECT www.test:443" in text  # by name, which only the guest's hello has told
        assert "CONNECT git.test:443" in text
        assert "GET http://www.test/big" in text
        assert process.stop() == 0

    def test_credentials_right_wrong_and_missing(self, net: Net, only_by_proxy: Path) -> None:
        process, _ = tinyproxy(net, "auth", "BasicAuth me s3cret")
        right = f"http://me:s3cret@{ROUTER}:8080"
        with net.gateway(http_proxy=right, https_proxy=right, dns=("127.0.0.1",)):
            assert net.curl("http://www.test/hello") == "hello of the world"
            assert net.curl("-k", "https://www.test/hello") == "hello of the world"
        # tinyproxy answers wrong credentials with 401, as if it were an origin, and that is passed on
        wrong = right.replace("s3", "x")
        for url, words, status in ((self.URL, "asks for credentials", "407"), (wrong, "", "401")):
            with net.gateway(http_proxy=url, https_proxy=url, dns=("127.0.0.1",)):
                page = net.curl("-w", "|%{http_code}", "http://www.test/hello")
                assert words in page
                assert page.endswith(f"|{status}")
                argv = ("curl", "-sk", "--noproxy", "*", "https://www.test/")
                assert net.lab.guest.run(*argv, check=False).returncode == 35  # reset in the handshake
                through = ("-x", ASK, "-k", "-w", "%{http_connect}", "https://www.test/")
                assert net.curl(*through, check=False) == status
        process.stop()

    def test_refusing(self, net: Net, only_by_proxy: Path, tmp_path: Path) -> None:
        filters = net.lab.directory / "filter"
        filters.write_text("^bad\\.test$\n")
        process, _ = tinyproxy(net, "refusing", f'Filter "{filters}"\nFilterDefaultDeny No')
        with net.gateway(http_proxy=self.URL, https_proxy=self.URL, dns=("127.0.0.1",)):
            assert net.curl("http://good.test/hello") == "hello of the world"
            assert net.curl("-o", "/dev/null", "-w", "%{http_code}", "http://bad.test/hello") == "403"
            argv = ("curl", "-sk", "--noproxy", "*", "https://bad.test/")
            assert net.lab.guest.run(*argv, check=False).returncode == 35
        process.stop()

    def test_slow_and_dying_in_the_middle(self, net: Net, only_by_proxy: Path, tmp_path: Path) -> None:
        """What is cut is never taken for whole, nothing hangs, and the next request finds the proxy as it is then."""
        process, _ = tinyproxy(net, "dying")
        got = str(tmp_path / "got")
        with net.gateway(http_proxy=self.URL, https_proxy=self.URL, dns=("127.0.0.1",)) as gateway:
            os.kill(process.pid, signal.SIGSTOP)
            waiting = net.lab.guest.spawn(
                "curl", "-sS", "-m", "20", "--noproxy", "*", "http://www.test/hello"
            )
            time.sleep(0.3)
            assert waiting.running
            os.kill(process.pid, signal.SIGCONT)
            assert waiting.wait(20) == 0
            assert waiting.text.strip() == "hello of the world"
            transfers = []
            for scheme in ("http", "https"):
                argv = (
                    "curl",
                    "-sSk",
                    "-m",
                    "20",
                    "--noproxy",
                    "*",
                    "--limit-rate",
                    "500k",
                    "-o",
                    got + scheme,
                )
                transfers.append(net.lab.guest.spawn(*argv, f"{scheme}://www.test/big"))
            wait(lambda: all((tmp_path / f"got{scheme}").exists() for scheme in ("http", "https")))
            os.kill(process.pid, signal.SIGKILL)
            begun = time.monotonic()
            assert all(transfer.wait(20) in (18, 35, 52, 56) for transfer in transfers)
            assert time.monotonic() - begun < 15
            assert net.curl("-o", "/dev/null", "-w", "%{http_code}", "http://www.test/hello") == "502"
            again, _ = tinyproxy(net, "again")
            assert net.curl("http://www.test/hello") == "hello of the world"
            assert net.curl("-k", "https://www.test/hello") == "hello of the world"
            wait(lambda: not open_flows(gateway))
            again.stop()


class TestRun:
    """``netstack run`` with a proxy on the host's loopback, in the variables that a shell has."""

    def run(self, net: Net, *command: str, options: tuple[str, ...] = (), **variables: str) -> str:
        environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        environment |= {"PYTHONPATH": str(ROOT)} | variables
        argv = (sys.executable, "-m", "netstack", "run", *options, "--", *command)
        return net.lab.host.run(*argv, env=environment).stdout

    def test_variables_lead_to_the_gateway(self, net: Net) -> None:
        with ScriptedProxy(net.lab.host.listen("127.0.0.1", 3128), everything) as proxy:
            loopback = {"http_proxy": "http://me:pw@127.0.0.1:3128", "no_proxy": "*.local, 169.254/16"}
            out = self.run(net, "env", **loopback)
            assert f"\nhttp_proxy={ASK}\n" in f"\n{out}"
            assert f"\nHTTP_PROXY={ASK}\n" in f"\n{out}"
            assert "no_proxy=.local,169.254.0.0/16,localhost," in out
            assert "https_proxy" not in out
            assert "pw" not in out
            assert self.run(net, "curl", "-sS", "http://www.test/hello", **loopback) == "hello of www.test"
            request = proxy.requests[-1]
            assert (request.target, request.headers["proxy-authorization"]) == (
                "http://www.test/hello",
                "Basic bWU6cHc=",
            )
            deaf = ("curl", "-sS", "--noproxy", "*", f"http://{FAR}/hello")
            assert self.run(net, *deaf, **loopback) == f"hello of {FAR}"
            out = self.run(net, *deaf, options=("--http-proxy", proxy.url))
            assert out == f"hello of {FAR}"
            assert "_proxy=" not in self.run(net, "env", options=("--proxy", "off"))

    def test_allow_host(self, net: Net) -> None:
        out = self.run(net, "curl", "-sS", f"http://{ROUTER}/", options=("--allow-host", "x.test"))
        assert "403 Forbidden" in out
