"""Reads gold and synthetic clips, trains and selects classifiers, writes their directories."""

from pathlib import Path
from typing import Any

from common.config.train_classifier import TrainClassifierPlan
from common.contracts.base import write
from common.errors import DataError
from common.runtime.stage import Figures, stage
from components.train_classifier.delivery import DELIVERED, deliver
from components.train_classifier.inputs import read_inputs
from components.train_classifier.learners import train_learners
from components.train_classifier.selection import mean_scores, selection_of, train_asts
from components.train_classifier.trained import Trained, seconds, write_models


def run(
    classifier_path: str,
    gold_path: str,
    vanilla_path: str,
    accepted_path: str,
    classifiers_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
    retrieved_path: str,
    corpus_path: str,
    clap_path: str,
) -> Figures:
    """Train every method in every replicate; `component.py` describes the arguments.

    Writes `<method>/<replicate>/` (model directories), `oracle/`, `learners/<learner>/<method>/<replicate>/`, what they
    hear through beside the run's own models (`encoders/<learner>/`), `delivered/` (the best pair of learner and method,
    trained on all labelled clips), and what is known of them: `selection.json`, `learners.json`, `delivered.json`,
    `seconds.json`, `failures.json`. The test split is no input of this stage.

    Raises:
        ConfigError: the selection figure does not suit the dataset's labels.
        DataError: the inputs do not fit each other, or every training failed.
    """
    plan = TrainClassifierPlan.model_validate(config)
    clips = {"vanilla": vanilla_path, "accepted": accepted_path, "retrieved": retrieved_path}
    # The corpus is not verified here: it checks the hash of each shard that it opens.
    artifacts = {"classifier": classifier_path, "gold": gold_path, "clap": clap_path, **clips}
    with stage("train_classifier", config, metrics_path, {"classifiers": classifiers_path}, artifacts) as running:
        folders = {name: Path(path) for name, path in clips.items()}
        models = Path(classifier_path), Path(clap_path)
        inputs = read_inputs(*models, Path(gold_path), folders, Path(corpus_path), plan, code_version)
        trained, folder = Trained(), Path(classifiers_path)
        train_asts(inputs, trained)
        train_learners(inputs, trained)
        write(folder / "failures.json", trained.failures)
        if not trained.chosen:
            first = trained.failures[0]
            raise DataError(f"no classifier was trained; the first failure, of {first.method}: {first.error}")
        selection = selection_of(inputs, trained)
        write(folder / "learners.json", write_models(inputs, trained, folder))
        write(folder / "seconds.json", seconds(trained))
        write(folder / "selection.json", selection)
        write(folder / "delivered.json", deliver(inputs, trained, folder / DELIVERED))
        running.record({"classifiers": len(trained.chosen), "failures": len(trained.failures)})
        running.record(mean_scores(selection))
    return running.figures
