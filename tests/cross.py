"""Compiles every extension for macOS on whatever machine this is: ``./dev cross``.

Zig's C compiler brings macOS's headers with it; nothing is linked, so that no Python for macOS is needed. What this
finds is what the preprocessor and the compiler can find: a header, a constant or a call that only Linux has, a type
of another width. It runs no code.

Python's headers are those of the interpreter that runs, all but ``pyconfig.h``, which tells about the C library that
Python was built with. There, on macOS, configure asks for everything that the system has (``_DARWIN_C_SOURCE``) and
not for a version of POSIX, which would hide ``kqueue`` and much else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "cross"
TARGETS = ("aarch64-macos", "x86_64-macos")
FLAGS = (
    *("-c", "-O0", "-g0", "-w", "-fno-sanitize=all", "-fno-strict-aliasing", "-fwrapv"),
    # "-w" says nothing of what Cython writes. These stay errors: they are how a call of another system shows.
    *("-Werror=implicit-function-declaration", "-Werror=int-conversion"),
    *("-Werror=incompatible-pointer-types", "-Werror=incompatible-function-pointer-types"),
)

PYCONFIG = """\
/* What {source} says about the system that it was made on, and then what holds on macOS. */
{text}
#undef _POSIX_C_SOURCE
#undef _XOPEN_SOURCE
#undef _XOPEN_SOURCE_EXTENDED
#undef _GNU_SOURCE
#undef _DARWIN_C_SOURCE
#define _DARWIN_C_SOURCE 1
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``error`` is the compiler's text, empty when it compiled."""

    source: Path
    target: str
    error: str


def compiler() -> list[str] | None:
    """The command of Zig's C compiler: PyPI's ``ziglang``, or a zig on the path; None without one."""
    package = find_spec("ziglang")
    if package is not None and package.origin is not None:
        return [str(Path(package.origin).parent / "zig"), "cc"]
    found = shutil.which("zig")
    return [found, "cc"] if found else None


def pyconfig() -> Path:
    """The pyconfig.h with the definitions themselves: Debian's only chooses one by the processor."""
    plain = Path(sysconfig.get_config_h_filename())
    chosen = plain.parent.parent / str(sysconfig.get_config_var("MULTIARCH")) / plain.parent.name / plain.name
    return chosen if chosen.exists() else plain


def headers(folder: Path) -> Path:
    """A copy of Python's headers with a pyconfig.h for macOS."""
    include = folder / "include"
    shutil.rmtree(include, ignore_errors=True)
    shutil.copytree(sysconfig.get_paths()["include"], include)
    source = pyconfig()
    (include / "pyconfig.h").write_text(PYCONFIG.format(source=source.name, text=source.read_text()))
    return include


def sources() -> list[Path]:
    """The C file of each extension, as Cython left it; the largest first, so that no core waits for one at the end.

    Raises:
        FileNotFoundError: an extension has not been built.
    """
    found = [path.with_suffix(".c") for path in sorted((ROOT / "netstack").rglob("*.pyx"))]
    found.append(ROOT / "netstack" / "_cyutility.c")
    return sorted(found, key=lambda path: -path.stat().st_size)


def compile_one(cc: list[str], include: Path, source: Path, target: str, out: Path) -> Outcome:
    """Compiles one file for one target."""
    argv = [*cc, "-target", target, *FLAGS, f"-I{include}", f"-I{ROOT}", "-o", str(out), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **caches()})
    out.unlink(missing_ok=True)
    return Outcome(source, target, "" if done.returncode == 0 else done.stderr or f"exit {done.returncode}")


def caches() -> dict[str, str]:
    """Where Zig keeps what it has compiled: only what has changed is compiled again."""
    return {"ZIG_LOCAL_CACHE_DIR": str(KEPT / "cache"), "ZIG_GLOBAL_CACHE_DIR": str(KEPT / "cache")}


def compile_all(cc: list[str], files: list[Path], folder: Path) -> list[Outcome]:
    """Every file for every target, as many at a time as there are processors."""
    folder.mkdir(parents=True, exist_ok=True)
    include = headers(folder)
    work = [(source, target) for source in files for target in TARGETS]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [
            pool.submit(compile_one, cc, include, source, target, folder / f"{number}.o")
            for number, (source, target) in enumerate(work)
        ]
        return [job.result() for job in jobs]


def main() -> int:
    """Compiles everything; 1 when something does not compile, 2 when there is nothing to compile with."""
    cc = compiler()
    if cc is None:
        print("cross: zig is missing: run ./dev cross, or pip install ziglang", file=sys.stderr)
        return 2
    try:
        files = sources()
    except FileNotFoundError as err:
        print(f"cross: {err.filename} is missing: run ./dev build first", file=sys.stderr)
        return 2
    failed = [outcome for outcome in compile_all(cc, files, KEPT) if outcome.error]
    for outcome in failed:
        print(
            f"--- {outcome.source.relative_to(ROOT)} for {outcome.target}\n{outcome.error}", file=sys.stderr
        )
    print(f"{len(files)} files for {', '.join(TARGETS)}: {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
