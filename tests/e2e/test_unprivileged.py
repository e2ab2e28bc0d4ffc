"""``netstack run`` as an ordinary user on an ordinary machine."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import sysconfig

import pytest

from netstack.testing.lab import HOST_ALIAS, python_environment
from netstack.testing.servers import TcpServer

pytestmark = pytest.mark.netns

# "env", so that the program proper is opened by nobody: setpriv itself may still open everything.
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "env"),
)
TALK = "import socket; s = socket.create_connection(('{}', {})); s.sendall(b'hi'); print(s.recv(9))"


def python_for_nobody():
    """(this Python or the system's of its version, with which nobody can run netstack; environment)"""
    paths = [python_environment()["PYTHONPATH"], sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        probe = [*NOBODY, python, "-c", "import netstack.cli.main, netstack.gateway"]
        with contextlib.suppress(OSError):
            if subprocess.run(probe, env=env, capture_output=True, cwd="/").returncode == 0:
                return python, env
    return None, env


def test_run_needs_no_root(lab):
    """As nobody, without any capability, with a /dev/net/tun that all may open, as distributions ship it."""
    python, env = python_for_nobody()
    if python is None:
        pytest.skip("another user cannot run this Python")
    device = lab.directory / "tun"
    os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(10, 200))
    device.chmod(0o666)
    with TcpServer(lab.host.listen()) as server:
        done = lab.host.run(
            *("sh", "-c", f'mount --bind {device} /dev/net/tun && exec "$@"', "sh", *NOBODY),
            *(python, "-m", "netstack", "run", "--"),
            *(python, "-c", TALK.format(HOST_ALIAS, server.port)),
            env=env,
            cwd="/",
        )
    assert done.stdout == "b'hi'\n"
