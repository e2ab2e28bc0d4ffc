"""What others are told: the service manager (sd_notify), whoever gave a descriptor or a socket, and the log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Mapping

from netstack.errors import ConfigError
from netstack.link.spec import KINDS, LinkSpec

__all__ = ["EventStream", "JsonFormatter", "inherited_links", "log_level", "sd_notify", "set_log_level"]

LEVELS = ("debug", "info", "warning", "error")
FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)


def sd_notify(state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Tells the service manager, where there is one (sd_notify(3)); False where there is none."""
    path = environment.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return False
    address = "\0" + path[1:] if path[0] == "@" else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
        return True
    return False


def inherited_links(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> list[LinkSpec]:
    """The sockets that a service manager has passed on (sd_listen_fds(3)).

    The name of each (FileDescriptorName=) says what comes there: ``hyperkit``, or ``qemu-builds``, or any other kind
    with or without something behind a hyphen.

    Raises:
        ConfigError: a name says nothing of the kind.
    """
    if environment.get("LISTEN_PID") != str(os.getpid() if pid is None else pid):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not count.isdecimal():
        return []
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    specs = []
    for i in range(int(count)):
        name = names[i] if i < len(names) else ""
        kind = name.partition("-")[0]
        if kind not in KINDS:
            raise ConfigError(
                f"inherited descriptor {FIRST_DESCRIPTOR + i} is called {name!r}: FileDescriptorName= must begin with "
                f"one of {', '.join(KINDS)}"
            )
        specs.append(LinkSpec(kind, "fd", port=FIRST_DESCRIPTOR + i))
    return specs


def log_level() -> str:
    """The least that is logged: debug, info, warning or error."""
    log = logging.getLogger("netstack")
    texts = [handler.level for handler in log.handlers if not isinstance(handler, EventStream)]
    level = max(log.getEffectiveLevel(), min(texts, default=0))
    return next((name for name in LEVELS if getattr(logging, name.upper()) >= level), LEVELS[-1])


def set_log_level(level: str) -> None:
    """Logs from a level on. Events (`EventStream`) are told whatever the level."""
    log = logging.getLogger("netstack")
    number = getattr(logging, level.upper())
    if not log.handlers:  # what runs a command logs warnings only, by Python's own last resort
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("netstack: %(message)s"))
        log.addHandler(handler)
    events = any(isinstance(handler, EventStream) for handler in log.handlers)
    for handler in log.handlers:
        if not isinstance(handler, EventStream):
            handler.setLevel(number)
    log.setLevel(min(number, logging.INFO) if events else number)


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """time (RFC 3339), level and message, and what an event carries."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        out: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        for key in ("event", "link", "port"):
            if hasattr(record, key):
                out[key] = getattr(record, key)
        if record.exc_info:
            out["exception"] = self.formatException(record.exc_info)
        return json.dumps(out)


class EventStream(logging.Handler):
    """Writes a line of JSON for each event: ready, link_opened, link_closed, stopping.

    Args:
        target: a descriptor's number, or the path of a file, a pipe, or a Unix socket (stream or datagram) where
            somebody listens.

    Raises:
        ConfigError: it cannot be written to.
    """

    def __init__(self, target: str) -> None:
        super().__init__(logging.INFO)
        try:
            self._fd, self._datagrams = self._open(target)
        except (OSError, OverflowError) as err:
            why = getattr(err, "strerror", None) or "is not a descriptor"
            raise ConfigError(f"notify {target}: {why}") from None

    @staticmethod
    def _open(target: str) -> tuple[int, bool]:
        if target.isdecimal():
            fd = os.dup(int(target))
            os.set_inheritable(fd, False)
            return fd, False
        if os.path.exists(target) and stat.S_ISSOCK(os.stat(target).st_mode):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                sock = socket.socket(socket.AF_UNIX, kind)
                try:
                    sock.connect(target)
                except OSError:
                    sock.close()
                    if kind == socket.SOCK_DGRAM:
                        raise
                    continue
                return sock.detach(), kind == socket.SOCK_DGRAM
        return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644), False

    def emit(self, record: logging.LogRecord) -> None:
        """Writes what is an event; a reader that has gone is no reason to stop."""
        event = getattr(record, "event", None)
        if event is None or self._fd < 0:
            return
        line: dict[str, object] = {"event": event}
        for key in ("link", "port", "listen"):
            if hasattr(record, key):
                line[key] = getattr(record, key)
        with contextlib.suppress(OSError):
            os.write(self._fd, json.dumps(line).encode() + (b"" if self._datagrams else b"\n"))

    def close(self) -> None:
        """Closes what it writes to."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()
