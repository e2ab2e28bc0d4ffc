"""Queries a second with dnsperf: through the gateway, and straight to the same dnsmasq, turn by turn.

Twice through the gateway: with its cache off, so that each query goes to dnsmasq and back, and with it on.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from contextlib import ExitStack

from netstack.config import Config
from netstack.testing.lab import GATEWAY, Lab
from netstack.testing.namespace import unavailable

from .programs import dnsperf

NAMES = 1000


def main(argv: list[str]) -> int:
    """Prints medians; 1 when a way through the gateway is slower than ``--bar`` of the straight one."""
    parser = argparse.ArgumentParser(
        prog="python -m bench dns", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run of dnsperf")
    parser.add_argument("--clients", type=int, default=4, help="sockets that dnsperf asks from")
    parser.add_argument("--bar", type=float, default=0.8, help="least share of the straight rate")
    options = parser.parse_args(argv)
    missing = [program for program in ("dnsmasq", "dnsperf") if shutil.which(program) is None]
    if reason := unavailable() or (f"missing: {', '.join(missing)}" if missing else None):
        print(f"bench: {reason}", file=sys.stderr)
        return 1

    rates: dict[str, list[float]] = {"straight": [], "through the gateway": [], "from its cache": []}
    with Lab() as lab:
        questions = lab.directory / "questions"
        questions.write_text("".join(f"n{i}.bench A\n" for i in range(NAMES)))
        server = lab.host.spawn(
            *("dnsmasq", "-d", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"),
            *("--listen-address=127.0.0.1", "--address=/bench/192.0.2.1", "--local-ttl=600"),
        )
        server.wait_listening(53)
        for _ in range(options.repeat):
            rates["straight"].append(
                dnsperf(lab.host, "127.0.0.1", questions, options.seconds, options.clients)
            )
            for case, entries in (("through the gateway", 0), ("from its cache", 4096)):
                with ExitStack() as stack:
                    gateway = stack.enter_context(lab.gateway(Config(dns=("127.0.0.1",), dns_cache=entries)))
                    rates[case].append(
                        dnsperf(lab.guest, GATEWAY, questions, options.seconds, options.clients)
                    )
                    stats = gateway.stats()
                    forwarded = stats["dns_forwarded"]
                    if entries and forwarded > 10 * NAMES:
                        raise RuntimeError(
                            f"{forwarded} queries were forwarded: the cache did not answer them"
                        )
    medians = {case: statistics.median(values) for case, values in rates.items()}
    for case, rate in medians.items():
        print(f"{case:<24}{rate:10,.0f} queries/s{rate / medians['straight']:8.2f}")
    return 0 if min(medians.values()) >= options.bar * medians["straight"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
