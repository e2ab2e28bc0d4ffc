"""What the commands that write files share: outputs that cannot be written, and those that are read as well."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator

from netstack.errors import ConfigError

__all__ = ["UNWRITABLE", "refuse_input", "writing"]

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # which no reading ends with


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Makes a sentence, and exit code 2, of what the system says while ``what`` is written.

    That nobody reads it is no such fault, and stays what it is.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        raise ConfigError(f"{what} cannot be written: {err.strerror or err}") from None


def refuse_input(option: str, path: str | None, inputs: Iterable[str]) -> None:
    """Nothing is written over what is being read.

    Raises:
        ConfigError: the path is one of the inputs.
    """
    if path is None or not os.path.isfile(path):
        return
    for name in inputs:
        if os.path.exists(name) and os.path.samefile(path, name):
            raise ConfigError(f"{option} {path} is one of the captures that are read: give it another name")
