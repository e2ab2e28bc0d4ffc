"""Every command, program and settings file that README.md and docs show is run here, and prints what they say.

How a new block gets its scene, in five lines. Put ``<!-- scene: NAME -->`` before the fence; the names are in
``tests/doc_scenes.py`` (``host`` is a shell on a host with an internet, ``served`` has an instance with a guest).
``sh`` is for commands alone, ``console`` for commands behind ``$`` with what they print, ``...`` being anything.
``not run: REASON`` in place of a scene has the options checked, and nothing run. ``python`` and ``toml`` need no
scene; ``json``, and ``toml`` of another kind, name theirs, as in `SETTINGS`.

More lines of the comment:

=================== ==========================================================================================
``before: COMMAND`` prepares unseen (``NAME$ COMMAND``: on that machine)
``varies: TEXT``    is another text in each run
``fails: BEGIN``    commands that begin so are to have another status than 0
``in: NAME``        the machine whose shell takes a ``sh`` block; in ``console`` the prompt says it (``web$``)
``file: NAME``      this block is a file that other blocks of the page use
``slow: REASON``    runs with --slow only
=================== ==========================================================================================

The shell that plays them, and which commands are taken for servers: ``tests/doc_shell.py``.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import re
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from doc_blocks import Block, blocks_of, indented_blocks, inline_commands, inline_options, matches, pages
from doc_scenes import SCENES, Place, Stage, captures_in, missing, scene
from doc_shell import Failed, Shell

from netstack import config_file
from netstack.cli.group import group
from netstack.config import Config
from netstack.forwards import parse_forwards, parse_gateway_forwards
from netstack.proxy.sources import from_json
from netstack.replay.expectations import Expectations
from netstack.testing.lab import GUEST, Lab

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

ROOT = Path(__file__).resolve().parents[2]
SHELLS = ("sh", "console")
UNCHECKED = ("text",)
#: Long options of other programs that stand in sentences.
FOREIGN = {"--pcap-replay", "--help", "--net"}
NOT_RUN_AT_MOST = 15
DEV_HELP = (ROOT / "dev").read_text().partition("usage() {")[2].partition("}")[0]

GENERATED = "<!-- Made by docs/generate.py"

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in pages()}
BLOCKS = [block for page, text in PAGES.items() for block in blocks_of(text, page)]
RUN = [b for b in BLOCKS if b.language in SHELLS and b.note("scene")]
RUN.sort(key=lambda b: (b.page, str(b.note("scene")), b.line))  # a scene is made once for a page
NOT_RUN = [b for b in BLOCKS if b.note("not run") is not None]


def names(blocks: list[Block]) -> list[str]:
    return [str(block) for block in blocks]


# --- what is true of each block


def test_there_are_blocks() -> None:
    assert len(RUN) > 30
    assert {b.language for b in BLOCKS} >= {"sh", "console", "python", "toml", "json"}


@pytest.mark.parametrize("block", BLOCKS, ids=names(BLOCKS))
def test_a_block_says_how_it_is_tested(block: Block) -> None:
    kind, wanted, reason = block.language, block.note("scene"), block.note("not run")
    if kind in SHELLS:
        assert (wanted is None) != (reason is None), (
            "give it a scene, or a reason not to run it: see this file's top"
        )
        assert block.commands
        assert reason is None or len(reason) > 10
        assert wanted is None or wanted in SCENES, f"there is no scene {wanted}"
    elif kind in UNCHECKED:
        shown = [line for line in block.text.splitlines() if line.startswith(("$ ", "netstack ", "python3 "))]
        assert not shown, "commands belong into a sh or console block"
    else:
        known = ("python", "toml", "json", "ini")
        assert kind in known, f"nothing here can test a block of {kind or 'no language'}"
        assert kind != "json" or wanted in SETTINGS


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_hidden(page: str) -> None:
    if GENERATED in PAGES[page]:
        return  # of the sources' own text: below
    found = [f"{page}:{line}" for line in indented_blocks(PAGES[page])]
    assert not found, "indented blocks are not seen by these tests: fence them"


def test_few_are_not_run() -> None:
    assert len(NOT_RUN) <= NOT_RUN_AT_MOST


# --- command lines that are looked at


def check(argv: list[str]) -> None:
    """Parses a command line of netstack, without running it.

    Raises:
        AssertionError: it has an option or a command that does not exist.
    """
    command: click.Command = group
    context = click.Context(group, info_name="netstack")
    words = argv[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name, **command.context_settings)
    try:
        command.make_parser(context).parse_args(words)
    except click.UsageError as err:
        raise AssertionError(err.format_message()) from None


def invocations(text: str) -> Iterator[list[str]]:
    """The command lines of netstack in a shell command."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;()<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if token and set(token) <= set("|&;()<>"):
            with contextlib.suppress(ValueError):
                yield words[words.index("netstack") :]
            words = []
        else:
            words.append(token)


