"""Every dependency has its line in docs/dependencies.md."""

from __future__ import annotations

import re
import sys
from itertools import chain
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "dependencies.md").read_text()


def missing(names: set[str]) -> list[str]:
    return sorted(name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", PAGE))


def test_what_pip_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    assert all(re.search(r">=[\d.]+", text) for text in wanted), "a lower bound is missing"
    names = {re.split(r"[\[<>=; ]", text)[0] for text in wanted}
    assert len(names) > 15
    assert not missing(names)


def test_extras_are_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(f"`{extra}`" in PAGE for extra in project["optional-dependencies"])


def test_what_apt_installs() -> None:
    (table,) = re.findall(r"^test_tools\(\).*?<<'END'\n(.*?)\nEND", (ROOT / "dev").read_text(), re.S | re.M)
    packages = {line.split()[1] for line in table.splitlines()}
    assert len(packages) > 15
    assert not missing(packages)


def test_the_check_can_fail() -> None:
    assert missing({"numpy", "num"}) == ["num"]
