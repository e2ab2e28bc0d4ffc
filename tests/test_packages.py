"""What the packages hold, and what is said where they cannot be built.

``./dev packages`` makes and tries them whole.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def setup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of setup.py."""
    return subprocess.run(
        [sys.executable, "setup.py", "-q", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_source_distribution_has_everything(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no repository: nothing says what belongs to it")
    done = setup("egg_info", "--egg-base", str(tmp_path), "sdist", "--dist-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {name for name in listed.stdout.splitlines() if (ROOT / name).exists()} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))], "what was built stays here"
    assert not [name for name in names if name.endswith(".c") and (ROOT / name).with_suffix(".pyx").exists()]


@pytest.mark.parametrize("cc", ["no-such-compiler -O2", "ccache no-such-compiler"])
def test_without_a_compiler_one_sentence_says_so(cc: str, tmp_path: Path) -> None:
    done = setup("build_ext", "--build-lib", str(tmp_path), CC=cc)
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert "needs a C compiler" in sentence
    assert "no-such-compiler" in sentence
    assert "apt install gcc" in sentence
    assert "pip install --only-binary netstack netstack" in sentence


def test_a_compiler_without_its_library(tmp_path: Path) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    done = setup("bdist_wheel", CC=str(broken))
    assert done.returncode == 1
    assert "needs the C library's headers" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_metadata_needs_no_compiler() -> None:
    done = setup("--version", CC="no-such-compiler")
    assert (done.returncode, done.stdout) == (0, "0.1.0\n")
