"""docs/architecture.md against the tree: every module has its place in the house, and no place is empty."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "netstack"
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def house() -> dict[str, set[str]]:
    """Folder ("" for netstack/ itself) to the words that stand in it."""
    (block,) = re.findall(r"^netstack/\n(.*?)^tests/ mirrors", PAGE, re.DOTALL | re.MULTILINE)
    places: dict[str, set[str]] = {"": set()}
    at = ""
    for line in block.splitlines():
        folder = re.match(r"  (\w+)/ ", line)
        if folder:
            at = folder[1]
            places[at] = set()
        elif re.match(r"  \S", line):
            at = ""
        places[at] |= set(re.findall(r"\w+", line))
    return places


def tree() -> dict[str, set[str]]:
    """The same from the files."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".pyx", ".pxd") and "__pycache__" not in path.parts:
            folder = path.parent.relative_to(PACKAGE)
            found.setdefault("" if folder == Path() else str(folder), set()).add(path.stem)
    return found


def test_every_module_has_its_place() -> None:
    places, modules = house(), tree()
    assert set(places) == set(modules)
    for folder, names in modules.items():
        if folder == "cli":
            names = {"main", "group", "options", "instance", "live", "rates"}  # the others are its commands
        missing = names - places[folder] - {"__init__"}
        assert not missing, f"{folder or 'netstack'}/: {', '.join(sorted(missing))} stand nowhere"


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"`((?:link|nat|tcp|iface|control|services|wire)/\w+)`", PAGE):
        assert any((PACKAGE / name).with_suffix(s).exists() for s in (".py", ".pyx", ".pxd")), name
    for name in re.findall(r"`(tests/[\w/]+\.py)`", PAGE):
        assert (ROOT / name).exists(), name


def test_functions_of_tcp_exist() -> None:
    sources = "\n".join(p.read_text() for p in (PACKAGE / "tcp").glob("*.pxd"))
    names = set(re.findall(r"\btcp_(?!entry|flow|host)\w+", PAGE))
    assert len(names) > 10
    for name in names:
        assert re.search(rf"\b{name}\b", sources), name
