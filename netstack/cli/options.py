"""What the commands share: the options of a network, and the summary at its end.

The options stand here as data. click makes its own of them (`network_options`), with help and messages;
`parse_plainly` understands only what is right, so that ``netstack run`` starts without waiting for click.
"""

from __future__ import annotations

import sys

from netstack.errors import ConfigError, SandboxError

TYPE_CHECKING = False  # that of typing, see main.py
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    import click

    from netstack.config import Config
    from netstack.gateway import Gateway
    from netstack.sandbox import Interface, Tap

__all__ = [
    "NETWORK_OPTIONS",
    "add_guest",
    "check_standard_output",
    "control_api",
    "guest_interface",
    "network_changes",
    "network_config",
    "network_options",
    "parse_plainly",
    "print_summary",
    "publishing",
    "require_linux",
    "tell_ready",
    "to_write_to",
]

MTU_RANGE = (576, 65521)  # to what netstack.sandbox.MAX_MTU says

# flags, kind, default, metavar, help. The kinds: an int of MTU_RANGE, a text, texts (repeated), ports (a text with
# commas), or a flag.
OPTIONS: tuple[tuple[tuple[str, ...], str, object, str | None, str], ...] = (
    (("--mtu",), "mtu", 1500, "BYTES", "MTU of the interface inside."),
    (
        ("--network",),
        "text",
        None,
        "CIDR",
        "Instead of 192.168.65.0/24. The gateway is its first address, the host its second.",
    ),
    (
        ("--dns",),
        "texts",
        (),
        "[ZONE=]SERVER",
        "Ask this name server instead of the host's, or only for names in ZONE: ADDRESS, ADDRESS#PORT, or over TLS "
        "tls://ADDRESS#NAME (can be repeated, asked in this order).",
    ),
    (
        ("--name",),
        "texts",
        (),
        "NAME=VALUE",
        "A name of the network: NAME=ADDRESS[,ADDRESS] or NAME=TYPE VALUE, as in corp=MX 10 mail.corp; *.corp stands "
        "for all names in corp (can be repeated).",
    ),
    (
        ("--zone",),
        "texts",
        (),
        "ZONE",
        "In this zone no name exists but those given here; no name server is asked (can be repeated).",
    ),
    (("--hosts-file",), "text", None, "FILE", "More names, as in /etc/hosts; watched."),
    (
        ("--search",),
        "texts",
        (),
        "DOMAIN",
        "Complete short names inside with this domain instead of the host's search domains (can be repeated).",
    ),
    (
        ("--host-name",),
        "texts",
        (),
        "NAME",
        "One more name for this host's loopback, beside host.internal and host.docker.internal (can be repeated).",
    ),
    (("--no-host-loopback",), "flag", False, None, "Leave out 192.168.65.2, the host's loopback."),
    (
        ("-p", "--publish"),
        "texts",
        (),
        "SPEC",
        "Lead a port of this host inside: [ADDRESS:][PORT:]INSIDE[/udp], as in 8080:80 (can be repeated).",
    ),
    (
        ("-P", "--publish-all"),
        "flag",
        False,
        None,
        "Publish every port that is open inside (serve: those of --expose), on ports of this host that are free.",
    ),
    (
        ("--publish-source",),
        "text",
        None,
        "keep|gateway",
        "Whether clients of published ports keep their address (the default) or appear as the gateway.",
    ),
    (
        ("--socks",),
        "texts",
        (),
        "[ADDRESS:]PORT",
        "A proxy into the network at this address of the host (127.0.0.1 where there is none): SOCKS 5 and HTTP, for "
        "connections to any port of any guest (can be repeated).",
    ),
    (
        ("--state",),
        "text",
        None,
        "DIR",
        "Keep leases in this directory across restarts; it is made where it is missing.",
    ),
    (
        ("--gateway-forwards",),
        "text",
        None,
        "FILE",
        "Ports of the gateway that lead to addresses of this host: VPNKit's JSON, watched.",
    ),
    (
        ("--forwards",),
        "text",
        None,
        "FILE",
        "Outgoing TCP that goes to Unix sockets, by prefix and port: VPNKit's JSON, watched.",
    ),
    (
        ("--outbound-interface",),
        "text",
        None,
        "NAME",
        "Go out through this interface of the host only, whatever its routes say.",
    ),
    (("--outbound-address",), "text", None, "ADDRESS", "Go out from this address of the host."),
    (
        ("--mark",),
        "text",
        None,
        "NUMBER",
        "Mark outgoing packets (SO_MARK) for the host's routing rules and firewall.",
    ),
    (
        ("--proxy",),
        "text",
        None,
        "auto|off",
        "Whether the host's proxy settings are found and followed (auto, the default).",
    ),
    (
        ("--http-proxy",),
        "text",
        None,
        "URL",
        "Take HTTP to this proxy: http://[USER:PASSWORD@]HOST:PORT (docs/proxies.md).",
    ),
    (("--https-proxy",), "text", None, "URL", "Take HTTPS to this proxy."),
    (
        ("--no-proxy",),
        "text",
        None,
        "LIST",
        "Hosts reached without a proxy: names, .domains, 10/8, host:port, with commas between.",
    ),
    (("--http",), "text", None, "FILE", "The proxies in a file: VPNKit's JSON, watched."),
    (
        ("--transparent-http-ports",),
        "ports",
        None,
        "PORTS",
        "Ports whose connections are taken to the HTTP proxy [default: 80].",
    ),
    (("--transparent-https-ports",), "ports", None, "PORTS", "The same for the HTTPS proxy [default: 443]."),
    (
        ("--allow-host",),
        "texts",
        (),
        "HOST",
        "Reach only this host by HTTP and HTTPS (can be repeated; as in --no-proxy).",
    ),
    (
        ("--allow-url",),
        "texts",
        (),
        "URL",
        "And URLs that begin like this one: http://HOST/PATH, https://HOST (can be repeated).",
    ),
    (
        ("--impair",),
        "text",
        None,
        "PATH",
        "A bad path, both ways: loss=1%,delay=20ms±5ms,reorder=0.5%,duplicate=1%,corrupt=0.1%,rate=10mbit,"
        "queue=100. The delay is one way; queue counts full frames that wait for the rate.",
    ),
    (("--impair-up",), "text", None, "PATH", "The same for what the command sends, instead of --impair."),
    (("--impair-down",), "text", None, "PATH", "The same for what the command receives."),
    (
        ("--pcap",),
        "text",
        None,
        "FILE|-",
        "Capture every frame to FILE as pcapng, for Wireshark and tcpdump; - is standard output.",
    ),
    (
        ("--ring",),
        "text",
        None,
        "NxSIZE",
        "Capture to a ring of files, as in 10x64MB: FILE with a number and the time in its name, at most N of them.",
    ),
    (("--snaplen",), "text", None, "BYTES", "Capture this much of each frame [default: all]."),
    (
        ("--filter",),
        "text",
        None,
        "EXPRESSION",
        "Capture only what this pcap-filter expression lets pass, as in 'tcp port 443' (needs libpcap).",
    ),
    (
        ("--wire-frames",),
        "flag",
        False,
        None,
        "Capture super-frames (segmentation offload) cut to the frames that a wire would carry.",
    ),
    (
        ("--api",),
        "text",
        None,
        "NAME|PATH|on|off",
        "The control API's Unix socket: a path, a name beside those of other instances, or on (its name is the "
        "process's number). By default serve has one where aiohttp is installed, and others have none.",
    ),
    (("-v", "--verbose"), "flag", False, None, "Print flows and counters at the end."),
)


