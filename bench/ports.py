"""Published ports beside slirp4netns' hostfwd: requests per second, and bulk data in, both compared with the way out.

nginx and iperf3 serve in the guest, wrk and iperf3 ask on the host's loopback. The systems take turns inside each
repetition; medians count.

Requests are counted three ways: over wrk's usual 10 connections, over 50, and with a connection for each. A request
over a connection that is open already costs a system four system calls, which are nearly all of its time; wrk and
nginx cost as much again. So where two processors do all of it, the systems come close to each other, and the processor
time that one takes for a request says more than the rate.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from netstack.testing.lab import Lab
from netstack.testing.namespace import Process, unavailable

from . import systems
from .programs import IPERF_PORT, iperf, whole, wrk

HTTP_PORT, GUEST_IPERF = 8080, 5202
TIMES_SLIRP4NETNS = 1.5  # requests per second
SHARE_OF_OUTGOING = 0.7
PAGE = b"x" * 512

NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    uwsgi_temp_path {dir}/tmp; scgi_temp_path {dir}/tmp;
    server {{ listen {port} reuseport; root {dir}/www; }}
}}
"""


@dataclass(frozen=True)
class Sample:
    """One turn of one system."""

    system: str
    requests_s: float  #: over wrk's usual 10 connections
    many_s: float  #: over 50
    connections_s: float  #: one for each request
    cpu_us: float  #: processor time of the system for a request, over 50 connections
    in_gbit_s: float
    out_gbit_s: float


SYSTEMS = ("netstack", "slirp4netns")


def nginx(lab: Lab) -> Process:
    """An nginx in the guest, with its page."""
    for folder in ("tmp", "www"):
        (lab.directory / folder).mkdir()
    (lab.directory / "www" / "page").write_bytes(PAGE)
    config = lab.directory / "nginx.conf"
    config.write_text(NGINX.format(dir=lab.directory, port=HTTP_PORT))
    process = lab.guest.spawn("nginx", "-e", "stderr", "-c", str(config))
    process.wait_listening(HTTP_PORT)
    return process


def measure(name: str, mtu: int, seconds: float) -> Sample:
    """One system, all its figures."""
    with Lab() as lab:
        running = systems.SYSTEMS[name].start(lab, systems.Wanted(mtu, (HTTP_PORT, GUEST_IPERF)))
        nginx(lab)
        servers = [
            (lab.guest.spawn("iperf3", "-s", "-p", str(GUEST_IPERF)), GUEST_IPERF),
            (lab.host.spawn("iperf3", "-s", "-p", str(IPERF_PORT)), IPERF_PORT),
        ]
        for process, port in servers:
            process.wait_listening(port)
        done = lab.host.run(
            *("iperf3", "-J", "-c", "127.0.0.1", "-p", str(GUEST_IPERF), "-t", whole(seconds)),
            timeout=seconds + 60,
        )
        into = json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e9
        out = iperf(lab, running.server, seconds, [])["end"]["sum_received"]["bits_per_second"] / 1e9
        url = f"http://127.0.0.1:{HTTP_PORT}/page"
        kept, before = wrk(lab.host, url, seconds, 10), running.cpu_seconds()
        many = wrk(lab.host, url, seconds, 50)
        cpu_us = (running.cpu_seconds() - before) / (many * max(1, round(seconds))) * 1e6
        fresh = wrk(lab.host, url, seconds, 10, "-H", "Connection: close")
        return Sample(name, kept, many, fresh, cpu_us, into, out)


def verdicts(samples: list[Sample]) -> list[tuple[str, bool | None]]:
    """What is asked of netstack: each in words with its figures, and whether it is met; None where nothing is asked."""

    def median(system: str, figure: str) -> float:
        return statistics.median([getattr(s, figure) for s in samples if s.system == system] or [0.0])

    found: list[tuple[str, bool | None]] = []
    for figure, words, asked in (
        ("requests_s", "requests/s", TIMES_SLIRP4NETNS),
        ("connections_s", "requests/s, a connection each", TIMES_SLIRP4NETNS),
        ("many_s", "requests/s over 50 connections", None),
    ):
        if theirs := median("slirp4netns", figure):
            ratio = median("netstack", figure) / theirs
            bar = f", asked {asked}" if asked else ""
            found.append((f"{words}: {ratio:.2f} x slirp4netns{bar}", ratio >= asked if asked else None))
    if ours := median("netstack", "cpu_us"):
        found.append(
            (f"CPU for a request: {median('slirp4netns', 'cpu_us') / ours:.2f} x less than slirp4netns", None)
        )
    if out := median("netstack", "out_gbit_s"):
        ratio = median("netstack", "in_gbit_s") / out
        found.append((f"in: {ratio:.2f} x out, asked {SHARE_OF_OUTGOING}", ratio >= SHARE_OF_OUTGOING))
    return found


def main(argv: list[str]) -> int:
    """Runs it; 1 when ``--check`` is given and a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.ports", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeat", type=int, default=3, help="turns of each system; their median counts")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--mtu", type=int, default=1500, help="of the guest's device")
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="default: both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--check", action="store_true", help="fail when netstack misses what is asked of it")
    options = parser.parse_args(argv)
    absent = [p for p in ("nginx", "wrk", "iperf3") if shutil.which(p) is None]
    if reason := unavailable() or (f"{', '.join(absent)} not installed" if absent else None):
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    names = [n for n in options.system or SYSTEMS if n == "netstack" or shutil.which(n)]
    samples = []
    print(
        f"{'':<18}{'requests/s':>12}{'over 50':>10}{'CPU us':>8}{'one each':>10}{'in Gbit/s':>11}{'out':>8}"
    )
    for repetition in range(options.repeat):
        for name in names:
            s = measure(name, options.mtu, options.seconds)
            samples.append(s)
            print(
                f"{repetition + 1}/{options.repeat} {name:<14}{s.requests_s:>12.0f}{s.many_s:>10.0f}{s.cpu_us:>8.1f}"
                f"{s.connections_s:>10.0f}{s.in_gbit_s:>11.2f}{s.out_gbit_s:>8.2f}",
                flush=True,
            )
    found = verdicts(samples)
    for words, met in found:
        print(f"{'      ' if met is None else 'met   ' if met else 'MISSED'}  {words}")
    if options.json:
        options.json.write_text(json.dumps([asdict(s) for s in samples], indent=1) + "\n")
    return 1 if options.check and any(met is False for _, met in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
