"""Shards of the corpus as items of the store: a killed run goes on with the first missing one."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from common.corpus import Shard, read_audio_shard, write_shard
from common.errors import DataError
from common.hashing import hash_file
from common.items import ItemStore
from common.parallel import run_items
from common.storage import read_json, write_json
from components.prepare_corpus.sources import Source, SourceClip

SHARD_FILE, FACTS_FILE = "shard.tar", "facts.json"


class ShardJob(NamedTuple):
    """One shard to make: clips `first` to `last` (exclusive) of the source."""

    store: ItemStore
    key: dict[str, Any]
    first: int
    last: int


def shard_ranges(clips: int, size: int) -> list[tuple[int, int]]:
    """`(first, last)`, exclusive, of each shard of at most `size` clips; at least two, so that one can be held out."""
    size = max(1, min(size, -(-clips // 2)))
    return [(first, min(first + size, clips)) for first in range(0, clips, size)]


def first_clips(folders: Sequence[Path], count: int) -> Iterator[np.ndarray]:
    """The first `count` clips `(C, T)` of finished audio shards; sources come in random or round-robin order."""
    return islice((clip.audio for folder in folders for clip in read_audio_shard(folder / SHARD_FILE)), count)


def check_dropped(dropped: Sequence[dict[str, Any]], total: int, allowed: float) -> None:
    """Raise when too many clips are unusable.

    Raises:
        DataError: more than `allowed` (a fraction) of `total` clips were dropped; names the first.
    """
    if len(dropped) > allowed * total:
        first = "; ".join(row["reason"] for row in dropped[:3])
        raise DataError(
            f"{len(dropped)} of {total} corpus clips are unusable, at most {allowed:.0%} allowed: {first}. "
            "Repair or remove them, or raise prepare_corpus.max_bad_fraction"
        )


def make_audio_shard(source: Source, sample_rate_hz: int, job: ShardJob) -> Path:
    """The folder of one finished audio shard; unusable clips are listed in its facts."""
    return job.store.get_or_make(partial(_write_audio, source, sample_rate_hz, job), **job.key)


def _write_audio(source: Source, sample_rate_hz: int, job: ShardJob, folder: Path) -> None:
    bad: list[dict[str, Any]] = []
    captions: list[tuple[str, str | None]] = []

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for index in range(job.first, job.last):
            try:
                clip = source.read(index)
            except DataError as error:
                bad.append({"clip": index, "reason": str(error)})
                continue
            captions.append((clip.caption, clip.label))
            yield f"{index:09d}", _audio_parts(clip, sample_rate_hz)

    clips = write_shard(folder / SHARD_FILE, samples())
    write_json(folder / FACTS_FILE, {"clips": clips, "dropped": bad, "captions": captions})


def _audio_parts(clip: SourceClip, sample_rate_hz: int) -> dict[str, bytes]:
    buffer = io.BytesIO()
    pcm = np.round(np.clip(clip.audio.T, -1.0, 32767 / 32768) * 32768).astype(np.int16)
    soundfile.write(buffer, pcm, sample_rate_hz, format="FLAC", subtype="PCM_16")
    facts = {"caption": clip.caption, "label": clip.label, "duration_s": clip.audio.shape[-1] / sample_rate_hz}
    return {"flac": buffer.getvalue(), "json": _json(facts)}


def make_latent_shard(vae: Any, tokenizer: Any, job: ShardJob, audio_shard: Path) -> Path:
    """The folder of one finished latent shard, encoded from its audio shard; captions that do not fit are left out."""
    return job.store.get_or_make(partial(_write_latents, vae, tokenizer, audio_shard), **job.key)


def _write_latents(vae: Any, tokenizer: Any, audio_shard: Path, folder: Path) -> None:
    from components.prepare_corpus.encoding import encode, token_ids

    bad: list[dict[str, Any]] = []

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for clip in read_audio_shard(audio_shard):
            facts = {"caption": clip.caption, "label": clip.label, "duration_s": clip.duration_s}
            try:
                tokens = token_ids(tokenizer, clip.caption)
            except DataError as error:
                bad.append({"clip": int(clip.key), "reason": str(error)})
                continue
            yield (
                clip.key,
                {"latent.npy": _npy(encode(vae, clip.audio)), "tokens.npy": _npy(tokens), "json": _json(facts)},
            )

    clips = write_shard(folder / SHARD_FILE, samples())
    write_json(folder / FACTS_FILE, {"clips": clips, "dropped": bad})


def make_all(make: Callable[..., Path], jobs: Sequence[tuple[Any, ...]], workers: int | None = None) -> list[Path]:
    """`make(*job)` for every job, in parallel; the folders in the order of the jobs."""
    folders: dict[int, Path] = {}
    for index, result in run_items(partial(_apply, make), jobs, workers):
        if isinstance(result, BaseException):
            raise result
        folders[index] = result
    return [folders[index] for index in range(len(jobs))]


def _apply(make: Callable[..., Path], arguments: tuple[Any, ...]) -> Path:
    return make(*arguments)


def publish(folders: Sequence[Path], target: Path, kind: str, training: int) -> list[Shard]:
    """Copy finished shards to `target/kind`; the first `training` are of split train, the others held out."""
    shards = []
    for number, folder in enumerate(folders):
        name = f"{kind}/shard-{number:05d}.tar"
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / SHARD_FILE, path)
        shards.append(
            Shard.model_validate(
                {
                    "file": name,
                    "kind": kind,
                    "split": "train" if number < training else "heldout",
                    "clips": read_json(folder / FACTS_FILE)["clips"],
                    "bytes": path.stat().st_size,
                    "sha256": hash_file(path),
                }
            )
        )
    return shards


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()
