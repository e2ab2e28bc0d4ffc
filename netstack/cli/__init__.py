"""The ``netstack`` program: one file per command, and the only place that prints.

Theory of operation
    `main` is the process: it turns every error into one sentence and an exit code. 2 for usage and for settings that
    cannot be used, 125 when no sandbox could be made, 130 for an interrupt, otherwise 1 or what the command itself
    returned. `group` is what click sees: the commands' names, each imported when it is meant. `options` holds what
    the commands share of a network, `instance` what those share that ask a running one, `live` and `rates` the views
    that stay, `ending` what a command that serves waits for, `outputs` what is said of files that cannot be written,
    `closing` what a process leaves to be closed behind it. `manual` writes the manual pages from all of them.

May import
    Everything.

Invariants
    - A command imports what it needs when it runs, never before: a start of ``netstack run`` is counted in
      milliseconds, and most of them are imports. ``run`` does without click unless its options want explaining.
    - What the user has done wrong is a sentence and exit code 2, never a traceback.

Tests
    ``tests/cli`` through real processes; ``tests/e2e`` with real programs.
"""
