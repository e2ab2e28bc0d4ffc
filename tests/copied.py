"""A copy of the sources to build in another way or for another Python: ``python tests/copied.py FOLDER``.

The objects of two builds never meet, and what has not changed in the copy is not built again: files keep their times,
and what has gone from the sources goes from the copy.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("netstack", "tests", "bench", "pcaps", "examples", "docs", ".ci")
FILES = ("pyproject.toml", "setup.py", "setup_commands.py", "MANIFEST.in", "dev", "mkdocs.yml", ".gitignore")
TEXTS = ("README.md", "LICENSE", "CHANGELOG.md")
BUILT = (".so", ".c")  # beside the .pyx they were made of


def is_built(path: Path) -> bool:
    """Whether a build left this file there."""
    if path.suffix == ".c":
        return path.with_suffix(".pyx").exists() or path.name == "_cyutility.c"
    return path.suffix == ".so"


def wanted() -> list[Path]:
    """The files of the sources, relative to their root."""
    found = [Path(name) for name in FILES + TEXTS if (ROOT / name).exists()]
    for name in FOLDERS:
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not is_built(path):
                found.append(path.relative_to(ROOT))
    return found


def copy(folder: Path) -> None:
    """Brings the copy in ``folder`` up to date."""
    files = wanted()
    kept = set(files)
    for name in FOLDERS:
        for path in list((folder / name).rglob("*")):
            relative = path.relative_to(folder)
            if path.is_file() and path.suffix not in BUILT and relative not in kept:
                path.unlink()
    for relative in files:
        source, target = ROOT / relative, folder / relative
        was, now = source.stat(), target.stat() if target.exists() else None
        if now is None or (now.st_mtime_ns, now.st_size) != (was.st_mtime_ns, was.st_size):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/copied.py FOLDER")
    copy(Path(sys.argv[1]).resolve())
