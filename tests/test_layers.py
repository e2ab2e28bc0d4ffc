"""Who may import whom, as data; and the other rules about the shape of the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "netstack"

# A layer is a folder, or a file directly in netstack/. It may import itself, errors, and what stands here. A
# dotted entry allows that one module; a dotted key is an exception for one module.
BOTTOM = {"wire", "storage", "host"}
PURE = {"tcp", "iface", "services", "switch"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": set(),
    "config_file": {"config", "link.spec", "publish_all", "services.dhcp4_clients"},
    "wire": set(),
    "storage": set(),
    "host": set(),
    "tcp": {"wire", "storage"},
    "iface": {"wire", "storage"},
    "switch": {"storage"},
    "services": {"wire", "storage.siphash"},
    "capture": {"wire", "storage.frame"},
    "capture.conversations": {"wire", "storage.table"},
    # What the engine captures: its records, the thread that writes them, and what cuts super-frames.
    "capture.tap": {"host.sockets", "storage.frame", "storage.decision"},
    "capture.comments": {"storage.counters", "storage.decision", "storage.frame"},
    "capture.sink": {"host"},
    "capture.recording": {"host", "link.link"},
    "capture.tapping": {"wire", "host", "storage"},
    "capture.recorder": {"wire", "host", "storage", "link.framing", "link.link"},
    "link": {"host", "storage"},
    "link.framing": {"host", "storage", "wire"},
    "link.coalesce": {"host", "storage", "wire"},
    "nat": BOTTOM | PURE - {"switch"},
    "loop": BOTTOM | PURE | {"nat", "link", "capture"},
    "engine": BOTTOM | PURE | {"nat", "link", "capture", "loop"},
    "sandbox": {"host", "config"},
    "publish": set(),
    "host_route": {"host", "names", "gateway"},
    "publish_all": {"host.sock_diag", "log", "publish", "reach"},
    "forwards": {"engine"},
    "outbound": {"config", "log"},
    "nameservice": {"config", "engine", "log", "outbound", "services"},
    "proxy": {"config", "engine", "outbound"},
    "proxying": {"config", "log", "engine", "reach", "services", "proxy"},
    "reach": {"engine", "publish", "config", "services.dhcp4"},
    "log": set(),
    # The gateway's parts, one to a task; they meet in netstack.Gateway.
    "guests": {"config", "log", "names", "pending", "link", "host", "control.listeners"},
    "socks": {"config", "log", "pending", "publish", "reach", "control.socks"},
    "names": {"config", "log", "engine", "reach", "services", "nameservice", "lease_store", "host.boot"},
    "lease_store": {"log", "host.boot", "services.dhcp4_leases"},
    "pending": {
        "config",
        "log",
        "engine",
        "reach",
        "services",
        "forwards",
        "proxy",
        "control.loop",
        "nameservice",
    },
    "tuning": {"config", "engine", "link"},
    "capturing": {"capture", "config", "engine", "log", "nameservice"},
    "gateway": BOTTOM
    | PURE
    | {
        "nat",
        "link",
        "capture",
        "config",
        "log",
        "engine",
        "forwards",
        "guests",
        "pending",
        "outbound",
        "proxying",
        "socks",
        "capturing",
        "tuning",
    },
    "control.listeners": {"link"},  # the same
    "control.socks": {"services", "publish", "log", "engine", "reach", "config"},  # the same
    "control.loop": {"services"},  # the gateway's own helper; the rest of control stands on top of it
    "replay": BOTTOM | PURE | {"nat", "link", "capture", "config", "engine", "gateway", "loop"},
    "control": BOTTOM
    | PURE
    | {
        "nat",
        "link",
        "capture",
        "config",
        "config_file",
        "engine",
        "gateway",
        "host_route",
        "log",
        "publish",
        "reach",
        "capturing",
        "tuning",
        "__init__",
    },
    "testing": BOTTOM
    | PURE
    | {"nat", "link", "capture", "config", "engine", "gateway", "sandbox", "replay", "__init__"},
    "__init__": {"config", "gateway"},
    "cli": {"*"},
    "__main__": {"cli"},
}
MAX_LINES = 700
LONGER: set[str] = set()  # files that may be longer, with a reason beside each: none

CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<module>[\w.]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n]+)"
    r"|c?import[ \t]+(?P<modules>[\w., \t]+))",
    re.MULTILINE,
)


def sources(*suffixes: str) -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*") if p.suffix in suffixes and "__pycache__" not in p.parts)


def module_of(path: Path) -> str:
    """``wire.tcp`` for netstack/wire/tcp.pyx; ``wire`` for its __init__; ``__init__`` for netstack's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_of(p) for p in sources(".py", ".pyx", ".pxd")}


def inner(module: str, name: str | None = None) -> str | None:
    """An absolute import as one of our modules, None when it is somebody else's."""
    if module != "netstack" and not module.startswith("netstack."):
        return None
    base = module[len("netstack.") :]
    joined = ".".join(x for x in (base, name) if x)
    if joined in MODULES:
        return joined
    return base or "__init__"


