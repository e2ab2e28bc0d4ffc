"""Other programs' clients of the API: what VPNKit's and gvproxy's Go packages ask, and what they are answered."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from instance import GUEST, GUEST_PORT, Instance, eventually, inside

from netstack.control import ninep

pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp("clients")
    one = Instance(folder, "--port-9p", f"{folder}/9p")
    yield one
    one.close()


def go(instance: Instance, method: str, path: str, body: Any = None) -> tuple[int, str, str]:
    """(status, type, text) of what Go's net/http sends for a client with JSON: its headers, in its order."""
    head = f"{method} {path} HTTP/1.1\r\nHost: unix\r\nUser-Agent: Go-http-client/1.1\r\n"
    data = b""
    if body is not None:
        data = (body if isinstance(body, str) else json.dumps(body, separators=(",", ":")) + "\n").encode()
        head += f"Content-Length: {len(data)}\r\nContent-Type: application/json\r\n"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(instance.socket))
        sock.sendall(f"{head}Accept-Encoding: gzip\r\n\r\n".encode() + data)
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        return answer.status, answer.headers.get_content_type(), answer.read().decode()


def echoes(address: tuple[str, int] | str) -> bool:
    """Whether the guest's echo server is there."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(10)
        if sock.connect_ex(address):
            return False
        try:
            sock.sendall(b"hello")
            return sock.recv(5) == b"hello"
        except ConnectionError:  # it was closed while we came
            return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# --- VPNKit


def test_vpnkit(instance: Instance, guest: int) -> None:
    assert go(instance, "GET", "/forwards/list") == (200, "application/json", "null")
    number = free_port()
    port = {"proto": "tcp", "out_ip": "127.0.0.1", "out_port": number, "in_ip": GUEST, "in_port": GUEST_PORT}
    for method in ("POST", "PUT"):  # again: it is idempotent
        status, _, text = go(instance, method, "/forwards/expose/port", port)
        assert (status, text) == (200, "")
    assert echoes(("127.0.0.1", number))
    assert json.loads(go(instance, "GET", "/forwards/list")[2]) == [port]
    dump = go(instance, "GET", "/forwards/dump")
    assert dump[:2] == (200, "text/plain")
    assert dump[2].splitlines()[0] == f"tcp forward from 127.0.0.1:{number} to {GUEST}:{GUEST_PORT}"
    for method in ("POST", "DELETE"):
        assert go(instance, method, "/forwards/unexpose/port", port)[::2] == (200, "")
    assert not echoes(("127.0.0.1", number))
    assert go(instance, "GET", "/forwards/list")[2] == "null"


def test_vpnkit_chooses_a_port(instance: Instance) -> None:
    asked = {"proto": "udp", "out_ip": "127.0.0.1", "in_ip": GUEST, "in_port": 5353, "annotation": "dns"}
    assert go(instance, "PUT", "/forwards/expose/port", asked)[0] == 200
    (listed,) = json.loads(go(instance, "GET", "/forwards/list")[2])
    number = listed["out_port"]
    assert listed == asked | {"out_port": number}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="in use"):
        sock.bind(("127.0.0.1", number))
    assert go(instance, "DELETE", "/forwards/unexpose/port", listed)[0] == 200  # as it stands in the list
    assert go(instance, "GET", "/forwards/list")[2] == "null"


def test_vpnkit_pipes_and_the_agents_loopback(instance: Instance, guest: int, tmp_path: Path) -> None:
    path = str(tmp_path / "pipe")
    pipe = {"proto": "unix", "out_path": path, "in_ip": "127.0.0.1", "in_port": GUEST_PORT}
    assert go(instance, "PUT", "/forwards/expose/pipe", pipe)[0] == 200
    assert echoes(path)
    assert json.loads(go(instance, "GET", "/forwards/list")[2]) == [pipe]
    assert go(instance, "DELETE", "/forwards/unexpose/pipe", pipe)[0] == 200
    assert not os.path.exists(path)
    status, _, text = go(
        instance,
        "PUT",
        "/forwards/expose/pipe",
        {"proto": "unix", "out_path": path, "in_path": "/run/d.sock"},
    )
    assert status == 400
    assert "/run/d.sock cannot be reached" in json.loads(text)["message"]


def test_vpnkit_errors(instance: Instance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        port = {"proto": "tcp", "out_ip": "127.0.0.1", "out_port": number, "in_ip": GUEST, "in_port": 80}
        answer = go(instance, "POST", "/forwards/expose/port", port)
    message = f"Bind for 127.0.0.1:{number} failed: port is already allocated"
    assert answer == (400, "application/json", json.dumps({"message": message}, separators=(",", ":")))
    port["out_ip"], port["out_port"] = "203.0.113.1", 0
    assert json.loads(go(instance, "POST", "/forwards/expose/port", port)[2]) == {
        "message": "listen tcp 203.0.113.1:0: bind: cannot assign requested address"
    }
    for path, body, word in (
        ("port", {"proto": "unix"}, "exposed ports can only be TCP or UDP"),
        ("pipe", {"proto": "tcp"}, "exposed pipes can only have proto=Unix"),
        ("port", {"proto": "tcp", "in_ip": "x", "in_port": 80}, "'x'"),
        ("port", {"proto": "tcp", "in_ip": "fd00::1", "in_port": 80}, "IPv4"),
        ("port", {"proto": "tcp", "in_ip": GUEST}, "1 to 65535"),
        ("port", {"proto": "tcp", "in_port": 65536}, "65535"),
        ("pipe", {"proto": "unix", "out_path": "x", "in_port": 80}, "absolute"),
        ("port", "{", "understood"),
    ):
        status, kind, text = go(instance, "POST", f"/forwards/expose/{path}", body)
        assert (status, kind) == (400, "application/json")
        assert word in json.loads(text)["message"]


# --- gvproxy


def test_gvproxy_forwards(instance: Instance, guest: int, tmp_path: Path) -> None:
    assert go(instance, "GET", "/services/forwarder/all") == (200, "application/json", "[]")
    number = free_port()
    forward = {"local": f"127.0.0.1:{number}", "remote": f"{GUEST}:{GUEST_PORT}", "protocol": "tcp"}
    assert go(instance, "POST", "/services/forwarder/expose", forward)[::2] == (200, "")
    assert echoes(("127.0.0.1", number))
    answer = go(instance, "GET", "/services/forwarder/all")
    assert json.loads(answer[2]) == [forward]
    assert go(instance, "POST", "/services/forwarder/expose", forward) == (
        500, "text/plain", f"proxy already running for tcp on 127.0.0.1:{number}\n",
    )  # fmt: skip
    gone = {"local": forward["local"], "protocol": ""}
    assert go(instance, "POST", "/services/forwarder/unexpose", gone)[::2] == (200, "")
    assert not echoes(("127.0.0.1", number))
    assert go(instance, "POST", "/services/forwarder/unexpose", gone) == (
        500,
        "text/plain",
        "proxy not found\n",
    )

    path = str(tmp_path / "podman.sock")
    unix = {
        "Local": path,
        "REMOTE": f"tcp://{GUEST}:{GUEST_PORT}",
        "protocol": "unix",
        "more": 1,
    }  # as Go reads it
    assert go(instance, "POST", "/services/forwarder/expose", unix)[0] == 200
    assert echoes(path)
    mine = instance.ask("POST", "/v1/ports", {"spec": f"127.0.0.1:0:{GUEST}:{GUEST_PORT}"})[1]
    listed = json.loads(go(instance, "GET", "/services/forwarder/all")[2])
    assert [f["local"] for f in listed] == [path, mine["addresses"][0]]
    for one in listed:
        assert go(instance, "POST", "/services/forwarder/unexpose", one)[0] == 200
    assert instance.ask("GET", "/v1/ports")[1]["ports"] == []


def test_gvproxy_errors(instance: Instance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        local = f"127.0.0.1:{taken.getsockname()[1]}"
        answer = go(instance, "POST", "/services/forwarder/expose", {"local": local, "remote": f"{GUEST}:80"})
    assert answer[:2] == (500, "text/plain")
    assert f"{local} is in use" in answer[2]
    assert answer[2].endswith("\n")
    assert answer[2].count("\n") == 1
    for body, status, word in (
        ("{", 400, "understood"),
        ({"local": ":80", "remote": "80"}, 400, "missing port in address"),
        ({"local": ":80", "remote": "1.2.3.4:x"}, 400, "invalid port"),
        ({"local": "80", "remote": "1.2.3.4:80"}, 500, "missing port in address"),
        ({"local": ":80", "remote": "1.2.3.4:80", "protocol": "sctp"}, 500, "unknown protocol sctp"),
        (
            {"local": "/x", "remote": "ssh-tunnel://a/b", "protocol": "unix"},
            500,
            "not implemented: ssh-tunnel",
        ),
        ({"local": "x", "remote": "tcp://1.2.3.4:80", "protocol": "unix"}, 500, "absolute path"),
    ):
        found, kind, text = go(instance, "POST", "/services/forwarder/expose", body)
        assert (found, kind) == (status, "text/plain")
        assert word in text
    for path in ("/services/forwarder/expose", "/services/forwarder/unexpose", "/services/dns/add"):
        assert go(instance, "GET", path) == (400, "text/plain", "post only\n")


def test_gvproxy_names(instance: Instance, guest: int) -> None:
    assert go(instance, "GET", "/services/dns/all") == (200, "application/json", "[]")
    zone = {
        "Name": "crc.testing.",
        "Records": [{"Name": "host", "IP": "192.168.65.2"}, {"Name": "api", "IP": "192.168.65.9"}],
        "DefaultIP": "192.168.65.3",
    }
    assert go(instance, "POST", "/services/dns/add", zone)[::2] == (200, "")
    assert json.loads(go(instance, "GET", "/services/dns/all")[2]) == [zone]

    def resolved(name: str, kind: str = "A") -> list[str]:
        out = inside(guest, "dig", "@192.168.65.1", "+noall", "+answer", "+comments", "+tries=1", name, kind)
        status = (
            next(line for line in out.splitlines() if "status:" in line).split("status: ")[1].split(",")[0]
        )
        return [status, *(line.split()[-1] for line in out.splitlines() if line and line[0] != ";")]

    assert resolved("api.crc.testing") == ["NOERROR", "192.168.65.9"]
    assert resolved("any.thing.crc.testing") == ["NOERROR", "192.168.65.3"]
    assert resolved("api.crc.testing", "AAAA") == ["NOERROR"]
    more = {"Name": "crc.testing.", "Records": [{"Name": "api", "IP": "192.168.65.10"}], "DefaultIP": ""}
    assert (
        go(instance, "POST", "/services/dns/add", more)[0] == 200
    )  # as gvproxy: records are added, the rest replaced
    assert resolved("api.crc.testing") == ["NOERROR", "192.168.65.10"]
    assert resolved("host.crc.testing") == ["NOERROR", "192.168.65.2"]
    assert resolved("any.thing.crc.testing") == ["NXDOMAIN"]
    (listed,) = json.loads(go(instance, "GET", "/services/dns/all")[2])
    assert listed == more | {"Records": [*more["Records"], zone["Records"][0]]}  # type: ignore[misc]
    assert (
        go(instance, "POST", "/services/dns/add", {"Name": "x.", "Records": None, "DefaultIP": ""})[0] == 200
    )
    for body, word in (
        ({"Name": ""}, "needs a name"),
        ({"Name": "y", "Records": [{"Name": "a", "IP": "x"}]}, "'x' is not an IP address"),
        ({"Name": "y", "Records": [{"Name": "", "IP": "1.2.3.4", "Regexp": "^a"}]}, "regular expression"),
        ({"Name": "a..b"}, "not a DNS name"),
        ("[]", "understood"),
    ):
        status, kind, text = go(instance, "POST", "/services/dns/add", body)
        assert (status, kind) == (400, "text/plain")
        assert word in text


def test_gvproxy_knows_who_is_there(instance: Instance, guest: int) -> None:
    mac = json.loads(inside(guest, "ip", "-j", "link", "show", "tap0"))[0]["address"]
    assert json.loads(go(instance, "GET", "/services/dhcp/leases")[2]) == {GUEST: mac}
    leases = json.loads(go(instance, "GET", "/leases")[2])
    assert leases == {"192.168.65.1": "f6:16:36:bc:f9:c6", "192.168.65.2": "f6:16:36:bc:f9:c6", GUEST: mac}
    (port,) = [link["port"] for link in instance.ask("GET", "/v1/guests")[1]["links"]]
    assert json.loads(go(instance, "GET", "/cam")[2]) == {mac: port}
    before = json.loads(go(instance, "GET", "/stats")[2])
    inside(guest, "ping", "-c1", "-s1000", "192.168.65.1")
    after = json.loads(go(instance, "GET", "/stats")[2])
    assert after["BytesReceived"] - before["BytesReceived"] >= 1042
    assert after["BytesSent"] - before["BytesSent"] >= 1042


# --- 9P


class NineP:
    """A client of --port-9p over its socket, as raw as can be."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(path)
        self.ask(100, struct.pack("<I", 8192) + ninep.text("9P2000"))
        self.ask(104, struct.pack("<II", 0, 0xFFFFFFFF) + ninep.text("u") + ninep.text(""))

    def ask(self, kind: int, body: bytes) -> bytes:
        self.sock.sendall(ninep.built(kind, 7, body))
        buffer = bytearray()
        while (message := ninep.take(buffer)) is None:
            data = self.sock.recv(65536)
            assert data, "the connection was closed"
            buffer += data
        assert message[:3] == bytes((kind + 1, 7, 0)), message
        return message[3:]

    def expose(self, name: str, spec: str) -> str:
        self.ask(110, struct.pack("<IIH", 0, 1, 0))
        self.ask(114, struct.pack("<I", 1) + ninep.text(name) + struct.pack("<IB", 0x800001FF, 0))
        self.ask(120, struct.pack("<I", 1))
        self.ask(110, struct.pack("<IIH", 0, 1, 2) + ninep.text(name) + ninep.text("ctl"))
        self.ask(112, struct.pack("<IB", 1, 0))
        self.ask(118, struct.pack("<IQI", 1, 0, len(spec)) + spec.encode())
        return self.ask(116, struct.pack("<IQI", 1, 0, 100))[4:].decode()


