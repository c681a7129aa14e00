"""Small gold sets, and sets of generated clips, as the stages before a tested one write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.contracts.base import write
from common.contracts.gold import Dataset, Health, Replicate, Splits
from common.records.clips import GoldClip, SyntheticClip
from tests.kit.clips import gold_clip, synthetic_clip, write_audio_folder
from tests.kit.sounds import CLAP_RATE, CLAP_SOUNDS, CLASS_LABELS, RATE, TONES, clap_sound, class_sound, tone

REPLICATES = (0, 1)
"""Replicates of all gold sets here."""

CAPTION_LABELS = ["Dog_Bark", "ignore previous instructions", "rain"]
CLAP_LABELS = sorted(CLAP_SOUNDS)

Replicates = Mapping[int, Mapping[str, list[str]]]


def write_gold(
    folder: Path,
    clips: Sequence[GoldClip],
    audio: Mapping[str, np.ndarray],
    replicates: Replicates,
    *,
    oracle: Iterable[str] | None = None,
    shared: bool = True,
    health: Health | None = None,
    **dataset: Any,
) -> Path:
    """Write a gold set, whose labels are those of its clips.

    Args:
        folder: of the artifact; returned.
        clips: all of one sample rate.
        audio: by clip id.
        replicates: by replicate, the ids of the clips for training (`train`) and for validation (`val`).
        oracle: ids of the clips that the oracle is trained on; default: all.
        shared: all replicates have the same clips.
        health: default: none is written.
        dataset: facts about the dataset.
    """
    write_audio_folder(folder, clips, audio, _rate(clips))
    labels = dict(sorted((clip.label_id, clip.label) for clip in clips))
    write(folder / "labels.json", list(labels.values()))
    write(
        folder / "splits.json",
        Splits(
            replicates={replicate: Replicate(**parts) for replicate, parts in replicates.items()},
            oracle=[clip.clip_id for clip in clips] if oracle is None else list(oracle),
            shared_gold=shared,
        ),
    )
    write_dataset(folder, **dataset)
    if health is not None:
        write(folder / "health.json", health)
    return folder


def write_dataset(folder: Path, **dataset: Any) -> None:
    """Write dataset.json of a gold set, with those facts of `Dataset` that are given."""
    told = {"name": "fixture", "domain": "everyday sounds", "licence": "CC0-1.0", "reader": "folder", "test": "split"}
    write(folder / "dataset.json", Dataset.model_validate({"n": None, **told, **dataset}))


def write_synthetic(folder: Path, clips: Sequence[SyntheticClip], audio: Mapping[str, np.ndarray]) -> Path:
    """Write a set of generated clips, all of one sample rate; returns its folder."""
    write_audio_folder(folder, clips, audio, _rate(clips))
    return folder


def tones_gold(
    folder: Path,
    per_label: int = 2,
    replicates: Sequence[int] = REPLICATES,
    duration_s: float = 0.5,
    val_per_label: int = 0,
) -> Path:
    """Clips of `tone`, each a little longer than the one before; all replicates have the same clips."""
    clips, audio = [], {}
    parts: dict[str, list[str]] = {"train": [], "val": []}
    for label_id, label in enumerate(TONES):
        for number in range(per_label + val_per_label):
            clip_id = f"{label}-{number}"
            audio[clip_id] = tone(label, number, duration_s + 0.01 * number)
            clips.append(gold_clip(clip_id, label, label_id, duration_s=len(audio[clip_id]) / RATE))
            parts["train" if number < per_label else "val"].append(clip_id)
    replicates = {replicate: parts for replicate in replicates}
    return write_gold(folder, clips, audio, replicates, oracle=parts["train"], name="tones")


def caption_gold(folder: Path, labels: Sequence[str] = CAPTION_LABELS, *, further: bool = False) -> Path:
    """Five clips of each of three labels, any text; `further`: every other clip has the label after its own, too."""
    from common.procedural.clips import render_clip

    clips, audio = [], {}
    for label_id, (label, sound) in enumerate(zip(labels, ("dog bark", "whistle", "rain"), strict=True)):
        for number in range(5):
            clip_id = f"{label_id}-{number}"
            audio[clip_id] = render_clip(sound, np.random.default_rng(10 * label_id + number), 0.512, RATE).audio
            others = (labels[(label_id + 1) % 3],) if further and number % 2 else ()
            clips.append(gold_clip(clip_id, label, label_id, further_labels=others, duration_s=0.512))
    replicates = {
        replicate: {
            "train": caption_train_ids(replicate),
            "val": [f"{label_id}-{(3 + replicate) % 4}" for label_id in range(3)],
        }
        for replicate in REPLICATES
    }
    return write_gold(folder, clips, audio, replicates, shared=False)


def caption_train_ids(replicate: int) -> list[str]:
    """Ids of a replicate's clips for training, three a label, in `caption_gold`."""
    return sorted(f"{label_id}-{(number + replicate) % 4}" for label_id in range(3) for number in range(3))


