"""Squid as the proxy of the host: what it says of a request is what the guest is told."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripted_proxy import Net

from netstack.testing.lab import GATEWAY, ROUTER

pytestmark = pytest.mark.netns

ASK = f"http://{GATEWAY}:3128"
PORT = 8081
URL = f"http://{ROUTER}:{PORT}"
PASSWORDS = Path("/usr/lib/squid/basic_ncsa_auth")

SQUID = """\
http_port {address}:{port}
visible_hostname squid.test
dns_nameservers {address}
pid_filename none
coredump_dir {dir}
cache_log {dir}/cache.log
access_log stdio:{dir}/access.log
netdb_filename none
pinger_enable off
cache deny all
cache_mem 8 MB
shutdown_lifetime 0 seconds
acl CONNECT method CONNECT
acl tls port 443
acl bad dstdomain bad.test
http_access deny CONNECT !tls
http_access deny bad
{more}
http_access allow all
"""


@contextmanager
def squid(net: Net, more: str = "", users: str = "") -> Iterator[Path]:
    """A squid at the router; its log of accesses."""
    if shutil.which("squid") is None:
        pytest.skip("the program 'squid' is missing")
    folder = Path(tempfile.mkdtemp())  # squid gives up being root: nobody else's folder would do
    folder.chmod(0o777)
    try:
        (folder / "users").write_text(users)
        config = folder / "squid.conf"
        config.write_text(SQUID.format(address=ROUTER, port=PORT, dir=folder, more=more.format(dir=folder)))
        process = net.router.spawn("squid", "-N", "-f", str(config))
        process.wait_listening(PORT)
        yield folder / "access.log"
        process.stop()
    finally:
        shutil.rmtree(folder)


def test_requests_tunnels_and_refusals(net: Net, only_by_proxy: Path, tmp_path: Path) -> None:
    got = tmp_path / "got"
    with squid(net) as log, net.gateway(http_proxy=URL, https_proxy=URL, dns=("127.0.0.1",)) as gateway:
        for scheme in ("http", "https"):
            for how in ([], ["-x", ASK]):
                assert net.curl("-k", *how, f"{scheme}://www.test/hello") == "hello of the world"
                net.curl("-k", *how, "-o", str(got), f"{scheme}://www.test/big")
                assert got.read_bytes() == (only_by_proxy / "big").read_bytes()
        assert gateway.stats()["proxy_failed"] == 0
        page = net.curl("-w", "|%{http_code}", "http://bad.test/hello")
        assert "Access Denied" in page, "its own words"
        assert page.endswith("|403")
        argv = ("curl", "-sk", "--noproxy", "*", "https://bad.test/")
        assert net.lab.guest.run(*argv, check=False).returncode == 35  # reset in the handshake
        through = ("-x", ASK, "-k", "-w", "%{http_connect}", "https://bad.test/")
        assert net.curl(*through, check=False) == "403"
        nowhere = net.curl("-x", ASK, "-w", "|%{http_code}", "http://www.test:81/")
        assert nowhere.endswith("|503"), "nothing listens there"
        text = log.read_text()
    assert "CONNECT www.test:443" in text
    assert "GET http://www.test/big" in text
    assert "TCP_DENIED/403" in text


def test_credentials(net: Net, only_by_proxy: Path) -> None:
    if not PASSWORDS.exists():
        pytest.skip("squid's basic_ncsa_auth is missing")
    hashed = net.router.run("openssl", "passwd", "-apr1", "s3cret").stdout.strip()
    more = f"""\
auth_param basic program {PASSWORDS} {{dir}}/users
acl known proxy_auth REQUIRED
http_access deny !known
"""
    with squid(net, more, f"me:{hashed}\n"):
        right, wrong = (f"http://me:{word}@{ROUTER}:{PORT}" for word in ("s3cret", "wrong"))
        with net.gateway(http_proxy=right, https_proxy=right, dns=("127.0.0.1",)):
            assert net.curl("http://www.test/hello") == "hello of the world"
            assert net.curl("-k", "https://www.test/hello") == "hello of the world"
            assert net.curl("-k", "-x", ASK, "https://www.test/hello") == "hello of the world"
        for url in (URL, wrong):
            with net.gateway(http_proxy=url, https_proxy=url, dns=("127.0.0.1",)):
                page = net.curl("-w", "|%{http_code}", "http://www.test/hello")
                assert "credentials" in page, "a guest that knows of no proxy cannot give any"
                assert page.endswith("|407")
                through = ("-x", ASK, "-k", "-w", "%{http_connect}", "https://www.test/")
                assert net.curl(*through, check=False) == "407"
        with net.gateway(http_proxy=URL, https_proxy=URL, dns=("127.0.0.1",)):
            own = ("-x", f"http://me:s3cret@{GATEWAY}:3128")
            assert net.curl(*own, "http://www.test/hello") == "hello of the world"
            assert net.curl("-k", *own, "https://www.test/hello") == "hello of the world"
