"""``netstack impair``: the bad path of a running instance."""

from __future__ import annotations

import click

from netstack.cli.instance import as_json, instance_options

__all__ = ["command"]


@click.command(
    "impair",
    epilog="""\b
Examples:
  netstack impair loss=1%,delay=20ms±5ms    both ways
  netstack impair --down rate=10mbit        to the guests only
  netstack impair off""",
)
@click.argument("path", metavar="[PATH|off]", required=False)
@click.option("--up", metavar="PATH", help="What the guests send, instead of PATH.")
@click.option("--down", metavar="PATH", help="What the guests receive, instead of PATH.")
@instance_options
def impair(path: str | None, up: str | None, down: str | None, instance: str | None, in_json: bool) -> int:
    """Give all links of an instance a bad path (as run --impair), or a good one again; print the one they have.

    What is under way arrives at once; new frames meet the new path.
    """
    from netstack.control.client import choose

    client = choose(instance)
    if path is None and up is None and down is None:
        answer = client.ask("GET", "/v1/impairment")
    else:
        ways = [_path(path if way is None else way) for way in (up, down)]
        answer = client.ask("PUT", "/v1/impairment", {"up": ways[0], "down": ways[1]})
    if in_json:
        as_json(answer)
    else:
        for way in ("up", "down"):
            click.echo(f"{way:<5} {answer[way] or 'good'}")
    return 0


def _path(text: str | None) -> str:
    return "" if text in (None, "off") else str(text)


def command() -> click.Command:
    """The command as click sees it."""
    return impair