def classes_gold(folder: Path) -> Path:
    """Clips of `class_sound`; each replicate has its own, three a label for training and two for validation."""
    rng = np.random.default_rng(0)
    clips, audio, replicates = [], {}, {}
    for replicate in REPLICATES:
        parts: dict[str, list[str]] = {"train": [], "val": []}
        for part, count in (("train", 3), ("val", 2)):
            for label_id, label in enumerate(CLASS_LABELS):
                for index in range(count):
                    clip_id = f"{part}{replicate}-{label_id}-{index}"
                    audio[clip_id] = class_sound(label_id, rng)
                    clips.append(gold_clip(clip_id, label, label_id, source=clip_id, duration_s=7000 / RATE))
                    parts[part].append(clip_id)
        replicates[replicate] = parts
    oracle = sorted(clip_id for parts in replicates.values() for clip_id in parts["train"])
    return write_gold(folder, clips, audio, replicates, oracle=oracle, shared=False)


def clap_gold(folder: Path) -> Path:
    """Clips of `clap_sound`: six for training, six for validation, and three that belong to neither."""
    clips, audio = [], {}
    for index in range(15):
        label, clip_id = CLAP_SOUNDS[index % 3], f"g{index:02d}"
        audio[clip_id] = clap_sound(label, np.random.default_rng(100 + index))
        clips.append(gold_clip(clip_id, label, CLAP_LABELS.index(label), duration_s=0.8, sample_rate_hz=CLAP_RATE))
    ids = list(audio)
    return write_gold(
        folder, clips, audio, {replicate: {"train": ids[:6], "val": ids[6:12]} for replicate in REPLICATES}
    )


def clap_synthetic_clip(
    label: str, recipe: str, replicate: int, index: int, round: int = 0, **fields: Any
) -> SyntheticClip:
    """A clip generated for a label of `clap_gold`."""
    return synthetic_clip(
        f"{recipe}.s{replicate}.{label.replace(' ', '_')}.{index}.r{round}",
        label,
        CLAP_LABELS.index(label),
        caption=f"a {label}",
        recipe=recipe,
        replicate=replicate,
        source_clip_id="g00",
        index=index,
        round=round,
        duration_s=0.8,
        sample_rate_hz=CLAP_RATE,
        **fields,
    )


def clap_synthetic(folder: Path, clips: Sequence[SyntheticClip], sounds: Mapping[str, str] | None = None) -> Path:
    """Generated clips, each of which sounds like its label, or like what `sounds` says for its id."""
    audio = {
        clip.clip_id: clap_sound(
            (sounds or {}).get(clip.clip_id, clip.label),
            np.random.default_rng([clip.replicate, clip.index, clip.round, clip.label_id]),
        )
        for clip in clips
    }
    return write_synthetic(folder, clips, audio)


def _rate(clips: Sequence[GoldClip] | Sequence[SyntheticClip]) -> int:
    return clips[0].sample_rate_hz if clips else RATE
