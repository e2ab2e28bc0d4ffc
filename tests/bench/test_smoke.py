"""One cheap measurement of everything there is, for real: how fast it was is not looked at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.compare import command
from bench.compare.run import Run
from netstack.testing.namespace import unavailable

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def laboratory() -> None:
    if reason := unavailable() or (None if shutil.which("gcc") else "gcc is missing"):
        pytest.skip(reason)


def test_round_trips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    words = ["--only", "latency", "--system", "netstack", "--system", "veth", "--system", "vpnkit"]
    assert command.main([*words, "--quick", "--seconds", "0.1", "--json", str(path)]) == 0
    run, told = Run.load(path), capsys.readouterr().out
    for system in ("netstack", "veth"):
        (rate,) = run.values("latency", "64 bytes", system, "rate")
        (half,) = run.values("latency", "64 bytes", system, "p50")
        (most,) = run.values("latency", "64 bytes", system, "p99.9")
        assert rate > 0
        assert 0 < half <= most
    assert "round trips per second" in told
    if shutil.which("vpnkit") is None:
        assert "vpnkit: missing: vpnkit not installed" in told
        assert run.missing == {"vpnkit": "vpnkit not installed"}
