"""What is changed in a running instance over its API: names, leases, captures, the path of links, the log."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from instance import ROOT, Instance, environment, eventually, inside

from netstack.capture.pcap import read_pcap

pytest.importorskip("aiohttp")

GATEWAY = "192.168.65.1"
MAC = "02:00:00:00:00:07"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("changes"))
    yield one
    one.close()


def ping(guest: int, *options: str) -> float:
    """Milliseconds of an echo from the gateway to the guest."""
    out = inside(guest, "ping", "-c1", "-W5", *options, GATEWAY)
    (found,) = re.findall(r"time=([\d.]+) ms", out)
    return float(found)


# --- names


@pytest.mark.skipif(not shutil.which("dig"), reason="no dig here")
def test_names_that_a_guest_resolves(instance: Instance, guest: int) -> None:
    def dig(*question: str) -> list[str]:
        return inside(guest, "dig", f"@{GATEWAY}", "+short", "+tries=1", *question).splitlines()

    for name, kind, value, shown in (
        ("web.internal", "A", "192.168.65.7", "192.168.65.7"),
        ("web.internal", "A", "192.168.65.8", "192.168.65.8"),
        ("web.internal", "AAAA", "fd00::7", "fd00::7"),
        ("WWW.internal", "CNAME", "web.internal", "web.internal."),
        ("note.internal", "TXT", "two words", '"two words"'),
        ("internal", "MX", "10 mail.internal", "10 mail.internal."),
        ("_http._tcp.internal", "SRV", "0 5 80 web.internal", "0 5 80 web.internal."),
        ("*.dev.internal", "A", "192.168.65.9", "192.168.65.9"),
    ):
        status, answer = instance.ask("POST", "/v1/names", {"name": name, "type": kind, "value": value})
        assert (status, answer["value"]) == (201, value)
        assert shown in dig(name.replace("*", "any"), kind)
    assert dig("host.internal") == ["192.168.65.2"]
    instance.ask("POST", "/v1/names", {"name": "host.internal", "type": "A", "value": "192.168.65.77"})
    assert dig("host.internal") == ["192.168.65.77"]  # what is added goes before what is built in
    assert dig("-x", "192.168.65.7") == ["web.internal."]

    listed = [n for n in instance.ask("GET", "/v1/names")[1]["names"] if n["added"]]
    assert {(n["name"], n["type"], n["value"]) for n in listed} >= {
        ("www.internal", "CNAME", "web.internal"),
        ("note.internal", "TXT", "two words"),
        ("_http._tcp.internal", "SRV", "0 5 80 web.internal"),
    }
    assert instance.ask("DELETE", "/v1/names/web.internal?type=A&value=192.168.65.7")[0] == 204
    assert dig("web.internal") == ["192.168.65.8"]
    assert instance.ask("DELETE", "/v1/names/web.internal?type=AAAA")[0] == 204
    assert dig("web.internal", "AAAA") == []
    for name in ("web.internal", "www.internal", "host.internal", "%2A.dev.internal"):
        assert instance.ask("DELETE", f"/v1/names/{name}")[0] == 204
    assert dig("host.internal") == ["192.168.65.2"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"name": "a..b", "type": "A", "value": "1.2.3.4"}, "not a DNS name"),
        ({"name": "a" * 64, "type": "A", "value": "1.2.3.4"}, "not a DNS name"),
        ({"name": "a.x", "type": "A", "value": "fd00::1"}, "no value"),
        ({"name": "a.x", "type": "SRV", "value": "80 web"}, "PRIORITY WEIGHT PORT TARGET"),
        ({"name": "a.x", "type": "CNAME", "value": "a.x"}, "circle"),
        ({"name": "a.x", "type": "SOA", "value": "x"}, "Invalid enum"),
        ({"name": "a.x", "type": "TXT", "value": '"open'}, "quotation"),
    ],
)
def test_names_that_cannot_be(instance: Instance, body: Any, word: str) -> None:
    before = instance.ask("GET", "/v1/names")
    status, answer = instance.ask("POST", "/v1/names", body)
    assert status == 400
    assert word in answer["error"]
    assert instance.ask("GET", "/v1/names") == before


def test_removing_what_was_not_added(instance: Instance) -> None:
    for path, status in (
        ("/v1/names/gateway.internal", 404),  # built in
        ("/v1/names/nobody.internal?type=A", 404),
        ("/v1/names/nobody.internal?value=1.2.3.4", 400),
        ("/v1/names/nobody.internal?type=FOO&value=1", 400),
        ("/v1/names/nobody.internal?kind=A", 400),
    ):
        found, answer = instance.ask("DELETE", path)
        assert found == status, path
        assert answer.keys() == {"error"}


# --- leases


def test_leases_reserved_and_released(instance: Instance) -> None:
    status, lease = instance.ask("POST", "/v1/leases", {"mac": MAC, "name": "db"})
    assert status == 201
    assert (lease["mac"], lease["name"], lease["state"], lease["expires"]) == (MAC, "db", "static", None)
    assert lease in instance.ask("GET", "/v1/leases")[1]["leases"]
    names = instance.ask("GET", "/v1/names")[1]["names"]
    assert {"name": "db.internal", "type": "A", "value": lease["address"], "added": False} in names

    status, moved = instance.ask("POST", "/v1/leases", {"mac": MAC, "address": "192.168.65.77", "name": "db"})
    assert (status, moved["address"]) == (201, "192.168.65.77")
    for body, word in (
        ({"mac": "02:00:00:00:00:08", "address": "192.168.65.77"}, "already belongs"),
        ({"mac": "nonsense"}, "not a unicast MAC"),
        ({"mac": "01:00:00:00:00:01"}, "not a unicast MAC"),
        ({"mac": MAC, "address": "10.0.0.1"}, "not a guest's"),
        ({"mac": MAC, "address": GATEWAY}, "not a guest's"),
        ({"mac": MAC, "address": "x"}, "not an IPv4 address"),
        ({"mac": MAC, "name": "a b"}, "not a host name"),
    ):
        status, answer = instance.ask("POST", "/v1/leases", body)
        assert status == 400
        assert word in answer["error"]
    assert instance.ask("DELETE", "/v1/leases/192.168.65.77") == (204, "")
    assert instance.ask("DELETE", "/v1/leases/192.168.65.77")[0] == 404
    assert instance.ask("DELETE", "/v1/leases/x")[0] == 400
    assert MAC not in [x["mac"] for x in instance.ask("GET", "/v1/leases")[1]["leases"]]


def test_release_of_a_bound_lease() -> None:
    """It is another client's to have, and the one that had it is refused when it renews."""
    from ipaddress import IPv4Address

    from netstack.services.dhcp4 import DhcpServer, DhcpSettings
    from netstack.wire.dhcp4 import ACK, NAK, REQUEST, DhcpMessage

    address = IPv4Address("10.0.0.5")
    server = DhcpServer(DhcpSettings(IPv4Address("10.0.0.1"), "10.0.0.0/24", address, address))  # type: ignore[arg-type]

    def ask(mac: bytes, kind: int, ciaddr: int = 0) -> int | None:
        message = DhcpMessage(1, 1, mac)
        message.message_type = kind
        if ciaddr:
            message.ciaddr = IPv4Address(ciaddr)
        else:
            message.server_id, message.requested_address = IPv4Address("10.0.0.1"), address
        reply = server.handle(message.build(), 0.0)
        return None if reply is None else DhcpMessage.parse(reply.payload).message_type

    first, second = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
    assert ask(first, REQUEST) == ACK
    assert ask(second, REQUEST) == NAK
    before = server.generation
    assert server.release(address)
    assert server.generation > before
    assert not server.release(address)
    assert server.leases() == []
    assert ask(second, REQUEST) == ACK
    assert ask(first, REQUEST, int(address)) == NAK