@pytest.mark.parametrize("block", NOT_RUN, ids=names(NOT_RUN))
def test_options_of_what_is_not_run(block: Block) -> None:
    for command in block.commands if block.language in SHELLS else []:
        for argv in invocations(command.text):
            check(argv)
        for name in re.findall(r"(?m)^\./dev (\S+)", command.text):
            assert re.search(rf"(?m)^  {name} |\b{name} \(", DEV_HELP), f"./dev {name} does not exist"


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_sentences(page: str) -> None:
    wrong = []
    for line, code in inline_commands(PAGES[page]):
        text = code.replace("...", "")
        text = re.sub(r"\[[^\]]*\]", "", text).partition("|")[0] if "[" in text or "|" in text else text
        try:
            check(shlex.split(text))
        except AssertionError as err:
            if "requires an argument" not in str(err):  # a sentence may leave it out
                wrong.append(f"{page}:{line}: {code}: {err}")
    assert not wrong


@pytest.mark.parametrize("page", PAGES)
def test_options_in_sentences(page: str) -> None:
    known = every_option() | FOREIGN
    wrong = [
        f"{page}:{line}: {option}" for line, option in inline_options(PAGES[page]) if option not in known
    ]
    assert not wrong


def test_examples_of_the_help() -> None:
    """They stand in the reference of the command line, with a word about each behind two spaces."""
    lines = re.findall(r"(?m)^ +(netstack .*[^\\\n])$", PAGES["docs/reference/cli.md"])
    lines = [line for line in lines if "[OPTIONS]" not in line]
    assert len(lines) > 20
    for line in lines:
        for argv in invocations(re.split(r" {2,}", line)[0]):
            check(argv)


def every_option() -> set[str]:
    """All long options of all commands."""
    found: set[str] = set()

    def walk(command: click.Command, context: click.Context) -> None:
        found.update(name for p in command.params for name in (*p.opts, *p.secondary_opts))
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                if (sub := command.get_command(context, name)) is not None:
                    walk(sub, click.Context(sub, parent=context))

    walk(group, click.Context(group))
    return found


def test_a_wrong_option_is_noticed() -> None:
    (argv,) = invocations("sudo netstack run --fly 3 -- true | cat")
    with pytest.raises(AssertionError, match="--fly"):
        check(argv)
    with pytest.raises(AssertionError, match="no command fly"):
        check(["netstack", "fly"])


# --- the commands, run


