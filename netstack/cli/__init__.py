"""The ``netstack`` program: one file per command, and the only place that prints.

`main` holds the group and turns every error into one sentence and an exit code: 2 for usage, 125 when no
sandbox could be made, otherwise 1 (or what the command itself returned). `options` holds what the commands
share. A command imports what it needs when it runs, never before: a start of ``netstack run`` is counted in
milliseconds, and most of them are imports.

May import everything. Tested by ``tests/cli`` through real processes.
"""
