"""Nothing stands in the sources that nothing uses: vulture reads the Python files, this the Cython files."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Called by name, by somebody else's code.
BY_PROTOCOL = {
    *("__getattr__", "__call__", "do_GET", "log_message", "daemon_threads", "makefile", "readinto"),
    *("list_commands", "get_command", "format_commands", "shell_complete"),  # click's
    "untrusted",  # read by its name, in nameservice
    *("expose_port", "expose_pipe", "unexpose_port", "unexpose_pipe"),  # verb and noun meet in vpnkit's table
    *("pytest_addoption", "pytest_configure", "pytest_collect_file", "runtest", "reportinfo"),
}
BY_DECORATOR = ["@*.command", "@fixture", "@*.fixture"]

COMMENT = re.compile(r'"""(?:.|\n)*?"""|#[^\n]*')
FUNCTION = re.compile(
    r"^[ \t]*(?:cdef|cpdef)[ \t]+(?:inline[ \t]+)?(?!class\b)[^\n=#:(]*?\b(\w+)[ \t]*\(", re.M
)
COUNTERS = re.compile(r"cpdef enum counter:\n((?:[ \t]+.*\n|[ \t]*\n)+)")


def cython_sources() -> dict[str, str]:
    """The Cython files below netstack/ without their comments."""
    package = ROOT / "netstack"
    return {
        str(path.relative_to(package)): COMMENT.sub("", path.read_text())
        for path in sorted(package.rglob("*"))
        if path.suffix in (".pyx", ".pxd")
    }


def words_used(sources: dict[str, str]) -> Counter[str]:
    """How often each word stands in the Cython sources and in the Python files."""
    python = (
        COMMENT.sub("", path.read_text())
        for name in ("netstack", "bench")
        for path in (ROOT / name).rglob("*.py")
    )
    return Counter(re.findall(r"\w+", " ".join([*sources.values(), *python])))


def test_every_cython_function_is_called() -> None:
    """A name that stands only where it is declared and defined is used by nobody."""
    sources = cython_sources()
    words = words_used(sources)
    declared: Counter[str] = Counter()
    where = {}
    for path, text in sources.items():
        found = FUNCTION.findall(text)
        declared.update(found)
        where.update(dict.fromkeys(found, path))
    assert len(declared) > 500
    assert {f"{where[name]}: {name}" for name in declared if words[name] <= declared[name]} == set()


def test_every_counter_counts() -> None:
    sources = cython_sources()
    words = words_used(sources)
    found = COUNTERS.search(sources["storage/counters.pxd"])
    assert found
    counters = set(re.findall(r"\w+", found[1])) - {"COUNTERS"}
    assert len(counters) > 50
    assert {name for name in counters if words[name] <= 1} == set()


def named_in_routes() -> set[str]:
    """The methods that the tables of netstack/control name in strings."""
    tables = " ".join(path.read_text() for path in (ROOT / "netstack" / "control").glob("*.py"))
    return set(re.findall(r'"([a-z_]+)"', tables))


def test_vulture_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python files define and neither they nor the tests use; a class's variables are its columns."""
    vulture = pytest.importorskip("vulture")
    finder = vulture.Vulture(
        ignore_names=sorted(BY_PROTOCOL | named_in_routes()), ignore_decorators=BY_DECORATOR
    )
    monkeypatch.chdir(ROOT)
    finder.scavenge(["netstack", "bench", "tests", "examples"], exclude=["*/build/*"])
    unused = {
        f"{item.filename}:{item.first_lineno}: {item.typ} {item.name}"
        for item in finder.get_unused_code(min_confidence=60)
        if item.typ != "variable" and not str(item.filename).startswith(str(ROOT / "tests"))
    }
    assert finder.exit_code == 0, "vulture could not read a file"
    assert unused == set()
