"""A guest, netstack, and a proxy behind a router; nothing of the world can be reached but through the proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted_proxy import Net, ScriptedProxy, everything

from netstack.testing.lab import ROUTER, Lab
from netstack.testing.namespace import unavailable


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab:
        router, world = lab.world()
        with ScriptedProxy(router.listen(ROUTER, 8888), everything) as proxy:
            yield Net(lab, router, world, proxy)
