"""The gateway's proxy auto-configuration file: what it means to a client, and a guest that fetches it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from scripted_proxy import Net, wait

from netstack.config import Config
from netstack.proxy.pac import pac_text
from netstack.proxy.patterns import parse_hosts
from netstack.proxy.plan import Plan
from netstack.proxy.settings import ProxySettings, parse_upstream
from netstack.testing.lab import GATEWAY, ROUTER

URL = f"http://{GATEWAY}:3128/wpad.dat"
PROXY = f"PROXY {GATEWAY}:3128"
PLAN = Plan.of(Config(), lambda name: None)
UP = parse_upstream("http://user:secret@proxy.example:3128")


def meaning(text: str, url: str, folder: Path) -> str:
    """What a client makes of the file."""
    if (program := shutil.which("pactester")) is None:
        pytest.skip("no pactester: install libpacparser1")
    path = folder / "proxy.pac"
    path.write_text(text)
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    argv = (program, "-p", str(path), "-u", url, "-h", host)
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_what_it_means(tmp_path: Path) -> None:
    excluded = '.corp.example, example.org, 10/8, 192.0.2.7, port.example:8080, *.dev, "quoted", 2001:db8::1, fd00::/8'
    settings = ProxySettings(UP, UP, parse_hosts(excluded))
    text = pac_text(settings, PLAN)
    assert "secret" not in text
    assert "proxy.example" not in text
    for url, answer in {
        "http://www.example.com/": PROXY,
        "https://www.example.com/": PROXY,
        "wss://www.example.com/": PROXY,
        "ftp://www.example.com/": "DIRECT",
        "http://web/": "DIRECT",
        "http://corp.example/": PROXY,
        "http://a.corp.example/": "DIRECT",
        "http://example.org/": "DIRECT",
        "http://WWW.Example.ORG/": "DIRECT",
        "http://notexample.org/": PROXY,
        "http://10.1.2.3/": "DIRECT",
        "http://11.1.2.3/": PROXY,
        "http://192.0.2.7:81/": "DIRECT",
        "http://192.0.2.8/": PROXY,
        "http://port.example:8080/x": "DIRECT",
        "http://port.example/x": PROXY,
        "https://user@port.example:8080/": "DIRECT",
        "http://a.dev/": "DIRECT",
        "http://192.168.65.2:8000/": "DIRECT",
        "http://db.internal/": "DIRECT",
        "http://host.docker.internal/": "DIRECT",
        "http://localhost:1/": "DIRECT",
        "http://127.0.0.1/": "DIRECT",
    }.items():
        assert meaning(text, url, tmp_path) == answer, url


def test_one_of_the_two_and_none(tmp_path: Path) -> None:
    only = pac_text(ProxySettings(https=UP), PLAN)
    assert meaning(only, "http://www.example.com/", tmp_path) == "DIRECT"
    assert meaning(only, "https://www.example.com/", tmp_path) == PROXY
    assert meaning(pac_text(ProxySettings(), PLAN), "https://www.example.com/", tmp_path) == "DIRECT"


@pytest.mark.netns
def test_a_guest_fetches_it_as_the_settings_are(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "proxies.json"
    path.write_text(json.dumps({"http": f"http://{ROUTER}:8888", "exclude": "*.corp"}))
    with net.gateway(http_settings=str(path), http_proxy="", https_proxy="", proxy="off") as gateway:
        text = net.curl("-i", URL)
        assert "HTTP/1.1 200 " in text
        assert "application/x-ns-proxy-autoconfig" in text
        assert "proxy_refused" not in {k for k, v in gateway.stats().items() if v}
        head = net.curl("-I", f"http://{GATEWAY}:3128/proxy.pac")
        assert head.count("HTTP/1.1 200 ") == 1
        file = net.curl(URL)
        assert meaning(file, "http://www.test/", tmp_path) == PROXY
        assert meaning(file, "http://a.corp/", tmp_path) == "DIRECT"
        assert net.curl("-x", f"http://{GATEWAY}:3128", "http://www.test/hello") == "hello of www.test"
        assert gateway._wpad() == URL
        path.write_text(json.dumps({"exclude": "www.test"}))
        wait(lambda: gateway._wpad() == "")
        assert meaning(net.curl(URL), "http://a.corp/", tmp_path) == "DIRECT"
        assert "whole URLs" in net.curl(f"http://{GATEWAY}:3128/other")
