"""Verification and copying of finished text-to-audio models: published ones, and those of earlier runs."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import safe_open

from common.errors import ConfigError, DataError, StorageError
from common.storage import ObjectStore, open_store, read_json, write_json
from common.storage.hashing import hash_file

RANDOM = "random"
TRAINING_FILE = "training.json"
PARTS = ("vae", "text_encoder", "projection_model", "tokenizer", "transformer", "scheduler")
PIPELINE_FILES = [
    "model_index.json",
    *(f"{part}/*.{ending}" for part in PARTS for ending in ("json", "safetensors", "model")),
]
TEXT_ENCODER_FILES = ["*.json", "*.safetensors", "*.model"]


def verify(folder: Path, sha256: Mapping[str, str]) -> int:
    """Check that `folder` is a known pipeline in safetensors with the expected hashes.

    Returns number of parameters of all parts together. Raises DataError: a part, a hash or the weight format is wrong;
    the message names it.
    """
    from common.diffusion.backend import backend_class

    backend_class(folder)
    if missing := [part for part in PARTS if not (folder / part).is_dir()]:
        raise DataError(
            f"{folder}: no folder {', '.join(missing)}: this is a checkpoint of another architecture; correct `start`"
        )
    for name, expected in sha256.items():
        if not (folder / name).is_file() or hash_file(folder / name) != expected.lower():
            raise DataError(f"{folder}/{name} is missing or not the file with sha256 {expected}: check the revision")
    weights = {part: sorted((folder / part).glob("*.safetensors")) for part in ("vae", "text_encoder", "transformer")}
    if missing := [part for part, files in weights.items() if not files]:
        raise DataError(f"{folder}: no safetensors for {', '.join(missing)}: other weight formats are not loaded")
    return sum(count_parameters(file) for part in PARTS for file in sorted((folder / part).glob("*.safetensors")))


def hand_on(folder: Path, target: Path, record: Mapping[str, Any]) -> None:
    """Copy only the pipeline's files (links resolved) to `target`, and write `record` as its `training.json`."""
    from common.storage.artifacts import artifact_hash

    for pattern in PIPELINE_FILES:
        for file in sorted(folder.glob(pattern)):
            copy = target / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    write_json(target / TRAINING_FILE, {**record, "sha256": artifact_hash(target)})


def finished_model(uri: str) -> ObjectStore:
    """The store at `uri`. Raises ConfigError: it holds no finished text-to-audio model."""
    store = open_store(uri)
    if any(store.size(key) is None for key in (TRAINING_FILE, "model_index.json")):
        raise ConfigError(
            f"{uri} holds no finished text-to-audio model (model_index.json and {TRAINING_FILE}): name the t2a "
            "artifact of a run whose pretrain_t2a ended, or leave it empty to train one"
        )
    return store


def reuse(uri: str, expected: str | None, target: Path) -> None:
    """Copy the finished model of an earlier run into `target`.

    Args:
        uri: the artifact: folder, `file://…` or `s3://…`.
        expected: hash of the model; None = the one in its `training.json`.

    Raises:
        ConfigError: the artifact holds no finished model, or no hash is known.
        DataError: the model has another hash or architecture.
        StorageError: a key leads out of the folder.
    """
    from common.storage.artifacts import artifact_hash

    store = finished_model(uri)
    for key in list(store.list()):
        if key == TRAINING_FILE or any(PurePosixPath(key).match(pattern) for pattern in PIPELINE_FILES):
            if ".." in PurePosixPath(key).parts:
                raise StorageError(f"{uri}: key {key!r:.80} leads out of the folder; this is no artifact of a run")
            store.download(key, target / key)
    verify(target, {})
    record = read_json(target / TRAINING_FILE)
    if (wanted := expected or record.get("sha256")) is None:
        raise ConfigError(f"{uri} states no hash of its model: give it as pretrain_t2a.reuse_sha256")
    if (found := artifact_hash(target)) != wanted:
        raise DataError(
            f"the model in {uri} has hash {found}, expected {wanted}: it was changed or is another one; correct "
            "reuse_sha256, or train anew"
        )


def count_parameters(file: Path) -> int:
    """Count the parameters in a safetensors file."""
    with safe_open(file, "np") as opened:
        names = opened.keys()
        return sum(math.prod(opened.get_slice(name).get_shape()) for name in names)
