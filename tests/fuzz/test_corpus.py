"""What fuzzing has kept, and what it has found, through every target: ``./dev fuzz`` goes on from there."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_targets", HERE / "targets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_targets"] = module
    spec.loader.exec_module(module)
    return module


TARGETS = _module().TARGETS
FOUND = sorted((HERE / "found").glob("*"))


def kept(name: str) -> Iterator[bytes]:
    """The corpus of a target, and the first of its seeds."""
    with zipfile.ZipFile(HERE / "corpus" / f"{name}.zip") as packed:
        for entry in packed.namelist():
            yield packed.read(entry)
    for number, seed in enumerate(TARGETS[name].seeds()):
        if number == 20:
            break
        yield seed[: TARGETS[name].longest]


def feed(name: str, inputs: Iterator[bytes]) -> int:
    """Runs a target over inputs, in a network of its own; how many."""
    run = TARGETS[name].make()
    count = 0
    for data in inputs:
        run(data)
        count += 1
    return count


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str, isolated: Callable[..., Any]) -> None:
    assert isolated(feed, name, kept(name)) >= 10


def test_what_was_found(isolated: Callable[..., Any]) -> None:
    for path in FOUND:
        assert isolated(feed, path.name.partition("-")[0], iter([path.read_bytes()])) == 1, path.name


def test_a_target_can_fail() -> None:
    """The harness sees what is wrong: a reply that a service must not give."""
    run = TARGETS["dns"].make()
    from netstack.services import dns

    real = dns.truncate
    try:
        dns.truncate = lambda response, limit: bytes(limit + 600)
        with pytest.raises(AssertionError):
            run(b"\0\x0c" + bytes(12) + b"\0\x0c" + bytes(12))
    finally:
        dns.truncate = real
