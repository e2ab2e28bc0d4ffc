"""One target under libFuzzer, by atheris: ``python one.py TARGET LIBFUZZER'S ARGUMENTS``; run.py knows how.

``python one.py TARGET --seeds FOLDER`` writes what it begins with.

It has a network of its own, with nothing but a loopback, so that whatever a guest asks the gateway for stays here.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found]

from netstack.host import namespace

SEEDS = 400

#: Handshakes and services in Python, whose branches guide the search as well.
PYTHON = [
    "netstack.link.hyperkit",
    "netstack.services",
    "netstack.proxy.sniff",
    "netstack.control.ninep",
    "netstack.replay",
]


def alone() -> None:
    """A network namespace of this process's own, as root or in a user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        namespace.unshare(namespace.CLONE_NEWNET)
    else:
        namespace.unshare(namespace.CLONE_NEWUSER | namespace.CLONE_NEWNET)
        namespace.map_ids(0, 0, uid, gid)
    namespace.loopback_up()


def write_seeds(name: str, folder: Path) -> None:
    """The target's good inputs as files, at most `SEEDS` of all sizes."""
    from targets import TARGETS

    target = TARGETS[name]
    good = sorted({seed[: target.longest] for seed in target.seeds()}, key=len)
    for seed in good[:: -(-len(good) // SEEDS)]:
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def main(argv: list[str]) -> None:
    """Fuzzes until libFuzzer ends the process."""
    if argv[2] == "--seeds":
        write_seeds(argv[1], Path(argv[3]))
        return
    alone()
    with atheris.instrument_imports(include=PYTHON):
        from targets import TARGETS

        run = TARGETS[argv[1]].make()
        for seed in TARGETS[argv[1]].seeds():  # imports what it needs while they are watched
            run(seed[: TARGETS[argv[1]].longest])
            break
    # Merging, libFuzzer starts its own program again.
    atheris.Setup([os.environ.get("NETSTACK_FUZZ_PROGRAM", argv[0]), *argv[2:]], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
