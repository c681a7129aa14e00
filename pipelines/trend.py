"""Render the trend page of a history of nights from the store: `STORE=s3://… make trend [HISTORY=synthio-nightly]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import ConfigError, SynthioError
from common.storage import open_store, store_uri, write_text
from components.record_night.night import History
from components.record_night.page import render
from pipelines.schedule import NAME


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 = the page was written, 2 = there is no such history."""
    parser = argparse.ArgumentParser(prog="make trend", description=__doc__)
    parser.add_argument("--history", default=NAME)
    parser.add_argument("--store", default="", help="a folder or s3://…; default: SYNTHIO_STORE")
    parser.add_argument("--out", type=Path, default=Path("build/trend.html"))
    options = parser.parse_args(arguments)
    try:
        store = open_store(options.store or store_uri())
        nights = History(store, options.history).nights()
        if not nights:
            raise ConfigError(f"no history {options.history!r} in {store.uri}; a night is recorded when its study ends")
        write_text(options.out, render(options.history, nights))
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(nights)} nights, the last one {nights[-1].state}: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
