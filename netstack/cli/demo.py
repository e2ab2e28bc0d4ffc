"""``netstack demo``: a guest in a fresh namespace does what guests do, and a report of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netstack.cli.demo_guest import STEPS, Plan, take_steps
from netstack.cli.demo_host import HostServices
from netstack.cli.instance import Seconds
from netstack.cli.options import add_guest, guest_interface
from netstack.config import Config
from netstack.errors import SandboxError

if TYPE_CHECKING:
    from rich.console import Console

    from netstack.sandbox import Sandbox

__all__ = ["command"]

FINISH_SECONDS = 5.0  # for the host to see the end of what the guest has finished


@click.command()
@click.option(
    "--seconds",
    type=Seconds(0.1, 60),
    default=2.0,
    show_default=True,
    help="Length of each bulk transfer.",
)
@click.option("--memory", is_flag=True, help="Use the guest in memory even where namespaces can be had.")
def demo(seconds: float, memory: bool) -> int:
    """Show everything at work: DHCP, DNS, ping, TCP, UDP and bulk data between a guest and this host.

    The guest is a process in a namespace of its own. Where there are none to be had, it is a small stack in
    memory.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    config = Config()
    services = HostServices(seconds)
    plan = Plan(
        interface="tap0",
        gateway=config.gateway,
        host=str(config.host_alias),
        host_name=config.host_names[0],
        web_port=services.web_port,
        udp_port=services.udp_port,
        bulk_port=services.bulk_port,
        seconds=seconds,
    )
    with ExitStack() as stack:
        guest: _NamespaceGuest | None = None
        if not memory:
            try:
                guest = _NamespaceGuest(plan, config)  # forks, so before there are threads
                stack.callback(guest.close)
            except SandboxError as err:
                console.print(f"Without namespaces: {err}.")
        console.print(
            f"netstack demo: a guest {'in memory' if guest is None else 'in a fresh namespace'}, "
            f"a gateway at {config.gateway}, and servers on this host's loopback, "
            f"which is {plan.host} to the guest\n",
            style="bold",
        )
        from netstack.gateway import Gateway

        gateway = Gateway(config)
        results: Iterator[dict[str, Any]]
        if guest is None:
            import netstack.testing

            memory_guest = netstack.testing.memory_guest(gateway)
            stack.callback(memory_guest.close)
            results = take_steps(memory_guest, plan)
        else:
            guest.give_tap(gateway)
            results = guest.results()
        gateway.start()
        stack.callback(gateway.stop)
        services.start()
        stack.callback(services.close)
        taken, result = 0, {}
        for result in results:
            taken += 1
            if not _report(console, services, result):
                break
        else:
            if taken < len(STEPS):
                console.print(" ✗ the guest has ended early", style="red")
        complete = taken == len(STEPS) and "error" not in result
        _print_counters(console, gateway.stats())
    console.print(
        "\nEverything worked." if complete else "\nNot everything worked.",
        style="bold green" if complete else "bold red",
    )
    return 0 if complete else 1


def command() -> click.Command:
    """The command as click sees it."""
    return demo


class _NamespaceGuest:
    """The guest's process, and the pipe that it reports to.

    Raises:
        SandboxError: namespaces cannot be had.
    """

    def __init__(self, plan: Plan, config: Config) -> None:
        if sys.platform != "linux":
            raise SandboxError("this system has none")
        from netstack.sandbox import Sandbox

        # The guest is this same program, wherever it was started from.
        package = str(Path(__file__).resolve().parents[2])
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._reports, report_fd = os.pipe()
        argv = [sys.executable, "-m", "netstack.cli.demo_guest", json.dumps(plan), str(report_fd)]
        self._interface = guest_interface(config, plan.interface, configured=False)
        self._sandbox: Sandbox = Sandbox(
            argv, self._interface, "# Written by the DHCP client.\n", pass_fds=[report_fd]
        )
        os.close(report_fd)
        try:
            self._tap = self._sandbox.tap()
        except BaseException:
            self.close()
            raise

    def give_tap(self, gateway: Any) -> None:
        """Makes the TAP a link of the gateway; the address comes by DHCP."""
        add_guest(gateway, self._tap, self._interface, self._tap.name)

    def results(self) -> Iterator[dict[str, Any]]:
        """Lets the guest begin; its reports as they come."""
        self._sandbox.go()
        with open(self._reports, closefd=False) as reports:
            for line in reports:
                yield json.loads(line)

    def close(self) -> None:
        """Ends the guest."""
        self._sandbox.kill()
        os.close(self._reports)


