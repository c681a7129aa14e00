"""Records of clips with plain values wherever a test names none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.signal import write_flac
from common.records.audio_folder import Clip, copy_audio_folder
from common.records.clips import GoldClip, SyntheticClip
from common.records.provenance import Provenance


def write_audio_folder(folder: Path, records: Iterable[Clip], audio: Mapping[str, np.ndarray], rate: int) -> None:
    """Write `folder/clips` with `audio`, by clip id, (T,) or (C, T) float32 in [-1, 1]."""
    with tempfile.TemporaryDirectory() as made:
        files = {clip_id: Path(made) / f"{number}.flac" for number, clip_id in enumerate(audio)}
        for clip_id, file in files.items():
            write_flac(file, audio[clip_id], rate)
        copy_audio_folder(folder, records, files)


def gold_clip(clip_id: str, label: str = "a", label_id: int = 0, **fields: Any) -> GoldClip:
    """A labelled clip of half a second at 16 kHz."""
    values: dict[str, Any] = {
        "file_name": f"{clip_id}.flac",
        "source": f"{clip_id}.wav",
        "duration_s": 0.5,
        "sample_rate_hz": 16000,
    }
    return GoldClip(clip_id=clip_id, label=label, label_id=label_id, **values | fields)


def synthetic_clip(clip_id: str, label: str = "a", label_id: int = 0, **fields: Any) -> SyntheticClip:
    """A generated clip of half a second at 16 kHz, which nothing has filtered yet."""
    values: dict[str, Any] = {
        "file_name": f"{clip_id}.flac",
        "caption": "a sound",
        "recipe": "none-template-all",
        "replicate": 0,
        "source_clip_id": "g",
        "index": 0,
        "round": 0,
        "duration_s": 0.5,
        "sample_rate_hz": 16000,
        "writer": "test",
        "model_hash": "m",
        "sampling_seed": 1,
        "sampler": {},
        "gain_db": 0.0,
    }
    return SyntheticClip(clip_id=clip_id, label=label, label_id=label_id, **values | fields)


def generated_clip(
    recipe: str, replicate: int, source: str, index: int = 0, round: int = 0, **fields: Any
) -> SyntheticClip:
    """A generated clip with the id that the pipeline gives to the clips of a recipe; `source` = id of its gold clip."""
    made: dict[str, Any] = {
        "recipe": recipe,
        "replicate": replicate,
        "source_clip_id": source,
        "index": index,
        "round": round,
    }
    return synthetic_clip(f"{recipe}.s{replicate}.{source}.{index}.r{round}", **made | fields)


def account(clip_id: str, caption: str = "a") -> Provenance:
    """How a generated clip was made."""
    return Provenance(
        clip_id=clip_id, sha256="0", recipe="r", replicate=0, source_clip_id="g", index=0, label="l", label_id=0,
        caption=caption, writer="w", model_hash="m", model={}, gold_licence="CC0-1.0",
        sampling_seed=1, duration_s=1.0, frames=8, start="noise", noise_level=None, source_sha256=None,
        target_rms_dbfs=-20.0, gain_db=0.0, signal="ok", settings={}, code_version="1", environment={},
    )  # fmt: skip