# --- captures


def frames(data: bytes) -> list[bytes]:
    return [frame for _, frame in read_pcap(io.BytesIO(data))]


class Stream:
    """GET /v1/capture, read as it comes."""

    def __init__(self, instance: Instance, query: str = "") -> None:
        self.connection = http.client.HTTPConnection("localhost")
        self.connection.sock = socket.socket(socket.AF_UNIX)
        self.connection.sock.settimeout(30)
        self.connection.sock.connect(str(instance.socket))
        self.connection.request("GET", f"/v1/capture{query}")
        self.answer = self.connection.getresponse()

    def rest(self) -> bytes:
        return self.answer.read()

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def running(instance: Instance) -> Any:
    return instance.ask("GET", "/v1/capture/state")[1]["capture"]


def test_capture_to_a_file(instance: Instance, guest: int, tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"
    assert running(instance) is None
    status, state = instance.ask("POST", "/v1/capture", {"path": str(path)})
    assert (status, state["target"], state["frames"]) == (201, str(path), 0)
    ping(guest, "-s", "400")
    for method, where, body in (
        ("POST", "/v1/capture", {"path": str(path) + "2"}),
        ("GET", "/v1/capture", None),
    ):
        status, answer = instance.ask(method, where, body)  # no second one
        assert status == 409
        assert str(path) in answer["error"]
    assert not Path(f"{path}2").exists()
    status, ended = instance.ask("DELETE", "/v1/capture")
    assert status == 200
    found = frames(path.read_bytes())
    assert len([frame for frame in found if len(frame) == 442]) == 2  # the echo and its answer
    assert (ended["frames"], ended["lost"], ended["bytes"]) == (len(found), 0, path.stat().st_size)
    assert instance.ask("DELETE", "/v1/capture")[0] == 404
    assert path.stat().st_mode & 0o777 == 0o600


def test_capture_ends_at_its_limits(instance: Instance, guest: int, tmp_path: Path) -> None:
    path = tmp_path / "small.pcapng"
    assert instance.ask("POST", "/v1/capture", {"path": str(path), "bytes": 3000, "snaplen": 60})[0] == 201
    inside(guest, "ping", "-c20", "-i0.002", "-s", "400", GATEWAY)
    eventually(lambda: running(instance) is None)
    assert 2800 <= path.stat().st_size <= 3000
    assert {len(frame) for frame in frames(path.read_bytes())} <= {42, 60}
    assert instance.ask("POST", "/v1/capture", {"path": str(path), "seconds": 0.1})[0] == 201
    eventually(lambda: running(instance) is None)
    assert instance.ask("GET", "/v1/stats")[1]["pcap_lost"] == 0


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"path": "relative"}, "path"),
        ({"path": "/nowhere/at/all"}, "No such file"),
        ({"path": "/a\0b"}, "path"),
        ({"path": "/tmp"}, "directory"),
        ({"path": "/tmp/x", "bytes": -1}, "bytes"),
        ({"path": "/tmp/x", "seconds": "x"}, "seconds"),
        ({"path": "/tmp/x", "ring": "10"}, "10x64MB"),
        ({"path": "/tmp/x", "filter": "tcp porto"}, "filter"),
    ],
)
def test_captures_that_cannot_be(instance: Instance, body: Any, word: str) -> None:
    status, answer = instance.ask("POST", "/v1/capture", body)
    assert status == 400
    assert word in answer["error"]
    assert running(instance) is None


