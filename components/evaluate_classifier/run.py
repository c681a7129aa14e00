"""Reads classifiers and clips, evaluates on the test split, writes the evaluation and the delivered classifier."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from common.config.evaluation import EvaluateClassifierPlan
from common.contracts.base import read, write
from common.contracts.evaluation import Evaluation
from common.contracts.gold import Dataset
from common.errors import failure_text
from common.learners.opened import set_threshold
from common.runtime.stage import Figures, stage
from common.runtime.work import obtain_all, perform
from common.storage import read_json, write_text
from components.evaluate_classifier.comparison import DELIVERED_MODEL, Predictions
from components.evaluate_classifier.evaluation import evaluate
from components.evaluate_classifier.inputs import DELIVERED, Inputs, read_inputs
from components.evaluate_classifier.model_card import model_card


def run(
    classifiers_path: str,
    gold_path: str,
    test_path: str,
    vanilla_path: str,
    accepted_path: str,
    retrieved_path: str,
    clap_path: str,
    evaluation_path: str,
    classifier_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
) -> Figures:
    """Evaluate all classifiers on the test split; arguments as in `component.py`.

    Writes `evaluation.json` with the test split's health, and `predictions.npz`, to `evaluation_path`;
    the delivered classifier, with a model card, to `classifier_path`.

    Raises:
        DataError: the inputs do not match each other, or nothing was trained.
    """
    plan = EvaluateClassifierPlan.model_validate(config)
    classifiers, gold, test = Path(classifiers_path), Path(gold_path), Path(test_path)
    outputs = {"evaluation": evaluation_path, "classifier": classifier_path}
    clips = {"vanilla": vanilla_path, "accepted": accepted_path, "retrieved": retrieved_path}
    artifacts = {"classifiers": classifiers_path, "gold": gold_path, "test": test_path, "clap": clap_path, **clips}
    with stage("evaluate_classifier", config, metrics_path, outputs, artifacts) as running:
        folders = {name: Path(path) for name, path in clips.items()}
        inputs = read_inputs(classifiers, gold, test, folders, Path(clap_path), plan, code_version)
        evaluation, predictions = evaluate(inputs, plan, _work(inputs))
        write(Path(evaluation_path) / "evaluation.json", evaluation)
        _write_predictions(Path(evaluation_path) / "predictions.npz", inputs, predictions)
        _write_classifier(Path(classifier_path), classifiers, gold, evaluation, plan)
        running.record({f"{evaluation.figure}_{name}": row.score.mean for name, row in evaluation.methods.items()})
        running.record({"test_clips": evaluation.test.clips, "leaked_test_clips": evaluation.leaks.test_clips})
    return running.figures


def _work(inputs: Inputs) -> dict[tuple[str, int], str]:
    """Run all tasks; returns the errors of failed predictions."""
    # Embeddings come first: some learners hear through the same CLAP.
    obtain_all(dict(enumerate(task for tasks in inputs.embed.values() for task in tasks)))
    oracle = {(f"oracle on {name}", 0): task for name, task in inputs.oracle.items()}
    works = {**inputs.predict, **oracle, DELIVERED_MODEL: inputs.delivered[1]}
    return {name: failure_text(error) for name, error in perform(works).failures.items()}


def _write_predictions(path: Path, inputs: Inputs, predictions: Predictions) -> None:
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


def _write_classifier(
    target: Path, classifiers: Path, gold: Path, evaluation: Evaluation, plan: EvaluateClassifierPlan
) -> None:
    """Write the delivered classifier, with its model card."""
    told = evaluation.delivered
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
