"""The filter's work on one replicate: read and embed its clips, calibrate, decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from common.audio_folder import load_clip
from common.clap.distance import kernel_distance
from common.clap.scorer import ClapScorer
from common.config.clap import FilterAudioPlan
from common.gold import GoldSet
from common.items import ItemStore
from common.records import GoldClip, SyntheticClip, write_records
from common.storage import write_json
from common.text import template_caption
from components.filter_audio.calibration import planted_trial
from components.filter_audio.decisions import Embedded, decide
from components.filter_audio.folders import read_embeddings
from components.filter_audio.recordings import fingerprint
from components.filter_audio.thresholds import calibrate, claim_scores


@dataclass(frozen=True)
class Replicate:
    """One item of the stage: the clips of a seed and what they are judged with."""

    seed: int
    plan: FilterAudioPlan
    clips: tuple[SyntheticClip, ...]
    previous: tuple[SyntheticClip, ...]
    synthetic_dir: Path
    gold_dir: Path
    clap_dir: Path
    previous_dir: Path | None
    store: ItemStore
    key: dict[str, Any]


def filter_replicate(job: Replicate) -> Path:
    """Make the replicate's item, or find it.

    The item holds `clips.jsonl` (every clip with scores and reason), `embeddings.npy` (their rows)
    and `replicate.json` (threshold and figures).
    """
    return job.store.get_or_make(lambda folder: _make(job, folder), **job.key)


def _make(job: Replicate, folder: Path) -> None:
    scorer = ClapScorer.load(job.clap_dir, batch_size=job.plan.settings.batch_size)
    rate = scorer.sample_rate_hz
    gold = GoldSet(job.gold_dir)
    prompts = scorer.embed_text([template_caption(label) for label in gold.labels])

    def embed_gold(clips: Sequence[GoldClip]) -> np.ndarray:
        return scorer.embed_audio((gold.load(clip, rate) for clip in clips), rate)

    train, validation = gold.train(job.seed), gold.val(job.seed)
    true_ids = [clip.label_id for clip in validation]
    similarity = embed_gold(validation) @ prompts.T
    scores, margins = claim_scores(similarity, true_ids)
    threshold = calibrate(job.plan.settings.threshold, scores, margins)
    references = Embedded(tuple(clip.clip_id for clip in train), embed_gold(train))

    sound = [clip for clip in job.clips if clip.signal == "ok"]
    rows = {clip.clip_id: row for row, clip in enumerate(sound)}
    embedded = scorer.embed_audio((load_clip(job.synthetic_dir, clip, rate) for clip in sound), rate)
    embeddings = np.zeros((len(job.clips), scorer.dim), np.float32)
    for index, clip in enumerate(job.clips):
        if clip.clip_id in rows:
            embeddings[index] = embedded[rows[clip.clip_id]]
    decided = decide(
        job.clips,
        embeddings,
        prompts,
        references,
        _accepted_before(job),
        _fingerprints(job, scorer, gold, train),
        threshold,
        job.plan.settings,
        {recipe.name: recipe.filter for recipe in job.plan.recipes},
    )
    write_records(folder / "clips.jsonl", decided)
    np.save(folder / "embeddings.npy", embeddings)
    figures = {
        "threshold": threshold.model_dump(),
        "gold_scores": [float(score) for score in scores],
        "gold_margins": [float(margin) for margin in margins],
        "planted": planted_trial(threshold, similarity, true_ids) if len(true_ids) else {},
        "kernel_distance": _distances(decided, embeddings, references.embeddings),
    }
    write_json(folder / "replicate.json", figures)


def _accepted_before(job: Replicate) -> Mapping[tuple[str, str], Embedded]:
    """Earlier rounds' clips by recipe and label."""
    if job.previous_dir is None or not job.previous:
        return {}
    embeddings = read_embeddings(job.previous_dir, job.seed)
    groups: dict[tuple[str, str], list[int]] = {}
    for row, clip in enumerate(job.previous):
        groups.setdefault((clip.recipe, clip.label), []).append(row)
    ids = [clip.clip_id for clip in job.previous]
    return {key: Embedded(tuple(ids[row] for row in rows), embeddings[rows]) for key, rows in groups.items()}


def _fingerprints(
    job: Replicate, scorer: ClapScorer, gold: GoldSet, train: Sequence[GoldClip]
) -> Callable[[str], np.ndarray]:
    """Fingerprint of any clip by its id; clips are read when first asked for."""
    rate = scorer.sample_rate_hz
    synthetic = {clip.clip_id: (job.synthetic_dir, clip) for clip in job.clips}
    if job.previous_dir is not None:
        synthetic |= {clip.clip_id: (job.previous_dir, clip) for clip in job.previous}
    originals = {clip.clip_id: clip for clip in train}

    @lru_cache(maxsize=1024)
    def get(clip_id: str) -> np.ndarray:
        own = synthetic.get(clip_id)
        audio = load_clip(*own, rate) if own else gold.load(originals[clip_id], rate)
        return fingerprint(scorer.features.spectrogram(audio))

    return get


def _distances(clips: Sequence[SyntheticClip], embeddings: np.ndarray, gold: np.ndarray) -> dict[str, dict[str, float]]:
    """Kernel distance to the gold training clips, by recipe: of all candidates, and of those accepted."""
    result: dict[str, dict[str, float]] = {}
    for recipe in sorted({clip.recipe for clip in clips}):
        sound = [row for row, clip in enumerate(clips) if clip.recipe == recipe and clip.signal == "ok"]
        accepted = [row for row in sound if clips[row].reason is None]
        sets = {"candidates": sound, "accepted": accepted}
        if len(gold) > 1:
            result[recipe] = {
                name: kernel_distance(gold, embeddings[rows]) for name, rows in sets.items() if len(rows) > 1
            }
    return result
