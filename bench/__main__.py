"""python -m bench [NAME] [OPTIONS], NAME being one of NAMES below; without it: compare."""

from __future__ import annotations

import importlib
import sys

NAMES = (
    "capture",
    "compare",
    "dissect",
    "dns",
    "gil",
    "many",
    "page",
    "peer",
    "ports",
    "profile",
    "relay",
    "soak",
)
ELSEWHERE = {"page": "compare.page"}


def main(argv: list[str]) -> int:
    """Runs the benchmark that the first argument names with the rest of them; its exit status."""
    name, rest = (argv[0], argv[1:]) if argv[:1] and argv[0] in NAMES else ("compare", argv)
    status: int = importlib.import_module(f".{ELSEWHERE.get(name, name)}", __package__).main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
