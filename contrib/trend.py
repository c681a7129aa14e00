"""Render the trend page of a history of nights (`STORE=s3://… make trend [HISTORY=synthio-nightly]`)."""

from __future__ import annotations

import argparse

from common.errors import ConfigError
from common.storage import open_store, store_uri, write_text
from common.study.cells import History, check_history
from components.record_night.page import page
from contrib.nightly import NAME
from pipelines.commands.options import place

OPTIONS = {"--history": NAME, "--store": "", "--out": "build/trend.html"}


def run(options: argparse.Namespace) -> int:
    """Write the trend page and print its path; exit status 0 = written, 2 = there is no such history."""
    check_history(options.history)
    store = open_store(options.store or store_uri())
    nights = History(store, options.history).nights()
    if not nights:
        raise ConfigError(f"no history {options.history!r} in {store.uri}; a night is recorded when its study ends")
    write_text(place(options.out), page(options.history, nights))
    print(f"{len(nights)} nights, the last one {nights[-1].state}: {options.out}")
    return 0
