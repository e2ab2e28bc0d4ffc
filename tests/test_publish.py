"""Docker's notation of published ports, and the host's sockets behind it."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

import netstack
from netstack import publish
from netstack.publish import PortSpec, PublishError, bind


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("80", PortSpec(80)),
        ("8080:80", PortSpec(80, 8080)),
        ("8080:80/TCP", PortSpec(80, 8080)),
        ("127.0.0.1:8080:80/udp", PortSpec(80, 8080, address="127.0.0.1", protocol="udp")),
        ("8000-8099:8000-8099", PortSpec(8000, 8000, 100)),
        ("9000-9001", PortSpec(9000, 0, 2)),
        ("127.0.0.1::80", PortSpec(80, address="127.0.0.1")),
        ("0:80", PortSpec(80)),
        ("[::1]:8080:80", PortSpec(80, 8080, address="::1")),
        ("[::1]::80/udp", PortSpec(80, address="::1", protocol="udp")),
        ("localhost:8080:80", PortSpec(80, 8080, address="127.0.0.1")),
        ("8080:web:80", PortSpec(80, 8080, guest="web")),
        ("8080:192.168.65.7:80", PortSpec(80, 8080, guest="192.168.65.7")),
        ("127.0.0.1:8080:web:80", PortSpec(80, 8080, address="127.0.0.1", guest="web")),
        ("unix:/run/x.sock:80", PortSpec(80, path="/run/x.sock")),
        ("unix:/run/x.sock:web:80", PortSpec(80, path="/run/x.sock", guest="web")),
    ],
)
def test_notation(text: str, spec: PortSpec) -> None:
    assert PortSpec.parse(text) == spec
    assert PortSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no port"),
        ("web", "'web' is no port"),
        ("8080:", "'' is no port"),
        ("0", "the guest's port is 1 to 65535"),
        ("8080:70000", "70000 is no range of ports"),
        ("90-80:1-11", "90-80 is no range"),
        ("8000-8001:80", "2 ports of the host for 1 of the guest"),
        ("80/sctp", "the protocol is tcp or udp, not sctp"),
        ("::1:8080:80", "an IPv6 address in brackets"),
        ("300.1.1.1:8080:80", "'300.1.1.1' is no address of the host"),
        ("8080:-web:80", "'-web' is no guest's name"),
        ("unix:x.sock:80", "unix:/absolute/path:GUESTPORT"),
        ("unix:/x.sock:80-81", "one port"),
        ("unix:/x.sock:80/udp", "TCP only"),
    ],
)
def test_what_is_wrong_is_said(text: str, why: str) -> None:
    with pytest.raises(netstack.ConfigError) as caught:
        PortSpec.parse(text)
    assert why in str(caught.value)
    assert repr(text) in str(caught.value)


def test_every_address_means_ipv4_and_ipv6_with_one_port() -> None:
    sockets = bind(PortSpec(80))
    try:
        assert sockets[0][0].family == socket.AF_INET
        assert len({sock.getsockname()[1] for sock, _ in sockets}) == 1
    finally:
        for sock, _ in sockets:
            sock.close()


def test_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            PublishError, match=f"TCP port 127.0.0.1:{port} is in use: choose another"
        ) as caught:
            bind(PortSpec(80, port, address="127.0.0.1"))
        assert "\n" not in str(caught.value)


def test_all_or_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PublishError, match="in use"):
            bind(PortSpec(80, port - 2, 3, address="127.0.0.1"))
        for free in (port - 2, port - 1):
            socket.create_server(("127.0.0.1", free)).close()


def test_no_such_address() -> None:
    with pytest.raises(PublishError, match=r"this host has no address 198\.51\.100\.77"):
        bind(PortSpec(80, 0, address="198.51.100.77"))


def test_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(publish, "_bind_one", refuse)
    with pytest.raises(
        PublishError, match=r"TCP port 0\.0\.0\.0:80 .* net\.ipv4\.ip_unprivileged_port_start=80"
    ):
        bind(PortSpec(80, 80))


def test_a_unix_socket_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    ((sock, port),) = bind(PortSpec(80, path=str(path)))
    with sock:
        assert port == 80
        with pytest.raises(PublishError, match="in use"):
            bind(PortSpec(80, path=str(path)))
    path.unlink()
    path.write_text("a file")
    with pytest.raises(PublishError, match="in use"):
        bind(PortSpec(80, path=str(path)))
    assert path.read_text() == "a file"


def test_settings_are_checked_when_the_gateway_is_made() -> None:
    with pytest.raises(netstack.ConfigError, match="publish_source"):
        netstack.Config(publish_source="none")
    with pytest.raises(netstack.ConfigError, match="no port"):
        netstack.Gateway(netstack.Config(dns=(), publish=("x",)))
    gateway = netstack.Gateway(netstack.Config(dns=(), publish=("127.0.0.1::80", "127.0.0.1::80/udp")))
    gateway.stop()


def test_without_a_name_the_only_guest_may_be_one_whose_address_is_fixed() -> None:
    lease = ("02:00:00:00:00:07", "192.168.65.7", "web")
    with netstack.Gateway(netstack.Config(dns=(), leases=(lease,))) as gateway:
        assert gateway._find_guest("") == gateway._find_guest("web") == "192.168.65.7"
    with netstack.Gateway(netstack.Config(dns=())) as gateway:
        assert gateway._find_guest("") == "192.168.65.3"  # who comes first gets it
