"""The blocks of code in README.md and docs, and what is said about them; no I/O but reading the pages.

A block is a fenced one. Before it, hidden from the reader, an HTML comment says how it is tested (the keys are in
``tests/docs/test_commands.py``). In a ``console`` block a line with a prompt (``$``, or ``NAME$`` for the shell of
another machine) is a command, a line with ``>`` continues it, and the lines below are what it prints. A ``sh`` block
is commands alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEYS = ("scene", "not run", "before", "varies", "fails", "slow", "in", "file")

_COMMENT = re.compile(r"^ *<!--(.*?)-->", re.DOTALL)
_PROMPT = re.compile(r"^(?P<where>[a-z]*)[$#] (?P<command>.*)$")


@dataclass(frozen=True)
class Command:
    """One command, and what the page says it prints: None where it shows nothing."""

    text: str
    where: str = ""  #: the machine whose shell takes it: "" is the one that netstack runs on
    output: str | None = None


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str  #: as README.md or docs/ports.md
    line: int  #: of its opening fence
    language: str
    text: str
    notes: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def note(self, key: str) -> str | None:
        """What the comment says under a key that stands once, or None."""
        values = self.notes.get(key)
        return values[-1] if values else None

    @property
    def commands(self) -> list[Command]:
        """The commands of a ``sh`` or ``console`` block.

        Raises:
            ValueError: a console block does not begin with a prompt.
        """
        if self.language == "console":
            return list(_console(self.text))
        return [Command(text, self.note("in") or "") for text in _split(self.text)]


def pages() -> list[Path]:
    """README.md and every page of docs, the audit of RFCs aside: it has no commands."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(p for p in found if "rfc" not in p.relative_to(ROOT).parts)]


def blocks_of(text: str, page: str) -> list[Block]:
    """Every fenced block of a page.

    Raises:
        ValueError: a comment has a key that means nothing, or a fence is not closed.
    """
    blocks: list[Block] = []
    notes: dict[str, list[str]] = {}
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        if match := re.match(r"^( *)```\s*(\w*)(.*)$", line):
            start = at
            indent, language = len(match[1]), match[2]
            at += 1
            while at < len(lines) and lines[at].strip() != "```":
                at += 1
            if at == len(lines):
                raise ValueError(f"{page}:{start + 1}: this block has no end")
            body = "\n".join(inner[indent:] for inner in lines[start + 1 : at]) + "\n"
            blocks.append(Block(page, start + 1, language, body, notes))
            notes = {}
        elif comment := _COMMENT.match("\n".join(lines[at:])):
            at += comment[0].count("\n")
            for key, value in _notes(comment[1], f"{page}:{at + 1}"):
                notes.setdefault(key, []).append(value)
        elif line.strip():
            notes = {}
        at += 1
    return blocks


def indented_blocks(text: str) -> Iterator[int]:
    """Lines (from 1) at which an indented block begins, which no test would see."""
    fenced, item, before = False, False, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            if re.match(r"^ *([*-]|\d+\.) ", line):
                item = True
            elif line and not line.startswith(" "):
                item = line.startswith(("!!!", "???", "==="))  # what MkDocs indents
            if line.startswith("    ") and not before.strip() and not item:
                yield number
        before = line


