"""Datasets of native layout: their location, and their folds as splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from common.config.dataset import DatasetSpec
from common.datasets.names import is_folder
from common.datasets.native import entries
from common.datasets.rows import Listing, Row
from common.errors import ConfigError, DataError
from common.registered import member
from common.storage import data_folder


def root_of(spec: DatasetSpec) -> Path:
    """Folder of the unpacked dataset, existing or not."""
    return spec.root or data_folder() / spec.name


def is_here(spec: DatasetSpec) -> bool:
    """Whether something lies where the unpacked dataset belongs. Raises DataError: the folder cannot be read."""
    root = root_of(spec)
    return is_folder(root) and bool(entries(root))


def list_located(spec: DatasetSpec) -> Listing:
    """List a dataset of native layout, with folds turned into splits.

    Raises:
        ConfigError: the dataset is not on this machine, or lacks the requested folds.
        DataError: its layout is not the expected one.
    """
    if not is_here(spec):
        raise ConfigError(where_to_get(spec))
    root = root_of(spec)
    listing = list_layout(spec.reader, root)
    if not listing.rows:
        raise DataError(f"dataset {spec.name}: no clips below {root}; unpack the original archives there")
    if not spec.multi_label and any(row.further_labels for row in listing.rows):
        raise DataError(f"dataset {spec.name}: clips have several labels; add `multi_label: true` to the dataset file")
    return _with_folds(spec, listing)


def list_layout(reader: str, root: Path) -> Listing:
    """List the clips below `root` with a module of `common.datasets.layouts`.

    Raises DataError: the layout is not the expected one, or a file or folder cannot be read.
    """
    try:
        listing: Listing = member("common.datasets.layouts", reader).list_clips(root)
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or root}: {error.strerror}; allow this user to read and enter the folder"
        ) from error
    return listing


def where_to_get(spec: DatasetSpec) -> str:
    """Instruction for a user who does not have the dataset yet."""
    root = root_of(spec)
    state = "is empty" if root.is_dir() else "does not exist"
    place = f"unpack it to {root} (or name another place by `root:` in a dataset file or by SYNTHIO_DATA)"
    if spec.access == "download" and spec.archives:
        fetches = f"`make fetch-data DATASET={spec.name}` fetches it, as a run does by itself"
        how = f"{fetches}; or get it from {spec.source} and {place}"
    else:
        how = f"{spec.instructions or f'get it from {spec.source}'}; then {place}"
    return f"dataset {spec.name} is not on this machine: {root} {state}; {how}. Licence: {spec.licence}"


def _with_folds(spec: DatasetSpec, listing: Listing) -> Listing:
    folds = Counter(row.fold for row in listing.rows if row.fold is not None)
    asked = (*spec.test_folds, *spec.validation_folds)
    if not folds:
        if asked:
            raise ConfigError(
                f"dataset {spec.name}: `test_folds:` or `validation_folds:` is given, but it has no folds"
            )
        return listing
    named = ", ".join(map(str, sorted(folds)))
    if not spec.test_folds:
        raise ConfigError(
            f"dataset {spec.name} comes in folds {named}: name those of the test split, such as "
            f"`test_folds: [{max(folds)}]`"
        )
    absent = sorted(set(asked) - folds.keys())
    if absent:
        raise ConfigError(f"dataset {spec.name}: no fold {', '.join(map(str, absent))}; it has folds {named}")
    if not folds.keys() - set(asked):
        raise ConfigError(f"dataset {spec.name}: no fold is left for training; it has folds {named}")
    listing.rows = [_split(row, spec) for row in listing.rows]
    listing.has_splits = True
    return listing


def _split(row: Row, spec: DatasetSpec) -> Row:
    if row.fold in spec.test_folds:
        return replace(row, split="test")
    return replace(row, split="val" if row.fold in spec.validation_folds else "train")
