"""``netstack ping``: echo requests from the gateway of a running instance to a guest."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from netstack.cli.instance import Seconds, instance_options

__all__ = ["command"]

PATIENCE_SECONDS = 10.0  # beyond what the instance waits itself


class Summary:
    """What is said at the end."""

    def __init__(self, guest: str) -> None:
        self.guest = guest
        self.sent = 0
        self.rtts: list[float] = []

    def add(self, reply: dict[str, Any]) -> None:
        """Counts what became of a request."""
        self.sent += 1
        if reply["rtt"] is not None:
            self.rtts.append(reply["rtt"])

    def values(self) -> dict[str, Any]:
        """Requests and answers, and the times in seconds where there are any."""
        out: dict[str, Any] = {"guest": self.guest, "transmitted": self.sent, "received": len(self.rtts)}
        if self.rtts:
            mean = sum(self.rtts) / len(self.rtts)
            spread = math.sqrt(max(0.0, sum((rtt - mean) ** 2 for rtt in self.rtts) / len(self.rtts)))
            out |= {"min": min(self.rtts), "avg": mean, "max": max(self.rtts), "mdev": spread}
        return out

    def text(self) -> str:
        """As ping(8) says it."""
        v = self.values()
        loss = 100 * (self.sent - len(self.rtts)) / self.sent if self.sent else 0
        out = (
            f"\n--- {self.guest} ping statistics ---\n"
            f"{self.sent} packets transmitted, {len(self.rtts)} received, {loss:.4g}% packet loss"
        )
        if self.rtts:
            times = "/".join(f"{v[key] * 1e3:.3f}" for key in ("min", "avg", "max", "mdev"))
            out += f"\nrtt min/avg/max/mdev = {times} ms"
        return out


@click.command(
    "ping",
    epilog="""\b
Examples:
  netstack ping web                     by the name of its lease
  netstack ping -c 3 -i 0.2 192.168.65.3""",
)
@click.argument("guest")
@click.option("-c", "--count", type=click.IntRange(1), metavar="N", help="Stop after so many requests.")
@click.option(
    "-i",
    "--interval",
    type=Seconds(0.01, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between requests.",
)
@click.option(
    "-s",
    "--size",
    type=click.IntRange(0, 65507),
    default=56,
    show_default=True,
    metavar="BYTES",
    help="Of data in each request.",
)
@click.option(
    "-W",
    "--timeout",
    type=Seconds(0, 10, min_open=True),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Until a request counts as unanswered.",
)
@instance_options
def ping(
    guest: str,
    count: int | None,
    interval: float,
    size: int,
    timeout: float,
    instance: str | None,
    in_json: bool,
) -> int:
    """Ping a guest from the gateway.

    GUEST is a name or an address. Goes on until Ctrl-C or -c says stop. The exit status is 1 when nothing was
    answered. JSON is one object a line: each reply (rtt in seconds, null for none), then the summary.
    """
    from netstack.control.client import choose

    wanted = {"guest": guest, "count": count, "size": size, "interval": interval, "timeout": timeout}
    replies = choose(instance).lines("POST", "/v1/ping", wanted, interval + timeout + PATIENCE_SECONDS)
    summary = Summary(guest)
    try:
        for reply in replies:
            summary.add(reply)
            show(reply, in_json, f"PING {guest} ({reply['address']}): {size} data bytes", summary.sent == 1)
    except KeyboardInterrupt:
        pass
    click.echo(json.dumps(summary.values()) if in_json else summary.text())
    return 0 if summary.rtts else 1


def show(reply: dict[str, Any], in_json: bool, title: str, first: bool) -> None:
    """Prints one reply, below the title where it is the first."""
    if in_json:
        click.echo(json.dumps(reply))
        return
    if first:
        click.echo(title)
    if reply["rtt"] is None:
        click.echo(f"no answer: icmp_seq={reply['seq']}")
    else:
        time = f"time={reply['rtt'] * 1e3:.3f} ms"
        click.echo(f"{reply['bytes']} bytes from {reply['address']}: icmp_seq={reply['seq']} {time}")


def command() -> click.Command:
    """The command as click sees it."""
    return ping
