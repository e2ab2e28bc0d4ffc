"""The packages as a slim container meets them: ``./dev packages --bare``, as root on Debian and its kin.

debootstrap makes a root with Python and nothing else in build/packages/root. In it the wheel must install and work, the
source distribution must say in one sentence what is missing as long as there is no compiler, and install and work once
there is one. The root has no way out: what pip needs is downloaded before, for the root's Python.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

SENTENCE = "netstack is built from source here"  # how the build says what it lacks
NO_CHECK = "--disable-pip-version-check"


class Root:
    """A Debian of its own below a folder, and programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
        packages = "ca-certificates,python3,python3-venv"
        checked("debootstrap", "--variant=minbase", f"--include={packages}", suite, self.folder)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        inside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        # A namespace of processes: nothing that a package starts outlives this.
        argv = ("unshare", "--pid", "--fork", "chroot", str(self.folder), *argv)
        return subprocess.run(
            argv, env={**os.environ, **inside}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def checked(self, *argv: str) -> str:
        done = self.run(*argv)
        if done.returncode:
            raise SystemExit(f"packages: in the bare root {' '.join(argv)} failed:\n{done.stdout}")
        return done.stdout

    def install(self, environment: str, package: str) -> subprocess.CompletedProcess[str]:
        """pip in a new environment, with what was downloaded and nothing else."""
        self.checked("python3", "-m", "venv", f"/{environment}")
        return self.run(
            f"/{environment}/bin/pip", "--isolated", "install", "-q", NO_CHECK,
            *("--no-index", "--find-links", "/packages", f"/packages/{package}"),
        )  # fmt: skip

    def works(self, environment: str) -> str:
        """The version, after a demonstration in memory."""
        program = f"/{environment}/bin/netstack"
        self.checked(program, "demo", "--memory", "--seconds", "1")
        return self.checked(program, "--version").strip()


def checked(*argv: str | Path) -> str:
    done = subprocess.run(list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"packages: {' '.join(map(str, argv))} failed:\n{done.stdout}")
    return done.stdout


def download(source: Path, wheel: Path, version: str, into: Path) -> None:
    """What the two need when they are installed, and what the build of the source needs."""
    for package, *more in (
        (wheel, "--python-version", version),
        ("setuptools>=77",),
        ("cython>=3.1",),
        ("wheel",),
    ):
        checked(
            *(sys.executable, "-m", "pip", "download", "-q", NO_CHECK, "--only-binary", ":all:", "-d", into),
            *(*more, package),
        )
    shutil.copy(source, into)


def tried(source: Path, wheel: Path, kept: Path) -> None:
    """Both, in a root made for it below ``kept``.

    Raises:
        SystemExit: one of them does not do what it should, in a sentence.
    """
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise SystemExit("packages: --bare needs root and debootstrap (sudo apt-get install debootstrap)")
    root = Root(kept / "root")
    root.make()
    version = root.checked("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    folder = root.folder / "packages"
    folder.mkdir()
    download(source, wheel, version, folder)

    done = root.install("wheel", wheel.name)
    if done.returncode:
        raise SystemExit(f"packages: the wheel does not install in a bare root:\n{done.stdout}")
    print(f"bare root, Python {version}: the wheel is {root.works('wheel')}")

    done = root.install("without", source.name)
    told = [line.strip() for line in done.stdout.splitlines() if SENTENCE in line]
    if done.returncode == 0 or not told:
        raise SystemExit(
            f"packages: without a compiler the source does not say what is missing:\n{done.stdout}"
        )
    print(f"without a compiler the source says: {told[0]}")

    root.checked("apt-get", "-q", "update")
    root.checked(
        "apt-get", "-q", "-y", "--no-install-recommends", "install", "gcc", "libc6-dev", "python3-dev"
    )
    done = root.install("with", source.name)
    if done.returncode:
        raise SystemExit(f"packages: the source does not install with a compiler:\n{done.stdout}")
    print(f"with one it is {root.works('with')}")
