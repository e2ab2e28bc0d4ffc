"""What all tests share: the long ones on request only, and laboratories where the machine allows them."""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import shlex
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from netstack.host import namespace
from netstack.testing.lab import Lab
from netstack.testing.namespace import unavailable

if TYPE_CHECKING:
    from stack import Stack

# A slow machine is no failure; the examples are the same in every automatic run, and new ones in every run by
# hand.
settings.register_profile(
    "netstack",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("netstack")


@cache
def no_lab() -> str | None:
    """Why laboratories cannot be had here; asked once."""
    return unavailable()


def pytest_configure() -> None:
    """A shell starts its background jobs deaf to these; the programs under test must not inherit that."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, handler)
    if library := os.environ.pop("NETSTACK_SANITIZER", ""):
        preload_for_python_alone(library)


def preload_for_python_alone(library: str) -> None:
    """Programs of others are slow with a sanitizer (tshark takes seconds to say its version), and not our business."""
    os.environ.pop("LD_PRELOAD", None)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # for tests as another user
    atexit.register(shutil.rmtree, folder, True)
    python = folder / "python"
    # Some tests start Python in an environment that they have made: what the sanitizer goes by comes along.
    names = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "PYTHONMALLOC")
    settings = "".join(f"export {name}={shlex.quote(os.environ.get(name, ''))}\n" for name in names)
    python.write_text(
        f"#!/bin/sh\n{settings}export PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}{folder}\n"
        f'LD_PRELOAD={library} exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    # What such a Python starts is one of the two again.
    (folder / "sitecustomize.py").write_text(
        f'import os, sys\nos.environ.pop("LD_PRELOAD", None)\nsys.executable = {str(python)!r}\n'
    )
    sys.executable = str(python)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long tests (marked slow)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--slow") or "slow" in (config.getoption("-m") or "")
    for item in items:
        if item.get_closest_marker("slow") and not wanted:
            item.add_marker(pytest.mark.skip(reason="long: run with --slow"))
        elif item.get_closest_marker("netns") and (reason := no_lab()):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason why tests were left out, however quiet the run."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(autouse=True)
def package_log() -> Iterator[None]:
    """The package's log is the process's: a level set through an API under test must not outlive the test."""
    log = logging.getLogger("netstack")
    before = log.level, log.propagate, log.handlers[:]
    levels = [handler.level for handler in log.handlers]
    yield
    log.setLevel(before[0])
    log.propagate, log.handlers[:] = before[1:]
    for handler, level in zip(log.handlers, levels, strict=True):
        handler.setLevel(level)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A laboratory of the test's own: a host and a guest that nothing joins yet (tests marked netns)."""
    if reason := no_lab():
        pytest.skip(reason)
    with Lab() as made:
        yield made


def run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function`` returns in a child process with user, network and mount namespaces of its own.

    The test is skipped where such namespaces are not to be had; what the function raises fails the test.
    """
    read_end, write_end = os.pipe()
    uid, gid = os.geteuid(), os.getegid()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            try:
                namespace.unshare(namespace.CLONE_NEWUSER | namespace.CLONE_NEWNET | namespace.CLONE_NEWNS)
                namespace.map_ids(0, 0, uid, gid)
                namespace.loopback_up()
            except OSError as error:
                answer = ("skip", f"no namespaces here: {error}")
            else:
                try:
                    answer = ("ok", function(*arguments))
                except BaseException:
                    answer = ("fail", traceback.format_exc())
            with os.fdopen(write_end, "wb") as out:
                pickle.dump(answer, out)
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answers:
        data = answers.read()
    os.waitpid(child, 0)
    outcome, value = pickle.loads(data) if data else ("fail", "the child process died")
    if outcome == "skip":
        pytest.skip(value)
    assert outcome == "ok", value
    return value


@pytest.fixture
def isolated() -> Callable[..., Any]:
    """``isolated(function, *arguments)`` runs a function as root of fresh namespaces and gives its result."""
    return run_isolated


@pytest.fixture(params=["", "poll"], ids=["best", "poll"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The system's best way to wait for descriptors, and poll(2), for the engines that the test makes."""
    monkeypatch.setenv("NETSTACK_POLLER", request.param)
    return str(request.param)


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A gateway and a guest that are stepped; a file that wants another has its own."""
    from stack import Stack

    made = Stack()
    yield made
    made.close()
