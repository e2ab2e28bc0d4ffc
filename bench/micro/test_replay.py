"""Captures replayed through the whole stack, from file to verdicts; python -m bench.replay takes larger ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.replay import KINDS
from netstack.capture.pcap import PcapWriter
from netstack.replay import replay

FRAMES = 9_000


@pytest.mark.parametrize("kind", KINDS)
def test_replay_9k_frames(benchmark: Any, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    with PcapWriter(path) as writer:
        for number, frame in enumerate(KINDS[kind](FRAMES)):
            writer.write(1_700_000_000_000_000_000 + number * 20_000, frame)
    result = benchmark.pedantic(replay, (str(path),), rounds=5, warmup_rounds=1)
    if benchmark.stats:  # not with --benchmark-disable
        benchmark.extra_info["frames/s"] = round(result.frames / benchmark.stats.stats.min)
