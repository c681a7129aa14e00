"""Small corpora."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.corpus.shards import VERSION, ShardWriter
from common.corpus.vocabulary import build_vocabulary
from common.records.text import template_caption
from common.storage import write_json
from common.storage.hashing import hash_file
from tests.kit.sounds import CLAP_RATE, CLAP_SOUNDS, RATE, clap_sound


def write_shard(path: Path, samples: Iterable[tuple[str, dict[str, bytes]]]) -> int:
    """Write samples to a tar, and return their number."""
    with ShardWriter(path) as writer:
        return sum(writer.add(key, parts) is None for key, parts in samples)


def write_corpus(folder: Path, train: int = 36, heldout: int = 9, duration_s: float = 0.8, captions: int = 1) -> Path:
    """A corpus of two audio shards with recordings of `clap_sound`, each a clip for each of its captions."""
    shards = []
    for split, count in (("train", train), ("heldout", heldout)):
        file = folder / "audio" / f"{split}.tar"
        file.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(file, "w") as archive:
            for index in range(count):
                label = CLAP_SOUNDS[index % 3]
                flac = io.BytesIO()
                audio = clap_sound(label, np.random.default_rng([count, index]), duration_s)
                soundfile.write(flac, audio, CLAP_RATE, format="FLAC")
                facts = {"caption": f"a quiet {label}", "label": label, "duration_s": duration_s}
                parts = (("flac", flac.getvalue()), ("json", json.dumps(facts).encode()))
                for again, (suffix, content) in product(range(captions), parts):
                    member = tarfile.TarInfo(f"{split}{index:03d}{f'-{again}' if again else ''}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        shards.append(
            {
                "uri": f"audio/{split}.tar",
                "kind": "audio",
                "split": split,
                "clips": count * captions,
                "bytes": file.stat().st_size,
                "sha256": hash_file(file),
            }
        )
    write_json(folder / "manifest.json", {"version": VERSION, "shards": shards, "labels": sorted(CLAP_SOUNDS)})
    captions = [template_caption(label) for label in CLAP_SOUNDS] * 3
    write_json(folder / "vocabulary.json", [list(row) for row in build_vocabulary(captions)])
    return folder


def spectral_corpus(folder: Path) -> Path:
    """56 procedural clips of half a second or a second, as latents of the spectral codec."""
    from components.prepare_corpus.run import run

    settings = {
        "source": "procedural",
        "clips": 56,
        "durations_s": [0.512, 1.024],
        "sample_rate_hz": RATE,
        "channels": 1,
        "clips_per_shard": 14,
        "heldout_fraction": 0.25,
        "vae": "spectral",
        "tokenizer": "embedded",
        "max_tokens": 64,
        "codec": {"n_mels": 32, "latent_channels": 16, "griffin_lim_steps": 2},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHIO_STORE", str(folder.with_name(f"{folder.name}_store")))
        config = {"settings": settings, "seed": 0}
        run(str(folder), str(folder.with_name(f"{folder.name}.json")), config=config, code_version="t")
    return folder
