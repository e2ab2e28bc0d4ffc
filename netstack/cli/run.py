"""``netstack run``: a command in its own rootless network namespace."""

from __future__ import annotations

import contextlib
import gc
import os
import signal

from netstack.cli.closing import leave_open
from netstack.cli.options import (
    add_guest,
    check_standard_output,
    control_api,
    guest_interface,
    network_config,
    network_options,
    print_summary,
    publishing,
    require_linux,
)

TYPE_CHECKING = False  # that of typing, see main.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import click

    from netstack.config import Config
    from netstack.sandbox import Sandbox

__all__ = ["SignalRelay", "command", "run"]

SI_KERNEL = 0x80  # sigaction(2): sent by the kernel, such as by the terminal's driver

# The terminal's driver gives these to the whole foreground group, and so to the command as well.
FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH})
RELAYED = FROM_TERMINAL | {signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM}


class SignalRelay:
    """Keeps signals from this process, and passes them on to a command.

    Signals are blocked and fetched, not handled: nothing is interrupted, and threads started meanwhile never
    get one.
    """

    def __enter__(self) -> SignalRelay:
        self._waited = RELAYED | {signal.SIGCHLD}
        self.mask = signal.pthread_sigmask(
            signal.SIG_BLOCK, self._waited
        )  #: what the command is to have blocked
        return self

    def __exit__(self, *exception: object) -> None:
        while signal.sigtimedwait(self._waited, 0) is not None:  # too late to mean the command
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def wait(self, sandbox: Sandbox) -> int:
        """Relays until the command ends; its exit status."""
        while (status := sandbox.poll()) is None:
            info = signal.sigwaitinfo(self._waited)
            number = signal.Signals(info.si_signo)
            if number == signal.SIGCHLD or (number in FROM_TERMINAL and info.si_code == SI_KERNEL):
                continue
            try:
                os.kill(sandbox.pid, number)
            except OSError:  # it has ended, or has become somebody else's by a set-user-id program
                continue
        return status


def search_domains(config: Config) -> list[str]:
    """Where the command looks for short names: the network's domain, then what the settings or the host say."""
    search = config.search
    if search is None:
        from netstack.services.resolv_conf import ResolvConfWatcher

        search = ResolvConfWatcher(config.resolv_conf).conf.search
    return list(dict.fromkeys((config.domain, *search)))


def run(
    argv: tuple[str, ...],
    verbose: bool,
    api: str | None = None,
    publish_all: bool = False,
    **network: Any,
) -> int:
    """Runs a command in a sandbox with a network; its exit status.

    Raises:
        ConfigError: an option cannot be used.
        InstanceError: the control API cannot be served.
        SandboxError: there is no sandbox to be had.
        CommandError: the command cannot be executed.
    """
    require_linux("run")
    config = network_config(**network)
    check_standard_output(config)
    from netstack.sandbox import Netns, Sandbox, sock_diag_in

    interface = guest_interface(config, "tap0")
    resolv_conf = f"search {' '.join(search_domains(config))}\nnameserver {config.gateway}\n"
    environ = environment(config)
    with SignalRelay() as relay:
        with apart(config.pcap == "-"):
            sandbox = Sandbox(
                argv, interface, resolv_conf, mask=relay.mask, environ=environ
            )  # forks, so before there are threads
        try:
            from netstack.gateway import Gateway  # while the child makes its namespaces

            tap = sandbox.tap()
            leave_open(tap.fd)
            gateway = Gateway(config)
            add_guest(gateway, tap, interface, tap.name)
            sockets = None
            if publish_all:
                with contextlib.closing(Netns(str(sandbox.pid))) as namespace:
                    sockets = sock_diag_in(namespace)
            gateway.start()
            gc.enable()
            try:
                with control_api(gateway, api, "run"), publishing(gateway, sockets):
                    sandbox.go()
                    status = relay.wait(sandbox)
                if verbose:
                    print_summary(gateway)
            finally:
                gateway.stop()
        finally:
            sandbox.kill()
    return status


@contextlib.contextmanager
def apart(capture: bool) -> Iterator[None]:
    """Where standard output is the capture's, what is forked meanwhile writes to standard error instead."""
    if not capture:
        yield
        return
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def environment(config: Config) -> dict[str, str] | None:
    """The command's environment where a proxy changes it, otherwise None.

    Raises:
        ConfigError: an option about proxies cannot be used.
    """
    from netstack.proxy.presence import configured, present

    if not present(config, os.environ):
        return None
    from netstack.proxy.environment import guest_environment
    from netstack.proxy.plan import Plan
    from netstack.proxy.service import Finder

    settings = Finder(
        config, os.environ, lambda text: None
    ).look()  # the gateway's own finder says what is wrong
    return guest_environment(os.environ, settings, Plan.of(config, lambda name: None), configured(config))


def command() -> click.Command:
    """The command as click sees it."""
    import click

    @click.command(
        context_settings={"allow_interspersed_args": False},
        epilog="""\b
Examples:
  netstack run -- curl http://192.168.65.2:8000/     a server on this host's loopback
  netstack run -- bash                               a shell with a network of its own
  netstack run -P -- python3 -m http.server 80       published on a port that is free
  netstack run --pcap all.pcapng -v -- git clone URL what went over the wire
  netstack run --pcap - -- curl URL | tshark -r -    the same as it happens; curl writes to standard error
  netstack run --impair loss=1%,delay=20ms±5ms,rate=10mbit -- curl -O URL   over a bad path""",
    )
    @network_options
    @click.argument(
        "argv", nargs=-1, required=True, metavar="[--] COMMAND [ARGUMENT]...", type=click.UNPROCESSED
    )
    def run_command(**options: Any) -> int:
        """Run COMMAND in a network namespace of its own.

        It sees a network card with the address 192.168.65.3, reaches what this host reaches, and needs no
        root. The exit status is the command's (128 + n after signal n); 126 and 127 say that it could not be
        started, 125 that there was no sandbox to start it in. Processes that it leaves behind lose their
        network when it ends.
        """
        return run(**options)

    return run_command
