"""Settings from TOML: every key, the nearest one for a wrong one, and what config prints is read back the same."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from netstack.config import Config
from netstack.config_file import KEYS, ServiceConfig, load, parse_guest, to_toml
from netstack.errors import ConfigError
from netstack.link.spec import LinkSpec, parse_link, parse_target

TEXT = """
listen = ["hyperkit:/tmp/eth.sock", "tap:tap0"]
mtu = 9000
host_alias = ""
udp_idle_one_way = 5
source_check = "held"
log_format = "json"

[[guest]]
mac = "02:00:00:00:00:07"
address = "192.168.65.7"
name = "web"

[[guest]]
client_id = "ff:00:01"
address = "192.168.65.8"

[[guest]]
mac = "02:00:00:00:00:09"
client_id = "db-1"
address = "192.168.65.9"
"""


def written(folder: Path, text: str) -> str:
    path = folder / "netstack.toml"
    path.write_text(text)
    return str(path)


def test_a_file(tmp_path: Path) -> None:
    config = load(written(tmp_path, TEXT))
    assert config.listen == ("hyperkit:/tmp/eth.sock", "tap:tap0")
    assert config.log_format == "json"
    assert config.network.mtu == 9000
    assert config.network.host_alias is None
    assert config.network.udp_idle_one_way == 5.0
    assert config.network.leases == (
        ("02:00:00:00:00:07", "192.168.65.7", "web"),
        ("id:ff:00:01", "192.168.65.8", ""),
        ("02:00:00:00:00:09,id:db-1", "192.168.65.9", ""),
    )


def test_what_is_printed_is_read_back(tmp_path: Path) -> None:
    for config in (ServiceConfig(), load(written(tmp_path, TEXT))):
        assert load(written(tmp_path, to_toml(config))) == config


def test_every_option_has_its_key() -> None:
    assert {f.name for f in fields(Config)} <= set(KEYS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gatway = '192.168.65.1'", "did you mean gateway"),
        ("lisen = []", "did you mean listen"),
        ("zzz = 1", "netstack config"),
        ("mtu = '1500'", "mtu: expected `int`"),
        ("mtu = 1", "576"),
        ("connect_timeout = -1", "connect_timeout -1.0 is out of range: it may be 0 to 1000000000 seconds"),
        ("tcp_keepalive = nan", "tcp_keepalive nan is out of range"),
        ("dns_timeout = inf", "dns_timeout inf is out of range"),
        ("max_tcp_flows = 99999999999", "it may be 1 to 16777216 flows"),
        ("tcp_buffer_max = 4294967296", "it may be 1 to 1073741824 bytes"),
        ("lease_seconds = 0", "it may be 1 to 4294967295 seconds"),
        ("listen = ['hyperkit']", "not a link"),
        ("listen = ['hyperkitt:/x']", "did you mean hyperkit"),
        ("log_format = 'xml'", "text or json"),
        ("[[guest]]\nmac = '02:00:00:00:00:07'\nadress = '1.2.3.4'", "did you mean address"),
        ("[[guest]]\nmac = '02:00:00:00:00:07'", "needs address, and mac or client_id"),
        (
            "[[guest]]\nmac = '02:00:00:00:00:07'\nclient_id = 'x'\naddress = '192.168.65.7'",
            "client identifier 'x'",
        ),
        ("guest = 1", "list of tables"),
        ("mtu =", "not TOML"),
    ],
)
def test_wrong_ones(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as info:
        load(written(tmp_path, text))
    assert "netstack.toml" in str(info.value) or "listen" in text


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path / "absent"))


def test_guests() -> None:
    assert parse_guest("02:00:00:00:00:07=192.168.65.7,web") == ("02:00:00:00:00:07", "192.168.65.7", "web")
    assert parse_guest("02:00:00:00:00:07=192.168.65.7")[2] == ""
    assert parse_guest("id:ff:00:01=192.168.65.7,web") == ("id:ff:00:01", "192.168.65.7", "web")
    assert parse_guest("id:a=b=192.168.65.7")[0] == "id:a=b"
    assert parse_guest("02:00:00:00:00:07,id:web=192.168.65.7")[0] == "02:00:00:00:00:07,id:web"
    for wrong in ("", "02:00:00:00:00:07", "id:=192.168.65.7", "x=192.168.65.7", "02:00:00:00:00:07="):
        with pytest.raises(ConfigError):
            parse_guest(wrong)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("hyperkit:/tmp/eth.sock", LinkSpec("hyperkit", "unix", path="/tmp/eth.sock")),
        ("qemu+tcp:127.0.0.1:4444", LinkSpec("qemu", "tcp", host="127.0.0.1", port=4444)),
        ("qemu+tcp:[::1]:0", LinkSpec("qemu", "tcp", host="::1", port=0)),
        ("hyperkit+vsock:1024", LinkSpec("hyperkit", "vsock", port=1024)),
        ("unixgram:rel", LinkSpec("unixgram", "unix", path="rel")),
        ("udp:0.0.0.0:7", LinkSpec("udp", "udp", host="0.0.0.0", port=7)),
        ("bess:/b", LinkSpec("bess", "unix", path="/b")),
        ("fd:hyperkit:3", LinkSpec("hyperkit", "fd", port=3)),
        ("stdio:qemu", LinkSpec("qemu", "stdio")),
        ("tap:tap0", LinkSpec("tap", "tap", path="tap0")),
    ],
)
def test_places(text: str, spec: LinkSpec) -> None:
    assert parse_link(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x",
            "hyperkit:",
            "fd:3",
            "fd:hyperkit:x",
            "fd:hyperkit:-1",
            "qemu+tcp:1.2.3.4",
            "qemu+tcp:a..b:1",
            "udp:" + "x" * 64 + ":1",
            "qemu+tcp:h:65536",
        ),
        *(
            "bess+tcp:h:1",
            "stdio:bess",
            "tap:a/b",
            "tap:" + "x" * 16,
            "qemu+udp:h:1",
            "hyperkit:/" + "x" * 107,
        ),
    ],
)
def test_no_places(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_link(text)


def test_targets() -> None:
    assert parse_target("vsock:2:1024") == LinkSpec("hyperkit", "vsock", host="2", port=1024)
    assert parse_target("stdio") == LinkSpec("hyperkit", "stdio")
    for wrong in ("tap:x", "fd:qemu:3", "unixgram:/x", "udp:h:1", "vsock:1024"):
        with pytest.raises(ConfigError):
            parse_target(wrong)
