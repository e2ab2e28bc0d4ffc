"""The manual pages that a wheel installs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from netstack.cli import manual
from netstack.cli.group import COMMANDS

PAGES = dict(manual.pages())


def test_every_command_has_its_page() -> None:
    assert {f"netstack-{name}.1" for name in COMMANDS} < set(PAGES)
    assert "netstack-port-add.1" in PAGES
    for name, text in PAGES.items():
        assert f'.TH "{name.removesuffix(".1").upper()}"' in text.replace("\\-", "-")
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION"):
            assert f".SH {section}\n" in text


def test_a_page_says_what_the_help_says() -> None:
    text = PAGES["netstack-run.1"].replace("\\-", "-")
    for words in ("--publish SPEC", "--no-host-loopback", ".SH EXAMPLES", "The exit status is the command's"):
        assert words in text
    assert "\b" not in "".join(PAGES.values())


def test_text_is_no_request() -> None:
    assert manual.roff(".so /etc/passwd\n'x\\fB-") == "\\&.so /etc/passwd\n\\&'x\\efB\\-"


def test_they_are_dated_as_the_source_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert '"1970-01-02"' in dict(manual.pages())["netstack.1"]


@pytest.mark.parametrize(
    "checker", [("mandoc", "-T", "lint", "-W", "warning"), ("man", "--warnings", "-l")], ids=lambda c: c[0]
)
def test_they_are_sound(checker: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which(checker[0]) is None:
        pytest.skip(f"no {checker[0]}")
    manual.write(tmp_path)
    names = sorted(PAGES) if checker[0] == "mandoc" else ["netstack-run.1", "netstack-replay.1", "netstack.1"]
    files = [str(tmp_path / name) for name in names]
    done = subprocess.run(
        [*checker, *files], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    if checker[0] == "man":
        assert "NETSTACK-RUN(1)" in done.stdout
