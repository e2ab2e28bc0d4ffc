"""What setup.py does besides compiling: says what is missing to compile, and installs the manual pages."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools  # noqa: F401  (brings distutils)

from distutils.command.install_data import install_data  # isort: skip

COMPILE = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}


def compiles() -> bool:
    """Whether the command is one that compiles: making a source distribution, or asking for metadata, is none."""
    return bool(COMPILE.intersection(sys.argv))


def missing() -> str:
    """What keeps extensions from being compiled here, in one sentence; empty when nothing does.

    Without a build environment of Windows or macOS in sight, this is about the compiler's being there at all.
    """
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    compilers = [word for word in command if not word.startswith("-")]
    wanted = []
    if not all(map(shutil.which, compilers)):
        wanted.append(f"a C compiler ('{' '.join(compilers)}' is not there)")
    elif not _compiles([*command, "-E", "-"], "#include <stdio.h>"):
        wanted.append("the C library's headers (stdio.h is not there)")
    if not any(Path(sysconfig.get_paths()[key], "Python.h").exists() for key in ("include", "platinclude")):
        wanted.append("Python's headers (Python.h is not there)")
    if not wanted:
        return ""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return (
        f"netstack is built from source here, and that needs {' and '.join(wanted)}: install them (Debian, Ubuntu: "
        f"apt install gcc libc6-dev {version}-dev; Fedora: dnf install gcc python3-devel; Alpine: apk add gcc musl-dev "
        "python3-dev linux-headers; macOS: xcode-select --install), or take a wheel: pip install --only-binary "
        "netstack netstack"
    )


def _compiles(command: list[str], text: str) -> bool:
    return subprocess.run(command, input=text.encode(), capture_output=True).returncode == 0


class InstallData(install_data):
    """Manual pages, written by the commands that have just been built."""

    def run(self) -> None:
        build = self.get_finalized_command("build")
        pages = Path(build.build_temp).resolve() / "man"
        shutil.rmtree(pages, ignore_errors=True)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(build.build_lib).resolve()), *sys.path]),
        }
        made = subprocess.run(
            [sys.executable, "-m", "netstack.cli.manual", str(pages)],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
        )
        if made.returncode:  # the program is whole without them
            print(f"warning: no manual pages: {(made.stderr.splitlines() or ['?'])[-1]}", file=sys.stderr)
        else:
            self.data_files = [("share/man/man1", sorted(map(str, pages.glob("*.1"))))]
            super().run()
