"""A server some way behind the host: a namespace of its own, and a box with a bad path between the two."""

from __future__ import annotations

import contextlib
import os

from netstack.host.namespace import open_tap
from netstack.testing.impairment import ImpairmentBox
from netstack.testing.lab import Lab
from netstack.testing.namespace import Namespace

FAR_HOST, FAR_SERVER = "198.51.100.1", "198.51.100.2"


def far_server(lab: Lab, stack: contextlib.ExitStack, way: dict[str, float]) -> Namespace:
    """The server's namespace, joined to the host's until ``stack`` ends; each way is as bad as ``way`` says."""
    server = lab.namespace("server")
    ends = []
    for ns, address in ((lab.host, FAR_HOST), (server, FAR_SERVER)):
        with ns.entered():
            fd, _, _ = open_tap("far0", 0)
        stack.callback(os.close, fd)
        ends.append(fd)
        ns.ip("address", "add", f"{address}/24", "dev", "far0")
        ns.ip("link", "set", "far0", "up")
    stack.enter_context(ImpairmentBox(*ends, up=way, down=way))
    return server
