"""The control API of a real ``netstack serve``: every route, who may use it, and what it says of itself."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from instance import GUEST, GUEST_PORT, Instance, address_of, environment, eventually, guest_of

from netstack.control.api import ROUTES
from netstack.control.gvproxy import POST_ONLY
from netstack.control.openapi import describe

pytest.importorskip("aiohttp")
pytest.importorskip("prometheus_client")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    one = Instance(tmp_path_factory.mktemp("api"))
    yield one
    one.close()


def refused(address: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address) != 0


def test_info(instance: Instance) -> None:
    status, info = instance.ask("GET", "/v1/info")
    assert status == 200
    assert (info["name"], info["pid"], info["command"]) == ("one", instance.process.pid, "serve")
    assert info["gateway"] == "192.168.65.1"
    assert info["listen"] == [instance.guests]
    assert 0 < info["uptime"] < 300


def test_only_the_user_can_reach_it(instance: Instance) -> None:
    found = instance.socket.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(instance.socket.parent.stat().st_mode) == 0o700
    assert found.st_uid == os.geteuid()


@pytest.mark.usefixtures("_namespaces")
def test_guest_through_a_port_published_at_runtime(instance: Instance) -> None:
    before = instance.ask("GET", "/v1/stats")[1]
    with guest_of(instance):
        spec = f"127.0.0.1:0:{GUEST}:{GUEST_PORT}"
        status, port = instance.ask("POST", "/v1/ports", {"spec": spec})
        assert status == 201
        assert port in instance.ask("GET", "/v1/ports")[1]["ports"]
        address = address_of(port["addresses"][0])
        with socket.create_connection(address, 10) as sock:
            sock.settimeout(10)
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"

            guests = instance.ask("GET", "/v1/guests")[1]
            assert GUEST in [g["address"] for g in guests["guests"]]
            assert len(guests["links"]) == 1
            flows = [f for f in instance.ask("GET", "/v1/flows")[1]["flows"] if f["protocol"] == "tcp"]
            assert [(f["guest"], f["guest_port"]) for f in flows] == [(GUEST, GUEST_PORT)]
            assert (flows[0]["bytes_up"], flows[0]["bytes_down"]) == (5, 5)
            assert flows[0]["state"].lower().startswith("established")
            metrics = instance.ask("GET", "/metrics")[1]
            assert 'netstack_flows{protocol="tcp"} 1.0' in metrics
            assert "netstack_links 1.0" in metrics

            assert instance.ask("DELETE", f"/v1/ports/{port['id']}")[0] == 204
            assert refused(address)
            sock.sendall(b"still there")  # an open connection goes on
            assert sock.recv(11) == b"still there"
        assert port not in instance.ask("GET", "/v1/ports")[1]["ports"]
        after = instance.ask("GET", "/v1/stats")[1]
        assert after["forward_tcp"] - before["forward_tcp"] == 1
        assert after.keys() >= before.keys()
    eventually(lambda: not instance.ask("GET", "/v1/guests")[1]["links"])


def test_release_frees_the_port_at_once(instance: Instance) -> None:
    for protocol, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        port = instance.ask("POST", "/v1/ports", {"spec": f"127.0.0.1:0:{GUEST}:80/{protocol}"})[1]
        address = address_of(port["addresses"][0])
        with socket.socket(socket.AF_INET, kind) as sock:
            with pytest.raises(OSError, match="in use"):
                sock.bind(address)
            assert instance.ask("DELETE", f"/v1/ports/{port['id']}") == (204, "")
            sock.bind(address)
        status, answer = instance.ask("DELETE", f"/v1/ports/{port['id']}")
        assert status == 404
        assert str(port["id"]) in answer["error"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "understood"),
        (b"{", "understood"),
        (b"[]", "understood"),
        ({}, "spec"),
        ({"spec": 80}, "spec"),
        ({"spec": "80:80", "more": 1}, "more"),
        ({"spec": ""}, "no port"),
        ({"spec": "80:99999"}, "range"),
        ({"spec": "80:80/sctp"}, "tcp or udp"),
        ({"spec": "203.0.113.1:0:80"}, "no address"),
    ],
)
def test_bad_input(instance: Instance, body: Any, word: str) -> None:
    before = instance.ask("GET", "/v1/ports")
    status, answer = instance.ask("POST", "/v1/ports", body)
    assert status == 400
    assert word in answer["error"]
    assert "\n" not in answer["error"]
    assert instance.ask("GET", "/v1/ports") == before


def test_port_in_use(instance: Instance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        status, answer = instance.ask("POST", "/v1/ports", {"spec": f"127.0.0.1:{number}:80"})
    assert status == 400
    assert f"127.0.0.1:{number} is in use" in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/ports", 405),
        ("DELETE", "/v1/ports/x", 404),
    ],
)
def test_what_is_not_there(instance: Instance, method: str, path: str, status: int) -> None:
    found, answer = instance.ask(method, path)
    assert found == status
    assert answer.keys() == {"error"}


def test_too_long_a_body(instance: Instance) -> None:
    assert instance.ask("POST", "/v1/ports", b" " * 100_000)[0] == 413


def test_metrics_are_the_counters(instance: Instance) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    status, text = instance.ask("GET", "/metrics")
    assert status == 200
    names = {f"netstack_{name}" for name in instance.ask("GET", "/v1/stats")[1]}
    families = {f.name: f.type for f in text_string_to_metric_families(text)}
    assert {name for name, kind in families.items() if kind == "counter"} == names
    assert {"netstack_flows", "netstack_links", "netstack_ports", "netstack_info"} == families.keys() - names


def test_description_has_every_route(instance: Instance) -> None:
    document = instance.ask("GET", "/v1/openapi.json")[1]
    assert document == describe(ROUTES)
    described = {(method.upper(), path) for path, ops in document["paths"].items() for method in ops}
    assert described == {(r.method, r.path) for r in ROUTES}
    for path, operations in document["paths"].items():
        for method in {"GET", "POST", "DELETE"} - {m.upper() for m in operations}:  # and no more than those
            status = instance.ask(method, re.sub(r"{\w+}", "1", path))[0]
            assert status == (400 if path in POST_ONLY else 405)


def test_answers_are_as_described(instance: Instance) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = instance.ask("GET", "/v1/openapi.json")[1]

    def check(method: str, path: str, body: Any = None, **values: Any) -> Any:
        status, answer = instance.ask(method, path.format(**values), body)
        response = document["paths"][path][method.lower()]["responses"][str(status)]
        content = response.get("content", {})
        if isinstance(answer, str):
            assert "application/json" not in content
            assert bool(answer) == bool(content)
        else:
            schema = content["application/json"]["schema"]
            jsonschema.Draft202012Validator(schema | {"components": document["components"]}).validate(answer)
        return answer

    port = check("POST", "/v1/ports", {"spec": "127.0.0.1:0:80"})
    for path, operations in document["paths"].items():
        if "get" in operations and path != "/v1/capture":  # which does not end by itself
            check("GET", path)
    check("POST", "/v1/ports", {"spec": "nonsense"})
    check("DELETE", "/v1/ports/{id}", id=port["id"])
    check("DELETE", "/v1/ports/{id}", id=port["id"])
    schema = {"$ref": "#/components/schemas/Info", "components": document["components"]}
    assert not jsonschema.Draft202012Validator(schema).is_valid({"name": "one"})  # the check can fail


def test_shutdown(tmp_path: Path) -> None:
    one = Instance(tmp_path, name=None)
    try:
        assert one.socket.exists()
        assert one.ask("POST", "/v1/shutdown") == (202, {"stopping": True})
        assert one.process.wait(30) == 0
        assert not one.socket.exists()
    finally:
        one.close()


def test_socket_of_the_dead_is_replaced(tmp_path: Path) -> None:
    first = Instance(tmp_path)
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    first.close()
    assert first.socket.exists()
    second = Instance(tmp_path)
    try:
        assert second.ask("GET", "/v1/info")[1]["pid"] == second.process.pid
    finally:
        second.close()
    assert os.listdir(first.socket.parent) == []


def test_off(tmp_path: Path) -> None:
    one = Instance(tmp_path, "--api", "off", name=None)
    try:
        assert not one.socket.parent.exists()
    finally:
        one.close()


def serve_fails(tmp_path: Path, api: str) -> str:
    import sys

    argv = [sys.executable, "-m", "netstack", "serve", "--listen", f"qemu:{tmp_path}/other", "--api", api]
    done = subprocess.run(argv, env=environment(tmp_path), capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    return done.stderr.splitlines()[-1]


def test_places_that_cannot_be(tmp_path: Path, instance: Instance) -> None:
    assert "listens at" in serve_fails(tmp_path, str(instance.socket))
    assert instance.ask("GET", "/v1/info")[0] == 200
    (tmp_path / "file").write_text("mine")
    assert "not a socket" in serve_fails(tmp_path, f"{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "mine"
    assert "no folder" in serve_fails(tmp_path, f"{tmp_path}/none/x.sock")
    assert "too long" in serve_fails(tmp_path, f"{tmp_path}/{'x' * 120}")
    assert "cannot name" in serve_fails(tmp_path, "a b")
    (tmp_path / "netstack").mkdir(mode=0o700, exist_ok=True)
    (tmp_path / "netstack").chmod(0o755)
    assert "only this user" in serve_fails(tmp_path, "on")


def test_without_aiohttp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "aiohttp.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    assert "pip install 'netstack[api]'" in serve_fails(tmp_path, "on")
    one = Instance(tmp_path, name=None)
    try:  # nobody asked for it: the network is served all the same
        assert [line for line in one.log if "WARNING" in line and "netstack[api]" in line]
        assert one.process.poll() is None
        assert not one.socket.exists()
    finally:
        one.close()
