"""``netstack flows``: what a running instance translates at this moment."""

from __future__ import annotations

import click

from netstack.cli.instance import amount, as_json, instance_options, table

__all__ = ["command"]


@click.command("flows")
@instance_options
def flows(instance: str | None, in_json: bool) -> int:
    """List the flows of an instance. Up is what the guest sends."""
    from netstack.control.client import choose

    answer = choose(instance).ask("GET", "/v1/flows")
    if in_json:
        as_json(answer)
        return 0
    table(
        ("PROTOCOL", "STATE", "GUEST", "PEER", ">UP", ">DOWN", ">AGE", ">RTT", ">RETRANSMITS"),
        (
            (
                f["protocol"],
                f["state"],
                f"{f['guest']}:{f['guest_port']}",
                f"{f['peer']}:{f['peer_port']}",
                amount(f["bytes_up"]),
                amount(f["bytes_down"]),
                f"{f['age']:.1f}s",
                f"{f['rtt'] * 1e3:.2f}ms" if f["rtt"] else "",
                f["retransmits"],
            )
            for f in answer["flows"]
        ),
    )
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return flows
