"""Fine-tune CLAP on the gold clips of one replicate, and keep it only if validation clips gain."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from common.clap.scorer import ClapScorer
from common.clap.training import retrieval_figures, train_contrastive, window_features
from common.config.base import OptimConfig
from common.text import normalize_label, template_caption


def label_captions(label: str) -> list[str]:
    """Wordings of a label; the first is the prompt of scoring."""
    name = normalize_label(label)
    return [template_caption(label), template_caption(label), f"the sound of a {name}", f"a {name}", name]


def label_figures(
    scorer: ClapScorer,
    clips: Iterable[np.ndarray],
    label_ids: Sequence[int],
    labels: Sequence[str],
    sample_rate_hz: int,
) -> dict[str, float]:
    """How well label prompts are told apart on clips; see `retrieval_figures`. Empty without clips."""
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
    equalizer_db: float = 0.0,
    checkpoint_dir: Path | None = None,
) -> tuple[ClapScorer, list[dict[str, float]]]:
    """A fine-tuned copy of a CLAP.

    Args:
        scorer: left as it is.
        clips: gold training clips, mono (T,).
        labels: of the clips.
        sample_rate_hz: of the clips.
        optim: steps, rate, schedule.
        seed: enters every draw.
        equalizer_db: see `common.clap.training.equalized`.
        checkpoint_dir: where unfinished work is kept.

    Returns:
        The copy and the curve of its training.
    """
    tuned = ClapScorer(copy.deepcopy(scorer.model), scorer.tokenizer, scorer.extractor, scorer.batch_size)
    features, owners = window_features(tuned, clips, sample_rate_hz)
    captions = [label_captions(labels[owner]) for owner in owners]
    curve = train_contrastive(
        tuned,
        features,
        captions,
        [labels[owner] for owner in owners],
        optim,
        seed=seed,
        name="finetune_clap",
        equalizer_db=equalizer_db,
        checkpoint_dir=checkpoint_dir,
    )
    return tuned, curve


def is_better(before: dict[str, float], after: dict[str, float]) -> bool:
    """Whether fine-tuning raised the validation AUC; without validation clips nothing shows that it did."""
    return bool(before) and bool(after) and after["auc"] > before["auc"]
