"""Listing of a dataset's clips, with label, split and group, before any audio is read.

The files are the user's own, or those of a published dataset in its native layout, whose folds become splits.
"""

from dataclasses import replace
from pathlib import Path

from common.config.dataset import DatasetSpec
from common.datasets.folders import list_folders
from common.datasets.labelled import list_labelled
from common.datasets.labels import Notice, check_labels
from common.datasets.names import first_names, is_folder
from common.datasets.native import entries
from common.datasets.rows import Listing
from common.errors import ConfigError, DataError, unknown_name
from common.registered import member
from common.storage import data_folder


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
    for row in listing.rows if spec.classes else ():
        for label in row.labels:
            if label not in spec.classes:
                raise DataError(f"dataset {spec.name}, {row.source}: {unknown_name('label', label, spec.classes)}")
    held = {label for row in listing.rows for label in row.labels}
    if absent := [repr(label) for label in spec.classes if label not in held]:
        message = f"`classes:` names {first_names(absent, 10)}, of which no clip is listed: nothing learns them"
        listing.notices.append(Notice("classes_without_clips", message))
    where = str(spec.labels or spec.audio or f"dataset {spec.name}")
    check_labels((label for row in listing.rows for label in row.labels), where, listing.spellings)
    listing.notices += listing.spellings.notices(spec.classes)
    return listing


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
    folds = {row.fold for row in listing.rows if row.fold is not None}
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
    absent = sorted(set(asked) - folds)
    if absent:
        raise ConfigError(f"dataset {spec.name}: no fold {', '.join(map(str, absent))}; it has folds {named}")
    if not folds - set(asked):
        raise ConfigError(f"dataset {spec.name}: no fold is left for training; it has folds {named}")
    splits: dict[int | None, str] = {
        **dict.fromkeys(spec.validation_folds, "val"),
        **dict.fromkeys(spec.test_folds, "test"),
    }
    listing.rows = [replace(row, split=splits.get(row.fold, "train")) for row in listing.rows]
    return listing
