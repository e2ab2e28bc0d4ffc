"""``netstack capture``: every frame of a running instance, as pcapng."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from netstack.cli.instance import as_json, instance_options
from netstack.errors import ConfigError

if TYPE_CHECKING:
    from netstack.control.client import Client

__all__ = ["command"]

LOOK_SECONDS = 0.2  # how often it looks whether the capture has come to its end
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


def _size(ctx: click.Context, parameter: click.Parameter, value: str) -> int:
    number, unit = (value[:-1], value[-1]) if value[-1:].isalpha() else (value, "")
    if not number.isdecimal() or unit not in UNITS:
        raise click.BadParameter(f"{value!r} is not a size such as 500k, 100M or 2G", ctx, parameter)
    return int(number) * UNITS[unit]


@click.command(
    "capture",
    epilog="""\b
Examples:
  netstack capture all.pcapng                       until Ctrl-C
  netstack capture --seconds 10 - | tshark -r -
  netstack capture - | wireshark -k -i -
  netstack capture --stop""",
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, allow_dash=True), metavar="FILE|-")
@click.option(
    "--snaplen",
    type=click.IntRange(0, 262144),
    default=0,
    metavar="BYTES",
    help="Keep this much of each frame; 0 = all.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 1e9),
    default=0.0,
    metavar="N",
    help="End after this time; 0 = with Ctrl-C.",
)
@click.option(
    "--bytes",
    "limit",
    default="1G",
    show_default=True,
    callback=_size,
    metavar="SIZE",
    help="End when the file would grow beyond this; 0 = never.",
)
@click.option("--stop", is_flag=True, help="End the capture that runs, whoever has started it.")
@instance_options
def capture(
    file: str | None,
    snaplen: int,
    seconds: float,
    limit: int,
    stop: bool,
    instance: str | None,
    in_json: bool,
) -> int:
    """Capture every frame of an instance, as tcpdump would on all its links at once.

    FILE is written by the instance itself, so that nothing is lost however much there is; to standard output (-) it
    comes over the control socket, where frames are lost when the reader falls behind. There is one capture at a time.
    Without FILE, tells what is captured.
    """
    from netstack.control.client import choose

    if stop and file is not None:
        raise click.UsageError("give FILE or --stop, not both")
    client = choose(instance)
    if stop:
        _report(client.ask("DELETE", "/v1/capture"), in_json)
    elif file is None:
        state = client.ask("GET", "/v1/capture/state")["capture"]
        if in_json:
            as_json(state)
        elif state is None:
            click.echo("nothing is captured")
        else:
            _report(state, False)
    elif file == "-":
        if sys.stdout.isatty():
            raise ConfigError("a terminal cannot show a capture: give FILE, or a pipe such as | tshark -r -")
        query = f"snaplen={snaplen}&seconds={seconds}&bytes={limit}"
        with open(os.dup(1), "wb", buffering=0) as out:
            for chunk in client.stream(f"/v1/capture?{query}"):
                out.write(chunk)
    else:
        _report(_to_file(client, os.path.abspath(file), snaplen, seconds, limit), in_json)
    return 0


def _to_file(client: Client, path: str, snaplen: int, seconds: float, limit: int) -> dict[str, Any]:
    """Has the instance write a file until it is full, the time is over or the user interrupts; how it ended."""
    wanted = {"path": path, "snaplen": snaplen, "bytes": limit, "seconds": seconds}
    state: dict[str, Any] = client.ask("POST", "/v1/capture", wanted)
    since = state["since"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    click.echo(f"netstack: captures to {path}, until Ctrl-C", err=True)
    try:
        while True:
            time.sleep(LOOK_SECONDS)
            found = client.ask("GET", "/v1/capture/state")["capture"]
            if found is None or found["since"] != since:
                return state
            state = found
    except KeyboardInterrupt:
        ended: dict[str, Any] = client.ask("DELETE", "/v1/capture")
        return ended


def _report(state: dict[str, Any], in_json: bool) -> None:
    if in_json:
        as_json(state)
        return
    more = f", {state['lost']} lost" if state["lost"] else ""
    more += ", up to its limit" if state["full"] else ""
    more += f", ended by an error: {state['error']}" if state["error"] else ""
    click.echo(f"{state['target']}: {state['frames']} frames, {state['bytes']} bytes{more}")


def command() -> click.Command:
    """The command as click sees it."""
    return capture