def _inline_code(text: str) -> Iterator[tuple[int, str]]:
    """(line, code) for each piece of code that stands in a sentence or a table."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            for code in re.findall(r"`([^`]+)`", line):
                yield number, code


def inline_commands(text: str) -> Iterator[tuple[int, str]]:
    """(line, command) for each command of netstack that stands in a sentence or a table."""
    return ((number, code) for number, code in _inline_code(text) if code.startswith("netstack "))


def inline_options(text: str) -> Iterator[tuple[int, str]]:
    """(line, option) for each long option that a sentence or a table begins some code with."""
    for number, code in _inline_code(text):
        if option := re.match(r"--[a-z][a-z0-9-]+", code):
            yield number, option[0]


def _notes(comment: str, where: str) -> Iterator[tuple[str, str]]:
    """The keys of one comment; none where it is a comment for people."""
    lines = [line.strip() for line in comment.strip().splitlines()]
    if not lines or not re.match(rf"({'|'.join(KEYS)}):", lines[0]):
        return
    for line in lines:
        key, colon, value = line.partition(":")
        if not colon or key not in KEYS:
            raise ValueError(f"{where}: {line!r} is none of {', '.join(k + ':' for k in KEYS)}")
        yield key, value.strip()


def _complete(text: str) -> bool:
    """Whether a shell would not ask for more: quotes closed, no backslash at the end."""
    quote = ""
    at = 0
    while at < len(text):
        c = text[at]
        if c == "\\" and quote != "'":
            if at + 2 >= len(text):  # a backslash and the line's end
                return False
            at += 1
        elif quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c == "#" and (at == 0 or text[at - 1].isspace()):
            at = text.find("\n", at)
            if at < 0:
                break
        at += 1
    return not quote


def _split(text: str) -> list[str]:
    """The commands of a block without prompts."""
    commands, held, here = [], "", ""
    for line in text.splitlines(keepends=True):
        if not held and not here and (not line.strip() or line.lstrip().startswith("#")):
            continue
        held += line
        if here:
            here = "" if line.strip() == here else here
        elif word := re.search(r"<<-?\s*['\"]?(\w+)", line):
            here = word[1]
        if not here and _complete(held) and not line.rstrip().endswith(("|", "&&", "||")):
            commands.append(held.rstrip("\n"))
            held = ""
    if held:
        commands.append(held.rstrip("\n"))
    return commands


def _console(text: str) -> Iterator[Command]:
    command, where = "", ""
    output: list[str] = []
    for line in text.splitlines():
        if prompt := _PROMPT.match(line):
            if command:
                yield Command(command, where, "\n".join(output).strip("\n") or None)
            command, where, output = prompt["command"], prompt["where"], []
        elif not command:
            raise ValueError(f"{line!r} stands before the first prompt")
        elif line.startswith("> ") and not output and not _complete(command + "\n"):
            command += "\n" + line[2:]
        else:
            output.append(line)
    yield Command(command, where, "\n".join(output).strip("\n") or None)


def without_comment(command: str) -> str:
    """A command of one line without the comment behind it."""
    quote = ""
    for at, c in enumerate(command):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c == "#" and command[at - 1].isspace() and "\n" not in command[at:]:
            return command[:at].rstrip()
    return command.rstrip()


# --- what is printed, beside what the page shows

#: What differs from run to run by its nature. Each is tried at a place of the text shown, in this order.
VARYING = [
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
    (r"\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d", r"\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[\d.,Z]*", r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[\d.,Z]*"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", r"([0-9a-f]{2}:){5}[0-9a-f]{2}"),
    (r"\b\d+(\.\d+)? ?(ns|µs|us|ms|s|min|h)\b", r"\d+(\.\d+)? ?(ns|µs|us|ms|s|min|h)\b"),
    (r"(?<=time )\d+ms", r"\d+ms"),
    (r"(?<== )\d+\.\d+(/\d+\.\d+)+", r"\d+\.\d+(/\d+\.\d+)+"),  # the last line of ping(8)
    (r"(?<=[A-Za-z]/)\d+(\.\d+)+", r"\d+(\.\d+)*"),  # nginx/1.22.1
]
_PORT = re.compile(r"(?<![\w.])\d{5}(?![\w.])")
EPHEMERAL = range(32768, 61000)  # ports that Linux chooses


def pattern_of(shown: str, varies: Sequence[str] = ()) -> re.Pattern[str]:
    """What output has to match, as a whole: ``...`` is anything in a line, and on a line of its own any lines."""
    parts = []
    for line in shown.splitlines():
        if line.strip() in ("...", "…"):
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(_line(line.rstrip(), varies) + r"[ ]*\n")
    return re.compile("".join(parts))


def _line(line: str, varies: Sequence[str]) -> str:
    pieces: list[str] = []
    at = 0
    while at < len(line):
        for text in varies:
            if line.startswith(text, at):
                pieces.append(r"\S+" if " " not in text else r".+?")
                at += len(text)
                break
        else:
            at = _piece(line, at, pieces)
    return "".join(pieces)


def _piece(line: str, at: int, pieces: list[str]) -> int:
    """Appends the pattern of what stands at a place; where the next begins."""
    for dots in ("...", "…"):
        if line.startswith(dots, at):
            pieces.append(".*?")
            return at + len(dots)
    for shown, stands_for in VARYING:
        if match := re.compile(shown).match(line, at):
            pieces.append(stands_for)
            return match.end()
    if (number := _PORT.match(line, at)) and int(number[0]) in EPHEMERAL:
        pieces.append(r"\d{4,5}")
        return number.end()
    if spaces := re.compile(r" +").match(line, at):
        pieces.append(r" *" if at == 0 else r" +")  # columns are as wide as what stands in them
        return spaces.end()
    if word := re.compile(r"[A-Za-z]+").match(line, at):
        pieces.append(word[0])
        return word.end()
    pieces.append(re.escape(line[at]))
    return at + 1


def matches(shown: str, printed: str, varies: Sequence[str] = ()) -> bool:
    """Whether a command printed what the page shows."""
    text = printed.strip("\n") + "\n"
    return pattern_of(shown, varies).fullmatch(text) is not None
