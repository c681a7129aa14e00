"""The idea of the stage: train a CLAP contrastively on captioned clips and keep the step that retrieves best.

A published checkpoint can be the start of training, or is only verified and evaluated. One or several processes train.
Read next: run.py (the result as an item of the store). The loss and the loop are in `common.clap.training`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.audio.signal import resample, to_mono
from common.clap.figures import matched_auc, rank_figures, retrieval_figures
from common.clap.scorer import ClapFeatures, ClapScorer
from common.clap.training import build_clap, set_input_statistics, train_contrastive
from common.config.base import OptimConfig
from common.config.clap import PretrainClapConfig, PretrainClapPlan
from common.corpus.features import Facts, ShardClips, StoredFeatures, audio_shards, write_features
from common.corpus.pretraining import Pretraining
from common.corpus.shards import Corpus
from common.corpus.vocabulary import Vocabulary
from common.errors import ConfigError, DataError
from common.models.registry import locate
from common.records.text import template_caption
from common.runtime.devices import device
from common.storage import write_json
from common.training import Curve, best_by, is_main, launch
from common.training.launch import default_processes

NAME = "pretrain_clap"
HELD_OUT = "heldout_"
"""Prefix of held-out figures in the curve."""


Job = Pretraining[PretrainClapPlan]
FILES = ("*.json", "*.txt", "*.safetensors")


def pretrain(job: Job, folder: Path) -> None:
    """Write a CLAP and its `training.json` to `folder`: trained, by one process per GPU, or the checkpoint unchanged.

    Features of the corpus are computed first, once and in bounded memory; a killed run resumes.

    Raises:
        ConfigError: the checkpoint is unfit, or the batch cannot be split over the processes.
        DataError: a shard is damaged, or the corpus has no audio to train on.
        Interrupted: SIGTERM arrived; a checkpoint is stored.
    """
    settings, scratch = job.plan.settings, job.scratch
    # Load the checkpoint first: a bad one fails before anything is computed.
    features = starting_point(settings, Corpus(job.corpus_dir).vocabulary(), job.plan.seed).features
    read = partial(read_windows, features)
    if settings.optim is not None:
        shards = audio_shards(job.corpus_dir, "train", settings.max_clips)
        if not write_features(scratch / "train", shards, read, settings.feature_precision).rows:
            raise DataError(f"{job.corpus_dir}: no audio to train on; run prepare_corpus with keep_audio: true")
    held_out = audio_shards(job.corpus_dir, "heldout", settings.max_heldout_clips)
    write_features(scratch / "heldout", held_out, read)
    launch(train, (job, folder), default_processes())


def train(where: tuple[Job, Path]) -> None:
    """Train in one process of `pretrain`; the first process writes the result."""
    job, folder = where
    settings = job.plan.settings
    scorer = starting_point(settings, Corpus(job.corpus_dir).vocabulary(), job.plan.seed)
    scorer.model.to(device())
    channels = 4 if scorer.extractor.truncation == "fusion" else 1
    held_out = HeldOut(StoredFeatures(job.scratch / "heldout"), channels)
    before = held_out.figures(scorer) if settings.checkpoint is not None else {}
    curve, after = Curve(), before
    if settings.optim is not None:
        curve = _train(job, settings.optim, scorer, held_out, before.get(settings.select_by), channels)
        if curve.best_step:
            after = {k.removeprefix(HELD_OUT): value for k, value in curve.best.items() if k.startswith(HELD_OUT)}
    if is_main():
        scorer.save(folder)
        origin = {"checkpoint": settings.checkpoint, "revision": settings.revision}
        best_step = curve.best_step if curve else 0
        figures = {"heldout_before": before, "heldout": after, "best_step": best_step}
        write_json(folder / "training.json", {**origin, **figures, "curve": curve})


def _train(
    job: Job, optim: OptimConfig, scorer: ClapScorer, held_out: HeldOut, start: float | None, channels: int
) -> Curve:
    settings, stored = job.plan.settings, StoredFeatures(job.scratch / "train")
    if settings.checkpoint is None:
        set_input_statistics(scorer.model, stored.sample())

    def evaluate(step: int) -> dict[str, float]:
        # Only the first process evaluates; the others wait.
        return {HELD_OUT + key: value for key, value in held_out.figures(scorer).items()} if is_main() else {}

    def windows(rows: list[int]) -> Tensor:
        return torch.stack([stored.row(row) for row in rows]).expand(-1, channels, -1, -1)

    def told(row: int) -> tuple[list[str], str | None]:
        facts = stored.facts(stored.owner(row))
        label = facts["label"]
        return [facts["caption"], *([template_caption(label)] if label is not None else [])], label

    return train_contrastive(
        scorer,
        stored.rows,
        windows,
        told,
        optim,
        seed=job.plan.seed,
        name=NAME,
        equalizer_db=settings.equalizer_db,
        checkpoints=job.store.checkpoints(**job.key),
        evaluate=evaluate,
        best=best_by(HELD_OUT + settings.select_by, start) if held_out.can_judge else None,
    )


class HeldOut:
    """Retrieval on held-out clips; it `can_judge` where there are at least two different texts."""

    def __init__(self, stored: StoredFeatures, channels: int = 1) -> None:
        self._stored, self._channels = stored, channels
        facts = [stored.facts(index) for index in range(len(stored))]
        self._captions: list[str] = [each["caption"] for each in facts]
        labels = [each["label"] for each in facts]
        prompts = [template_caption(label) if label is not None else None for label in labels]
        self._texts: list[str | None] = list(prompts if any(labels) else self._captions)
        self.can_judge = len({text for text in self._texts if text is not None}) > 1

    def figures(self, scorer: ClapScorer) -> dict[str, float]:
        """Retrieval figures against label prompts, or against captions where no clip has a label.

        Where some clips have a label, those without one are left out. Caption figures are added in either case.

        Returns `clips` and the figures of `retrieval_figures`; with two different captions also `caption_auc` and the
        figures of `rank_figures`. Empty without two different texts.
        """
        if not self.can_judge:
            return {}
        clips = (self._stored.clip(index).expand(-1, self._channels, -1, -1) for index in range(len(self._stored)))
        embedded = scorer.embed_features(clips)
        kept = [index for index, text in enumerate(self._texts) if text is not None]
        distinct = sorted({text for text in self._texts if text is not None})
        similarity = embedded[kept] @ scorer.embed_text(distinct).T
        own = [distinct.index(str(self._texts[index])) for index in kept]
        figures = {**retrieval_figures(similarity, own), "clips": float(len(kept))}
        captions = sorted(set(self._captions))
        if len(captions) < 2:
            return figures
        places = {caption: place for place, caption in enumerate(captions)}
        similarity = embedded @ scorer.embed_text(captions).T
        own = [places[caption] for caption in self._captions]
        return {**figures, "caption_auc": matched_auc(similarity, own), **rank_figures(similarity, own)}


def read_windows(features: ClapFeatures, source: ShardClips) -> Iterator[tuple[Tensor, Facts]]:
    """Yield for each clip of a shard its windows (W, 1, frames, mel_bins), and its caption and label."""
    for clip in source.read():
        waveform = resample(to_mono(clip.audio), clip.sample_rate_hz, features.sample_rate_hz)
        windows = features(torch.from_numpy(features.windows(waveform)))
        # Fused checkpoints take the same spectrogram four times.
        yield windows[:, :1], {"caption": clip.caption, "label": clip.label}


def starting_point(settings: PretrainClapConfig, vocabulary: Vocabulary, seed: int) -> ClapScorer:
    """Load and verify the published checkpoint, or build a CLAP with random weights.

    Raises ConfigError: the checkpoint is not available, lacks weights, or is no CLAP with safetensors.
    """
    if settings.checkpoint is None:
        return build_clap(settings.architecture, vocabulary, seed)
    name, revision = settings.checkpoint, settings.revision
    try:
        scorer = ClapScorer.load(locate(name, revision, FILES), device="cpu")
    except DataError as error:
        raise ConfigError(
            f"pretrain_clap.checkpoint {name!r} at revision {revision!r}: {error}. Expected a ClapModel with "
            "safetensors weights; set checkpoint to a name or directory, or to null to train one"
        ) from error
    return _verified(scorer, name)


def _verified(scorer: ClapScorer, name: str) -> ClapScorer:
    """Embed one sound and two texts, which exposes a broken or mismatched checkpoint."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(scorer.sample_rate_hz).astype(np.float32)
    rows = np.concatenate(
        [scorer.embed_audio([noise], scorer.sample_rate_hz), scorer.embed_text([template_caption("rain"), "a violin"])]
    )
    if not np.isfinite(rows).all() or np.abs(np.linalg.norm(rows, axis=1) - 1).max() > 1e-3:
        raise ConfigError(f"checkpoint {name!r} gives no unit-norm embeddings: choose another one")
    if float(rows[1] @ rows[2]) > 0.999:
        raise ConfigError(f"checkpoint {name!r} embeds different texts alike: choose another one")
    return scorer