def _name(flags: tuple[str, ...]) -> str:
    if flags == ("--http",):
        return "http_settings"  # the key of the configuration; the flag is VPNKit's
    return flags[-1][2:].replace("-", "_")


#: The names of the options that `network_changes` takes.
NETWORK_OPTIONS = tuple(
    _name(flags) for flags, *_ in OPTIONS if not {"--verbose", "--api", "--publish-all"} & {*flags}
)


def network_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a click command the options that `network_config` takes, ``--publish-all``, ``--api`` and ``--verbose``."""
    import click

    for flags, kind, default, metavar, text in reversed(OPTIONS):
        function = click.option(
            *flags,
            _name(flags),
            type={"mtu": click.IntRange(*MTU_RANGE), "flag": click.BOOL}.get(kind, click.STRING),
            default=default,
            show_default=kind == "mtu",
            metavar=metavar,
            multiple=kind == "texts",
            is_flag=kind == "flag",
            help=text,
        )(function)
    return function


def parse_plainly(arguments: list[str]) -> dict[str, Any] | None:
    """Options of a network, then a command as ``argv``; None where there is anything to explain."""
    found: dict[str, Any] = {_name(flags): default for flags, _, default, _, _ in OPTIONS}
    kinds = {flag: (_name(flags), kind) for flags, kind, _, _, _ in OPTIONS for flag in flags}
    at = 0
    while at < len(arguments):
        flag, equals, value = arguments[at].partition("=")
        at += 1
        if not flag.startswith("-") or arguments[at - 1] == "--":
            argv = tuple(arguments[at if flag == "--" else at - 1 :])
            return found | {"argv": argv} if argv else None
        name, kind = kinds.get(flag, ("", ""))
        if kind == "flag" and not equals:
            found[name] = True
            continue
        if kind and not equals and at < len(arguments):
            value = arguments[at]
            at += 1
        if kind in ("text", "ports") and value[:1] not in ("", "-"):
            found[name] = value
        elif kind == "texts" and value[:1] not in ("", "-"):
            found[name] += (value,)
        elif kind == "mtu" and value.isdecimal() and MTU_RANGE[0] <= int(value) <= MTU_RANGE[1]:
            found[name] = int(value)
        else:
            return None
    return None


def network_changes(
    *,
    network: str | None = None,
    no_host_loopback: bool = False,
    impair: str | None = None,
    impair_up: str | None = None,
    impair_down: str | None = None,
    name: Sequence[str] = (),
    zone: Sequence[str] = (),
    host_name: Sequence[str] = (),
    mark: str | None = None,
    ring: str | None = None,
    snaplen: str | None = None,
    filter: str | None = None,
    wire_frames: bool = False,
    **plain: Any,
) -> dict[str, Any]:
    """What the options of `OPTIONS` say of a `Config`: its keys with their values, those that were said.

    An option of the same name as a key passes as it is.

    Raises:
        ConfigError: a value cannot be used.
    """
    changes = {key: value for key, value in plain.items() if value not in (None, ())}
    if mark is not None:
        try:
            changes["outbound_mark"] = int(mark, 0)
        except ValueError:
            raise ConfigError(f"mark {mark!r} is not a number such as 51 or 0x33") from None
    for key, given in (("pcap_ring", ring), ("pcap_filter", filter), ("pcap_wire_frames", wire_frames)):
        if given:
            changes[key] = given
    if snaplen is not None:
        if not snaplen.isascii() or not snaplen.isdecimal():
            raise ConfigError(f"snaplen {snaplen!r} is not a number of bytes such as 128")
        changes["pcap_snaplen"] = int(snaplen)
    if name:
        changes["names"] = tuple(name)
    if zone:
        changes["zones"] = tuple(zone)
    if host_name:
        from netstack.config import Config

        changes["host_names"] = (*Config.host_names, *host_name)
    if network is not None:
        import ipaddress

        try:
            net = ipaddress.IPv4Network(network)
        except ValueError as err:
            raise ConfigError(f"network {network!r} cannot be used: {err}") from None
        if net.prefixlen > 29:
            raise ConfigError(f"network {network} is too small: its prefix may be /29 at most")
        changes |= {
            "network": network,
            "gateway": str(net[1]),
            "host_alias": str(net[2]),
            "first_guest": str(net[3]),
            "last_guest": str(net[-2]),
        }
    for key, text in (("impair_up", impair_up), ("impair_down", impair_down)):
        text = impair if text is None else text
        if text is not None:
            changes[key] = text
    for key in ("transparent_http_ports", "transparent_https_ports"):
        if key in changes:
            changes[key] = _ports(key, changes[key])
    if no_host_loopback:
        changes["host_alias"] = None
    return changes


def _ports(key: str, text: str) -> tuple[int, ...]:
    words = text.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise ConfigError(f"--{key.replace('_', '-')} {text!r} is no list of ports such as 80,8080")
    return tuple(int(word) for word in words)


def network_config(**options: Any) -> Config:
    """The settings that the options stand for, the rest by default.

    Raises:
        ConfigError: a value cannot be used.
    """
    from netstack.config import Config

    return Config(**network_changes(**options))


def check_standard_output(config: Config) -> None:
    """A capture to standard output is not for a terminal.

    Raises:
        ConfigError: it would go to one.
    """
    if config.pcap == "-" and sys.stdout.isatty():
        raise ConfigError(
            "a terminal cannot show a capture: give --pcap FILE, or a pipe such as | tshark -r -"
        )


def guest_interface(config: Config, name: str, configured: bool = True) -> Interface:
    """The interface of a namespace's guest, with a MAC of its own.

    Args:
        config: the network.
        name: of the interface.
        configured: whether it gets the network's first address and the default route; otherwise DHCP does that.
    """
    from netstack.sandbox import Interface, random_mac

    interface = Interface(name, config.mtu, random_mac())
    if not configured:
        return interface
    prefix = int(config.network.rpartition("/")[2])
    return interface._replace(address=config.first_guest, prefix=prefix, router=config.gateway)


def add_guest(gateway: Gateway, tap: Tap, interface: Interface, label: str) -> None:
    """Serves the guest behind the TAP of its interface; the gateway closes the TAP.

    Args:
        gateway: whose link it becomes.
        tap: open, in the guest's namespace.
        interface: how it was set up there.
        label: what the link is called in the log.
    """
    gateway.add_tap(
        tap.fd, tap.granted, mtu=interface.mtu, address=interface.address, mac=interface.mac, label=label
    )


def control_api(
    gateway: Gateway, where: str | None, command: str, listen: Sequence[str] = ()
) -> AbstractContextManager[object]:
    """Serves the control API of a started gateway while the context lasts; nothing for None and "off".

    A client that asks for the end is as good as SIGTERM.

    Raises:
        InstanceError: aiohttp is not installed, or the socket cannot be had.
    """
    from contextlib import nullcontext

    if where is None or where == "off":
        return nullcontext()
    import os
    import signal

    from netstack.control.api import ApiServer

    return ApiServer(gateway, where, command, lambda: os.kill(os.getpid(), signal.SIGTERM), listen)


def publishing(
    gateway: Gateway, sockets: tuple[socket.socket, range] | None
) -> AbstractContextManager[object]:
    """Publishes what is open in a namespace while the context lasts; nothing without its socket (`sock_diag_in`)."""
    from contextlib import nullcontext

    if sockets is None:
        return nullcontext()
    from netstack.publish_all import NamespacePorts, PublishAll

    def say(text: str) -> None:
        print(f"netstack: {text}", file=sys.stderr, flush=True)

    return PublishAll(gateway, NamespacePorts(*sockets, lambda: gateway.guest_address("")), say)


def to_write_to(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    """Refuses what is no descriptor, or none that can be written to: click's callback of ``--ready-fd``."""
    import fcntl
    import os

    import click

    if value is not None:
        try:
            flags = fcntl.fcntl(value, fcntl.F_GETFL)
        except (OSError, OverflowError, ValueError):
            raise click.BadParameter(f"{value} is not an open descriptor", ctx, parameter) from None
        if flags & os.O_ACCMODE == os.O_RDONLY:
            raise click.BadParameter(f"descriptor {value} is not open for writing", ctx, parameter)
    return value


def tell_ready(fd: int) -> None:
    """Writes a line with 1 to a ready descriptor, and closes it. That nobody waits any more ends nothing."""
    import os
    from contextlib import suppress

    with suppress(OSError):
        os.write(fd, b"1\n")
    with suppress(OSError):
        os.close(fd)


def require_linux(command: str) -> None:
    """Namespaces and TAP devices are Linux's.

    Raises:
        SandboxError: this is another system.
    """
    if sys.platform != "linux":
        raise SandboxError(
            f"netstack {command} needs Linux namespaces: on this system only netstack demo works"
        )


def print_summary(gateway: Gateway) -> None:
    """Flows and counters that are not zero, to standard error."""
    flows = gateway.flows()
    print(f"netstack: {len(flows)} flow{'s' * (len(flows) != 1)} at the end", file=sys.stderr)
    for flow in flows:
        print("  " + " ".join(f"{key}={value}" for key, value in flow.items()), file=sys.stderr)
    for name, value in sorted(gateway.stats().items()):
        if value:
            print(f"  {name:<32} {value:>15,}", file=sys.stderr)
