"""Pretrained encoders that a learner can hear through: which one a folder holds, and its files. Free of torch."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from common.config.learners import Encoder
from common.errors import DataError
from common.models.files import fits
from common.models.registry import WEIGHTS

ARCHITECTURES = {"clap": "CLAP", "pe_audio": "PE-AV, audio alone", "pe_audio_video": "PE-AV", "whisper": "Whisper"}
"""What is supported, by `model_type` of transformers."""


def architecture(folder: Path) -> str:
    """The folder's name in `ARCHITECTURES`. Raises DataError: it holds another model, or none."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found, reason = None, f"no config.json with a model_type ({type(error).__name__}: {error})"
    else:
        reason = f"a model of the type {found!r}"
    if found not in ARCHITECTURES:
        known = ", ".join(f"{name} ({title})" for name, title in ARCHITECTURES.items())
        raise DataError(
            f"the encoder at {folder} holds {reason}; supported model types: {known}. Name another folder or hub id in "
            "train_classifier.learners.encoders"
        )
    return str(found)


def check_encoders(encoders: Mapping[str, Encoder]) -> None:
    """Refuse folders of encoders that hold no supported model; hub ids are checked where they are fetched.

    Raises DataError: the message names the folder and what it holds.
    """
    for encoder in encoders.values():
        if Path(encoder.checkpoint).is_dir():
            architecture(Path(encoder.checkpoint))


def encoder_files(folder: Path) -> list[Path]:
    """Weights and settings in an encoder's folder, which may hold more."""
    return sorted(path for path in folder.iterdir() if path.is_file() and fits(path.name, WEIGHTS))


def copy_encoder(source: Path, target: Path) -> None:
    """Copy `encoder_files`; `target` is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in encoder_files(source):
        shutil.copyfile(path, target / path.name)
