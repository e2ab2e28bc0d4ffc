"""``netstack config``: the settings that ``netstack serve`` would have."""

from netstack.cli.serve import config_command as command

__all__ = ["command"]
