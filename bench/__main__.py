"""python -m bench [compare|dns|gil|relay|many|dissect|ports] [OPTIONS]"""

from __future__ import annotations

import sys


def main(argv: list[str]) -> int:
    if argv[:1] == ["dns"]:
        from .dns import main as run

        return run(argv[1:])
    if argv[:1] == ["gil"]:
        from .gil import main as run

        return run(argv[1:])
    if argv[:1] == ["many"]:
        from .many import main as run

        return run(argv[1:])
    if argv[:1] == ["relay"]:
        from .relay import main as run

        return run(argv[1:])
    if argv[:1] == ["dissect"]:
        from .dissect import main as run

        return run(argv[1:])
    if argv[:1] == ["ports"]:
        from .ports import main as run

        return run(argv[1:])
    from .compare import main as run

    return run(argv[1:] if argv[:1] == ["compare"] else argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
