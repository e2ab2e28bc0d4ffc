"""``netstack replay``: what this stack does with the guests of a capture, and whether that is right."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from netstack.cli.instance import amount, as_json, table
from netstack.cli.outputs import refuse_input, writing
from netstack.errors import ConfigError, NetstackError

if TYPE_CHECKING:
    from netstack.capture.pcap import PcapWriter
    from netstack.replay.result import Result

__all__ = ["command"]


class ReplayError(NetstackError):
    """A capture that cannot be replayed; a usage error, since another file is wanted."""

    exit_code = 2


@click.command(
    "replay",
    epilog="""Exit status: 0 when nothing is wrong, 1 when something is, 2 when a capture or an option cannot be used,
or an output cannot be written.

\b
Examples:
  netstack replay session.pcapng
  netstack replay --guest 192.168.1.20 --out answers.pcapng session.pcap
  netstack replay --junit report.xml pcaps/*.pcapng""",
)
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...")
@click.option(
    "--guest",
    "guests",
    multiple=True,
    metavar="ADDRESS",
    help="IPv4 address or MAC of the guest (may be repeated); without it, whoever opens conversations.",
)
@click.option(
    "--out", metavar="FILE", help="Write what the guests sent and what the stack answered, as pcapng."
)
@click.option("--junit", metavar="FILE", help="Write the verdicts as JUnit XML.")
@click.option("--json", "in_json", is_flag=True, help="Print the verdicts as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what is wrong.")
def replay(
    captures: tuple[str, ...],
    guests: tuple[str, ...],
    out: str | None,
    junit: str | None,
    in_json: bool,
    quiet: bool,
) -> int:
    """Replay captures (pcap, pcapng) through the whole stack, on their own time, and judge what it does.

    The frames of a guest go in when the capture has them; its peers say what the capture's peers said. No network is
    used, and the same capture gives the same result.
    """
    if out == "-":
        raise ConfigError("--out needs a file: the verdicts go to standard output")
    for option, path in (("--out", out), ("--junit", junit)):
        refuse_input(option, path, captures)
    results = replayed(captures, guests, out)
    if junit is not None:
        write_junit(junit, results)
    with writing("standard output"):
        if in_json:
            as_json([result.as_dict() for result in results])
        else:
            for result in results:
                show(result, quiet)
        sys.stdout.flush()
    return 1 if any(result.verdict == "wrong" for result in results) else 0


def replayed(captures: tuple[str, ...], guests: tuple[str, ...], out: str | None) -> list[Result]:
    """The result of each capture; what was seen goes to ``out``, which is whole when this returns."""
    if out is None:
        return [one(path, guests, None) for path in captures]
    from netstack.capture.pcap import PcapWriter

    with writing(f"--out {out}"):
        writer = PcapWriter(out)
    try:
        results = [one(path, guests, writer) for path in captures]
    except BaseException:
        with contextlib.suppress(OSError):  # the first trouble is what is told
            writer.close()
        raise
    with writing(f"--out {out}"):  # a disk that is full says so now
        writer.close()
    return results


def one(path: str, guests: tuple[str, ...], writer: PcapWriter | None) -> Result:
    from netstack.replay import replay as run

    try:
        return run(path, guests=guests, out=writer)
    except OSError as err:
        raise ReplayError(f"the capture {path} cannot be read: {err.strerror or err}") from None
    except ConfigError:
        raise
    except NetstackError as err:
        raise ReplayError(str(err)) from None


def write_junit(path: str, results: list[Result]) -> None:
    from netstack.replay.result import junit

    with writing(f"--junit {path}"), open(path, "wb") as file:
        file.write(junit(results))


def show(result: Result, quiet: bool) -> None:
    """One capture's table."""
    verdicts = [v for v in result.verdicts if not quiet or v.verdict == "wrong"]
    if quiet and not verdicts:
        return
    guests = ", ".join(f"{g.guest} ({g.why})" for g in result.guests) or "no guest"
    click.echo(
        f"{result.capture}: {result.verdict}. {result.frames} frames in {result.seconds:.3f} s, "
        f"{result.unplayed} of nobody's; guests: {guests}"
    )
    for note in result.notes:
        click.echo(f"  {note}")
    table(
        ("PROTOCOL", "FLOW", ">FRAMES", ">BYTES", "VERDICT", "WHY"),
        (
            (v.protocol, v.flow, v.frames, amount(v.bytes), v.verdict, v.difference or "; ".join(v.notes))
            for v in verdicts
        ),
    )


def command() -> click.Command:
    """The command as click sees it."""
    return replay
