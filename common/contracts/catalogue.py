"""Every JSON artifact with its model."""

from __future__ import annotations

from typing import Any

from common.contracts import evaluation, generation, gold, report, training

CONTRACTS: dict[str, Any] = {
    "gold/dataset.json": gold.Dataset,
    "gold/splits.json": gold.Splits,
    "gold/health.json": gold.Health,
    "test/health.json": gold.HeldOutHealth,
    "prompts/captions.json": generation.CaptionAccount,
    "aligned/align.json": generation.AlignAccount,
    "finetuned/finetune.json": dict[int, generation.Finetuning],
    "accepted/filter.json": generation.FilterAccount,
    "classifiers/selection.json": training.Selection,
    "classifiers/learners.json": training.Learners,
    "classifiers/delivered.json": training.Delivery,
    "classifiers/seconds.json": training.Seconds,
    "classifiers/failures.json": list[training.Failure],
    "evaluation/evaluation.json": evaluation.Evaluation,
    "results/report.json": report.Report,
}
"""By artifact and file, in the order of a run."""