def test_streamed_capture(instance: Instance, guest: int) -> None:
    stream = Stream(instance)
    assert stream.answer.status == 200
    assert stream.answer.read(4) == b"\x0a\x0d\x0d\x0a"  # at once, before there is a frame
    ping(guest, "-s", "333")
    assert instance.ask("DELETE", "/v1/capture")[1]["target"] == "a stream"
    found = frames(b"\x0a\x0d\x0d\x0a" + stream.rest())
    assert len([frame for frame in found if len(frame) == 375]) == 2
    stream.close()


def test_streamed_capture_that_ends_by_itself_or_whose_client_goes(
    instance: Instance, guest: int, tmp_path: Path
) -> None:
    stream = Stream(instance, "?seconds=0.3&snaplen=100")
    ping(guest)
    assert frames(stream.rest())
    stream.close()
    assert running(instance) is None
    stream = Stream(instance, "?bytes=300")
    eventually(lambda: running(instance) is None or not ping(guest))
    assert frames(stream.rest()) == []
    stream.close()
    stream = Stream(instance)
    stream.close()  # with no frame that could tell the instance
    eventually(lambda: running(instance) is None)
    for _ in range(5):  # nor need the next one wait until it is found that the last one's client has gone
        stream = Stream(instance)
        assert stream.answer.status == 200
        stream.close()
    assert instance.ask("POST", "/v1/capture", {"path": str(tmp_path / "next.pcapng")})[0] == 201
    assert instance.ask("DELETE", "/v1/capture")[0] == 200
    for query, word in (
        ("?snaplen=x", "snaplen"),
        ("?bytes=-1", "bytes"),
        ("?seconds=1&seconds=2", "seconds"),
        ("?x=1", "'x'"),
        ("?filter=tcp+porto", "filter"),
        ("?wire_frames=2", "wire_frames"),
    ):
        status, answer = instance.ask("GET", f"/v1/capture{query}")
        assert status == 400
        assert word in answer["error"]


