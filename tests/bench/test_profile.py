"""What perf reports, as rows."""

from __future__ import annotations

import pytest

from bench import profile

REPORT = """# Total Lost Samples: 0
#
# Overhead  Shared Object                                 Symbol
# ........  ............................................  ..................
#
     2.50%  loop.cpython-311-x86_64-linux-gnu.so          [.] __pyx_f_8netstack_4loop_engine_round
    18.04%  [kernel.kallsyms]                             [k] _copy_from_iter
     0.90%  libc.so.6                                     [.] __send

# (Tip: For hierarchical output, try: perf report --hierarchy)
"""


def test_the_largest_share_comes_first_and_names_are_short() -> None:
    rows = profile.read_report(REPORT)
    assert [(row.share, row.where, row.function, row.kernel) for row in rows] == [
        (18.04, "kernel", "_copy_from_iter", True),
        (2.5, "loop", "engine_round", False),
        (0.9, "libc", "__send", False),
    ]
    assert profile.read_report("") == []


def test_an_unknown_path_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        profile.main(["--path", "nowhere"])
    assert ended.value.code == 2
    assert "invalid choice: 'nowhere'" in capsys.readouterr().err
