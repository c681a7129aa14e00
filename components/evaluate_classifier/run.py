"""Reads classifiers and clips, evaluates on the test split, writes the evaluation and the delivered classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.config.evaluation import EvaluateClassifierPlan
from common.contracts.base import write
from common.errors import failure_text
from common.runtime.stage import stage
from common.runtime.work import obtain_all, perform
from components.evaluate_classifier.comparison import DELIVERED_MODEL
from components.evaluate_classifier.evaluation import evaluate
from components.evaluate_classifier.inputs import Inputs, read_inputs
from components.evaluate_classifier.writing import write_classifier, write_predictions


def run(
    classifiers_path: str,
    gold_path: str,
    test_path: str,
    vanilla_path: str,
    accepted_path: str,
    clap_path: str,
    evaluation_path: str,
    classifier_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
    retrieved_path: str | None = None,
) -> dict[str, float | int | str]:
    """Evaluate all classifiers on the test split; arguments as in `component.py`.

    Writes `evaluation.json` with the test split's health, and `predictions.npz`, to `evaluation_path`;
    the delivered classifier, with a model card, to `classifier_path`.

    Raises:
        DataError: the inputs do not match each other, or nothing was trained.
    """
    plan = EvaluateClassifierPlan.model_validate(config)
    classifiers, gold, test = Path(classifiers_path), Path(gold_path), Path(test_path)
    outputs = {"evaluation": evaluation_path, "classifier": classifier_path}
    clips = {"vanilla": vanilla_path, "accepted": accepted_path}
    if retrieved_path is not None:
        clips["retrieved"] = retrieved_path
    artifacts = {"classifiers": classifiers_path, "gold": gold_path, "test": test_path, "clap": clap_path, **clips}
    with stage("evaluate_classifier", config, metrics_path, outputs, artifacts) as running:
        folders = {name: Path(path) for name, path in clips.items()}
        inputs = read_inputs(classifiers, gold, test, folders, Path(clap_path), plan, code_version)
        evaluation, predictions = evaluate(inputs, plan, _work(inputs))
        write(Path(evaluation_path) / "evaluation.json", evaluation)
        write_predictions(Path(evaluation_path) / "predictions.npz", inputs, predictions)
        write_classifier(Path(classifier_path), classifiers, gold, evaluation, plan)
        running.record({f"{evaluation.figure}_{name}": row.score.mean for name, row in evaluation.methods.items()})
        running.record({"test_clips": evaluation.test.clips, "leaked_test_clips": evaluation.leaks.test_clips})
    return running.figures


def _work(inputs: Inputs) -> dict[tuple[str, int], str]:
    """Run all tasks; returns the errors of failed predictions."""
    # Embeddings come first: some learners hear through the same CLAP.
    obtain_all(dict(enumerate(task for tasks in inputs.embed.values() for task in tasks)))
    works = {
        **{("test", name): task for name, task in inputs.predict.items()},
        **{("validation", name): task for name, task in inputs.validate.items()},
        **{("test", (f"oracle on {name}", 0)): task for name, task in inputs.oracle.items()},
        ("test", DELIVERED_MODEL): inputs.delivered[1],
    }
    return {name: failure_text(error) for (_, name), error in perform(works).failures.items()}
