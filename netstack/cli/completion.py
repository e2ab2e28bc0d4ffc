"""``netstack completion``: what makes a shell complete netstack's commands, options and arguments.

The script that it prints asks ``netstack`` itself at each press of the key, through click, with the variable `ASKED`
set. Here is what click cannot know: which texts are files, and what the running instances are called.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

__all__ = ["ASKED", "command", "prepare", "script"]

ASKED = "_NETSTACK_COMPLETE"  #: click's name of the variable for a program that is called netstack
SHELLS = ("bash", "zsh", "fish")
HOW = {
    "bash": 'eval "$(netstack completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(netstack completion zsh)" in ~/.zshrc, after compinit',
    "fish": "netstack completion fish > ~/.config/fish/completions/netstack.fish",
}

#: What stands in the metavar or the name of a parameter whose value is a file, a folder or a Unix socket.
FILES = ("FILE", "PATH", "FOLDER", "CAPTURE", "COMMAND", "ARGUMENT")
NO_FILES = {"--impair", "--impair-up", "--impair-down", "--up", "--down", "path"}  # a network's path there


class InstanceName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """The name of a running instance, or the path of its socket."""

    name = "instance"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The instances that run; files once there is a slash."""
        from netstack.control.instances import running
        from netstack.errors import NetstackError

        if "/" in incomplete:
            return [CompletionItem(incomplete, type="file")]
        try:
            return [CompletionItem(name) for name in running() if name.startswith(incomplete)]
        except NetstackError:
            return []


def prepare(command: click.Command) -> None:
    """Tells click, for this process, which parameters of a command and those below it are files or instances."""
    for parameter in command.params:
        words = (parameter.metavar or parameter.name or "").upper()
        if "--instance" in parameter.opts:
            parameter.type = InstanceName()
        elif (
            isinstance(parameter.type, click.types.StringParamType | click.types.UnprocessedParamType)
            and any(word in words for word in FILES)
            and not NO_FILES.intersection(parameter.opts)
        ):
            parameter.type = click.Path()
    if isinstance(command, click.Group):
        for below in command.commands.values():
            prepare(below)


def script(shell: str) -> str:
    """What the shell is to evaluate."""
    from netstack.cli.group import group

    kind = get_completion_class(shell)
    assert kind is not None
    return kind(group, {}, "netstack", ASKED).source()


@click.command(
    "completion",
    short_help="Print what makes a shell complete netstack's words.",
    epilog="\b\n" + "Where it goes:\n" + "".join(f"  {shell:<5} {text}\n" for shell, text in HOW.items()),
)
@click.argument("shell", type=click.Choice(SHELLS))
def command_of(shell: str) -> None:
    """Print what makes a shell complete commands, options, files and the names of running instances."""
    click.echo(script(shell))


def command() -> click.Command:
    """The click command."""
    return command_of