class Theatre:
    """Keeps the scene that is being played, and the laboratory they all share."""

    def __init__(self) -> None:
        self._stage: Stage | None = None
        self._name = ("", "")
        self._scene = contextlib.ExitStack()
        self.place: Place | None = None

    @property
    def stage(self) -> Stage:
        if self._stage is None:
            self._stage = Stage()
        return self._stage

    def play(self, name: str, page: str) -> Place:
        """The scene for a page; another one that was being played has ended."""
        if (name, page) != self._name or self.place is None:
            self.strike()
            self.place = self._scene.enter_context(scene(self.stage, name))
            self._name = (name, page)
        return self.place

    def strike(self) -> None:
        """Ends the scene."""
        self._scene.close()
        self.place = None

    def close(self) -> None:
        self.strike()
        if self._stage is not None:
            self._stage.close()


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    made = Theatre()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.netns
@pytest.mark.parametrize(
    "block", [pytest.param(b, id=str(b), marks=[pytest.mark.slow] if b.note("slow") else []) for b in RUN]
)
def test_commands(theatre: Theatre, block: Block) -> None:
    if tool := missing(block.text + "\n".join(block.notes.get("before", []))):
        pytest.skip(f"the program {tool!r} is missing")
    if "netstack " in block.text:
        pytest.importorskip("aiohttp")
    place = theatre.play(str(block.note("scene")), block.page)
    try:
        play(place, block)
    except Failed as err:
        theatre.strike()  # whatever is left of it might make others fail
        pytest.fail(f"{block}: {err}", pytrace=False)


def play(place: Place, block: Block) -> None:
    """Runs the commands of a block in a scene.

    Raises:
        Failed: one does not what the page says.
    """
    varies = block.notes.get("varies", [])
    shells: dict[str, Shell] = {}

    def shell(where: str) -> Shell:
        if where not in shells:
            shells[where] = place.shell(where, block.page)
        return shells[where]

    def fails(command: str) -> bool:
        return any(command.startswith(begin) for begin in block.notes.get("fails", []))

    for other in BLOCKS:
        if other.page == block.page and (name := other.note("file")):
            (place.folder(block.page) / name).write_text(other.text)
    try:
        for text in block.notes.get("before", []):
            where, mark, there = text.partition("$ ")
            known = bool(mark) and where in place.machines
            shell(where if known else "").run(there if known else text)
        for command in block.commands:
            shown = command.output
            if shown is None:
                shell(command.where).run(command.text, fails=fails(command.text))
                continue

            def as_shown(printed: str, shown: str = shown) -> bool:
                return matches(shown, printed, varies)

            done = shell(command.where).run(command.text, as_shown, fails(command.text))
            if not as_shown(done.printed):
                both = f"--- shown\n{shown}\n--- printed\n{done.printed}"
                raise Failed(f"this prints something else: {command.text}\n{both}")
        for one in shells.values():
            one.finish()
    finally:
        for one in shells.values():
            one.close()


# --- programs


PROGRAMS = sorted({b.page for b in BLOCKS if b.language == "python" and not b.text.startswith("# test_")})


@pytest.fixture
def world(theatre: Theatre) -> Iterator[dict[str, Any]]:
    """What programs of the docs find: a gateway with a guest at 192.168.65.3, and names that they take for granted."""
    theatre.strike()
    lab: Lab = theatre.stage.lab
    with lab.gateway(Config()) as gateway, contextlib.ExitStack() as stack:
        web = stack.enter_context(lab.guest.listen(GUEST, 80))
        dns = stack.enter_context(lab.guest.socket(kind=socket.SOCK_DGRAM))
        dns.bind((GUEST, 53))
        over = threading.Event()
        for server in (web, dns):
            server.settimeout(0.1)

        def greet() -> None:
            held = []
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    held.append(web.accept()[0])

        def echo() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    data, peer = dns.recvfrom(2048)
                    dns.sendto(data, peer)

        def visit() -> None:
            """Comes to whatever listens at the address that the docs give to a program."""
            while not over.wait(0.05):
                with contextlib.suppress(OSError):
                    lab.guest.connect("192.168.65.200", 80, timeout=0.5).close()

        threads = [threading.Thread(target=target) for target in (greet, echo, visit)]
        for thread in threads:
            thread.start()

        async def client_connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        try:
            with lab.host.entered():
                yield {
                    "gateway": gateway,
                    "gw": gateway,
                    "query": b"query",
                    "client_connected": client_connected,
                    "registry": {"web.svc.lab": ["10.0.0.7"]},
                    "netstack": __import__("netstack"),
                    "config": Config(),
                    "path": f"{theatre.stage.folder}/q.sock",
                    "__name__": "a page",
                }
        finally:
            over.set()
            for thread in threads:
                thread.join()


