"""Writes the pages of the documentation that are made from the sources.

``python docs/generate.py`` writes them anew; ``tests/docs/test_generated.py`` compares them with what is there.

| page | made from |
|---|---|
| reference/configuration.md | the fields of `netstack.config.Config` and `netstack.config_file.ServiceConfig` |
| reference/cli.md | click's commands (`netstack.cli.group`) |
| layers.md, pictures/layers.svg | the table in ``tests/test_layers.py`` |
| tcp-states.md, pictures/tcp-states.svg | the table in ``netstack.tcp.states`` |
| ../README.md | its figures only, from performance.md |
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import drawing  # noqa: E402

from netstack.cli.group import group  # noqa: E402
from netstack.cli.options import NETWORK_OPTIONS, network_changes  # noqa: E402
from netstack.config import Config  # noqa: E402
from netstack.config_file import ServiceConfig, to_toml  # noqa: E402
from netstack.tcp.states import TRANSITIONS  # noqa: E402

AGAIN = "<!-- Made by docs/generate.py: change the sources, and run it again. -->\n"

# ---- the configuration ----------------------------------------------------------------------------------------

# A value of each kind of option of the command line, so that network_changes tells which keys it stands for.
SAMPLES = {
    "network": "10.0.0.0/24",
    "mark": "1",
    "no_host_loopback": True,
    "mtu": 1400,
    "snaplen": "128",
    "wire_frames": True,
    "transparent_http_ports": "80",
    "transparent_https_ports": "443",
}
SEVERAL = {"dns", "name", "zone", "search", "host_name", "publish", "socks", "allow_host", "allow_url"}
# What `netstack serve` adds by itself.
SERVICE_FLAGS = {
    "leases": "--guest",
    "isolation": "--isolate",
    "source_check": "--source-check",
    "host_alias": "--no-host-loopback",
}


def described(cls: type) -> dict[str, str]:
    """Field name to what its ``#:`` comment says: behind the field, or in the lines above it."""
    found: dict[str, str] = {}
    above: list[str] = []
    name = ""
    first = True  # of a logical line
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(cls)).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("#:"):
            text = token.string[2:].strip()
            if first:
                above.append(text)
            else:
                found[name] = text
        elif token.type == tokenize.OP and token.string in "([{":
            depth += 1
        elif token.type == tokenize.OP and token.string in ")]}":
            depth -= 1
        elif token.type == tokenize.NAME and first:
            name, first = token.string, False
            if above:
                found[name] = " ".join(above)
                above = []
        elif token.type == tokenize.NEWLINE:
            first = True
        elif token.type == tokenize.OP:
            first = False
    return {field.name: found.get(field.name, "") for field in dataclasses.fields(cls)}


def flags_of_keys() -> dict[str, str]:
    """Key of the configuration to the option that sets it."""
    serve = group.get_command(click.Context(group), "serve")
    assert serve is not None
    flags = {p.name: max(p.opts, key=len) for p in serve.params if isinstance(p, click.Option)}
    out = {key: flag for key, flag in SERVICE_FLAGS.items() if flag in flags.values()}
    for option in NETWORK_OPTIONS:
        sample = SAMPLES.get(option, ("x",) if option in SEVERAL else "x")
        for key in network_changes(**{option: sample}):
            out.setdefault(key, flags[option])
    for field in dataclasses.fields(ServiceConfig):
        if field.name in flags:
            out[field.name] = flags[field.name]
    return out


def default_of(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{v}"' if isinstance(v, str) else str(v) for v in value) + "]`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value}`"


def type_of(field: dataclasses.Field[Any]) -> str:
    kinds = {
        "str": "text",
        "str | None": "text",
        "int": "integer",
        "float": "number",
        "bool": "true or false",
        "tuple[str, ...]": "list of texts",
        "tuple[str, ...] | None": "list of texts",
        "tuple[int, ...]": "list of integers",
        "tuple[tuple[str, str, str], ...]": "`[[guest]]` tables",
    }
    return kinds[str(field.type)]


def rows(cls: type, flags: dict[str, str]) -> Iterator[str]:
    texts = described(cls)
    yield "| key | type | default | option | what it is |"
    yield "|---|---|---|---|---|"
    for field in dataclasses.fields(cls):
        if field.name == "network" and cls is ServiceConfig:
            continue
        flag = f"`{flags[field.name]}`" if field.name in flags else ""
        text = texts[field.name].replace("``", "`").replace("|", "\\|")
        yield f"| `{field.name}` | {type_of(field)} | {default_of(field)} | {flag} | {text} |"


