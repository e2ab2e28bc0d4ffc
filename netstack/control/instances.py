"""Where the control sockets of this user's instances lie.

A folder of mode 0700 that belongs to the user holds one socket for each instance, ``NAME.sock``, where the name is the
process's number unless another was chosen. Whoever may connect may publish ports and end the instance, so that the
folder and the socket's mode (0600) are all the authentication there is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat

from netstack.errors import NetstackError

__all__ = ["BACKLOG", "InstanceError", "listening", "place", "running", "runtime_directory"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SUFFIX = ".sock"
BACKLOG = 256


class InstanceError(NetstackError):
    """No instance is meant, more than one, or it does not do what it is asked."""

    exit_code = 2


def runtime_directory(create: bool = False) -> str:
    """$XDG_RUNTIME_DIR/netstack, or /tmp/netstack-UID where there is none.

    Raises:
        InstanceError: it cannot be made, or others could write to it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    path = (
        f"{base}/netstack"
        if base.startswith("/") and os.path.isdir(base)
        else f"/tmp/netstack-{os.geteuid()}"
    )
    if create:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
        except OSError as err:
            raise InstanceError(
                f"the folder {path} of control sockets cannot be made ({err.strerror}): give --api PATH or --api off"
            ) from None
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        # /tmp is everybody's: a folder, or a link, that somebody else has put there is not trusted.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise InstanceError(
                f"{path} is not a folder that only this user can reach: remove it, or make it so with chmod 700"
            )
    return path


def place(text: str) -> tuple[str, str]:
    """The (name, path of the socket) that ``--api TEXT`` means: a path, a name, or "on" for the process's number.

    Raises:
        InstanceError: it is neither, or there is no folder for it.
    """
    if "/" in text:
        name = os.path.basename(text).removesuffix(SUFFIX)
        if not name:
            raise InstanceError(f"{text} is a folder: give --api the path of a socket")
        return name, os.path.abspath(text)
    name = str(os.getpid()) if text == "on" else text
    if not NAME.fullmatch(name):
        raise InstanceError(
            f"{text!r} cannot name an instance: use up to 64 letters, digits, dots, dashes and underscores"
        )
    return name, f"{runtime_directory(create=True)}/{name}{SUFFIX}"


def _answers(path: str) -> bool:
    """Whether somebody listens at a socket; one that was left behind is removed.

    Raises:
        OSError: that cannot be found out.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # its queue is full
            return True
        except FileNotFoundError:
            return False
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return False
    return True


def running() -> dict[str, str]:
    """This user's instances: name to the path of its socket. Sockets of those that have died are removed."""
    directory = runtime_directory()
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(os.listdir(directory)):
            path = f"{directory}/{entry}"
            if entry.endswith(SUFFIX) and not entry.startswith("."):
                with contextlib.suppress(OSError):
                    if stat.S_ISSOCK(os.lstat(path).st_mode) and _answers(path):
                        found[entry.removesuffix(SUFFIX)] = path
    return found


def listening(path: str, option: str = "--api") -> socket.socket:
    """A listening socket at a path, of mode 0600; ``option`` is what the user gave the path with.

    It gets its name only when it listens, so that nobody takes it for one that was left behind.

    Raises:
        InstanceError: somebody listens there already, something else lies there, or it cannot be made.
    """
    hidden = f"{path}.{os.getpid()}"  # longer, so that a path which is too long for clients fails here
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise InstanceError(f"{path} exists and is not a socket: give {option} another path")
            if _answers(path):
                raise InstanceError(
                    f"an instance listens at {path} already: give {option} another name or path"
                )
        os.fchmod(sock.fileno(), 0o600)  # Linux makes the file with this mode, before anybody could connect
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)
        try:
            sock.bind(hidden)
            os.chmod(hidden, 0o600)
            sock.listen(BACKLOG)
            os.rename(hidden, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(hidden)
            raise
    except OSError as err:
        sock.close()
        why = "the path is too long" if err.errno is None else err.strerror
        if err.errno == errno.ENOENT:
            why = f"there is no folder {os.path.dirname(path)}"
        raise InstanceError(f"the control socket {path} cannot be made: {why}") from None
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
