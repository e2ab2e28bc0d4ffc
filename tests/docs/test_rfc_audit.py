"""The audit in ``docs/rfc`` against the tests that exist."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "rfc"
LEVELS = {"MUST", "SHOULD", "MAY", "rule"}
VERDICTS = {"does", "partly", "does not", "not applicable"}
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
APPENDIX_B = (
    {f"MUST-{n}" for n in range(1, 70)}
    | {f"SHLD-{n}" for n in range(1, 32)}
    | {f"MAY-{n}" for n in range(1, 19)}
    | {"REC-1"}
)


@dataclass(frozen=True)
class Clause:
    page: str
    name: str
    level: str
    what: str
    verdict: str
    rest: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        return [(f if "/" in f else f"tests/tcp/{f}", name) for f, name in NAMED.findall(self.rest)]

    @property
    def reason(self) -> str:
        return NAMED.sub("", self.rest).strip(" ,.;")

    def __str__(self) -> str:
        return f"{self.page} {self.name}"


def clauses() -> list[Clause]:
    out = []
    for page in sorted(PAGES.glob("[0-9]*.md")):
        for line in page.read_text().splitlines():
            if not line.startswith("| ") or line.startswith("| clause |"):
                continue
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 5, f"{page.name}: {line}"
            out.append(Clause(page.stem, *cells))
    return out


CLAUSES = clauses()


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("clause", CLAUSES, ids=str)
def test_every_clause_has_a_verdict_and_its_tests_exist(clause: Clause) -> None:
    assert clause.level in LEVELS
    assert clause.verdict in VERDICTS
    assert clause.verdict == "does" or clause.reason, "why?"
    for path, name in clause.tests:
        assert name in functions_of(path), f"there is no {name} in {path}"


def test_musts_without_a_test_are_listed() -> None:
    listed = set(re.findall(r"^- (\S.*?):", (PAGES / "README.md").read_text(), re.MULTILINE))
    bare = {str(c) for c in CLAUSES if c.level == "MUST" and c.verdict != "not applicable" and not c.tests}
    assert listed == bare


def test_the_whole_of_appendix_b() -> None:
    assert {
        c.name for c in CLAUSES if c.page == "9293" and "-" in c.name and c.name[-1].isdigit()
    } == APPENDIX_B


def test_every_page_is_in_the_index() -> None:
    index = (PAGES / "README.md").read_text()
    assert {p.stem for p in PAGES.glob("[0-9]*.md")} == set(re.findall(r"\]\((\d+)\.md\)", index))
