"""``netstack route``: the host's own route to the guests of a running instance."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import click

from netstack.cli.instance import as_json, instance_options, table
from netstack.errors import NetstackError, SandboxError

if TYPE_CHECKING:
    from netstack.control.client import Client

__all__ = ["command"]

ROUTES = "/proc/net/route"
RTF_UP = 1
TIMEOUT_SECONDS = 30.0


@click.group("route")
def route() -> None:
    """Give this host a route to the guests.

    So it reaches them by their own addresses, with every protocol.
    """


@route.command(
    "add",
    epilog="""\b
Examples:
  sudo netstack route add --instance $XDG_RUNTIME_DIR/netstack/web.sock
  ping 192.168.65.3; curl http://192.168.65.3/""",
)
@click.option(
    "--device",
    default="netstack%d",
    show_default=True,
    metavar="NAME",
    help="Of the TAP; %d is a number that is free.",
)
@instance_options
def add(device: str, instance: str | None, in_json: bool) -> int:
    """Make a TAP on this host that leads to the guests' network, with an address there.

    Needs CAP_NET_ADMIN in the network namespace where it is wanted; the instance need not have it. Guests
    reach, at that address, what this host serves on all its addresses. The route goes with netstack route rm,
    and with the instance.
    """
    from netstack.cli.options import require_linux
    from netstack.control.client import choose
    from netstack.link.spec import is_interface_name

    require_linux("route")
    if not is_interface_name(device):
        raise click.BadParameter(f"{device!r} is not the name of an interface", param_hint="--device")
    client = choose(instance)
    made, fd = client.descriptor("/v1/routes", None)
    made.close()
    with socket.socket(fileno=fd) as channel:
        channel.settimeout(TIMEOUT_SECONDS)
        answer = hand_over(channel, received(channel), device, client)
    if in_json:
        as_json(answer)
    else:
        click.echo(f"{answer['device']} leads to {answer['network']}; this host is {answer['address']} there")
    return 0


def received(channel: socket.socket) -> dict[str, Any]:
    """The instance's next message."""
    try:
        answer = json.loads(channel.recv(4096) or b'{"error": "the instance has ended"}')
    except OSError as err:
        raise NetstackError(f"the instance does not answer: {err.strerror or err}") from None
    assert isinstance(answer, dict)
    if "error" in answer:
        raise NetstackError(answer["error"])
    return answer


def hand_over(channel: socket.socket, offer: dict[str, Any], device: str, client: Client) -> dict[str, Any]:
    """Makes the device that is wanted, and gives its descriptor away: then it lives as long as the instance has it."""
    from netstack.host import namespace

    network = ipaddress.IPv4Network(offer["network"])
    other = route_within(network)
    if other is not None:
        raise NetstackError(
            f"this host has a route to {network} already, through {other}: take it away first, or give the instance "
            "another --network"
        )
    try:
        fd, name, _ = namespace.open_tap(device)
    except OSError as err:
        raise SandboxError(
            f"no device can be made for the route: {why_no_device(err, client.path)}"
        ) from None
    try:
        quiet(name)
        namespace.set_interface(name, bytes.fromhex(offer["mac"].replace(":", "")), offer["mtu"], up=True)
        namespace.add_address(name, offer["address"], network.prefixlen)
        socket.send_fds(channel, [json.dumps({"device": name}).encode()], [fd])
    except OSError as err:
        raise SandboxError(f"{name} cannot be set up: {err.strerror or err}") from None
    finally:
        os.close(fd)
    return received(channel)


def quiet(name: str) -> None:
    """Nothing speaks IPv6 there."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
            file.write("1")
    except OSError:
        pass  # it is not there, or may not be written: then some more frames are ignored


def route_within(network: ipaddress.IPv4Network) -> str | None:
    """The device of a route of this host to the network, or to a part of it."""
    try:
        with open(ROUTES) as file:
            lines = [line.split() for line in file][1:]
    except OSError:
        return None
    for device, destination, _, flags, _, _, _, mask, *_ in lines:
        # The numbers are the kernel's own memory, read as the machine reads integers.
        address, bits = (struct.pack("=I", int(text, 16)) for text in (destination, mask))
        prefix = int.from_bytes(bits, "big").bit_count()
        inside = prefix >= network.prefixlen and ipaddress.IPv4Address(address) in network
        if inside and int(flags, 16) & RTF_UP:
            return device
    return None


def why_no_device(err: OSError, path: str) -> str:
    """The reason, and what helps."""
    if err.errno == errno.EPERM:
        return f"it takes CAP_NET_ADMIN: run sudo netstack route add --instance {path}"
    if err.errno in (errno.EBUSY, errno.EINVAL):  # a TAP that somebody has, or an interface of another kind
        return "an interface of that name is in use: choose another with --device"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: run sudo modprobe tun"
    if err.errno == errno.EACCES:
        return f"/dev/net/tun may not be opened: run sudo netstack route add --instance {path}"
    return os.strerror(err.errno) if err.errno is not None else str(err)


def routes_of(client: Client) -> list[dict[str, Any]]:
    """The routes of an instance."""
    found: list[dict[str, Any]] = client.ask("GET", "/v1/routes")["routes"]
    return found


@route.command("rm")
@click.argument("device", required=False)
@instance_options
def rm(device: str | None, instance: str | None, in_json: bool) -> int:
    """Take a route away, and its device: DEVICE, or the only one there is."""
    from netstack.control.client import choose
    from netstack.control.instances import InstanceError

    client = choose(instance)
    found = routes_of(client)
    chosen = [r for r in found if device in (None, r["device"])]
    if not chosen:
        raise InstanceError(
            f"there is no route{f' through {device}' if device else ''}: see netstack route show"
        )
    if len(chosen) > 1:
        names = ", ".join(r["device"] for r in chosen)
        raise InstanceError(f"there are several routes ({names}): name a device")
    client.ask("DELETE", f"/v1/routes/{chosen[0]['id']}")
    if in_json:
        as_json(chosen[0])
    return 0


@route.command("show")
@instance_options
def show(instance: str | None, in_json: bool) -> int:
    """List the routes to an instance's guests."""
    from netstack.control.client import choose

    found = routes_of(choose(instance))
    if in_json:
        as_json({"routes": found})
    else:
        table(
            ("DEVICE", "NETWORK", "ADDRESS HERE"), ((r["device"], r["network"], r["address"]) for r in found)
        )
    return 0


def command() -> click.Command:
    """The command as click sees it."""
    return route
