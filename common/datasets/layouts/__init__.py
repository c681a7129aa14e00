"""Readers of published datasets, one module per native layout.

A reader is a module with `list_clips(root) -> Listing`: it lists the clips of the unpacked dataset, with label,
group, and official split or fold, from the metadata alone. Each module's docstring cites the source of the layout.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from common.datasets.rows import Listing
from common.errors import ConfigError, DataError

LAYOUTS = (
    *("esc50", "urbansound8k", "gtzan", "medley_solos_db", "tut2018"),
    *("nsynth", "vocalsound", "musdb18", "dcase2017_task4", "fsd50k"),
)
"""Names of the readers, which are modules of this package; their listings are part of a dataset's fingerprint."""


def list_layout(reader: str, root: Path) -> Listing:
    """List the clips below `root` with the named reader.

    Raises:
        ConfigError: no such reader.
        DataError: the layout is not the expected one, or a file or folder cannot be read.
    """
    if reader not in LAYOUTS:
        raise ConfigError(f"no reader {reader!r}; valid: files, procedural_demo, {', '.join(LAYOUTS)}")
    layout = importlib.import_module(f"{__name__}.{reader}")
    try:
        listing: Listing = layout.list_clips(root)
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or root}: {error.strerror}; allow this user to read and enter the folder"
        ) from error
    return listing