@pytest.mark.skipif(not shutil.which("tshark") or not shutil.which("curl"), reason="no curl or tshark here")
def test_curl_into_tshark(instance: Instance, guest: int) -> None:
    pipe = f"curl -sN --unix-socket {instance.socket} 'http://x/v1/capture?seconds=1'"
    pipe += " | tshark -r - -T fields -e icmp.type"
    with subprocess.Popen(
        ["sh", "-c", pipe], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        eventually(lambda: running(instance))
        ping(guest)
        out, _ = process.communicate(timeout=60)
    assert [line for line in out.splitlines() if line] == ["8", "0"]


# --- the path


def test_impairment_comes_and_goes(instance: Instance, guest: int) -> None:
    assert instance.ask("GET", "/v1/impairment")[1] == {"up": "", "down": ""}
    paths = {"up": "delay=20ms", "down": "delay=30ms"}
    assert instance.ask("PUT", "/v1/impairment", paths) == (200, paths)
    assert ping(guest) >= 50
    assert instance.ask("GET", "/v1/impairment")[1] == paths
    assert instance.ask("PUT", "/v1/impairment", {"up": "loss=100%"})[0] == 200
    assert subprocess.run(
        ["nsenter", "-t", str(guest), "-U", "-n", "--preserve-credentials", "ping", "-c1", "-W1", GATEWAY],
        capture_output=True,
    ).returncode
    for body, word in (
        ({"up": "loss=x"}, "impair_up"),
        ({"down": "lost=1%"}, "impair_down"),
        ({"left": ""}, "left"),
    ):
        status, answer = instance.ask("PUT", "/v1/impairment", body)
        assert status == 400
        assert word in answer["error"]
    assert instance.ask("GET", "/v1/impairment")[1] == {"up": "loss=100%", "down": ""}
    assert instance.ask("DELETE", "/v1/impairment") == (204, "")
    assert ping(guest) < 50
    assert instance.ask("GET", "/v1/impairment")[1] == {"up": "", "down": ""}


# --- the log


def test_log_level(tmp_path: Path) -> None:
    events = tmp_path / "events"
    one = Instance(tmp_path, "--notify", str(events))
    try:
        assert one.ask("GET", "/v1/log-level")[1] == {"level": "info"}
        for level in ("error", "debug", "warning"):
            assert one.ask("PUT", "/v1/log-level", {"level": level}) == (200, {"level": level})
            assert one.ask("GET", "/v1/log-level")[1] == {"level": level}
        status, answer = one.ask("PUT", "/v1/log-level", {"level": "loud"})
        assert status == 400
        assert "loud" in answer["error"]
        one.stop()
        assert one.process.stderr is not None
        assert "stopping" not in one.process.stderr.read()  # an event of level info: not in the log,
        assert [json.loads(line)["event"] for line in events.read_text().splitlines()] == [
            "ready",
            "stopping",
        ]
    finally:
        one.close()


# --- the commands


def netstack(instance: Instance, *arguments: str, status: int = 0) -> str:
    argv = [sys.executable, "-m", "netstack", *arguments, "--instance", str(instance.socket)]
    done = subprocess.run(
        argv, cwd=ROOT, env=environment(instance.folder), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    if status:
        assert done.stderr.count("\n") == 1
        return done.stderr
    return done.stdout


def test_commands(instance: Instance) -> None:
    netstack(instance, "dns", "add", "cli.internal", "a", "192.168.65.44")
    assert "cli.internal A 192.168.65.44 yes" in " ".join(netstack(instance, "dns", "list").split())
    assert json.loads(netstack(instance, "dns", "rm", "cli.internal", "A", "--json")) == {
        "name": "cli.internal",
        "type": "A",
    }
    assert "no record cli.internal was added" in netstack(instance, "dns", "rm", "cli.internal", status=2)

    assert "192.168.65.45" in netstack(
        instance, "leases", "reserve", "02:00:00:00:00:45", "192.168.65.45", "cli"
    )
    leases = json.loads(netstack(instance, "leases", "--json"))["leases"]
    assert ("192.168.65.45", "cli") in [(x["address"], x["name"]) for x in leases]
    assert netstack(instance, "leases", "release", "192.168.65.45") == ""
    assert "nobody has the address" in netstack(instance, "leases", "release", "192.168.65.45", status=2)

    assert netstack(instance, "impair").split() == ["up", "good", "down", "good"]
    both = json.loads(netstack(instance, "impair", "delay=1ms", "--down", "off", "--json"))
    assert both == {"up": "delay=1ms", "down": ""}
    assert "impair_up 'fast'" in netstack(instance, "impair", "fast", status=2)
    assert netstack(instance, "impair", "off").split() == ["up", "good", "down", "good"]

    assert netstack(instance, "log-level") == "info\n"
    assert netstack(instance, "log-level", "debug") == ""
    assert json.loads(netstack(instance, "log-level", "info", "--json")) == {"level": "info"}

    assert netstack(instance, "capture") == "nothing is captured\n"
    assert "nothing is captured" in netstack(instance, "capture", "--stop", status=2)


def test_capture_command(instance: Instance, guest: int, tmp_path: Path) -> None:
    path = tmp_path / "cli.pcapng"
    argv = [
        sys.executable,
        "-m",
        "netstack",
        "capture",
        "cli.pcapng",
        "--json",
        "--instance",
        str(instance.socket),
    ]
    process = subprocess.Popen(
        argv,
        cwd=tmp_path,
        env=environment(instance.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert str(path) in process.stderr.readline()
    ping(guest)
    assert "is running since" in netstack(instance, "capture", "-", status=2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out)["frames"] == len(frames(path.read_bytes())) > 0
    last = netstack(instance, "capture", str(path), "--seconds", "0.1").splitlines()[-1]
    # The guest's kernel may have had something to say to its neighbours.
    assert f"{path}: {len(frames(path.read_bytes()))} frames, {path.stat().st_size} bytes" in last
    argv = [
        sys.executable,
        "-m",
        "netstack",
        "capture",
        "--seconds",
        "0.5",
        "-",
        "--instance",
        str(instance.socket),
    ]
    with subprocess.Popen(argv, env=environment(instance.folder), stdout=subprocess.PIPE) as streaming:
        eventually(lambda: running(instance))
        ping(guest)
        data, _ = streaming.communicate(timeout=30)
    assert len([frame for frame in frames(data) if len(frame) == 98]) == 2
