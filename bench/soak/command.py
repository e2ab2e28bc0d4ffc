"""``./dev soak MINUTES``: the laboratory, the traffic, the samples and the verdict."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netstack.control.client import Client
from netstack.errors import NetstackError
from netstack.testing.lab import GUEST, TAP, Lab
from netstack.testing.namespace import Process, unavailable
from netstack.testing.servers import DnsResponder, TcpServer, UdpEcho

from ..relay import spawn
from . import record, server, traffic
from .record import Sample
from .verdict import LIMITS, trend

__all__ = ["main"]

EVERY = 5.0  #: seconds between samples
DNS_PORT = 5353
#: Short ones, so that everything that ends by a time-out does so many times in an hour.
SETTINGS = f"""\
dns = ["127.0.0.1#{DNS_PORT}"]
zones = ["{traffic.NOWHERE}"]
udp_idle_one_way = 5
udp_idle_two_way = 20
tcp_keepalive = 30
lease_seconds = 600
"""
SETTLE_SECONDS = (
    420.0  #: for what the last visitors left: 100 s of retransmission, or 30 s and nine probes of 75 s
)
WARM_SECONDS = 600.0  #: after which memory has met the largest demand of each kind
AT_REST = 4  #: descriptors more than at the beginning that are no leak: connections kept for the next asker


@dataclass(frozen=True)
class Running:
    """The service, the guest's relay, and how to reach them."""

    place: traffic.Place
    service: Process
    relay: Process


