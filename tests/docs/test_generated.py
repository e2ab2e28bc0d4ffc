"""Pages that are made from the sources are what the sources say now."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import click
import pytest

from netstack.cli.group import COMMANDS, group
from netstack.config import Config
from netstack.config_file import ServiceConfig
from netstack.tcp.states import STATES, TRANSITIONS

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


def boxes(picture: str) -> set[str]:
    """The names that stand in a picture, which has to be XML."""
    root = ElementTree.fromstring(picture)
    return {
        text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text") if not text.get("class")
    }


def test_the_picture_has_every_layer_and_no_cycle() -> None:
    arrows = generate.layer_arrows()
    folders = {p.parent.name for p in (ROOT / "netstack").glob("*/__init__.py")}
    assert folders <= boxes(generate.layers_picture())
    assert not any(arrows[lowest] for lowest in generate.LOWEST)

    def reach(start: str, trail: tuple[str, ...]) -> None:
        assert start not in trail, f"{' -> '.join(trail)} -> {start}"
        for target in arrows[start]:
            reach(target, (*trail, start))

    reach("cli", ())


def test_the_picture_of_the_states_has_all_of_them() -> None:
    picture = generate.states_picture()
    assert boxes(picture) == set(STATES)
    drawn = [line for line in TRANSITIONS if line[1] != "CLOSED" or line[0] in generate.TO_THE_END]
    assert picture.count('class="arrow"') == len(drawn) == 15


def test_the_picture_of_the_layers_stays_in_its_frame_and_no_boxes_overlap() -> None:
    root = ElementTree.fromstring(generate.layers_picture())
    wide = float(root.get("width", "0"))
    space = "{http://www.w3.org/2000/svg}"
    rects = [rect for rect in root.iter(f"{space}rect") if rect.get("class") == "box"]
    for path in root.iter(f"{space}path"):
        if path.get("class") != "arrow":
            continue
        points = [float(number) for number in re.findall(r"-?\d+", path.get("d", ""))]
        assert all(0 <= x <= wide for x in points[::2])
    for one in rects:
        for other in rects:
            if one is not other and one.get("y") == other.get("y"):
                first, second = sorted((one, other), key=lambda rect: float(rect.get("x", "0")))
                assert float(first.get("x", "0")) + float(first.get("width", "0")) < float(
                    second.get("x", "0")
                )
