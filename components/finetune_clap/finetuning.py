"""The idea of the stage: fine-tune CLAP on the gold clips of a replicate, and keep it only if validation AUC gains.

Each gold clip is paired with several wordings of its label; training is contrastive. Read next:
`common/clap/training.py` (the training), `run.py` (one item per replicate, or plain copies if the stage is disabled).
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from common.clap.figures import retrieval_figures
from common.clap.scorer import ClapScorer
from common.clap.training import train_contrastive, window_features
from common.config.base import OptimConfig
from common.config.clap import FinetuneClapConfig
from common.contracts.base import write
from common.contracts.generation import Finetuning
from common.records.gold import GoldSet
from common.records.text import normalize_label, template_caption
from common.runtime.work import Task
from common.storage.artifacts import artifact_hash
from common.storage.checkpoints import Checkpoints
from common.storage.items import ItemStore
from common.training import Curve, best_by

VALIDATION = "val_"
"""Prefix of validation figures in the curve."""


def label_captions(label: str) -> list[str]:
    """Wordings of a label; the first is the prompt used for scoring."""
    name = normalize_label(label)
    return [template_caption(label), template_caption(label), f"the sound of a {name}", f"a {name}", name]


def label_figures(
    scorer: ClapScorer,
    clips: Iterable[np.ndarray],
    label_ids: Sequence[int],
    labels: Sequence[str],
    sample_rate_hz: int,
) -> dict[str, float]:
    """Retrieval figures of label prompts on clips (see `retrieval_figures`); empty without clips."""
    if not label_ids:
        return {}
    prompts = scorer.embed_text([template_caption(label) for label in labels])
    return retrieval_figures(scorer.embed_audio(clips, sample_rate_hz) @ prompts.T, label_ids)


def tune(
    scorer: ClapScorer,
    clips: Sequence[np.ndarray],
    labels: Sequence[str],
    sample_rate_hz: int,
    optim: OptimConfig,
    *,
    seed: int,
    judge: Callable[[ClapScorer], dict[str, float]],
    equalizer_db: float = 0.0,
    checkpoints: Checkpoints | None = None,
) -> tuple[ClapScorer, Curve, dict[str, float], dict[str, float]]:
    """Fine-tune a copy of a CLAP; keeps the best evaluation, or the original weights if none is better.

    Args:
        clips: gold training clips, mono (T,).
        optim: steps, rate, schedule; `judge` runs every `evaluate_every` steps and at the end.
        judge: figures on validation clips; `auc` decides. Without figures the original weights are kept.
        equalizer_db: strength of random equalisers; see `common.clap.training.equalizer_gains`.

    Returns:
        The copy, its training curve (`best_step` 0 = original weights), the figures before, and the figures
        after: those of the best evaluation, or of the last one if none was better than before.
    """
    before = judge(scorer)
    tuned = ClapScorer(copy.deepcopy(scorer.model), scorer.tokenizer, scorer.extractor, scorer.batch_size)
    features, owners = window_features(tuned, clips, sample_rate_hz)

    def evaluate(step: int) -> dict[str, float]:
        tuned.model.eval()
        return {VALIDATION + key: value for key, value in judge(tuned).items()}

    curve = train_contrastive(
        tuned,
        len(features),
        features.__getitem__,
        lambda row: (label_captions(labels[owners[row]]), labels[owners[row]]),
        optim,
        seed=seed,
        name="finetune_clap",
        equalizer_db=equalizer_db,
        checkpoints=checkpoints,
        evaluate=evaluate,
        best=best_by(VALIDATION + "auc", before.get("auc")) if before else lambda rows: 0,
    )
    row = curve.best if curve.best_step else curve[-1]
    after = {key.removeprefix(VALIDATION): value for key, value in row.items() if key.startswith(VALIDATION)}
    return tuned, curve, before, after


def finetuning(replicate: int, settings: FinetuneClapConfig, clap: Path, gold: Path, store: ItemStore) -> Task:
    """Fine-tuning for one replicate; the item has `clap/` and `figures.json`."""
    hashes = {"clap": artifact_hash(clap), "gold": artifact_hash(gold)}
    key = {**hashes, "settings": settings.model_dump(), "replicate": replicate}
    return Task(store, key, partial(_make, replicate, settings, clap, gold, store.checkpoints(**key)))


def _make(
    replicate: int, settings: FinetuneClapConfig, clap: Path, gold_dir: Path, checkpoints: Checkpoints, folder: Path
) -> None:
    scorer, gold = ClapScorer.load(clap), GoldSet(gold_dir)
    rate = scorer.sample_rate_hz
    train, validation = gold.train(replicate), gold.val(replicate)

    def judge(judged: ClapScorer) -> dict[str, float]:
        clips = (gold.load(clip, rate) for clip in validation)
        return label_figures(judged, clips, [clip.label_id for clip in validation], gold.labels, rate)

    tuned, curve, before, after = tune(
        scorer,
        [gold.load(clip, rate) for clip in train],
        [clip.label for clip in train],
        rate,
        settings.optim,
        seed=replicate,
        judge=judge,
        equalizer_db=settings.equalizer_db,
        checkpoints=checkpoints,
    )
    tuned.save(folder / "clap")
    figures = {"before": before, "after": after, "best_step": curve.best_step, "curve": curve}
    kept = "finetuned" if curve.best_step else "pretrained"
    write(folder / "figures.json", Finetuning.model_validate({"kept": kept, **figures}))
