"""Small artifacts for the tests of the CLAP stages."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from common.clap.model import build_clap, set_input_statistics
from common.clap.training import train_contrastive, window_features
from common.config.base import OptimConfig
from common.corpus.vocabulary import build_vocabulary
from common.records.audio_folder import write_audio_folder
from common.records.clips import GoldClip, SyntheticClip
from common.records.text import template_caption
from common.storage import write_json
from common.storage.hashing import hash_file
from tests.unit.clap.small import LABELS, RATE_HZ, SMALL, make_sound

ARCHITECTURE = SMALL.model_dump()
CODE = "test"
SORTED_LABELS = sorted(LABELS)


def write_corpus(folder: Path, train: int = 36, heldout: int = 9) -> Path:
    """A corpus artifact of two audio shards."""
    shards = []
    for split, count in (("train", train), ("heldout", heldout)):
        file = folder / "audio" / f"{split}.tar"
        file.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(file, "w") as archive:
            for index in range(count):
                label = LABELS[index % 3]
                rng = np.random.default_rng([count, index])
                flac = io.BytesIO()
                soundfile.write(flac, make_sound(label, rng), RATE_HZ, format="FLAC")
                facts = {"caption": f"a quiet {label}", "label": label, "duration_s": 0.8}
                for suffix, content in (("flac", flac.getvalue()), ("json", json.dumps(facts).encode())):
                    member = tarfile.TarInfo(f"{split}{index:03d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        shards.append(
            {
                "file": f"audio/{split}.tar",
                "kind": "audio",
                "split": split,
                "clips": count,
                "bytes": file.stat().st_size,
                "sha256": hash_file(file),
            }
        )
    write_json(folder / "manifest.json", {"shards": shards, "labels": SORTED_LABELS})
    captions = [template_caption(label) for label in LABELS] * 3
    write_json(folder / "vocabulary.json", [list(row) for row in build_vocabulary(captions)])
    return folder


def write_clap(folder: Path, steps: int = 0) -> Path:
    """A CLAP with random weights, or trained for some steps on `make_sound`."""
    scorer = build_clap(SMALL, build_vocabulary([template_caption(label) for label in LABELS] * 3), seed=1)
    labels = [LABELS[index % 3] for index in range(24)]
    clips = [make_sound(label, np.random.default_rng(index)) for index, label in enumerate(labels)]
    features, _ = window_features(scorer, clips, RATE_HZ)
    set_input_statistics(scorer.model, features)
    if steps:
        optim = OptimConfig(steps=steps, batch_size=12, learning_rate=3e-3)
        train_contrastive(scorer, features, [[template_caption(x)] for x in labels], labels, optim, seed=0, name="clap")
    scorer.save(folder)
    return folder


def write_gold(folder: Path, seeds: tuple[int, ...] = (0, 1)) -> Path:
    """A gold artifact: per replicate 6 training and 6 validation clips, and 3 that belong to neither."""
    records, audio = [], {}
    for index in range(15):
        label, clip_id = LABELS[index % 3], f"g{index:02d}"
        audio[clip_id] = make_sound(label, np.random.default_rng(100 + index))
        records.append(
            GoldClip(
                file_name=f"{clip_id}.flac",
                clip_id=clip_id,
                label=label,
                label_id=SORTED_LABELS.index(label),
                source=f"{clip_id}.wav",
                duration_s=0.8,
                sample_rate_hz=RATE_HZ,
            )
        )
    write_audio_folder(folder, records, audio, RATE_HZ)
    ids = [record.clip_id for record in records]
    splits = {str(seed): {"train": ids[:6], "val": ids[6:12]} for seed in seeds}
    write_json(folder / "splits.json", {"replicates": splits, "oracle": ids, "shared_gold": True})
    write_json(folder / "labels.json", SORTED_LABELS)
    return folder


def synthetic_clip(label: str, recipe: str, seed: int, index: int, round: int = 0, signal: str = "ok") -> SyntheticClip:
    """A record of a generated clip."""
    clip_id = f"{recipe}.s{seed}.{label.replace(' ', '_')}.{index}.r{round}"
    return SyntheticClip(
        file_name=f"{clip_id}.flac",
        clip_id=clip_id,
        label=label,
        label_id=SORTED_LABELS.index(label),
        caption=f"a {label}",
        recipe=recipe,
        seed=seed,
        source_clip_id="g00",
        index=index,
        round=round,
        duration_s=0.8,
        sample_rate_hz=RATE_HZ,
        writer="test",
        model_hash="m",
        sampling_seed=1,
        sampler={},
        gain_db=0.0,
        signal=signal,
    )


def write_synthetic(folder: Path, clips: list[SyntheticClip], sounds: dict[str, str] | None = None) -> Path:
    """A synthetic artifact; each clip sounds like its label, or like what `sounds` says for its id."""
    audio = {
        clip.clip_id: make_sound(
            (sounds or {}).get(clip.clip_id, clip.label),
            np.random.default_rng([clip.seed, clip.index, clip.round, clip.label_id]),
        )
        for clip in clips
    }
    write_audio_folder(folder, clips, audio, RATE_HZ)
    return folder
