"""docs/security.md: what it says cannot be done has tests, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
CANNOT = re.findall(r"^### It cannot\n(.*?)^### It can$", PAGE, re.DOTALL | re.MULTILINE)
CLAIMS = [
    line
    for section in CANNOT
    for line in section.splitlines()
    if line.startswith("| ") and not line.startswith("| |")
]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_there_are_three_of_them() -> None:
    assert len(CANNOT) == 3
    assert len(CLAIMS) > 25


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[2:50])
def test_a_claim_has_a_test(claim: str) -> None:
    assert NAMED.search(claim)


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED.findall(PAGE))))
def test_it_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_of(path)


def test_options_that_are_named_exist() -> None:
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for option in set(re.findall(r"`(--[\w-]+)", PAGE)):
        assert f"`{option}`" in reference, option