@contextlib.contextmanager
def network(lab: Lab) -> Iterator[Running]:
    """The service with a guest behind a relay, and the servers of both."""
    control, hyperkit, qemu = (lab.directory / name for name in ("api.sock", "guest.sock", "visitors.sock"))
    settings = lab.directory / "soak.toml"
    settings.write_text(SETTINGS)
    service = spawn(
        lab,
        "host",
        *("serve", "--config", str(settings), "--listen", f"hyperkit:{hyperkit}", "--listen", f"qemu:{qemu}"),
        *("--api", str(control), "--log-level", "warning"),
        *(
            "-p",
            f"127.0.0.1:{traffic.PUBLISHED}:{GUEST}:{traffic.SERVED}",
            "--socks",
            str(traffic.SOCKS),
            "--notify",
        ),
    )
    relay = spawn(
        lab,
        "guest",
        "relay",
        f"tap:{TAP}",
        "--connect",
        f"hyperkit:{hyperkit}",
        "--address",
        GUEST,
        "--ready-fd",
    )
    lab.configure_guest()
    answers: dict[tuple[str, int], tuple[int, bytes | None]] = {
        (name, 1): (0, socket.inet_aton("10.9.8.7")) for name in traffic.DNS_NAMES
    }
    with contextlib.ExitStack() as stack:
        for namespace, address in ((lab.host, "127.0.0.1"), (lab.guest, "0.0.0.0")):
            listener = stack.enter_context(namespace.listen(address, traffic.SERVED))
            stack.enter_context(TcpServer(listener, server.serve))
        for port, kind in ((traffic.SERVED, UdpEcho), (DNS_PORT, None)):
            sock = lab.host.socket(kind=socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", port))
            stack.enter_context(kind(sock) if kind else DnsResponder(sock, answers))
        yield Running(traffic.Place(lab, qemu, Client(str(control))), service, relay)


def watch(running: Running, stop: threading.Event, minutes: float, every: float) -> list[Sample]:
    """Samples until the time is over or ``stop`` is set, with a row of the table each ``every`` seconds."""
    began = time.monotonic()
    samples: list[Sample] = []
    print(record.header(), flush=True)
    shown: Sample | None = None
    while (at := time.monotonic() - began) <= minutes * 60:
        samples.append(record.sample(at, running.service, running.relay, running.place.client))
        if shown is None or at - shown.at >= every:
            print(record.line(samples[-1], shown or samples[-1]), flush=True)
            shown = samples[-1]
        if stop.wait(EVERY):
            break
    return samples


def answering(client: Client) -> None:
    """Waits until the service's control API is there.

    Raises:
        InstanceError: it is not in 20 s.
    """
    end = time.monotonic() + 20
    while True:
        try:
            client.ask("GET", "/v1/info")
            return
        except NetstackError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def settle(running: Running) -> tuple[list[str], int]:
    """(flows, descriptors) once the last flow has gone, or the patience with it."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        flows = running.place.client.ask("GET", "/v1/flows")["flows"]
        if not flows or time.monotonic() > end:
            return [described(flow) for flow in flows], running.service.descriptors()
        time.sleep(2)


def described(flow: dict[str, Any]) -> str:
    """A flow in a line."""
    ends = f"{flow['guest']}:{flow['guest_port']} {flow['peer']}:{flow['peer_port']}"
    kept = f"up {flow['bytes_up']}+{flow['buffered_up']} down {flow['bytes_down']}+{flow['buffered_down']}"
    return f"{flow['protocol']} {ends} {flow['state']}, {flow['age']:.0f} s, bytes {kept}"


def judge(samples: list[Sample], warm: float) -> bool:
    """Prints the trend of each series after the warm-up; whether all are flat."""
    judged = [one for one in samples if one.at >= warm]
    good = True
    names = ("resident", "descriptors", "flows", "relay_resident", "relay_descriptors")
    print(f"after {warm / 60:.1f} minutes to warm up, over {(judged[-1].at - judged[0].at) / 60:.1f}:")
    for name in names:
        found = trend([one.at for one in judged], [getattr(one, name) for one in judged])
        limit = LIMITS[name.removeprefix("relay_")]
        flat = found.flat(limit)
        good &= flat
        unit, scale = ("MiB", 2**20) if name.endswith("resident") else ("", 1)
        print(
            f"  {name:<18} {found.level / scale:8.1f} {unit:<3} {found.slope / scale:+8.2f} {unit:<3} an hour: "
            f"{'flat' if flat else 'GROWS'}"
        )
    return good


def report(tallies: dict[str, traffic.Tally]) -> bool:
    """Prints what was done; whether all of it went well."""
    good = True
    for name, tally in tallies.items():
        few = tally.failed <= 0.01 * tally.done
        good &= few and tally.done > 0 and not tally.wrong
        words = [f"{tally.done:7d} done", f"{tally.failed} failed"]
        words += [f"WRONG DATA: {tally.wrong}"] if tally.wrong else []
        words += [f"last: {tally.last}"] if tally.failed else []
        print(f"  {name:<10} {', '.join(words)}{'' if few and tally.done else '  TOO MANY'}")
    return good


def soak(minutes: float, every: float, out: Path) -> bool:
    """Runs it; whether everything is flat, whole, and gone at the end."""
    stop, ended = threading.Event(), threading.Event()
    with Lab() as lab, network(lab) as running:
        answering(running.place.client)
        traffic.pings(running.place)  # the guest is known from now on
        before = record.sample(0.0, running.service, running.relay, running.place.client)
        signal.signal(signal.SIGINT, lambda *_: stop.set())  # the verdict of what there is by then
        tallies, wait = traffic.begin(running.place, ended)
        try:
            samples = watch(running, stop, minutes, every)
        finally:
            ended.set()
            hanging = wait()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("the traffic has ended; what is left goes", flush=True)
        flows, descriptors = settle(running)
        last = running.place.client.ask("GET", "/v1/stats")
        said = running.service.text
        status = running.service.stop(20)
    out.mkdir(parents=True, exist_ok=True)
    record.write(samples, out / "samples.csv")
    warm = max(samples[-1].at * 0.25, min(WARM_SECONDS, samples[-1].at * 0.6))
    plot = "plot: none, since matplotlib is missing (pip install matplotlib)"
    with contextlib.suppress(ModuleNotFoundError):  # an hour's verdict does not hang on a picture
        record.plot(samples, warm, out / "soak.png")
        plot = f"plot: {out / 'soak.png'}"
    print("activities:")
    good = report(tallies)
    if hanging:
        good = False
        print(f"  these HANG: {', '.join(hanging)}")
    moved = {name: value for name, value in last.items() if value}
    print("counters: " + ", ".join(f"{name} {value}" for name, value in sorted(moved.items())))
    good &= judge(samples, warm) if len(samples) > 8 else True
    leak = descriptors - before.descriptors
    print(
        f"at rest: {len(flows)} flows, {descriptors} descriptors ({leak:+d}); the service ended with status {status}"
        + (f" and said:\n{said}" if said else "")
    )
    good &= not flows and leak <= AT_REST and status == 0
    for flow in flows[:20]:
        print(f"  {flow}")
    print(f"{plot}, samples: {out / 'samples.csv'}")
    print("FLAT" if good else "NOT FLAT")
    return good


def main(argv: list[str]) -> int:
    """0: flat; 1: something grows, fails or hangs; 2: it cannot be run here."""
    parser = argparse.ArgumentParser(prog="./dev soak", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("minutes", type=float, nargs="?", default=10.0, help="of traffic (10)")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between rows of the table (60)")
    parser.add_argument(
        "--out", type=Path, default=Path("build/soak"), help="folder of the plot and the samples"
    )
    options = parser.parse_args(argv)
    if not options.minutes > 0:
        parser.error("the time must be more than 0 minutes")
    if reason := unavailable():
        print(f"soak: {reason}", file=sys.stderr)
        return 2
    try:
        return 0 if soak(options.minutes, options.every, options.out) else 1
    except (NetstackError, OSError) as err:
        print(f"soak: {err}", file=sys.stderr)
        return 1
