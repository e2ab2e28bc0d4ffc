"""Manual pages of the program and each of its commands, written from what ``--help`` says.

``python -m netstack.cli.manual FOLDER`` writes netstack.1, netstack-run.1, netstack-port-add.1 and so on; the build of
a wheel does, and puts them below share/man.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from netstack import __version__
from netstack.cli.group import group

__all__ = ["page", "pages", "write"]

EXIT_STATUS = (
    ("0", "It did what it was to do."),
    ("1", "It failed, or what it judged is not right; a sentence on standard error says why."),
    ("2", "The command line or a setting cannot be used, or no instance was to be found."),
    ("125", "The network could not be made (run, attach): namespaces, /dev/net/tun or rights are missing."),
    ("126, 127", "run: the command cannot be run, or is not there."),
    ("130", "It was interrupted."),
)
ENVIRONMENT = (
    (
        "XDG_RUNTIME_DIR",
        "Where the sockets of running instances lie, in the folder netstack; else in /tmp/netstack-UID.",
    ),
    ("http_proxy, https_proxy, no_proxy", "The host's proxies, followed unless --proxy off is given."),
)


def today() -> str:
    """The date, or that of SOURCE_DATE_EPOCH, by which builds of one source are alike."""
    return time.strftime("%Y-%m-%d", time.gmtime(float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))


def roff(text: str) -> str:
    """Plain text as roff: nothing in it is a request or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in escaped.split("\n"))


def paragraphs(text: str) -> Iterator[str]:
    """Requests for a help text: paragraphs that are filled, and those that click is told to leave (marked \\b)."""
    apart = re.sub("^\b$", "\n\b", inspect.cleandoc(text), flags=re.MULTILINE)
    for block in apart.split("\n\n"):
        filled, left, kept = block.partition("\b")
        if filled.strip():
            yield from (".PP", roff(" ".join(filled.split())))
        if left:
            yield from (".PP", ".nf", ".RS 2", roff(kept.strip("\n")), ".RE", ".fi")


def tagged(name: str, text: str) -> Iterator[str]:
    """An entry of a list."""
    yield from (".TP", f"\\fB{roff(name)}\\fR", roff(" ".join(text.split())))


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """The commands below a group."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield name, below


def page(command: click.Command, context: click.Context) -> str:
    """The manual page of one command, in man(7)'s macros."""
    path = context.command_path
    name = path.replace(" ", "-")
    lines = [
        f'.TH "{roff(name.upper())}" 1 "{today()}" "netstack {__version__}" "netstack manual"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(command.get_short_help_str(300).rstrip('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{roff(path)}\\fR {roff(' '.join(command.collect_usage_pieces(context)))}",
        ".SH DESCRIPTION",
        *paragraphs(command.help or ""),
    ]
    options = [
        record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))
    ]
    if options:
        lines.append(".SH OPTIONS")
        for words, text in options:
            lines += tagged(words, text)
    below = list(commands(command, context))
    if below:
        lines.append(".SH COMMANDS")
        for word, found in below:
            lines += tagged(word, f"{found.get_short_help_str(300)} See {name}-{word}(1).")
    if command.epilog:
        title, body = split_title(command.epilog)
        lines += [f".SH {roff(title.upper())}", *paragraphs(body)]
    if context.parent is None:
        for title, entries in (("EXIT STATUS", EXIT_STATUS), ("ENVIRONMENT", ENVIRONMENT)):
            lines.append(f".SH {title}")
            for words, text in entries:
                lines += tagged(words, text)
    related = [f"{name}-{word}" for word, _ in below] if below else []
    if context.parent is not None:
        related.insert(0, context.parent.command_path.replace(" ", "-"))
    if related:
        lines += [".SH SEE ALSO", ",\n".join(f"\\fB{roff(one)}\\fR(1)" for one in related)]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return re.sub(
        r"^(\.SH .*\n)\.PP\n", r"\1", text, flags=re.MULTILINE
    )  # a section begins a paragraph itself


def split_title(epilog: str) -> tuple[str, str]:
    """A help's last part as (heading, body); its first line is the heading where it ends in a colon."""
    text = inspect.cleandoc(epilog)
    mark, _, rest = text.partition("\n") if text.startswith("\b") else ("", "", text)
    first, _, body = rest.partition("\n")
    if not first.endswith(":"):
        return "NOTES", text
    body = "\n".join(line.removeprefix("  ") for line in body.split("\n"))
    return first.rstrip(":"), f"{mark}\n{body}" if mark else body


def pages() -> Iterator[tuple[str, str]]:
    """(file name, text) of every page."""
    yield from _pages(group, click.Context(group, info_name="netstack", **group.context_settings))


def _pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield f"{context.command_path.replace(' ', '-')}.1", page(command, context)
    for name, below in commands(command, context):
        yield from _pages(
            below, click.Context(below, info_name=name, parent=context, **below.context_settings)
        )


def write(folder: Path) -> int:
    """Writes all pages into a folder, which is made; how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for name, text in pages():
        (folder / name).write_text(text, encoding="utf-8")
        count += 1
    return count


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m netstack.cli.manual FOLDER")
    write(Path(sys.argv[1]))