def configuration_page() -> str:
    """reference/configuration.md"""
    flags = flags_of_keys()
    lines = [
        AGAIN,
        "# Configuration",
        "",
        "Every setting. A key is the same in three places: a TOML file for `netstack serve --config FILE`,",
        "a keyword of `netstack.Config` in Python, and, where there is one, an option of the commands. Options",
        "stand above the file.",
        "",
        "`netstack config`, with the options of `serve`, prints all that is in effect, in a form that can be",
        "read back. A key that is unknown or a value that cannot be used is refused with one sentence and exit",
        "code 2.",
        "",
        "## The network",
        "",
        "`netstack.Config`. Sizes are bytes, times are seconds. `netstack serve` has `held` as default of",
        "`source_check`.",
        "",
        *rows(Config, flags),
        "",
        'In a file, `host_alias = ""` leaves the host\'s loopback out, and a static lease is a table:',
        "",
        "```toml",
        "[[guest]]",
        'mac = "02:00:00:00:00:07"',
        'address = "192.168.65.7"',
        'name = "web"            # may be left out',
        "```",
        "",
        "## The service",
        "",
        "Keys of `netstack serve` beside those above.",
        "",
        *rows(ServiceConfig, flags),
        "",
        "## All defaults, as a file",
        "",
        "What `netstack config` prints without options, but for `source_check`.",
        "",
        "```toml",
        to_toml(ServiceConfig()).strip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


# ---- the command line -----------------------------------------------------------------------------------------

SHARED = {*NETWORK_OPTIONS, "verbose", "api", "publish_all"}  # run, attach, serve and config have them


def plain(text: str) -> str:
    """Help text as Markdown: a paragraph marked with \\b is shown as it stands."""
    out = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            lines = paragraph[1:].strip("\n").splitlines()
            head = lines[0] if not lines[0].startswith(" ") else ""
            body = "\n".join("    " + line.strip() for line in lines[bool(head) :])
            out += [head] * bool(head) + [body]
        else:
            out.append(escaped(" ".join(paragraph.split())))
    return "\n\n".join(out)


def escaped(text: str) -> str:
    """Nothing of it is Markdown's; options are shown as code."""
    text = re.sub(r"([*<>\[\]_])", r"\\\1", text)
    return re.sub(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", lambda m: "`" + m[1].replace("\\", "") + "`", text)


def shown(param: click.Option) -> str:
    word = param.metavar
    if param.is_flag:
        return ", ".join(f"`{opt}`" for opt in [*param.opts, *param.secondary_opts])
    if word is None and isinstance(param.type, click.Choice):
        word = "|".join(str(c) for c in param.type.choices)
    if word is None:
        word = {"integer": "N", "integer range": "N", "float": "SECONDS", "float range": "SECONDS"}.get(
            param.type.name, param.type.name.upper()
        )
    return ", ".join(f"`{opt}`" for opt in param.opts) + " `" + word.replace("|", "\\|") + "`"


def option_rows(command: click.Command, *, shared: bool = False) -> Iterator[str]:
    """The table of a command's options; those of every network only where they are asked for."""
    params = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    network = [p for p in params if p.name in SHARED]
    if len(network) > len(SHARED) / 2:
        if shared:
            params = network
        else:
            yield from ("And the [options of a network](#options-of-a-network).", "")
            params = [p for p in params if p.name not in SHARED]
    if not params:
        return
    yield "| option | |"
    yield "|---|---|"
    for param in params:
        text = escaped((param.help or "").strip()).replace("|", "\\|")
        if param.show_default is True and param.default is not None:
            text += f" Default: `{param.default}`."
        yield f"| {shown(param)} | {text} |"


def commands(command: click.Command, path: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    arguments = " ".join(
        (p.metavar or (p.name or "").upper()) + ("..." if p.nargs == -1 and not p.metavar else "")
        for p in command.params
        if isinstance(p, click.Argument)
    )
    inner = isinstance(command, click.Group)
    usage = " ".join(filter(None, (path, "[OPTIONS]", "COMMAND" * inner, arguments)))
    if level > 1:
        yield from ("", "#" * level + " " + path, "", f"    {usage}", "", plain(command.help or ""), "")
        yield from option_rows(command)
        if command.epilog:
            yield from ("", plain(command.epilog))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            yield from commands(sub, f"{path} {name}", level + 1)


def cli_page() -> str:
    """reference/cli.md"""
    network = group.get_command(click.Context(group), "run")
    assert network is not None
    lines = [
        AGAIN,
        "# Command line",
        "",
        "Every command and option, as `--help` has them. `-h` and `--help` work everywhere.",
        "`python -m netstack` is the same program.",
        "",
        "| exit code | |",
        "|---|---|",
        "| 0 | all is well; `run`: the command's own |",
        "| 1 | it has failed |",
        "| 2 | wrong usage: one sentence on standard error says what, and where the help is |",
        "| 125 | `run`, `attach`: no namespace or TAP could be had |",
        "| 126, 127 | `run`: the command is not executable, or there is none of that name |",
        "| 128 + n | `run`: signal n has ended the command; 130 after Ctrl-C |",
        *commands(group, "netstack", 1),
        "",
        "## Options of a network",
        "",
        "Of `netstack run`, `attach`, `serve` and `config`.",
        "",
        *option_rows(network, shared=True),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


# ---- the layers -----------------------------------------------------------------------------------------------

# Small files of the top are drawn with the layer that they are parts of.
PARTS = {
    "gateway": {
        "guests",
        "names",
        "pending",
        "tuning",
        "capturing",
        "nameservice",
        "forwards",
        "proxying",
        "socks",
    }
    | {"host_route", "publish", "publish_all", "reach", "__init__"},
    "cli": {"__main__"},
    "engine": {"loop"},
}
UNDRAWN = {"errors", "log", "config_file"}  # small, and imported from everywhere
LOWEST = ("wire", "storage", "host")


def layer_table() -> dict[str, set[str]]:
    """MAY_IMPORT of ``tests/test_layers.py``."""
    spec = importlib.util.spec_from_file_location("layers_for_the_docs", ROOT / "tests" / "test_layers.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: set(may) for name, may in module.MAY_IMPORT.items()}


def layer_arrows() -> dict[str, list[str]]:
    """A layer to those that it may import, but for those to which another way leads."""
    whole = {part: layer for layer, parts in PARTS.items() for part in parts}
    graph: dict[str, set[str]] = {}
    for name, may in layer_table().items():
        if "." in name or name in UNDRAWN:
            continue
        node = whole.get(name, name)
        targets = {whole.get(target, target) for target in may if "." not in target}
        graph.setdefault(node, set()).update(targets - {node} - UNDRAWN)
    graph["cli"] = set(graph) - {"cli"}

    def reach(start: str, seen: set[str]) -> set[str]:
        for target in graph[start]:
            if target not in seen:
                seen.add(target)
                reach(target, seen)
        return seen

    arrows = {}
    for node, targets in graph.items():
        further = {x for target in targets for x in reach(target, set()) if x != target}
        arrows[node] = sorted(targets - further)
    return arrows


def layers_picture() -> str:
    """pictures/layers.svg"""
    return drawing.layered(layer_arrows(), LOWEST, "Who may import whom")


def layers_page() -> str:
    """layers.md"""
    lines = [
        AGAIN,
        "# Who may import whom",
        "",
        "The table that `tests/test_layers.py` holds as data and compares with every `import` and `cimport`. A",
        "layer is a folder of `netstack/` or a file directly in it. Each may import itself and `errors`. A name",
        "with a dot is one module. The picture is in [architecture](architecture.md#the-house).",
        "",
        "| module | may import |",
        "|---|---|",
    ]
    for name, allowed in layer_table().items():
        text = "everything" if "*" in allowed else ", ".join(f"`{x}`" for x in sorted(allowed)) or "nothing"
        lines.append(f"| `{name}` | {text} |")
    return "\n".join(lines) + "\n"


# ---- TCP's states ---------------------------------------------------------------------------------------------

# Where each stands, much as in RFC 9293 section 3.3.2. CLOSED is there twice: before a connection and after it.
PLACES = {
    "CLOSED": (440, 26), "LISTEN": (140, 110), "SYN-SENT": (740, 180), "SYN-RECEIVED": (140, 220),
    "ESTABLISHED": (440, 310), "FIN-WAIT-1": (140, 400), "CLOSE-WAIT": (740, 400), "FIN-WAIT-2": (140, 500),
    "CLOSING": (440, 460), "LAST-ACK": (740, 500), "TIME-WAIT": (140, 600), "CLOSED again": (740, 600),
}  # fmt: skip
TO_THE_END = ("LAST-ACK", "TIME-WAIT")  # states from which CLOSED is where a connection was to come


def states_picture() -> str:
    """pictures/tcp-states.svg"""
    arrows = [
        (source, f"{target} again" if target == "CLOSED" else target, why)
        for source, target, why in TRANSITIONS
        if target != "CLOSED" or source in TO_THE_END
    ]
    return drawing.placed(PLACES, arrows, "The states of a TCP connection")


def states_page() -> str:
    """tcp-states.md"""
    lines = [
        AGAIN,
        "# The states of a TCP connection",
        "",
        "The table that the code asks (`netstack/tcp/states.pyx`): a connection changes its state along these",
        "lines and no others. The names are those of RFC 9293.",
        "",
        "![The states, and what leads from one to another](pictures/tcp-states.svg)",
        "",
        "What ends a connection early (RST, time-out, abort, ICMP errors) is in the table only.",
        "",
        "| from | to | when |",
        "|---|---|---|",
        *(f"| {source} | {target} | {why} |" for source, target, why in TRANSITIONS),
    ]
    return "\n".join(lines) + "\n"


# ---- the figures of the README --------------------------------------------------------------------------------

SPEED = ("<!-- speed: made by docs/generate.py from docs/performance.md -->", "<!-- speed: end -->")
SHOWN = ("netstack", "pasta", "slirp4netns", "QEMU user net", "limit", "veth")  # in this order


def table_of(page: str, title: str) -> tuple[list[str], dict[str, list[str]]]:
    """The columns and rows of the table under a title; of a cell the median alone."""
    lines = page.partition(f"\n### {title}\n")[2].partition("\n#")[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return cells[0][1:], {row[0]: [cell.split(" (")[0] for cell in row[1:]] for row in cells[2:]}


def speed() -> str:
    """Bulk TCP in one stream, and the picture."""
    page = (ROOT / "docs" / "performance.md").read_text()
    facts = dict(re.findall(r"^- (\w[\w ]*): (.*)$", page, re.MULTILINE))
    small, large = (table_of(page, f"Bulk TCP, MTU {mtu}: Gbit/s") for mtu in ("1,500", "65,520"))
    lines = [
        "![Throughput by MTU](docs/performance/throughput.svg)",
        "",
        "| TCP, one stream, Gbit/s | MTU 1500, up | down | MTU 65520, up | down |",
        "|---|---:|---:|---:|---:|",
    ]
    for system in SHOWN:
        row = []
        for columns, rows in (small, large):
            values = dict(zip(columns, rows.get(system, ()), strict=False))
            row += [values.get(f"{way}, 1 stream") or "–" for way in ("up", "down")]
        lines.append(f"| {system} | {' | '.join(row)} |")
    taken = facts.get("taken by others", "").split(" ")[0]
    busy = f"; others took {taken} of the machine meanwhile" if taken else ""
    lines += ["", f"Medians of {facts['date'].split(' ')[0]} on {facts['machine']}, {facts['kernel']}{busy}."]
    return "\n".join(lines)


def readme() -> str:
    """README.md, which is written by hand, with the figures as they have to be."""
    before, rest = (ROOT / "README.md").read_text().split(SPEED[0])
    return f"{before}{SPEED[0]}\n\n{speed()}\n\n{SPEED[1]}{rest.split(SPEED[1])[1]}"


PAGES: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration_page,
    "reference/cli.md": cli_page,
    "layers.md": layers_page,
    "pictures/layers.svg": layers_picture,
    "tcp-states.md": states_page,
    "pictures/tcp-states.svg": states_picture,
    "../README.md": readme,
}


def main() -> None:
    """Writes every page."""
    for name, make in PAGES.items():
        path = (ROOT / "docs" / name).resolve()
        path.parent.mkdir(exist_ok=True)
        text = make()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"{path.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
