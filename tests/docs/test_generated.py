"""Pages that are made from the sources are what the sources say now."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType

import click
import pytest

from netstack.cli.group import COMMANDS, group
from netstack.config import Config
from netstack.config_file import ServiceConfig

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load("generate")


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_page_is_what_the_sources_say(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == generate.PAGES[name](), f"docs/{name} is old: run python docs/generate.py"


@pytest.mark.parametrize("cls", [Config, ServiceConfig])
def test_every_setting_is_described(cls: type) -> None:
    texts = generate.described(cls)
    assert list(texts) == [field.name for field in dataclasses.fields(cls)]
    bare = [name for name, text in texts.items() if not text and name != "network"]
    assert not bare, f"without a #: comment: {', '.join(bare)}"


def test_a_description_belongs_to_its_setting() -> None:
    texts = generate.described(Config)
    assert texts["mtu"] == "IP bytes, 576..65535"  # behind it
    assert texts["dns"].startswith("name servers:")  # above it
    assert "patience" in texts["dns_timeout"]  # inside parentheses


def test_options_are_told_by_the_keys_they_set() -> None:
    flags = generate.flags_of_keys()
    assert flags["names"] == "--name"
    assert flags["host_alias"] == "--no-host-loopback"
    assert flags["outbound_mark"] == "--mark"
    assert flags["leases"] == "--guest"
    assert "gateway_mac" not in flags


def test_every_command_and_option_is_there() -> None:
    page = (DOCS / "reference" / "cli.md").read_text()
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        assert f"## netstack {name}\n" in page
        for param in command.params:
            if isinstance(param, click.Option):
                assert f"`{param.opts[-1]}`" in page
    assert "### netstack port add\n" in page


def test_the_picture_has_every_layer_and_no_cycle() -> None:
    picture = generate.picture()
    folders = {p.parent.name for p in (ROOT / "netstack").glob("*/__init__.py")}
    for folder in folders:
        assert f" {folder} " in picture or picture.endswith(f" {folder}") or f"--> {folder}\n" in picture
    arrows = [line.split(" --> ") for line in picture.splitlines() if "-->" in line]
    below: dict[str, set[str]] = {}
    for source, target in arrows:
        below.setdefault(source.strip(), set()).add(target.strip())
    assert {"wire", "storage", "host"}.isdisjoint(below)

    def reach(start: str, trail: tuple[str, ...]) -> None:
        assert start not in trail, f"{' -> '.join(trail)} -> {start}"
        for target in below.get(start, ()):
            reach(target, (*trail, start))

    reach("cli", ())
