"""The command group, as click sees it."""

from __future__ import annotations

import gc
import os
from importlib import import_module
from typing import TYPE_CHECKING

import click

from netstack import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["UsageError", "run_group"]

SECTIONS = {
    "Networks": ("run", "attach", "serve", "relay", "demo"),
    "A running instance (run, attach or serve with --api)": (
        "list",
        "guests",
        "flows",
        "stats",
        "top",
        "port",
        "ping",
        "connect",
        "route",
        "leases",
        "dns",
        "capture",
        "impair",
        "log-level",
    ),
    "Captures": ("dissect", "replay"),
    "Settings": ("config", "completion"),
}
#: In the order of ``--help``. Each is made by netstack.cli.NAME.command(), when it is asked for.
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)


class UsageError(Exception):
    """The command line is wrong: the message is one sentence, or the help where nothing was asked."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of ``--help``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"netstack.cli.{cmd_name.replace('-', '_')}").command()
        assert isinstance(command, click.Command)
        if "_NETSTACK_COMPLETE" in os.environ:  # a shell asks what a word may become
            from netstack.cli.completion import prepare

            prepare(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for, each with its first sentence, whole."""
        for title, names in SECTIONS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((name, command.get_short_help_str(200)))
            with formatter.section(title):
                formatter.write_dl(rows)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  netstack demo                                       everything at work
  netstack run -- curl http://192.168.65.2:8000/      a web server of this host's loopback
  netstack serve --listen qemu:/tmp/q.sock            a network for virtual machines
  netstack dissect --stats capture.pcapng""",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Gives a command, a network namespace or virtual machines a full network, without root.

    Inside, 192.168.65.1 is the gateway (DNS and DHCP too) and 192.168.65.2 stands for this host's loopback.
    """


def run_group(arguments: Sequence[str]) -> int:
    """Runs the command that the arguments name; its exit status.

    Raises:
        UsageError: they name none, or not rightly.
        KeyboardInterrupt: the user has interrupted it.
    """
    gc.enable()
    try:
        result = group.main(args=list(arguments), prog_name="netstack", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as err:
        raise UsageError(err.format_message()) from None
    except click.UsageError as err:
        path = err.ctx.command_path if err.ctx is not None else "netstack"
        raise UsageError(f"netstack: {err.format_message().rstrip('.')}: see {path} --help") from None
    except click.Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else 0
