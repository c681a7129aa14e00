"""Train and judge a CLAP on the captioned corpus, in one process or several."""

from __future__ import annotations

import torch

from common.clap.model import set_input_statistics
from common.clap.scorer import ClapScorer
from common.clap.training import train_contrastive
from common.clip_features import StoredFeatures, audio_shards, write_features
from common.config.clap import PretrainClapPlan
from common.corpus import Corpus
from common.corpus_job import CorpusJob
from common.errors import ConfigError, DataError
from common.storage import write_json
from common.training import Curve, best_by, is_main, launch
from common.training.launch import default_processes
from components.pretrain_clap.features import ClipReader, StoredLabels, StoredTexts, StoredWindows
from components.pretrain_clap.held_out import HeldOut
from components.pretrain_clap.start import starting_point

NAME = "pretrain_clap"
HELD_OUT = "heldout_"
"""What the names of held-out figures begin with in the curve."""


Job = CorpusJob[PretrainClapPlan]


def pretrain(job: Job, processes: int | None = None) -> None:
    """Write a CLAP and its `training.json` to the job's folder: trained, or the checkpoint as it is.

    The corpus's features are made first, in bounded memory and once; a killed run goes on where it was.

    Args:
        job: see `CorpusJob`.
        processes: that train together; default: one per GPU.

    Raises:
        ConfigError: the checkpoint is unfit, or the batch cannot be split over the processes.
        DataError: a shard is damaged.
        Interrupted: SIGTERM came; a checkpoint is stored.
    """
    settings, scratch = job.plan.settings, job.scratch
    # A bad checkpoint shows before anything is computed.
    reader = ClipReader(starting_point(settings, Corpus(job.corpus_dir).vocabulary(), job.plan.seed).features)
    if settings.optim is not None:
        shards = audio_shards(job.corpus_dir, "train", settings.max_clips)
        if not write_features(scratch / "train", shards, reader, settings.feature_precision).rows:
            raise DataError(f"{job.corpus_dir}: no audio to train on; run prepare_corpus with keep_audio: true")
    held_out = audio_shards(job.corpus_dir, "heldout", settings.max_heldout_clips)
    write_features(scratch / "heldout", held_out, reader)
    launch(train, job, processes or default_processes())


def train(job: Job) -> None:
    """The part of one process in `pretrain`."""
    settings = job.plan.settings
    scorer = starting_point(settings, Corpus(job.corpus_dir).vocabulary(), job.plan.seed)
    if torch.cuda.is_available():
        scorer.model.to("cuda")
    channels = 4 if scorer.extractor.truncation == "fusion" else 1
    held_out = HeldOut(StoredFeatures(job.scratch / "heldout"), channels)
    before = held_out.figures(scorer) if settings.checkpoint is not None else {}
    curve, after = Curve(), before
    if settings.optim is not None:
        curve = _train(job, scorer, held_out, before.get(settings.select_by), channels)
        if curve.best_step:
            row = next(row for row in curve if row["step"] == curve.best_step)
            after = {key.removeprefix(HELD_OUT): value for key, value in row.items() if key.startswith(HELD_OUT)}
    if is_main():
        scorer.save(job.folder)
        origin = {"checkpoint": settings.checkpoint, "revision": settings.revision}
        best_step = curve.best_step if curve else 0
        figures = {"heldout_before": before, "heldout": after, "best_step": best_step}
        write_json(job.folder / "training.json", {**origin, **figures, "curve": curve})


def _train(job: Job, scorer: ClapScorer, held_out: HeldOut, start: float | None, channels: int) -> Curve:
    settings = job.plan.settings
    if settings.optim is None:
        raise ConfigError("pretrain_clap.optim is null: there is nothing to train")
    stored = StoredFeatures(job.scratch / "train")
    if settings.checkpoint is None:
        set_input_statistics(scorer.model, stored.sample())

    def evaluate(step: int) -> dict[str, float]:
        # The others wait: only the first process's figures count.
        return {HELD_OUT + key: value for key, value in held_out.figures(scorer).items()} if is_main() else {}

    return train_contrastive(
        scorer,
        StoredWindows(stored, channels),
        StoredTexts(stored, settings.use_labels),
        StoredLabels(stored, settings.use_labels),
        settings.optim,
        seed=job.plan.seed,
        name=NAME,
        equalizer_db=settings.equalizer_db,
        checkpoints=job.store.checkpoints(**job.key),
        evaluate=evaluate,
        best=best_by(HELD_OUT + settings.select_by, start) if held_out.can_judge else None,
    )
