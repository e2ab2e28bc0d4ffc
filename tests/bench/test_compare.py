"""Runs as data: what is best, which bars are met, what has changed, what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.compare import against, bulk, command, connections, plots
from bench.compare.bars import BARS, verdicts
from bench.compare.notes import NOTES
from bench.compare.page import PAGE, PICTURES, page
from bench.compare.run import Run, stored
from bench.compare.tables import Table, bars_table, merged, tables
from bench.compare.work import Options, Turn, Values
from bench.systems import SYSTEMS
from netstack.testing.namespace import ProgramError

UP = bulk.case(1500, "up")


def run(**rates: list[float]) -> Run:
    """A run of one case: Gbit/s by system."""
    made = Run("2026-01-01 00:00 UTC", "abc", {}, {}, {}, 3, 2.0)
    for system, values in rates.items():
        for value in values:
            made.found("bulk", UP, system, {"gbit_s": value, "cpu_s_per_gb": 1 / value})
    return made


def verdict(made: Run, name: str) -> tuple[str, str]:
    found = next(v for v in verdicts(made) if v.name == name)
    return found.mark, found.found


def test_the_best_peer_is_neither_netstack_nor_a_yardstick() -> None:
    made = run(netstack=[9, 9, 9], limit=[99], veth=[99], pasta=[1, 2, 30], slirp4netns=[3])
    assert made.best("bulk", UP, "gbit_s") == ("slirp4netns", 3)
    assert made.best("bulk", UP, "cpu_s_per_gb", less=True) == ("slirp4netns", 0.3333)
    assert made.best("bulk", "another case", "gbit_s") is None


def test_bars_are_met_missed_or_not_measured() -> None:
    made = run(netstack=[20, 30, 10], limit=[22], pasta=[2.0], slirp4netns=[1])
    assert verdict(made, "bulk 1500 up limit") == ("met", "0.91 × (20 / 22)")
    assert verdict(made, "bulk 1500 up peer") == ("met", "10.00 × (20 / 2, pasta)")
    assert verdict(made, "bulk 1500 down peer") == ("not measured", "")
    made = run(netstack=[18], limit=[22], pasta=[2.0])
    assert verdict(made, "bulk 1500 up limit")[0] == "MISSED"
    assert verdict(made, "bulk 1500 up peer") == ("MISSED", "9.00 × (18 / 2, pasta)")
    assert verdict(made, "cpu 1500 up") == ("met", "0.11 × (0.0556 / 0.5, pasta)")


def test_a_bar_without_a_peer_is_not_met() -> None:
    assert verdict(run(netstack=[20], limit=[22]), "bulk 1500 up peer")[0] == "not measured"


def test_a_bar_that_cannot_be_measured_says_why() -> None:
    made = run(netstack=[20])
    made.did_not("connections", "50000", "netstack", "a process may have 9 descriptors here")
    assert verdict(made, "setting up") == ("not measured", "a process may have 9 descriptors here")


def test_connections_beyond_the_limit_of_descriptors_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda what: (500, 20_000))
    assert connections.too_few(10_000) is None
    assert connections.too_few(50_000) == (
        "a process may have 20,000 descriptors here: raise the hard limit (ulimit -Hn)"
    )
    monkeypatch.setattr("resource.getrlimit", lambda what: (500, -1))
    assert connections.too_few(50_000) is None


def test_every_bar_has_one_name_and_notes_are_of_bars() -> None:
    names = [bar.name for bar in BARS]
    assert len(set(names)) == len(names)
    assert set(NOTES) <= set(names)


def test_quantiles_come_from_curves() -> None:
    made = run()
    for factor in (1, 3, 2):
        curve = [(0.0, 10.0 * factor), (0.5, 20.0 * factor), (0.99, 50.0 * factor), (1.0, 90.0 * factor)]
        made.found("latency", "64 bytes", "netstack", {"rate": 5.0, "curve": curve})
    assert made.values("latency", "64 bytes", "netstack", "p50") == [20, 60, 40]
    assert made.median("latency", "64 bytes", "netstack", "p99") == 100
    curve = made.curve("latency", "64 bytes", "netstack")
    assert curve is not None
    assert curve[1] == (0.5, 40)
    assert ("latency", "64 bytes", "netstack", "p99.9") in made.everything()


def test_a_run_is_the_same_from_disk(tmp_path: Path) -> None:
    made = run(netstack=[20.123456, 30], pasta=[2])
    made.found("latency", "64 bytes", "pasta", {"curve": [(0.0, 1.23456), (1.0, 2.0)]})
    made.did_not("udp", "64 up", "pasta", "it broke")
    made.save(tmp_path / "run.json")
    again = Run.load(tmp_path / "run.json")
    assert again == made
    assert again.values("bulk", UP, "netstack", "gbit_s") == [20.12, 30]
    assert again.failed == {"udp": {"64 up": {"pasta": "it broke"}}}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"date": 5}'])
def test_what_is_no_run_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    for option in ("--show", "--against"):
        with pytest.raises(SystemExit) as ended:
            command.main([option, str(path)])
        assert ended.value.code == 2
        assert f"{path} is not a run of python -m bench compare --json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--show", "/nowhere.json"], "No such file"),
        (["--add"], "--add needs --json FILE"),
        (["--repeat", "0"], "--repeat 0 is too small: at least 1"),
        (["--rtt", "-1"], "--rtt -1 is too small: at least 0"),
        (["--only", "nothing"], "invalid choice"),
        (["--system", "docker"], "invalid choice"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_run_takes_what_another_has_measured() -> None:
    old, new = run(netstack=[1], pasta=[2]), run(netstack=[5])
    old.did_not("bulk", UP, "netstack", "it broke")
    old.did_not("udp", "64 up", "pasta", "it broke")
    new.commit = "def"
    old.take(new)
    assert old.commit == "def"
    assert old.values("bulk", UP, "netstack", "gbit_s") == [5]
    assert old.values("bulk", UP, "pasta", "gbit_s") == [2]
    assert old.failed == {"udp": {"64 up": {"pasta": "it broke"}}}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "<Process 5 load> ended with status 1; it printed:\nload: 5 of 9 connections stand\n",
            "load: 5 of 9 connections stand",
        ),
        ("iperf3 took longer than 62 s; it printed:\nNone None", "iperf3 took longer than 62 s; it printed:"),
        ("no datagram arrived", "no datagram arrived"),
        ("", "ProgramError"),
    ],
)
def test_a_failure_is_one_sentence(message: str, told: str) -> None:
    def fail() -> Values:
        raise ProgramError(message)

    heard: list[tuple[str, str]] = []
    turn = Turn(
        SYSTEMS["pasta"], Options(), lambda case, values: None, lambda case, why: heard.append((case, why))
    )
    turn.measure("a case", fail)
    assert heard == [("a case", told)]


def test_tables_tell_spread_ratios_and_failures() -> None:
    made = run(netstack=[20, 30, 10], limit=[40], pasta=[2])
    made.did_not("bulk", UP, "slirp4netns", "it broke")
    table = next(t for t in tables(made) if "Gbit/s" in t.title)
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.columns == ("", "up, 1 stream")
    assert rows["netstack"] == ("20.0 (10.0–30.0)",)
    assert rows["slirp4netns"] == ("failed",)
    assert rows["netstack / limit"] == ("0.50",)
    assert rows["netstack / best peer"] == ("10.00",)


def test_tables_of_one_column_are_put_together() -> None:
    one = Table("Idle: a", ("", "x"), (("netstack", "1"),), joins=True)
    other = Table("Idle: b", ("", "x"), (("netstack", "2"),), "a note", joins=True)
    apart = Table("Idle: c", ("", "x"), (("pasta", "2"),), joins=True)
    never = Table("Idle: d", ("", "x"), (("pasta", "2"),))
    assert merged([one, other, apart, never]) == [
        Table("Idle", ("", "a", "b"), (("netstack", "1", "2"),), "a note"),
        Table("Idle", ("", "c"), (("pasta", "2"),)),
        never,
    ]


# --- against


def test_a_change_counts_without_what_the_machine_did() -> None:
    before = run(netstack=[20, 21, 22], pasta=[2], limit=[30])
    quicker_machine = run(netstack=[40, 42, 44], pasta=[4], limit=[60])
    assert not any(c.counts for c in against.changes(before, quicker_machine))
    slower = run(netstack=[20, 21, 22], pasta=[4], limit=[60])
    change = next(c for c in against.changes(before, slower) if c.figure == "gbit_s")
    assert (change.now, change.drift, change.own) == (21, 2, 0.5)
    assert not change.counts  # the values themselves are the same: they overlap
    worse = run(netstack=[10, 11, 12], pasta=[2], limit=[30])
    rows = {row[0]: row[1:] for row in against.table(before, worse).rows}
    assert rows[f"bulk, {UP}: gbit_s"] == ("21.0", "11.0", "0.52", "1.00", "WORSE")
    assert rows[f"bulk, {UP}: cpu_s_per_gb"][-1] == "WORSE"
    assert against.table(worse, before).rows[0][-1] == "better"


def test_bars_that_change_sides_are_told() -> None:
    before, now = run(netstack=[20], limit=[20]), run(netstack=[10], limit=[20])
    assert against.bars_changed(before, now) == [
        "TCP bulk, MTU 1500, up: met (1.00 × (20 / 20)) → MISSED (0.50 × (10 / 20))"
    ]
    assert against.bars_changed(now, now) == []


# --- what is measured


def names(options: Options) -> dict[str, list[str]]:
    return {w.name: [c for g in w.groups(options) for c in g.cases] for w in command.WORKS.values()}


def test_every_bar_is_of_a_case_that_is_measured() -> None:
    measured = run()
    for work, cases in names(Options()).items():
        for case in cases:
            for system in SYSTEMS:
                values: dict[str, float | list[tuple[float, float]]] = dict.fromkeys(
                    ("gbit_s", "jain", "cpu_s_per_gb", "rate", "process_bytes", "ms", "wakeups", "rss_mb"),
                    1.0,
                )
                measured.found(work, case, system, {**values, "curve": [(0.0, 1.0), (1.0, 2.0)]})
    assert [v.name for v in verdicts(measured) if v.met is None] == []


def test_quick_measures_every_kind_of_work_by_less() -> None:
    quick, all_of_it = names(Options(quick=True)), names(Options())
    assert all(quick.values())
    assert sum(map(len, quick.values())) < sum(map(len, all_of_it.values())) / 3


def test_a_system_is_not_asked_for_what_it_cannot() -> None:
    options = Options()
    asked = {
        (name, work.name, case)
        for work, group, name in command.turns(list(command.WORKS.values()), options, list(SYSTEMS))
        for case in group.cases
    }
    assert ("limit", "udp", "64 up") not in asked
    assert ("pasta", "udp", "64 up") in asked
    assert ("qemu", "bulk", bulk.case(9000, "up")) not in asked
    assert ("qemu", "bulk", bulk.case(1500, "up", rtt=20)) in asked
    assert ("limit", "bulk", bulk.case(65520, "both", 16)) in asked


# --- the page


def test_the_page_is_what_the_stored_run_makes() -> None:
    path = stored()
    assert PAGE.read_text() == page(Run.load(path), path.name), "run: python -m bench page"
    for picture in re.findall(r"\]\((performance/\w+\.svg)\)", PAGE.read_text()):
        assert (PICTURES.parent / picture).is_file()


def test_the_stored_run_has_all_bars_and_the_page_says_on_what() -> None:
    made, text = Run.load(stored()), PAGE.read_text()
    for row in bars_table(made).rows:
        assert row[3] != "not measured" or len(row[2]) > 10, (
            f"the page must say why {row[0]} was not measured"
        )
    assert made.repeat >= 3
    for fact in (made.date, made.commit, made.machine["kernel"], made.versions["pasta"]):
        assert fact in text
    for missing in made.missing:
        assert f"{missing}: " in text
    for v in verdicts(made):
        if v.met is False:
            assert v.name in NOTES, f"the page must say what bounds {v.work}"


def test_a_page_says_what_is_missed_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NOTES, "bulk 1500 up limit", "The reason.")
    made = run(netstack=[10], limit=[22])
    made.missing = {"gvproxy": "gvproxy not installed"}
    made.did_not("udp", "64 up", "pasta", "it broke")
    text = page(made, "x.json")
    assert "- TCP bulk, MTU 1500, up: 0.45 × (10 / 22), asked ≥ 0.85 × limit. The reason." in text
    assert "- missing: gvproxy: gvproxy not installed" in text
    assert "- udp, 64 up: pasta: it broke" in text


def test_pictures_are_the_same_for_the_same_run(tmp_path: Path) -> None:
    if reason := plots.available():
        pytest.skip(reason)
    made = Run.load(stored())
    paths = plots.write(made, tmp_path)
    assert [p.name for p in paths] == ["throughput.svg", "latency.svg", "connections.svg"]
    assert paths[1].read_bytes() == plots.write(made, tmp_path)[1].read_bytes()
