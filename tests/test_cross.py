"""The extensions compile for macOS, and the check would see it if one did not."""

from __future__ import annotations

from pathlib import Path

import cross
import pytest

KQUEUE = """
#include <Python.h>
#include <sys/event.h>
#ifndef __APPLE__
#error "this is not macOS"
#endif
int f(void) { struct kevent k; EV_SET(&k, 0, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, 0); return kqueue() + (int)k.ident; }
"""

OF_LINUX = {
    "header": "#include <sys/epoll.h>\n",
    "function": "#include <sys/socket.h>\nint f(int s) { return accept4(s, 0, 0, 0); }\n",
    "constant": "#include <sys/socket.h>\nint f(void) { return SOCK_NONBLOCK; }\n",
    "type": "#include <sys/socket.h>\nstruct mmsghdr message;\n",
    "pointer": "void g(long long *p);\nvoid f(long *p) { g(p); }\n",
}


@pytest.fixture(scope="module")
def cc() -> list[str]:
    found = cross.compiler()
    if found is None:
        pytest.skip("zig is missing: run ./dev cross")
    return found


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross.headers(tmp_path_factory.mktemp("cross"))


def error(cc: list[str], include: Path, folder: Path, target: str, text: str) -> str:
    source = folder / "a.c"
    source.write_text(text)
    return cross.compile_one(cc, include, source, target, folder / "a.o").error


@pytest.mark.parametrize("target", cross.TARGETS)
def test_it_is_macos(cc: list[str], include: Path, tmp_path: Path, target: str) -> None:
    assert error(cc, include, tmp_path, target, KQUEUE) == ""


@pytest.mark.parametrize("what", OF_LINUX)
def test_what_only_linux_has_is_seen(cc: list[str], include: Path, tmp_path: Path, what: str) -> None:
    assert "error:" in error(cc, include, tmp_path, cross.TARGETS[0], OF_LINUX[what])


def test_every_extension_is_looked_at() -> None:
    try:
        found = cross.sources()
    except FileNotFoundError as err:
        pytest.skip(f"{err.filename} is missing: run ./dev build")
    names = {str(path.relative_to(cross.ROOT / "netstack")) for path in found}
    assert names >= {"host/poller.c", "host/tun.c", "link/tap.c", "engine.c", "_cyutility.c"}
    assert len(names) == 1 + len(list((cross.ROOT / "netstack").rglob("*.pyx")))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_extension_compiles(cc: list[str], tmp_path: Path) -> None:
    failed = [outcome for outcome in cross.compile_all(cc, cross.sources(), tmp_path) if outcome.error]
    assert not failed, failed[0].error
