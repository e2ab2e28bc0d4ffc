"""The kernel's word on what changes in folders."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from netstack.host import inotify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


def test_a_watch_on_folders_tells_what_changes_in_them(tmp_path: Path) -> None:
    folders = inotify.Folders()
    try:
        one, other = (tmp_path / name for name in ("one", "other"))
        one.mkdir()
        other.mkdir()
        first, second = folders.add(str(one)), folders.add(str(other))
        assert folders.add(str(one)) == first != second
        assert folders.read() == set()
        (one / "new").write_text("x")
        (one / "new").rename(other / "moved\udcff")
        assert folders.read() == {(first, "new"), (second, "moved\udcff")}
        other.joinpath("moved\udcff").unlink()
        other.rmdir()
        assert (second, "moved\udcff") in (told := folders.read())
        assert (second, "") in told
        with pytest.raises(FileNotFoundError):
            folders.add(str(other))
    finally:
        folders.close()
    assert folders.read() == set()
