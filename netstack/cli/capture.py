"""``netstack capture``: every frame of a running instance, as pcapng."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from netstack.cli.instance import Seconds, as_json, instance_options
from netstack.errors import ConfigError, NetstackError

if TYPE_CHECKING:
    from netstack.control.client import Client

__all__ = ["command"]

LOOK_SECONDS = 0.2  # how often it looks whether the capture has come to its end


def _size(ctx: click.Context, parameter: click.Parameter, value: str) -> int:
    from netstack.config import parse_size

    try:
        return parse_size(value)
    except ConfigError as err:
        raise click.BadParameter(str(err), ctx, parameter) from None


def _ring(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str:
    from netstack.config import parse_ring

    try:
        if value is not None:
            parse_ring(value)
    except ConfigError as err:
        raise click.BadParameter(str(err), ctx, parameter) from None
    return value or ""


@click.command(
    "capture",
    epilog="""\b
Examples:
  netstack capture all.pcapng                       until Ctrl-C
  netstack capture --ring 10x64MB --snaplen 128 all.pcapng
  netstack capture --filter 'tcp port 443' - | tshark -r -
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
    "--ring",
    callback=_ring,
    metavar="NxSIZE",
    help="To a ring of files, as in 10x64MB: FILE with a number and the time in its name, at most N of them.",
)
@click.option(
    "--filter",
    "expression",
    default="",
    metavar="EXPRESSION",
    help="Only what this pcap-filter expression lets pass, as in 'tcp port 443' (the instance needs libpcap).",
)
@click.option(
    "--wire-frames",
    is_flag=True,
    help="Super-frames (segmentation offload) are cut to the frames that a wire would carry.",
)
@click.option(
    "--seconds",
    type=Seconds(0, 1e9),
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
    help="End when the file would grow beyond this; 0 = never. A ring does not end.",
)
@click.option("--stop", is_flag=True, help="End the capture that runs, whoever has started it.")
@instance_options
def capture(
    file: str | None,
    snaplen: int,
    ring: str,
    expression: str,
    wire_frames: bool,
    seconds: float,
    limit: int,
    stop: bool,
    instance: str | None,
    in_json: bool,
) -> int:
    """Capture every frame of an instance, as tcpdump would on all its links at once.

    FILE is written by the instance itself; to standard output (-) the capture comes over the control socket. Where
    the disk or the reader does not keep up, frames are missing in it and counted; traffic never waits. There is one
    capture at a time. Without FILE, tells what is captured.
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
        if ring:
            raise click.UsageError("a ring needs names for its files: give FILE instead of -")
        from urllib.parse import urlencode

        wanted = {"snaplen": snaplen, "seconds": seconds, "bytes": limit, "filter": expression}
        _to_output(client, f"/v1/capture?{urlencode(wanted | {'wire_frames': int(wire_frames)})}")
    else:
        _report(
            _to_file(
                client,
                {
                    "path": os.path.abspath(file),
                    "snaplen": snaplen,
                    "bytes": limit,
                    "seconds": seconds,
                    "ring": ring,
                    "filter": expression,
                    "wire_frames": wire_frames,
                },
            ),
            in_json,
        )
    return 0


def _to_output(client: Client, path: str) -> None:
    """Streams until the capture ends, an interrupt asks for its end, or nobody reads any more.

    An interrupt is passed on to the instance, so that the capture is whole: its end follows.
    """
    over = threading.Event()
    wake, waker = os.pipe()

    def end() -> None:
        with contextlib.suppress(NetstackError):  # it has ended already, or the instance has
            client.ask("DELETE", "/v1/capture")

    def watch() -> None:
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        poller.register(1, 0)  # POLLERR: its reader has gone
        poller.poll()
        if not over.is_set():
            end()

    def interrupted(number: int, frame: object) -> None:
        os.write(waker, b"x")
        signal.signal(number, signal.SIG_DFL)  # the second one does not wait for a reader that never reads

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    watcher = threading.Thread(target=watch, name="netstack-capture-watch", daemon=True)
    try:
        with open(os.dup(1), "wb", buffering=0) as out:
            for chunk in client.stream(path):
                if watcher.ident is None:  # the instance captures now
                    watcher.start()
                view = memoryview(chunk)
                while view:
                    view = view[out.write(view) :]
    except BrokenPipeError:  # whoever reads has had enough
        pass
    finally:
        over.set()
        os.write(waker, b"x")


def _to_file(client: Client, wanted: dict[str, Any]) -> dict[str, Any]:
    """Has the instance write a file until it is full, the time is over or the user interrupts; how it ended."""
    state: dict[str, Any] = client.ask("POST", "/v1/capture", wanted)
    since = state["since"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    click.echo(f"netstack: captures to {wanted['path']}, until Ctrl-C", err=True)
    try:
        while True:
            time.sleep(LOOK_SECONDS)
            found = client.ask("GET", "/v1/capture/state")
            for state in found["capture"], found["last"]:
                if state is not None and state["since"] == since:
                    break
            if found["capture"] is None or found["capture"]["since"] != since:
                return state
    except KeyboardInterrupt:
        pass
    ended: dict[str, Any] = client.ask("DELETE", "/v1/capture")
    return ended


def _report(state: dict[str, Any], in_json: bool) -> None:
    if in_json:
        as_json(state)
        return
    more = f", {state['lost']} lost" if state["lost"] else ""
    more += ", up to its limit" if state["full"] else ""
    more += f", ended by an error: {state['error']}" if state["error"] else ""
    if state["files"]:
        more = f" in {state['files']} files of a ring{more}"
    click.echo(f"{state['target']}: {state['frames']} frames, {state['bytes']} bytes{more}")


def command() -> click.Command:
    """The command as click sees it."""
    return capture
