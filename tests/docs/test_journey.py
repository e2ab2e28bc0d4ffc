"""The walks in docs/journey.md against the tree: every function and every field of a struct that they name exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "journey.md").read_text()
STEP = re.compile(r"^(\d+)\. (?:`(netstack/[\w/]+\.(?:pyx|py|pxd)):([\w.]+)`)?", re.MULTILINE)
STEPS = [(file, name) for _, file, name in STEP.findall(PAGE)]
FIELDS = sorted(set(re.findall(r"`([A-Za-z_]\w*)\.([a-z_]\w*)`", PAGE)) - {("tests", "docs")})
# In the text of a step, without a file: `push_up`, (`sock_error_of`).
NAMES = sorted(set(re.findall(r"(?:by|in|from|asks|written|of connect) \(?`([a-z]\w+_\w+)`", PAGE)))
SOURCES = {p: p.read_text() for p in (ROOT / "netstack").rglob("*") if p.suffix in (".py", ".pyx", ".pxd")}


def body_of(text: str, head: str) -> str | None:
    """The indented lines behind a line that ``head`` matches, or None."""
    match = re.search(rf"^([ \t]*){head}.*$", text, re.MULTILINE)
    if match is None:
        return None
    lines = []
    for line in text[match.end() :].splitlines()[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= len(match[1]):
            break
        lines.append(line)
    return "\n".join(lines)


def defines(text: str, name: str) -> bool:
    """Is ``function`` or ``Class.method`` defined there?"""
    owner, _, function = name.rpartition(".")
    if owner:
        found = body_of(text, rf"(?:cdef )?class {owner}\b")
        if found is None:
            return False
        text = found
    return bool(
        re.search(rf"^[ \t]*(?:async )?(?:def|cdef|cpdef)\b[^\n=]*?\b{function}\(", text, re.MULTILINE)
    )


@cache
def struct(name: str) -> str:
    """The bodies of all structs and classes of that name, without comments."""
    heads = (rf"(?:ctypedef|cdef) struct {name}:", rf"(?:cdef )?class {name}\b.*:")
    found = [body_of(text, head) for text in SOURCES.values() for head in heads if f" {name}" in text]
    return re.sub(r"#.*", "", "\n".join(body for body in found if body))


def test_there_are_four_numbered_walks() -> None:
    walks = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert len(walks) == 4
    for walk in walks:
        title, steps = walk.split("\n", 1)
        numbers = [int(number) for number, _, _ in STEP.findall(steps)]
        assert numbers == list(range(1, len(numbers) + 1)), title
        assert len(numbers) > 10
    assert all(file for file, _ in STEPS), "a step without file:function"


@pytest.mark.parametrize(("file", "function"), sorted(set(STEPS)))
def test_the_function_of_a_step_exists(file: str, function: str) -> None:
    assert defines(SOURCES[ROOT / file], function)


def test_the_structs_exist() -> None:
    assert len(FIELDS) > 40
    for name, field in FIELDS:
        assert struct(name), f"there is no struct {name}"
        assert re.search(rf"\b{field}\b", struct(name)), f"{name} has no {field}"


def test_functions_named_on_the_way_exist() -> None:
    assert NAMES
    everything = "\n".join(SOURCES.values())
    for name in NAMES:
        assert defines(everything, name), f"there is no {name}"


def test_the_check_can_fail() -> None:
    text = SOURCES[ROOT / "netstack/services/dhcp4.py"]
    assert defines(text, "DhcpServer._discover")
    assert not defines(text, "DhcpServer.no_such")
    assert not defines(text, "DhcpReply._discover")
    assert not defines(SOURCES[ROOT / "netstack/loop.pyx"], "no_such")
    assert not struct("no_such_t")
