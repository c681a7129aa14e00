"""Datasets in an object store: pushed from one machine, read by `prepare_dataset` on another.

Every file is one object named by its content hash, so an interrupted push can resume and equal files are stored
once. The list of clips is named by its hash as well, so its address always means the same clips.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from common.config.dataset import DatasetSpec
from common.contracts.gold import Drop
from common.datasets.labelled import COLUMNS
from common.datasets.listing import list_clips
from common.datasets.rows import Row
from common.errors import DataError
from common.log import get_logger, track
from common.storage import ObjectStore, open_store, split_uri, write_text
from common.storage.hashing import hash_file

VERSION = 1


def push_dataset(spec: DatasetSpec, store: ObjectStore, left_out: Callable[[Drop], None] = lambda drop: None) -> str:
    """Copy a dataset of files into `store`, and call `left_out` with each clip that is not pushed.

    Raises:
        DataError: the dataset cannot be listed, a file is missing, or a path leads out of the audio root.
        StorageError: the store cannot be written.

    Returns the address of the dataset YAML, for `prepare_dataset` and `DATASET=`.
    """
    listing = list_clips(spec)
    for drop in listing.dropped:
        left_out(drop)
    files: dict[str, str] = {}
    listed: list[dict[str, Any]] = []
    for row in track(listing.rows, get_logger("push_data"), "files", len(listing.rows)):
        _check_inside(row.source, spec.name)
        if not os.path.isfile(row.path):
            raise DataError(f"{row.path} is listed, but not there; restore it or take it off the list, then push again")
        if row.source not in files:
            sha256 = hash_file(row.path)
            key = f"files/{sha256[:2]}/{sha256}"
            if store.size(key) != row.path.stat().st_size:
                store.upload(key, row.path)
            files[row.source] = sha256
        label = list(row.labels) if spec.multi_label else row.label
        listed.append({"path": row.source, "label": label, "split": row.split, "group": row.group})
    manifest = json.dumps({"version": VERSION, "files": files, "clips": listed}, sort_keys=True, ensure_ascii=False)
    key = f"lists/{hashlib.sha256(manifest.encode()).hexdigest()}.json"
    store.write_bytes(key, manifest.encode())
    ids = [_push_ids(Path(place), store) for place in spec.corpus_ids]
    # Folds have become splits, and a pushed dataset needs no download.
    local = {"reader", "root", "labels", "audio", "pushed", "corpus_ids"}
    local |= {"test_folds", "validation_folds", "access", "instructions", "archives"}
    described = spec.model_dump(mode="json", exclude_none=True, exclude=local) | {"pushed": f"{store.uri}/{key}"}
    described |= {"corpus_ids": ids} if ids else {}
    name = f"{spec.name}.yaml"
    store.write_bytes(name, yaml.safe_dump(described, sort_keys=True, allow_unicode=True).encode())
    return f"{store.uri}/{name}"


def _push_ids(path: Path, store: ObjectStore) -> str:
    """Copy a file of `corpus_ids`, so that the corpus also leaves the dataset's clips out on another machine."""
    if not path.is_file():
        raise DataError(f"corpus_ids: {path} does not exist; restore it, then push again")
    key = f"ids/{hash_file(path)}{path.suffix}"
    if store.size(key) is None:
        store.upload(key, path)
    return f"{store.uri}/{key}"


def fetch_dataset(
    spec: DatasetSpec, folder: Path, choose: Callable[[list[Row]], list[Row]] | None = None
) -> DatasetSpec:
    """Copy a pushed dataset, or the files of the rows that `choose` selects, to `folder`; existing files are kept.

    Raises:
        DataError: the list of clips is damaged or of another version, or a path leads out of the audio root.
        StorageError: a file is missing or differs from its hash.

    Returns `spec` with local paths; a dataset that was not pushed is returned unchanged.
    """
    if spec.pushed is None:
        return spec
    place, key = split_uri(spec.pushed)
    listed = _read_list(open_store(place).read_bytes(key), spec.pushed)
    # `files/` is beside `lists/`.
    store = open_store(spec.pushed.rsplit("/", 2)[0])
    lines = [json.dumps({name: clip.get(name) for name in COLUMNS}, ensure_ascii=False) for clip in listed["clips"]]
    write_text(folder / "labels.jsonl", "".join(f"{line}\n" for line in lines))
    audio = folder / "audio"
    audio.mkdir(exist_ok=True)
    here = spec.model_copy(update={"labels": folder / "labels.jsonl", "audio": audio, "pushed": None})
    wanted = None if choose is None else {row.source for row in choose(list_clips(here).rows)}
    for source, sha256 in sorted(listed["files"].items()):
        _check_inside(source, spec.name)
        target = audio / source
        if (wanted is None or source in wanted) and (not target.is_file() or hash_file(target) != sha256):
            store.download(f"files/{sha256[:2]}/{sha256}", target, sha256)
    return here


def _read_list(data: bytes, uri: str) -> dict[str, Any]:
    name = uri.rsplit("/", 1)[-1].removesuffix(".json")
    if hashlib.sha256(data).hexdigest() != name:
        raise DataError(f"{uri} differs from the hash in its name; push the dataset again (make push-data)")
    listed: dict[str, Any] = json.loads(data)
    if listed.get("version") != VERSION:
        raise DataError(f"{uri} is of version {listed.get('version')}, expected {VERSION}; push the dataset again")
    return listed


def _check_inside(source: str, dataset: str) -> None:
    path = PurePosixPath(source)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"dataset {dataset}: {source!r} lies outside the audio root; set `audio:` to a folder that holds all clips"
        )