def python_imports(text: str, package: str) -> Iterator[tuple[str, bool]]:
    """(module, at the top level?) for each import of ours, those for type checkers apart."""

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found = [inner(alias.name) for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                up = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
                base = ".".join([*up, *([child.module] if child.module else [])])
                found = [inner(base, alias.name) for alias in child.names]
            else:
                yield from walk(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))
                continue
            yield from ((module, top) for module in found if module)

    return walk(ast.parse(text), True)


def cython_imports(text: str) -> Iterator[tuple[str, bool]]:
    for match in CYTHON_IMPORT.finditer(text):
        if match["module"]:
            names = re.sub(r"#[^\n]*|[()]", "", match["names"]).split(",")
            found = [inner(match["module"], (name.split() or [""])[0]) for name in names]
        else:
            found = [inner(name.split()[0]) for name in match["modules"].split(",") if name.strip()]
        yield from ((module, not match[0][:1].isspace()) for module in found if module)


def imports(path: Path) -> set[tuple[str, bool]]:
    text = path.read_text()
    if path.suffix == ".py":
        package = ".".join(["netstack", *path.relative_to(PACKAGE).parts[:-1]])
        return set(python_imports(text, package))
    return set(cython_imports(text))


def layer(module: str) -> str:
    return module.split(".")[0]


def allowed(module: str, target: str) -> bool:
    may = MAY_IMPORT.get(module, MAY_IMPORT.get(layer(module), set()))
    return (
        layer(target) == layer(module)
        or target == "errors"
        or "*" in may
        or layer(target) in may
        or target in may
    )


@pytest.mark.parametrize(
    "path", sources(".py", ".pyx", ".pxd", ".pyi"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_follow_the_table(path: Path) -> None:
    module = module_of(path)
    assert layer(module) in MAY_IMPORT, f"{layer(module)} has no place in the table"
    wrong = sorted(target for target, _ in imports(path) if not allowed(module, target))
    assert not wrong, f"{module} may not import {', '.join(wrong)}"


def test_table_forbids() -> None:
    """The check can fail: each kind of import is seen, and judged."""
    seen = {
        m
        for m, _ in cython_imports(
            "from netstack.storage cimport (ring,  # why\n  pool)\nimport netstack.errors\n"
        )
    }
    assert seen == {"storage.ring", "storage.pool", "errors"}
    assert {m for m, _ in cython_imports("    from netstack.host.clock cimport clock_now\n")} == {
        "host.clock"
    }
    assert {m for m, _ in python_imports("from ..config import Config", "netstack.cli")} == {"config"}
    assert {m for m, _ in python_imports("from netstack import errors", "netstack")} == {"errors"}
    assert not allowed("wire.tcp", "storage.ring")
    assert not allowed("tcp.tcb", "iface")
    assert not allowed("link.tap", "wire.tcp")
    assert not allowed("nat", "link.tap")
    assert allowed("link.framing", "wire.checksum")
    assert allowed("capture.pcap", "storage.frame")
    assert not allowed("capture.pcap", "storage.ring")


def test_table_names_only_what_could_be() -> None:
    for module, may in MAY_IMPORT.items():
        for target in may - {"*"}:
            assert layer(target) in MAY_IMPORT, f"{target}, which {module} may import, is no layer"


def test_no_cycles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for path in sources(".py", ".pyx", ".pxd"):
        module = module_of(path)
        graph[module] |= {target for target, top in imports(path) if top and target != module}
    state: dict[str, int] = {}

    def visit(module: str, trail: list[str]) -> None:
        state[module] = 1
        for target in sorted(graph.get(module, ())):
            assert state.get(target) != 1, "import cycle: " + " -> ".join([*trail, module, target])
            if target not in state:
                visit(target, [*trail, module])
        state[module] = 2

    for module in sorted(graph):
        if module not in state:
            visit(module, [])


@pytest.mark.parametrize("path", sources(".pyx", ".pxd"), ids=lambda p: str(p.relative_to(ROOT)))
def test_cython_habits(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"^\s*from\s+\.+\w*\s+c?import", text, re.MULTILINE), "relative cimport"
    assert not re.search(r"^\s*include\s+['\"]", text, re.MULTILINE), "textual include"
    assert not re.search(r"^#\s*cython\s*:", text, re.MULTILINE), "compiler directives come from setup.py"


@pytest.mark.parametrize(
    "path", sources(".py", ".pyx", ".pxd", ".pyi"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_length(path: Path) -> None:
    if str(path.relative_to(ROOT)) not in LONGER:
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{lines} lines: split it by role"


def test_setup_stays_short() -> None:
    assert len((ROOT / "setup.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("path", sources(".pyx"), ids=lambda p: str(p.relative_to(ROOT)))
def test_python_faces_have_stubs(path: Path) -> None:
    """A module with public Python names has a .pyi beside it."""
    public = re.search(r"^(?:def|cpdef|class|cdef class)\s+[^_\W]", path.read_text(), re.MULTILINE)
    assert not public or path.with_suffix(".pyi").exists(), f"{path.name} has a Python face and no .pyi"