@pytest.mark.netns
@pytest.mark.parametrize("page", PROGRAMS)
def test_programs(world: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    captures_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in (b for b in BLOCKS if b.page == page and b.language == "python"):
        if block.text.startswith("# test_"):
            continue  # a test of its own: tests/testing/test_plugin.py runs it
        code = compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names = {**names, **world}  # a block that takes a name of the page's for its own does not keep it
        result = eval(code, names)
        if inspect.iscoroutine(result):
            asyncio.run(result)


# --- settings


def load_toml(text: str, folder: Path) -> None:
    path = folder / "netstack.toml"
    path.write_text(text)
    config_file.load(str(path))


SETTINGS: dict[str, Callable[[str, Path], object]] = {
    "settings": load_toml,
    "expectations": lambda text, folder: Expectations(tomllib.loads(text)),
    "gateway-forwards": lambda text, folder: parse_gateway_forwards(text),
    "proxies": lambda text, folder: from_json(text),
    "forwards": lambda text, folder: parse_forwards(text),
}
FILES = [b for b in BLOCKS if b.language in ("toml", "json")]


@pytest.mark.parametrize("block", FILES, ids=names(FILES))
def test_settings(block: Block, tmp_path: Path) -> None:
    SETTINGS[block.note("scene") or "settings"](block.text, tmp_path)


UNITS = [b for b in BLOCKS if b.language == "ini"]


@pytest.mark.parametrize("block", UNITS, ids=names(UNITS))
def test_units(block: Block) -> None:
    started = re.findall(r"ExecStart=(.*)", block.text)
    assert started
    for line in started:
        check(["netstack", *shlex.split(line)[1:]])


# --- the machinery itself


def test_comments_are_read() -> None:
    text = """
<!-- scene: host
before: true
varies: 41 -->
```console
$ echo 41 \\
>   42
41 42
web$ true
```

<!-- for people: scene -->
```sh
one \\
  --more   # a comment's "quote
two <<END
text
END
```
"""
    console, shell = blocks_of(text, "page")
    assert (console.note("scene"), console.notes["before"], console.line) == ("host", ["true"], 5)
    first, second = console.commands
    assert (first.text, first.output, second.where, second.output) == (
        "echo 41 \\\n  42",
        "41 42",
        "web",
        None,
    )
    assert shell.notes == {}
    assert [c.text.splitlines()[0] for c in shell.commands] == ["one \\", "two <<END"]
    assert list(indented_blocks("a\n\n    b\n\n* c\n\n    d\n")) == [3]
    for wrong in ("<!-- scene: host\nbefour: x -->\n", "```sh\n"):
        with pytest.raises(ValueError, match="page:"):
            blocks_of(wrong, "page")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("port 41937 of 7", "port 50001 of 7\n", True),
        ("port 8080", "port 8081\n", False),
        ("64 bytes from 10.0.0.1: time=0.2 ms", "64 bytes from 10.0.0.1: time=13 ms\n", True),
        ("a\n...\nd", "a\nb\nc\nd\n", True),
        ("a\n...\nd", "a\nb\nc\n", False),
        ("a  b", "a       b   \n", True),
        ("HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found\n", False),
        ("Server: nginx/1.22.1", "Server: nginx/1.26\n", True),
        ("one", "one\ntwo\n", False),
        ("x... y", "x (1.5) y\n", True),
    ],
)
def test_what_is_printed_is_compared(shown: str, printed: str, same: bool) -> None:
    assert matches(shown, printed) is same
    assert matches("pid 4711", "pid 12\n", ["4711"])
