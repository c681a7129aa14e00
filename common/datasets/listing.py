"""Listing of a dataset's clips, with label, split and group, before any audio is read."""

from __future__ import annotations

from common.config.dataset import DatasetSpec
from common.datasets.folders import list_folders
from common.datasets.labelled import list_labelled
from common.datasets.labels import check_labels
from common.datasets.located import list_located
from common.datasets.rows import Listing, Row
from common.errors import DataError, unknown_name


def list_clips(spec: DatasetSpec) -> Listing:
    """List the clips of a dataset: the user's own files or the native layout of a published dataset.

    Raises:
        ConfigError: a published dataset is not on this machine, or lacks the requested folds.
        DataError: the label file or folder is missing, empty or malformed, or the labels are not valid classes.
    """
    if spec.reader != "files":
        listing = list_located(spec)
    elif spec.labels is not None:
        listing = list_labelled(spec.labels, spec.audio or spec.labels.parent, spec.multi_label)
    elif spec.audio is not None:
        listing = list_folders(spec.audio)
    else:
        raise DataError(f"dataset {spec.name}: neither a label file nor an audio folder on this machine")
    _check_known(listing.rows, spec)
    where = str(spec.labels or spec.audio or f"dataset {spec.name}")
    check_labels((label for row in listing.rows for label in row.labels), where, listing.spellings)
    listing.notices += listing.spellings.notices(spec.classes)
    return listing


def _check_known(rows: list[Row], spec: DatasetSpec) -> None:
    for row in rows if spec.classes else ():
        for label in row.labels:
            if label not in spec.classes:
                raise DataError(f"dataset {spec.name}, {row.source}: {unknown_name('label', label, spec.classes)}")