# ---- the report --------------------------------------------------------------------------------------------


def _rate(result: dict[str, Any]) -> str:
    count, seconds = result["bytes"], max(result["seconds"], 1e-9)
    return f"{count / 2**20:,.0f} MiB in {seconds:.2f} s, {count * 8 / seconds / 1e9:.2f} Gbit/s"


def _saw(services: HostServices, step: str) -> str:
    return "; ".join(services.saw[step]) or "nothing"


# What a line says of a step that worked: its title, the guest's words, the host's words.
_TEXTS: dict[str, tuple[str, Callable[[dict[str, Any]], str], Callable[[HostServices], str]]] = {
    "dhcp": (
        "DHCP",
        lambda r: (
            f"{r['address']}/{r['prefix']}, router {r['router']}, DNS {r['dns']}, lease {r['lease']:,} s"
        ),
        lambda s: "the gateway leased it",
    ),
    "resolve": ("DNS", lambda r: f"{r['name']} is {r['address']}", lambda s: "the gateway answered it"),
    "ping": (
        "ping",
        lambda r: f"{r['address']} answered {r['count']} of {r['count']}, best {r['best_ms']:.3f} ms",
        lambda s: "the gateway answered it",
    ),
    "download": (
        "TCP",
        lambda r: f"{_rate(r)}, sha256 {r['sha256'][:16]}… equal",
        lambda s: _saw(s, "download"),
    ),
    "udp": (
        "UDP",
        lambda r: f"datagrams of {', '.join(map(str, r['sizes']))} bytes came back whole",
        lambda s: _saw(s, "udp"),
    ),
    "down": ("bulk to guest", _rate, lambda s: _saw(s, "down")),
    "up": ("bulk to host", _rate, lambda s: _saw(s, "up")),
}


def _disagreement(services: HostServices, result: dict[str, Any]) -> str | None:
    """How the host's account of a step differs from the guest's."""
    step = result["step"]
    if step == "download" and result["sha256"] != services.sha256:
        return f"the checksum is {result['sha256']}, the host's {services.sha256}"
    if step in ("down", "up"):
        services.done[step].wait(FINISH_SECONDS)
        if services.counted.get(step) != result["bytes"]:
            return f"the guest counts {result['bytes']:,} bytes, the host {services.counted.get(step, 0):,}"
    return None


def _report(console: Console, services: HostServices, result: dict[str, Any]) -> bool:
    """Prints what came of a step; True when it worked."""
    title, guest_words, host_words = _TEXTS[result["step"]]
    error = result.get("error") or _disagreement(services, result)
    if error:
        console.print(f" [red]✗[/red] [bold]{title:<14}[/bold] {error}")
        console.print(f"   {'':<14} [dim]host saw: {_saw(services, result['step'])}[/dim]")
        return False
    console.print(f" [green]✓[/green] [bold]{title:<14}[/bold] {guest_words(result)}")
    console.print(f"   {'':<14} [dim]host saw: {host_words(services)}[/dim]")
    return True


def _print_counters(console: Console, stats: dict[str, int]) -> None:
    from rich.table import Table

    table = Table(title="\ncounters", title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 1))
    for justify in ("left", "right") * 2:
        table.add_column(justify=justify, no_wrap=True)
    shown = [(name, f"{value:,}") for name, value in sorted(stats.items()) if value]
    half = (len(shown) + 1) // 2
    for i in range(half):
        table.add_row(*(cell for pair in shown[i::half] for cell in pair))
    console.print(table)
