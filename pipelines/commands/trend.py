"""Render the trend page of a history of nights (`STORE=s3://… make trend [HISTORY=synthio-nightly]`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import ConfigError
from common.storage import open_store, store_uri, write_text
from common.study.nights import History
from components.record_night.page import page
from pipelines.commands.schedule_nightly import NAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--history", default=NAME)
    parser.add_argument("--store", default="", help="a folder or s3://…; default: SYNTHIO_STORE")
    parser.add_argument("--out", type=Path, default=Path("build/trend.html"))


def run(options: argparse.Namespace) -> int:
    """Write the trend page and print its path; exit status 0 = written, 2 = there is no such history."""
    store = open_store(options.store or store_uri())
    nights = History(store, options.history).nights()
    if not nights:
        raise ConfigError(f"no history {options.history!r} in {store.uri}; a night is recorded when its study ends")
    write_text(options.out, page(options.history, nights))
    print(f"{len(nights)} nights, the last one {nights[-1].state}: {options.out}")
    return 0
