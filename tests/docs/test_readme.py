"""README.md: its snippets are those of examples that the tests run, its map is the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(
    r"\(`(examples/[\w.]+)`\)[^`]*(?:`[^`]*`[^`]*)?```(?:sh|python)\n(.*?)```", PAGE, re.DOTALL
)


def test_five_things() -> None:
    assert len(SNIPPETS) == 5


@pytest.mark.parametrize(("example", "snippet"), SNIPPETS, ids=[name for name, _ in SNIPPETS])
def test_a_snippet_is_in_its_example(example: str, snippet: str) -> None:
    lines = [line.strip() for line in (ROOT / example).read_text().splitlines()]
    for line in snippet.splitlines():
        assert line.strip() in lines


def test_the_map_is_the_tree() -> None:
    named = set(re.findall(r"`(netstack/\w+)`", PAGE))
    assert named == {f"netstack/{p.parent.name}" for p in (ROOT / "netstack").glob("*/__init__.py")}


def test_commands_of_dev_exist() -> None:
    dev = (ROOT / "dev").read_text()
    for command in set(re.findall(r"\./dev ([\w-]+)", PAGE)):
        assert f"\n  {command} " in dev, command


def test_the_transcript_has_every_part_of_the_demo() -> None:
    (transcript,) = re.findall(r"\$ netstack demo\n(.*?)```", PAGE, re.DOTALL)
    demo = (ROOT / "netstack" / "cli" / "demo_guest.py").read_text() + (
        ROOT / "netstack" / "cli" / "demo.py"
    ).read_text()
    parts = re.findall(r"^ ✓ ([\w ]+?)  ", transcript, re.MULTILINE)
    assert len(parts) == 7
    for part in parts:
        assert f'"{part}"' in demo, part
