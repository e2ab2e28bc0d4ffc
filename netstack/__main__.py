"""``python -m netstack`` is the ``netstack`` program."""

import sys

from netstack.cli.main import main

sys.exit(main())
