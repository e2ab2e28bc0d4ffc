"""The program's entry, and its exit codes."""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
from types import ModuleType

from netstack.cli.closing import closed_behind
from netstack.errors import NetstackError
from netstack.log import say_as_commands_do

TYPE_CHECKING = False  # that of typing, which takes longer to import than a command may wait
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main", "program"]

USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports


def program() -> NoReturn:
    """The process: `main`, without what only costs a short command time.

    Nothing is garbage while modules are imported, and a command has stopped and written everything of its own
    when it returns, so that the interpreter need not take itself apart.
    """
    say_as_commands_do()
    gc.disable()  # each command enables it again when it has started
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files are bytes, and not every terminal has every letter: neither is a reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    with closed_behind():
        status = main()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:  # nobody reads it
        status = status or 1
    except OSError as err:
        status = status or 1
        _complain(_reason(err))
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program with these arguments (default: those of the process); its exit status."""
    try:
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except NetstackError as err:
        _complain(str(err))
        return err.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain about it either.
        sys.stderr = sys.stdout = None
        return 1
    except OSError as err:
        _complain(_reason(err))
        return 1
    except UnicodeEncodeError as err:
        # An argument with bytes that are no text, where text is needed.
        _complain(f"{err.object!r} is not UTF-8")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["run"]:
        # By far the most frequent command starts without click, unless its options want explaining.
        _put_off("inspect")  # dataclasses wants it only for classes without a docstring
        from netstack.cli.options import parse_plainly
        from netstack.cli.run import run

        options = parse_plainly(arguments[1:])
        if options is not None:
            return run(**options)
    from netstack.cli.group import UsageError, run_group

    try:
        return run_group(arguments)
    except UsageError as err:
        print(err, file=sys.stderr)
        return USAGE


class _Later(ModuleType):
    """A module of the standard library that is loaded when something of it is used first."""

    def __getattr__(self, attribute: str) -> object:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        self.__dict__.update(importlib.import_module(self.__name__).__dict__)
        if attribute not in self.__dict__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        return self.__dict__[attribute]


def _put_off(name: str) -> None:
    sys.modules.setdefault(name, _Later(name))


def _reason(err: OSError) -> str:
    """What the system has refused, and of what."""
    from netstack.cli.outputs import UNWRITABLE

    where = err.filename or ("standard output" if err.errno in UNWRITABLE else "")
    return f"{where}: {err.strerror}" if where else str(err.strerror or err)


def _complain(text: str) -> None:
    print(f"netstack: {text}", file=sys.stderr)
