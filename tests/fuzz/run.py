"""Fuzzes the targets for a while: ``./dev fuzz [MINUTES] [TARGET ...] [--keep]``.

What was found is run once more by ``./dev fuzz 1 TARGET --again FILE``.

The netstack beside this file is one that was built with NETSTACK_BUILD=fuzz: clang's coverage for libFuzzer, and its
address sanitizer. Each target gets its share of the time, as many at once as there are processors. What is found lies
in ``found/`` of the working folder, to be put into tests/fuzz/found once it is understood, where the tests run it for
good. With --keep the corpus is minimised and takes the place of the one in tests/fuzz/corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import targets

HERE = Path(__file__).resolve().parent
KEPT = Path(os.environ.get("NETSTACK_FUZZ_CORPUS", HERE / "corpus")).resolve()
WORK = Path(os.environ.get("NETSTACK_FUZZ_WORK", "build/fuzz-corpus")).resolve()
KEPT_BYTES = 48 << 10  #: of a target's corpus in the repository, unpacked
MOST = 20  #: findings of one target, after which it is left alone


@dataclass
class Outcome:
    """What became of a target."""

    executions: int = 0
    seconds: float = 0.0
    coverage: int = 0
    corpus: int = 0
    found: list[str] = field(default_factory=list)


def environment() -> dict[str, str]:
    """With the sanitizer and the fuzzer loaded before Python."""
    import atheris  # type: ignore[import-not-found]

    return {
        **os.environ,
        "LD_PRELOAD": str(Path(atheris.path()) / "asan_with_fuzzer.so"),
        "PYTHONMALLOC": "malloc",  # so that the sanitizer sees the end of every object
        "PYTHONPATH": str(HERE.parents[1]),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=1",
    }


def prepared(name: str) -> tuple[Path, Path]:
    """(corpus, seeds) of a target, as folders of files."""
    corpus, seeds = WORK / "corpus" / name, WORK / "seeds" / name
    for folder in (corpus, seeds, WORK / "found"):
        folder.mkdir(parents=True, exist_ok=True)
    one = (sys.executable, str(HERE / "one.py"), name, "--seeds", str(seeds))
    subprocess.run(one, env=environment(), check=True, stdin=subprocess.DEVNULL)
    for seed in kept(name):
        (seeds / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    return corpus, seeds


def kept(name: str) -> list[bytes]:
    """The inputs that are in the repository."""
    path = KEPT / f"{name}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as packed:
        return [packed.read(entry) for entry in packed.namelist()]


def fuzz(name: str, seconds: float) -> Outcome:
    """One target, for so many seconds; begun again after a finding."""
    corpus, seeds = prepared(name)
    outcome = Outcome()
    began = time.monotonic()
    while (left := seconds - (time.monotonic() - began)) > 1 and len(outcome.found) < MOST:
        argv = [
            *(sys.executable, str(HERE / "one.py"), name, f"-max_total_time={int(left)}", "-timeout=20"),
            *(f"-max_len={targets.TARGETS[name].longest}", f"-artifact_prefix={WORK}/found/{name}-"),
            *("-rss_limit_mb=3000", "-print_final_stats=1", "-use_value_profile=1", str(corpus), str(seeds)),
        ]
        log = WORK / f"{name}.log"
        with log.open("wb") as out:
            status = subprocess.call(
                argv, env=environment(), stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        text = log.read_text(errors="replace")
        for number in re.findall(r"number_of_executed_units: (\d+)", text)[-1:]:
            outcome.executions += int(number)
        for number in re.findall(r"cov: (\d+)", text)[-1:]:
            outcome.coverage = int(number)
        if status == 0:
            break
        found = re.findall(r"Test unit written to (\S+)", text)
        outcome.found.append(found[-1] if found else f"ended with status {status}: see {log}")
        log.rename(WORK / "found" / f"{name}-{len(outcome.found)}.log")
        if not found:
            break
        forget(Path(found[-1]), corpus, seeds)
    outcome.seconds = time.monotonic() - began
    outcome.corpus = len(list(corpus.iterdir()))
    return outcome


def forget(found: Path, *folders: Path) -> None:
    """Takes an input that fails out of what the next run begins with, where it would end again."""
    bad = found.read_bytes()
    for folder in folders:
        for path in folder.iterdir():
            if path.read_bytes() == bad:
                path.unlink()


def again(name: str, path: Path) -> int:
    """The target once, on what a file has: 0 when that goes well."""
    argv = [sys.executable, str(HERE / "one.py"), name, "-timeout=20", str(path)]
    return int(subprocess.call(argv, env=environment(), stdin=subprocess.DEVNULL) != 0)


def keep(name: str) -> int:
    """Puts a minimal corpus into the repository: what reaches something new, the smallest first; how many inputs."""
    corpus, seeds = prepared(name)
    small = WORK / "small" / name
    small.mkdir(parents=True, exist_ok=True)
    for left in small.iterdir():
        left.unlink()
    one = (sys.executable, str(HERE / "one.py"), name)
    program = WORK / f"{name}.sh"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(one)} "$@"\n')
    program.chmod(0o755)
    argv = [*one, "-merge=1", f"-max_len={targets.TARGETS[name].longest}", *map(str, (small, corpus, seeds))]
    with (WORK / f"{name}-merge.log").open("wb") as out:
        variables = environment() | {"NETSTACK_FUZZ_PROGRAM": str(program)}
        subprocess.run(argv, env=variables, check=True, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    total, taken = 0, []
    for path in sorted(small.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        total += path.stat().st_size
        if total > KEPT_BYTES:
            break
        taken.append(path)
    KEPT.mkdir(exist_ok=True)
    with zipfile.ZipFile(KEPT / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in taken:
            packed.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return len(taken)


def main(argv: list[str]) -> int:
    """0: nothing was found; 1: something was."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("minutes", type=float, nargs="?", default=15.0, help="in all (15)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(targets.TARGETS)} (all)")
    parser.add_argument("--again", metavar="FILE", type=Path, help="run the one target once, on this input")
    parser.add_argument("--keep", action="store_true", help="put the minimised corpus into tests/fuzz/corpus")
    options = parser.parse_args(argv)
    chosen = options.targets or list(targets.TARGETS)
    for name in chosen:
        if name not in targets.TARGETS:
            parser.error(f"'{name}' is none of the targets {', '.join(targets.TARGETS)}")
    if not options.minutes > 0:
        parser.error("the time must be more than 0 minutes")
    if options.again:
        if len(options.targets) != 1:
            parser.error("--again wants one target")
        path = KEPT.parents[2] / options.again  # the project's folder, unless it is absolute
        if not path.is_file():
            parser.error(f"there is no file {path}")
        return again(chosen[0], path)
    workers = min(os.cpu_count() or 1, len(chosen))
    share = options.minutes * 60 * workers / len(chosen)
    found = 0
    with ThreadPoolExecutor(workers) as pool:
        for name, outcome in zip(chosen, pool.map(lambda name: fuzz(name, share), chosen), strict=True):
            rate = outcome.executions / max(outcome.seconds, 1e-9)
            print(
                f"{name:<11} {outcome.executions:10d} inputs in {outcome.seconds:4.0f} s ({rate:6.0f}/s), "
                f"{outcome.coverage:6d} edges, corpus {outcome.corpus:5d}, found {len(outcome.found)}",
                flush=True,
            )
            for what in outcome.found:
                print(f"    {what}")
                if Path(what).exists():
                    print(f"    again: ./dev fuzz 1 {name} --again {shlex.quote(what)}")
            found += len(outcome.found)
    if options.keep:
        for name in chosen:
            print(f"{name:<11} {keep(name)} inputs kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
