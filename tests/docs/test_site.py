"""The documentation as a site: it builds without a warning, and everything public in it is described."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
STUBS = sorted((ROOT / "netstack").rglob("*.pyi"))
PAGES = sorted(p.relative_to(DOCS) for p in DOCS.rglob("*.md"))
SIGNATURE = re.compile(r"(?:\w+\.)*\w+\(.*\)(?: *-> *[^\n]+)?\n*")  # what Cython puts in front


def members(node: ast.AST, owner: Any, path: str = "") -> Iterator[tuple[str, ast.AST, Any, Any]]:
    """Public classes, functions and properties of a stub, with what they are at run time and whose they are."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if child.name.startswith("_"):
            continue
        thing = getattr(owner, child.name)
        yield path + child.name, child, thing, owner
        if isinstance(child, ast.ClassDef):
            yield from members(child, thing, f"{path}{child.name}.")


def described(name: str, node: Any, thing: Any, owner: Any) -> bool:
    """By its docstring in the .pyx, or in the stub, or a field by its class's."""
    text = getattr(thing, "__doc__", None) or ""
    if SIGNATURE.sub("", text, count=1).strip() or ast.get_docstring(node):
        return True
    field = any(isinstance(x, ast.Name) and x.id == "property" for x in getattr(node, "decorator_list", []))
    return field and bool(re.search(rf"\b{node.name}\b.*:", owner.__doc__ or ""))


@pytest.mark.parametrize("stub", STUBS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_public_stub_is_described(stub: Path) -> None:
    module = importlib.import_module(".".join(stub.relative_to(ROOT).with_suffix("").parts))
    assert module.__doc__
    found = members(ast.parse(stub.read_text()), module)
    assert not [name for name, *rest in found if not described(name, *rest)]


def broken_raises(text: str) -> list[str]:
    """Lines under ``Raises:`` that are neither ``Error: when`` nor indented as a continuation."""
    out = []
    for block in re.findall(r"^Raises:\n((?:[ \t]+\S.*\n?)+)", inspect.cleandoc(text), re.MULTILINE):
        lines = textwrap.dedent(block).splitlines()
        out += [line for line in lines if not line.startswith(" ") and not re.match(r"[\w., ]+: ", line)]
    return out


@pytest.mark.parametrize("stub", STUBS, ids=lambda p: str(p.relative_to(ROOT)))
def test_errors_are_told_in_a_way_that_the_site_reads(stub: Path) -> None:
    module = importlib.import_module(".".join(stub.relative_to(ROOT).with_suffix("").parts))
    for name, _, thing, _ in members(ast.parse(stub.read_text()), module):
        assert not broken_raises(getattr(thing, "__doc__", None) or ""), name


def test_broken_errors_are_seen() -> None:
    head = "One.\n\n  Raises:\n    ValueError: a long\n"
    assert broken_raises(f"{head}    line.\n") == ["line."]
    assert not broken_raises(f"{head}        line.\n    OSError, TypeError: no.\n")


def test_a_signature_is_no_description() -> None:
    node = ast.parse("def peek(n: int) -> bytes: ...").body[0]

    class Bare:
        """Nothing of it."""

    assert not described("peek", node, type("x", (), {"__doc__": "Ring.peek(n)\n"}), Bare)
    assert described("peek", node, type("x", (), {"__doc__": "Ring.peek(n)\n\nBytes at the front."}), Bare)


def test_the_site_without_reference_to_other_machines() -> None:
    for page in PAGES:
        assert "/work/" not in (DOCS / page).read_text()


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert {str(p) for p in PAGES if not re.fullmatch(r"rfc/\d+\.md", str(p))} <= listed


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*(DOCS / p for p in PAGES), ROOT / "README.md"]:
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_modules_with_a_reference_exist() -> None:
    for page in (DOCS / "reference").glob("*.md"):
        for name in re.findall(r"^::: ([\w.]+)", page.read_text(), re.MULTILINE):
            module, thing = name, ""
            if importlib.util.find_spec(name.rpartition(".")[0]) and not _is_module(name):
                module, _, thing = name.rpartition(".")
            found = importlib.import_module(module)
            assert not thing or hasattr(found, thing), name


def test_every_stub_is_in_the_reference() -> None:
    pages = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    modules = {".".join(stub.relative_to(ROOT).with_suffix("").parts) for stub in STUBS}
    assert modules <= set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for needed in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip("mkdocs with material and mkdocstrings is not installed (extra docs)")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in PAGES:
        made = "index.html" if page.name == "README.md" else f"{page.stem}.html"
        assert (tmp_path / "site" / page.parent / made).exists()
    for made_page in (tmp_path / "site").rglob("*.html"):  # what a page is made of is in the site
        fetched = re.findall(
            r"""<(?:script|img|link)\b[^>]*?\b(?:src|href)="(https?:[^"]*)""", made_page.read_text()
        )
        assert not fetched, made_page
        assert 'class="mermaid"' not in made_page.read_text()  # which the theme would fetch a program for
    text = (tmp_path / "site" / "reference" / "protocols.html").read_text()
    assert "Where src and dst are given the checksum is verified" in re.sub(r"\s+", " ", text)  # of the .pyx
    assert "IPv4Address" in text  # of the .pyi
