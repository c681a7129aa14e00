"""Finds, verifies and copies a published `StableAudioPipeline`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from common.errors import ConfigError, DataError
from common.hashing import hash_file

RANDOM = "random"
PARTS = ("vae", "text_encoder", "projection_model", "tokenizer", "transformer", "scheduler")
_CLASSES = {
    "text_encoder": "T5EncoderModel",
    "projection_model": "StableAudioProjectionModel",
    "transformer": "StableAudioDiTModel",
    "scheduler": "CosineDPMSolverMultistepScheduler",
}
_FILES = ["model_index.json", *(f"{part}/*.{ending}" for part in PARTS for ending in ("json", "safetensors", "model"))]
TEXT_ENCODER_FILES = ["*.json", "*.safetensors", "*.model"]


def locate(start: str, revision: str | None, patterns: list[str] | None = None) -> Path:
    """The folder of a published model: `start` itself when it is one, else a snapshot of the hub id.

    Args:
        start: folder or hub id.
        revision: commit of the hub id.
        patterns: files of the snapshot; default: those of a pipeline, in safetensors only.

    Raises:
        ConfigError: it can neither be found nor downloaded.
    """
    if Path(start).is_dir():
        return Path(start)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(start, revision=revision, allow_patterns=patterns or _FILES))
    except Exception as error:
        raise ConfigError(
            f"cannot get {start} (revision {revision or 'latest'}): {type(error).__name__}: {error}. It must be a "
            "folder or a hub id; gated models need an accepted licence and HF_TOKEN; with no network, a filled HF_HOME"
        ) from error


def verify(folder: Path, sha256: Mapping[str, str]) -> int:
    """Check that `folder` is a Stable Audio pipeline in safetensors with the expected hashes.

    Returns:
        Parameters of all parts together.

    Raises:
        DataError: it is something else; the message names the part.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} has no readable model_index.json: expected a StableAudioPipeline folder") from error
    if index.get("_class_name") != "StableAudioPipeline":
        raise DataError(f"{folder} holds a {index.get('_class_name')}, expected a StableAudioPipeline: correct `start`")
    for part in PARTS:
        found = (index.get(part) or [None, None])[1]
        if not (folder / part).is_dir() or (part in _CLASSES and found != _CLASSES[part]):
            raise DataError(f"{folder}: part {part} is {found}, expected {_CLASSES.get(part, 'a folder')}")
    for name, expected in sha256.items():
        if not (folder / name).is_file() or hash_file(folder / name) != expected.lower():
            raise DataError(f"{folder}/{name} is missing or not the file with sha256 {expected}: check the revision")
    weights = {part: sorted((folder / part).glob("*.safetensors")) for part in ("vae", "text_encoder", "transformer")}
    if missing := [part for part, files in weights.items() if not files]:
        raise DataError(f"{folder}: no safetensors for {', '.join(missing)}: other weight formats are not loaded")
    return sum(_count(file) for part in PARTS for file in sorted((folder / part).glob("*.safetensors")))


def hand_on(folder: Path, target: Path) -> None:
    """Copy the pipeline's files (links resolved), nothing else, into `target`."""
    for pattern in _FILES:
        for file in sorted(folder.glob(pattern)):
            copy = target / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _count(file: Path) -> int:
    with file.open("rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for length in tensor["shape"]:
                size *= length
            total += size
    return total
