"""A port of the host led into a virtual machine: nginx in it sees who has asked."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import machine
import pytest

from netstack.testing.lab import HOST_ALIAS, WORLD, WORLD_HOST, Lab, python_environment
from netstack.testing.namespace import in_thread

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
daemon off; master_process off; user root; pid /tmp/nginx.pid; error_log stderr warn;
events { worker_connections 64; }
http {
    access_log /tmp/access.log; client_body_temp_path /tmp/t; proxy_temp_path /tmp/t; fastcgi_temp_path /tmp/t;
    uwsgi_temp_path /tmp/t; scgi_temp_path /tmp/t;
    server { listen 80; root /www; }
}
"""


def packed(program: str) -> bytes:
    """A program with the libraries that it is linked with, and what it needs to serve a page."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for path in (program, *re.findall(r"(/\S+) \(0x", linked)):
            tar.add(Path(path).resolve(), path.lstrip("/"))
        for name, text in (
            ("tmp/nginx.conf", CONFIG),
            ("www/page", "a page"),
            ("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
            ("etc/group", "root:x:0:\n"),
        ):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def test_see_the_real_client_address_in_a_machine(lab: Lab) -> None:
    if reason := machine.missing():
        pytest.skip(reason)
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if nginx is None or shutil.which("curl") is None:
        pytest.skip("nginx or curl is missing")
    _, world = lab.world()
    socket = f"{lab.directory}/q.sock"
    serve = lab.host.spawn(
        *(sys.executable, "-m", "netstack", "serve", "--listen", f"qemu:{socket}", "-p", "8080:80"),
        env=python_environment(),
    )
    # The published port listens earlier than the socket for guests, which QEMU tries once.
    serve.wait_for(r"ready$")
    with (
        lab.host.listen() as files,
        machine.Machine(
            lab.host, lab.directory, f"stream,server=off,addr.type=unix,addr.path={socket}"
        ) as vm,
    ):
        files.settimeout(60)

        def give() -> None:
            with files.accept()[0] as sock:
                sock.sendall(packed(nginx))

        vm.boot()
        address = vm.dhcp()
        giving = in_thread(give)
        vm.sh(f"nc {HOST_ALIAS} {files.getsockname()[1]} < /dev/null | tar x -C /")
        giving(60)
        vm.sh(f"{nginx} -e stderr -c /tmp/nginx.conf &")
        vm.sh("while ! grep -q :0050 /proc/net/tcp; do sleep 0.1; done")
        url = f"http://{WORLD_HOST}:8080/page"
        assert world.run("curl", "-sSf", url).stdout == "a page"
        assert lab.host.run("curl", "-sSf", url).stdout == "a page"
        assert lab.host.run("curl", "-sSf", "http://127.0.0.1:8080/page").stdout == "a page"
        log = vm.sh("cat /tmp/access.log")
        assert re.findall(r"(?m)^(\S+) - - .* 200 6 ", log) == [WORLD, WORLD_HOST, HOST_ALIAS], log
        assert address not in log
    assert serve.stop() == 0, serve.text
