"""The data path never touches Python: the C made of every ``nogil`` function is searched for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "netstack"

# Anything of Python's C API, and of Cython's wrappers around it.
PYTHON = re.compile(
    r"\b(?:PyGILState_\w+|__Pyx_PyGILState_\w+|PyEval_\w+|__Pyx_\w*(?:INCREF|DECREF|GOTREF|GIVEREF)"
    r"|Py_X?(?:INCREF|DECREF|CLEAR)|Py[A-Z]\w*_[A-Z]\w+|__Pyx_(?:AddTraceback|WriteUnraisable|Raise|ErrRestore|ErrFetch)\w*"
    r"|__Pyx_RefNanny\w+|Py_BEGIN_ALLOW_THREADS|Py_(?:UN)?BLOCK_THREADS)\s*\("
)
DECLARED = re.compile(
    r"^[ \t]*cdef[ \t]+[^\n=#:]*?\b(?P<name>\w+)[ \t]*\((?P<parameters>[^)]*(?:\([^)]*\)[^)]*)*)\)"
    r"[ \t]*noexcept[ \t]+nogil[ \t]*:",
    re.MULTILINE,
)
TOUCHES_PYTHON: set[str] = set()  # functions that may, with a reason beside each: none


def declared(text: str) -> set[str]:
    """The ``noexcept nogil`` functions that are defined in a Cython source."""
    return {match["name"] for match in DECLARED.finditer(text)}


def functions(c: str) -> Iterator[tuple[str, str]]:
    """(name, body) of every function in generated C that stands for one of ours."""
    for match in re.finditer(
        r"^(?:static|CYTHON_INLINE)[^\n;]*?\b__pyx_f_(\w+)\([^;{]*\)\s*\{", c, re.MULTILINE
    ):
        end = c.find("\n}\n", match.end())
        yield match[1], c[match.end() : end]


def ours(mangled: str, names: set[str]) -> str | None:
    """The name among names that Cython mangled: module path, perhaps a class, and the name itself."""
    fitting = (name for name in names if mangled == name or mangled.endswith("_" + name))
    return max(fitting, key=len, default=None)  # send_batch is not batch


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.pyx"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_nogil_functions_do_without_python(path: Path) -> None:
    generated = path.with_suffix(".c")
    if not generated.exists():
        pytest.skip(f"{generated.name} is not there: the package was not built in place")
    names = declared(path.read_text())
    for header in [
        path.with_suffix(".pxd"),
        *PACKAGE.rglob("*.pxd"),
    ]:  # inline functions end up in every user
        if header.exists():
            names |= declared(header.read_text())
    found = set()
    for mangled, body in functions(generated.read_text()):
        name = ours(mangled, names)
        if name is None:
            continue
        found.add(name)
        if name not in TOUCHES_PYTHON:
            calls = sorted(set(PYTHON.findall(body)))
            assert not calls, f"{name} calls {', '.join(calls)}"
    missing = {name for name in declared(path.read_text()) if name not in found}
    assert not missing, f"not found in {generated.name}, so not searched: {', '.join(sorted(missing))}"


def test_the_search_finds() -> None:
    """The check can fail: a declaration and a call of each kind are seen."""
    source = "cdef int quick(const uint8_t *p,\n               int n) noexcept nogil:\n    return n\n"
    source += "cdef inline void also(void (*f)(int), int n) noexcept nogil:\n    pass\n"
    source += "cdef int slow(int n):\n    return n\ncdef int later(int n) noexcept nogil\n"
    assert declared(source) == {"quick", "also"}
    c = "static int __pyx_f_8netstack_4wire_2be_quick(int n) {\n  PyGILState_Ensure();\n  if (n) {\n  }\n}\n"
    ((mangled, body),) = functions(c)
    assert ours(mangled, {"quick"}) == "quick"
    for call in (
        "PyGILState_Ensure()",
        "__Pyx_INCREF(x)",
        "PyErr_SetString(a)",
        "__Pyx_AddTraceback(b)",
        "Py_DECREF(x)",
    ):
        assert PYTHON.search(call)
    assert PYTHON.search(body)
    assert not PYTHON.search("memcpy(a, b, n); __pyx_f_8netstack_x(n); likely(n)")
