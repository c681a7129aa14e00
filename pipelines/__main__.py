"""Entry point `python -m pipelines COMMAND …`, which the Makefile's targets call."""

import sys

from pipelines.commands import main

sys.exit(main())
