"""Train the models in models/nano from a corpus folder and record them (`make nano CORPUS=<folder>`)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from common.errors import ConfigError
from common.models.shipped import FOLDER, RECORDS
from common.storage import STORE_VARIABLE
from pipelines.commands.options import place

OPTIONS = {"--corpus": ..., "--work": "build/nano", "--parts": "", "--overrides": "", "--export": "1"}


def run(options: argparse.Namespace) -> int:
    """Train the parts, then write them to `models/` and their sizes and hashes to `records.yaml`."""
    from contrib.nano.corpus import CAPTIONS
    from contrib.nano.training import CORPUS, PARTS, export, load_settings, train

    corpus = place(options.corpus)
    if not (corpus / CAPTIONS).is_file():
        raise ConfigError(f"CORPUS={options.corpus} holds no {CAPTIONS}: make it with make nano-corpus")
    parts = options.parts.split(",") if options.parts else [name for name in PARTS if name != CORPUS]
    settings = load_settings(options.overrides)
    work: Path = options.work
    os.environ[STORE_VARIABLE] = str((work / "store").resolve())
    train(corpus, work, parts, settings)
    if options.export == "1":
        export(work, FOLDER, RECORDS, parts)
        print(f"models/nano: {', '.join(parts)} written")
    return 0
