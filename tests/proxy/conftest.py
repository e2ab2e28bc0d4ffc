"""A guest, netstack, and a proxy behind a router; nothing of the world can be reached but through the proxy."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_proxy import Net, ScriptedProxy, everything

from netstack.testing.lab import ROUTER, WORLD, Lab
from netstack.testing.namespace import unavailable


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab:
        router, world = lab.world()
        with ScriptedProxy(router.listen(ROUTER, 8888), everything) as proxy:
            yield Net(lab, router, world, proxy)


@pytest.fixture(scope="module")
def names(net: Net) -> Iterator[None]:
    """Every name of .test is the world's, for the guest and for the proxies."""
    if shutil.which("dnsmasq") is None:
        pytest.skip("the program 'dnsmasq' is missing")
    servers = []
    for ns, address in ((net.router, ROUTER), (net.lab.host, "127.0.0.1")):
        server = ns.spawn(
            *("dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", f"--listen-address={address}"),
            *("--bind-interfaces", "--port=53", f"--address=/test/{WORLD}", "--pid-file="),
        )
        server.wait_listening(53)
        ns.resolv_conf.write_text(f"nameserver {address}\n")
        servers.append(server)
    yield
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def origin(net: Net, names: None) -> Iterator[Path]:
    """A web server and a TLS one in the world; the folder of documents."""
    folder = net.lab.directory / "www"
    folder.mkdir()
    (folder / "hello").write_text("hello of the world")
    (folder / "big").write_bytes(os.urandom(8_000_000))
    key = net.lab.directory / "both.pem"
    net.lab.host.run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=www.test", "-keyout", str(key), "-out", str(key)),
    )
    script = (
        "import functools, http.server as h, ssl, sys, threading\n"
        "handler = functools.partial(h.SimpleHTTPRequestHandler, directory=sys.argv[1])\n"
        "h.SimpleHTTPRequestHandler.protocol_version = 'HTTP/1.1'\n"
        "plain, secure = (h.ThreadingHTTPServer(('0.0.0.0', p), handler) for p in (80, 443))\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
        "context.load_cert_chain(sys.argv[2])\n"
        "secure.socket = context.wrap_socket(secure.socket, server_side=True)\n"
        "threading.Thread(target=plain.serve_forever, daemon=True).start()\n"
        "secure.serve_forever()\n"
    )
    server = net.world.spawn(sys.executable, "-c", script, str(folder), str(key))
    server.wait_listening(443)
    yield folder
    server.stop()


@pytest.fixture
def only_by_proxy(net: Net, origin: Path) -> Iterator[Path]:
    """The host has no way into the world."""
    net.lab.host.ip("route", "del", "default")
    yield origin
    net.lab.host.ip("route", "add", "default", "via", ROUTER)