def test_9p_publishes_until_ctl_is_closed(instance: Instance, guest: int) -> None:
    path = f"{instance.folder}/9p"
    assert os.stat(path).st_mode & 0o777 == 0o600
    for end in ("clunk", "connection"):
        client = NineP(path)
        verdict, spec = client.expose(f"by {end}", f"tcp:127.0.0.1:0:tcp:{GUEST}:{GUEST_PORT}\n").split()
        assert verdict == "OK"
        address = ("127.0.0.1", int(spec.split(":")[2]))
        assert spec == f"tcp:127.0.0.1:{address[1]}:tcp:{GUEST}:{GUEST_PORT}"
        assert echoes(address)
        assert [p["addresses"] for p in instance.ask("GET", "/v1/ports")[1]["ports"]] == [
            [f"127.0.0.1:{address[1]}"]
        ]
        if end == "clunk":
            client.ask(120, struct.pack("<I", 1))
            assert not echoes(address)
        client.sock.close()
        eventually(lambda address=address: not echoes(address))
    assert instance.ask("GET", "/v1/ports")[1]["ports"] == []


def test_9p_errors_and_bad_bytes(instance: Instance) -> None:
    path = f"{instance.folder}/9p"
    client = NineP(path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        answer = client.expose("taken", f"tcp:127.0.0.1:{number}:tcp:{GUEST}:80")
    assert answer == f"ERROR Bind for 127.0.0.1:{number} failed: port is already allocated\n"
    for i, (spec, word) in enumerate(
        (
            ("nonsense", "Failed to parse request [nonsense]"),
            (f"tcp:127.0.0.1:0:udp:{GUEST}:80", "Failed to parse"),
            (f"tcp:127.0.0.1:x:tcp:{GUEST}:80", "Failed to parse"),
            (f"tcp:127.0.0.1:0:tcp:{GUEST}:99999", "65535"),
            ("unix:L3RtcC94:unix:L3RtcC95", "Unix socket"),
            (f"tcp:203.0.113.1:0:tcp:{GUEST}:80", "cannot assign requested address"),
        )
    ):
        client.ask(120, struct.pack("<I", 1))
        answer = client.expose(f"bad{i}", spec)
        assert answer.startswith("ERROR ")
        assert word in answer
    for junk in (b"\xff" * 64, b"GET / HTTP/1.0\r\n\r\n", bytes(64)):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(path)
            sock.sendall(junk)
            assert sock.recv(1) == b""  # and no answer
    client.sock.close()


@pytest.mark.netns
def test_9p_by_the_kernel(instance: Instance, guest: int, tmp_path: Path) -> None:
    """The kernel's own client, where it has one: mkdir, write, read, close."""
    if os.geteuid() or "9p\n" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no 9p file system, or this user may not mount it")
    script = f"""
set -e
mount -t 9p -o trans=unix,version=9p2000,cache=none {instance.folder}/9p {tmp_path}
mkdir {tmp_path}/web
exec 5<> {tmp_path}/web/ctl
printf %s tcp:127.0.0.1:0:tcp:{GUEST}:{GUEST_PORT} >&5
cat {tmp_path}/web
ls {tmp_path}
read line; exec 5>&-; ls {tmp_path}
"""
    argv = ["unshare", "-m", "sh", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        spec = shell.stdout.readline().strip()
        assert {shell.stdout.readline(), shell.stdout.readline()} == {"README\n", "web\n"}
        address = ("127.0.0.1", int(spec.split(":")[2]))
        assert echoes(address)
        shell.stdin.write("\n")
        shell.stdin.close()
        assert shell.stdout.read() == "README\n"
        assert not echoes(address)
    assert shell.returncode == 0
