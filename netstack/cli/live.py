"""A view that fills the terminal and is drawn anew every tick, until q or Ctrl-C; or a line of JSON each tick."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from netstack.cli.instance import Seconds
from netstack.errors import NetstackError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from netstack.cli.rates import Look, Sampler

__all__ = ["NoTerminal", "tick_options", "view", "watch"]

FIRST_SECONDS = 0.3  # until the first rates
LEAVE = b"qQ\x03\x04"  # also Ctrl-C and Ctrl-D, where the terminal makes no signal of them


class NoTerminal(NetstackError):
    """Something that fills a terminal is to be printed elsewhere."""

    exit_code = 2


def tick_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--interval`` and ``--count``."""
    function = click.option(
        "-n", "--count", type=click.IntRange(1), metavar="N", help="Leave after so many ticks."
    )(function)
    return click.option(
        "-i",
        "--interval",
        type=Seconds(0.1, 3600),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="From tick to tick.",
    )(function)


def watch(
    sampler: Sampler,
    draw: Callable[[Look, int, int], RenderableType],
    *,
    interval: float,
    count: int | None,
    in_json: bool,
    command: str,
) -> int:
    """Looks every ``interval`` seconds, and draws (look, columns, rows) or prints JSON.

    Raises:
        NoTerminal: the output is none, and JSON is not asked for.
        InstanceError: the instance does not answer, or not any more.
    """
    if not in_json and not sys.stdout.isatty():
        raise NoTerminal(
            f"{command} fills a terminal, and this is none: give --json for a line of JSON each tick"
        )
    with contextlib.suppress(KeyboardInterrupt), ticks() if in_json else view(draw) as screen:
        look = sampler.look()
        if screen.show(look, min(interval, FIRST_SECONDS)):
            return 0
        ticked = 0
        while True:
            look = sampler.look()
            ticked += 1
            if screen.tick(look, 0 if ticked == count else interval) or ticked == count:
                return 0
    return 0


class Lines:
    """Each look as a line of JSON."""

    def __init__(self, wait: Callable[[float], bool]) -> None:
        self._wait = wait

    def show(self, look: Look, seconds: float) -> bool:
        """Nothing is said of the first, which has no rates."""
        return self._wait(seconds)

    def tick(self, look: Look, seconds: float) -> bool:
        """Prints, and waits; True when it is to end."""
        click.echo(json.dumps(look.as_json()))
        sys.stdout.flush()
        return self._wait(seconds)


@contextlib.contextmanager
def ticks() -> Iterator[Lines]:
    """For JSON: Ctrl-C ends it."""
    import time

    def wait(seconds: float) -> bool:
        time.sleep(seconds)
        return False

    yield Lines(wait)


class Screen:
    """The terminal while it is ours."""

    def __init__(self, live: Any, draw: Callable[[Look, int, int], RenderableType], wake_fd: int) -> None:
        self._live = live
        self._draw = draw
        self._wake_fd = wake_fd
        self._keys = sys.stdin is not None and sys.stdin.isatty()

    def show(self, look: Look, seconds: float) -> bool:
        """Draws, and waits so long, drawing again when the terminal's size changes; True when it is to end."""
        import time

        end = time.monotonic() + seconds
        while True:
            width, height = self._live.console.size
            self._live.update(self._draw(look, width, height), refresh=True)
            readable = [self._wake_fd, *([sys.stdin.fileno()] if self._keys else [])]
            ready, _, _ = select.select(readable, [], [], max(0, end - time.monotonic()))
            if not ready:
                return False
            if self._wake_fd in ready:
                os.read(self._wake_fd, 64)
            if self._keys and sys.stdin.fileno() in ready:
                keys = os.read(sys.stdin.fileno(), 64)
                if not keys or any(key in LEAVE for key in keys):
                    return True

    tick = show


@contextlib.contextmanager
def view(draw: Callable[[Look, int, int], RenderableType]) -> Iterator[Screen]:
    """Takes the terminal, and gives it back as it was, however this ends."""
    import termios
    import tty

    from rich.console import Console
    from rich.live import Live

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def resized(number: int, frame: object) -> None:
        pass  # its number has gone into the pipe, which is what is waited for

    with contextlib.ExitStack() as undo:
        reader, writer = os.pipe()
        for fd in (reader, writer):
            os.set_blocking(fd, False)
            undo.callback(os.close, fd)
        for number, handler in (
            (signal.SIGWINCH, resized),
            (signal.SIGTERM, interrupt),
            (signal.SIGHUP, interrupt),
        ):
            undo.callback(signal.signal, number, signal.signal(number, handler))
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
        if sys.stdin is not None and sys.stdin.isatty():
            fd = sys.stdin.fileno()
            undo.callback(termios.tcsetattr, fd, termios.TCSADRAIN, termios.tcgetattr(fd))
            tty.setcbreak(fd)
        live = Live(
            console=Console(highlight=False), screen=True, auto_refresh=False, vertical_overflow="crop"
        )
        yield Screen(undo.enter_context(live), draw, reader)
