"""The tests under every Python that netstack supports: ``./dev pythons [VERSION ...] [-- PYTEST ARGUMENTS]``.

Each has a copy of the sources of its own in build/pythons, with the environment that ``./dev test`` makes there, so
that a second run builds only what has changed. Pythons are looked for on the path and where pyenv and uv keep them;
one that is not to be had is named, and fails the run only when it was asked for.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
import time

import copied

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t")  #: t: the builds without a global lock
KEPT = copied.ROOT / "build" / "pythons"
TAG = """\
import sys, sysconfig
print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))"""
TOTALS = re.compile(r"^=* ?((?:\d+ \w+(?:, )?)+) in [\d.]+s", re.MULTILINE)


def places(version: str) -> list[str]:
    """Where an interpreter of this version may lie, the best first."""
    plain = version.rstrip("t")
    found = [
        shutil.which(f"python{version}"),
        shutil.which(f"python{plain}-nogil") if version != plain else None,
    ]
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    uv = os.environ.get("UV_PYTHON_INSTALL_DIR") or os.path.expanduser("~/.local/share/uv/python")
    for pattern in (
        f"{pyenv}/versions/{plain}.*/bin/python{version}",
        f"{uv}/cpython-{plain}*/bin/python{version}",
    ):
        found += sorted(glob.glob(pattern), reverse=True)
    return [path for path in found if path]


def interpreter(version: str) -> str | None:
    """The path of an interpreter of exactly this version that runs; None without one."""
    for path in places(version):
        done = subprocess.run([path, "-c", TAG], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == version:
            return path
    return None


def run(version: str, python: str, arguments: list[str]) -> tuple[bool, str]:
    """(green?, what became of it) of the tests under one interpreter."""
    folder = KEPT / version
    copied.copy(folder)
    log = KEPT / f"{version}.log"
    began = time.monotonic()
    environment = {**os.environ, "PYTHON": python}
    environment.pop("PYTHONPATH", None)
    if version.endswith("t"):
        environment["PYTHON_GIL"] = "0"  # whatever an extension of somebody else's asks for
    with log.open("wb") as out:
        argv = ["sh", str(folder / "dev"), "test", *arguments]
        status = subprocess.call(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    totals = TOTALS.findall(log.read_text(errors="replace"))
    said = totals[-1] if totals else f"no test ran: see {log.relative_to(copied.ROOT)}"
    if status and totals:
        said += f": see {log.relative_to(copied.ROOT)}"
    return status == 0, f"{said} ({(time.monotonic() - began) / 60:.0f} min with the build)"


def main(argv: list[str]) -> int:
    """Runs them one after the other; 1 when one is not green, or one that was asked for is not here."""
    cut = argv.index("--") if "--" in argv else len(argv)
    asked, arguments = argv[:cut], argv[cut + 1 :]
    unknown = [version for version in asked if version not in VERSIONS]
    if unknown:
        print(f"pythons: '{unknown[0]}' is none of {', '.join(VERSIONS)}", file=sys.stderr)
        return 2
    KEPT.mkdir(parents=True, exist_ok=True)
    status = 0
    for version in asked or VERSIONS:
        python = interpreter(version)
        if python is None:
            good, said = not asked, "not found: pyenv or uv can install it"
        else:
            good, said = run(version, python, arguments)
        print(
            f"{version:<6} {'ok    ' if good and python else 'FAILED' if not good else '-     '} {said}",
            flush=True,
        )
        status |= not good
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
