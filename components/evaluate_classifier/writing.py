"""Output files of the stage: predictions, and the selected classifier with its model card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from common.config.evaluation import EvaluateClassifierPlan
from common.learners.opened import set_threshold
from common.storage import read_json, write_text
from components.evaluate_classifier.comparison import Predictions
from components.evaluate_classifier.inputs import Inputs
from components.evaluate_classifier.model_card import model_card


def write_predictions(path: Path, inputs: Inputs, predictions: Predictions) -> None:
    """Write probabilities as `<method>/<seed>`, with labels, clip ids and truth; plain arrays, no pickles."""
    clips = inputs.test.records
    arrays = {
        f"{name}/{seed}": values.astype(np.float32) for name, arm in predictions.items() for seed, values in arm.items()
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
    target: Path, classifiers: Path, gold: Path, evaluation: dict[str, Any], plan: EvaluateClassifierPlan
) -> None:
    """Write the classifier chosen on validation, with its model card.

    Args:
        target: new folder.
        classifiers: artifact of train_classifier.
        gold: artifact with the dataset's facts and splits.
        evaluation: content of evaluation.json.
    """
    chosen = evaluation["selected"]
    shutil.copytree(classifiers / chosen["method"] / str(chosen["seed"]), target, dirs_exist_ok=True)
    if "threshold" in chosen:
        set_threshold(target, chosen["threshold"])
    splits = read_json(gold / "splits.json")["replicates"][str(chosen["seed"])]
    window_s = read_json(target / "preprocessor_config.json")["max_length"] / 100
    card = model_card(
        evaluation,
        read_json(gold / "dataset.json"),
        {"n_train": len(splits["train"]), "n_val": len(splits["val"])},
        window_s,
        synthetic=plan.methods[chosen["method"]].recipe is not None,
        use=plan.use,
        licences=plan.licences,
    )
    write_text(target / "README.md", card)
