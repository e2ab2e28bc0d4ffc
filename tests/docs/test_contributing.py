"""docs/contributing.md: the files it sends one to exist, and hold what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "contributing.md").read_text()
FILES = sorted(set(re.findall(r"`((?:netstack|tests|docs|bench)/[\w/.]*)`", PAGE)) - {"netstack/cli/NAME.py"})
#: `file` (`name`, `name`)
HOLDS = [
    (path, name)
    for path, names in re.findall(r"`(netstack/[\w/.]+)`[^;(`]*\(((?:`[\w.]+`(?:, )?)+)\)", PAGE)
    for name in re.findall(r"`([\w.]+)`", names)
]


@pytest.mark.parametrize("path", FILES)
def test_the_file_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "name"), HOLDS)
def test_it_holds_the_name(path: str, name: str) -> None:
    assert re.search(rf"\b{name.rpartition('.')[2]}\b", (ROOT / path).read_text())


def test_each_question_has_an_answer() -> None:
    section = PAGE.split("## Where does it go?")[1].split("\n## ")[0]
    answers = dict(re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", section, re.DOTALL | re.MULTILINE))
    assert len(answers) == 6
    assert all("`netstack/" in text and "`tests/" in text for text in answers.values())
    assert len(FILES) > 30
    assert len(HOLDS) > 10
