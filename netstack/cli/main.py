"""The command group and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from netstack import __version__
from netstack.errors import NetstackError

__all__ = ["main"]

COMMANDS = ("run", "attach", "demo")  # each is netstack.cli.NAME.command, imported when it is asked for
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of ``--help``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"netstack.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  netstack run -- curl http://192.168.65.2:8000/
  netstack attach --netns blue --ifname tap0
  netstack demo""",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def group() -> None:
    """Gives a command, or a network namespace that exists, a full network without root.

    Inside, 192.168.65.1 is the gateway (DNS and DHCP too) and 192.168.65.2 stands for this host's loopback.
    """


def _complain(text: str) -> None:
    click.echo(f"netstack: {text}", err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program with these arguments (default: those of the process); its exit status."""
    try:
        result = group.main(args=arguments, prog_name="netstack", standalone_mode=False)
    except click.UsageError as err:
        path = err.ctx.command_path if err.ctx is not None else "netstack"
        if isinstance(err, click.exceptions.NoArgsIsHelpError):
            click.echo(err.format_message(), err=True)
        else:
            _complain(f"{err.format_message().rstrip('.')}: see {path} --help")
        return 2
    except click.ClickException as err:
        _complain(err.format_message())
        return 1
    except NetstackError as err:
        _complain(str(err))
        return err.exit_code
    except (
        BrokenPipeError
    ):  # whoever read our output has gone; the interpreter must not complain about it either
        sys.stderr = sys.stdout = None
        return 1
    except OSError as err:
        _complain(f"{err.filename}: {err.strerror}" if err.filename else str(err.strerror or err))
        return 1
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    return result if isinstance(result, int) else 0
