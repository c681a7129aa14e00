"""`python -m pipelines COMMAND …`: what every target of the Makefile calls."""

import sys

from pipelines.commands import main

sys.exit(main())
