"""``python -m netstack`` is the ``netstack`` program."""

from netstack.cli.main import program

program()
