"""``netstack config``, which shows what ``netstack serve`` would do: every option of a network is heard there."""

from __future__ import annotations

from pathlib import Path

import pytest

from netstack.cli.main import main
from netstack.cli.options import NETWORK_OPTIONS

SAID = {
    "state": ("--state=/tmp/x", 'state = "/tmp/x"'),
    "mtu": ("--mtu=9000", "mtu = 9000"),
    "network": ("--network=10.9.0.0/24", 'gateway = "10.9.0.1"'),
    "dns": ("--dns=10.0.0.53", 'dns = ["10.0.0.53"]'),
    "name": ("--name=corp=MX 10 mail.corp", 'names = ["corp=MX 10 mail.corp"]'),
    "zone": ("--zone=corp", 'zones = ["corp"]'),
    "hosts_file": ("--hosts-file=/etc/hosts", 'hosts_file = "/etc/hosts"'),
    "host_name": (
        "--host-name=box.test",
        'host_names = ["host.internal", "host.docker.internal", "box.test"]',
    ),
    "search": ("--search=corp", 'search = ["corp"]'),
    "outbound_interface": ("--outbound-interface=tun0", 'outbound_interface = "tun0"'),
    "outbound_address": ("--outbound-address=10.8.0.2", 'outbound_address = "10.8.0.2"'),
    "mark": ("--mark=0x33", "outbound_mark = 51"),
    "no_host_loopback": ("--no-host-loopback", 'host_alias = ""'),
    "publish": ("--publish=8080:80", 'publish = ["8080:80"]'),
    "socks": ("--socks=127.0.0.1:1080", 'socks = ["127.0.0.1:1080"]'),
    "publish_source": ("--publish-source=gateway", 'publish_source = "gateway"'),
    "gateway_forwards": ("--gateway-forwards=/g.json", 'gateway_forwards = "/g.json"'),
    "forwards": ("--forwards=/f.json", 'forwards = "/f.json"'),
    "proxy": ("--proxy=off", 'proxy = "off"'),
    "http_proxy": ("--http-proxy=http://p:1", 'http_proxy = "http://p:1"'),
    "https_proxy": ("--https-proxy=http://p:2", 'https_proxy = "http://p:2"'),
    "no_proxy": ("--no-proxy=.corp,10/8", 'no_proxy = ".corp,10/8"'),
    "http_settings": ("--http=/h.json", 'http_settings = "/h.json"'),
    "transparent_http_ports": ("--transparent-http-ports=80,8080", "transparent_http_ports = [80, 8080]"),
    "transparent_https_ports": ("--transparent-https-ports=8443", "transparent_https_ports = [8443]"),
    "allow_host": ("--allow-host=a.test", 'allow_host = ["a.test"]'),
    "allow_url": ("--allow-url=http://a/x", 'allow_url = ["http://a/x"]'),
    "impair": ("--impair=loss=1%", 'impair_down = "loss=1%"'),
    "impair_up": ("--impair-up=loss=2%", 'impair_up = "loss=2%"'),
    "impair_down": ("--impair-down=loss=3%", 'impair_down = "loss=3%"'),
    "pcap": ("--pcap=/all.pcap", 'pcap = "/all.pcap"'),
    "ring": ("--ring=10x64MB;--pcap=/x", 'pcap_ring = "10x64MB"'),
    "snaplen": ("--snaplen=128;--pcap=/x", "pcap_snaplen = 128"),
    "filter": ("--filter=tcp port 1;--pcap=/x", 'pcap_filter = "tcp port 1"'),
    "wire_frames": ("--wire-frames;--pcap=/x", "pcap_wire_frames = true"),
}


def test_no_option_is_forgotten() -> None:
    assert set(SAID) == set(NETWORK_OPTIONS)


@pytest.mark.parametrize("name", SAID)
def test_an_option_is_heard(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    argument, line = SAID[name]
    assert main(["config", *argument.split(";")]) == 0
    assert line in capfd.readouterr().out.splitlines()


def test_options_stand_above_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "netstack.toml"
    file.write_text('mtu = 9000\npublish = ["8080:80"]\n')
    assert main(["config", "--config", str(file), "--publish=9090:90"]) == 0
    out = capfd.readouterr().out.splitlines()
    assert 'publish = ["9090:90"]' in out
    assert "mtu = 9000" in out
