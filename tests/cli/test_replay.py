"""``netstack replay`` as a user sees it."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from story import Story, Talk

from netstack.capture.pcap import read_pcap
from netstack.cli.main import main


@pytest.fixture
def capture(tmp_path: Path) -> str:
    story = Story()
    Talk(story).open().ask().close()
    return story.save(tmp_path)


def test_table(capture: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", capture]) == 0
    out = capsys.readouterr().out
    assert ": right. 9 frames in 0.008 s, 0 of nobody's; guests: 10.1.0.2 (it opens conversations)" in out
    assert "10.1.0.2:40000 → 203.0.113.9:80" in out


def test_files(capture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, junit = tmp_path / "out.pcapng", tmp_path / "report.xml"
    assert main(["replay", "--json", "--out", str(out), "--junit", str(junit), capture, capture]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == second
    assert first["verdict"] == "right"
    assert len(list(read_pcap(out))) > 12
    suites = ElementTree.parse(junit).getroot().findall("testsuite")
    assert [(s.get("tests"), s.get("failures")) for s in suites] == [("1", "0")] * 2


def test_wrong_is_exit_status_1(
    capture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from netstack.replay import verdict

    monkeypatch.setattr(verdict, "complaints", lambda flow: ["it was too slow <&"])
    report = tmp_path / "report.xml"
    assert main(["replay", "-q", "--junit", str(report), capture]) == 1
    assert "it was too slow <&" in capsys.readouterr().out
    failure = ElementTree.parse(report).getroot().find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "it was too slow <&"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere.pcap"], "the capture /nowhere.pcap cannot be read: No such file or directory"),
        (["--guest", "10.9.9.9", "CAPTURE"], "--guest 10.9.9.9: no frame of"),
        (["--out", "-", "CAPTURE"], "--out needs a file"),
        (["--guest", "me", "CAPTURE"], "neither an IPv4 address nor a MAC address"),
        (["--out", "/nowhere/out.pcapng", "CAPTURE"], "--out /nowhere/out.pcapng cannot be written"),
        (["--junit", "/nowhere/x.xml", "CAPTURE"], "--junit /nowhere/x.xml cannot be written"),
        ([], "Missing argument"),
    ],
)
def test_usage(capture: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["replay", *(capture if a == "CAPTURE" else a for a in arguments)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "standard output"),
        (["--json"], "standard output"),
        (["--out", "/dev/full"], "--out /dev/full"),
        (["--junit", "/dev/full"], "--junit /dev/full"),
    ],
)
def test_a_full_disk_is_no_verdict(
    capture: str,
    arguments: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit status 1 would say that the stack does wrong."""
    if named == "standard output":
        monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
    full = sys.stdout
    assert main(["replay", capture, *arguments]) == 2
    monkeypatch.undo()
    if full is not sys.stdout:
        with contextlib.suppress(OSError):  # it fails again, which is the point of it
            full.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"netstack: {named} cannot be written: No space left on device\n"


@pytest.mark.parametrize("option", ["--out", "--junit"])
def test_a_capture_is_not_written_over(capture: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(capture).read_bytes()
    assert main(["replay", option, capture, capture]) == 2
    assert Path(capture).read_bytes() == before
    assert "is one of the captures that are read" in capsys.readouterr().err
