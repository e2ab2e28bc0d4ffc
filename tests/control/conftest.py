"""What the tests of the control API share: a guest of the instance that the module runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from instance import Instance, guest_of


@pytest.fixture(scope="session")
def _namespaces() -> None:
    """For tests with a guest."""
    if subprocess.run(["unshare", "-rn", "test", "-w", "/dev/net/tun"], capture_output=True).returncode:
        pytest.skip("no user namespaces, or no /dev/net/tun, here")


@pytest.fixture(scope="module")
def guest(instance: Instance, _namespaces: None) -> Iterator[int]:
    """`instance.guest_of` the module's instance."""
    with guest_of(instance) as process:
        yield process
