"""Output files of the stage: predictions, and the delivered classifier with its model card."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from common.config.evaluation import EvaluateClassifierPlan
from common.contracts.base import read
from common.contracts.evaluation import Evaluation
from common.contracts.gold import Dataset
from common.errors import DataError
from common.learners.opened import set_threshold
from common.storage import read_json, write_text
from components.evaluate_classifier.comparison import Predictions
from components.evaluate_classifier.inputs import DELIVERED, Inputs
from components.evaluate_classifier.model_card import model_card


def write_predictions(path: Path, inputs: Inputs, predictions: Predictions) -> None:
    """Write probabilities as `<method>/<replicate>`, with labels, clip ids and truth; plain arrays, no pickles."""
    clips = inputs.test.records
    arrays = {
        f"{name}/{replicate}": values.astype(np.float32)
        for name, arm in predictions.items()
        for replicate, values in arm.items()
    }
    np.savez(
        path,
        allow_pickle=False,
        labels=np.array(inputs.labels),
        clip_id=np.array([clip.clip_id for clip in clips]),
        label_id=np.array([clip.label_id for clip in clips]),
        **({"truth": inputs.truth(clips)} if inputs.gold.multi_label else {}),
        **arrays,
    )


def write_classifier(
    target: Path, classifiers: Path, gold: Path, evaluation: Evaluation, plan: EvaluateClassifierPlan
) -> None:
    """Write the delivered classifier, with its model card.

    Args:
        gold: artifact with the dataset's facts and splits.

    Raises DataError: the delivered classifier could not be evaluated.
    """
    told = evaluation.delivered
    if told is None:
        failed = next(row.error for row in evaluation.failures if row.method == DELIVERED)
        raise DataError(f"the delivered classifier could not be evaluated: {failed}")
    shutil.copytree(classifiers / DELIVERED, target, dirs_exist_ok=True)
    if told.threshold is not None:
        set_threshold(target, told.threshold)
    transformers = (target / "config.json").is_file()
    card = model_card(
        evaluation,
        told,
        read(Dataset, gold / "dataset.json"),
        transformers=transformers,
        peak_dbfs=read_json(target / "preprocessor_config.json").get("peak_dbfs") if transformers else None,
        synthetic=plan.methods[told.method].recipe is not None,
        use=plan.use,
        licences=plan.licences,
    )
    write_text(target / "README.md", card)
