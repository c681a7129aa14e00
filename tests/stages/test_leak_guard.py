"""Nothing of the test split reaches what is trained: seen from files to figures, over the three stages of the data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from common.classifier.model import build_classifier, save_classifier
from common.config.dataset import DatasetSpec, PrepareDatasetPlan
from common.config.methods import METHODS
from common.errors import DataError
from common.storage import read_json
from components.evaluate_classifier.run import run as evaluate
from components.prepare_dataset.run import run as prepare
from components.train_classifier.run import run as train
from tests.kit.gold import write_synthetic
from tests.kit.models import AST_ARCHITECTURE, write_clap

RATE = 16000
LABELS = ["bell", "noise", "siren"]
PER_CLASS = {"train": 18, "test": 30}
REPLICATES = (0, 1, 2)
LEARNERS = ("ast", "stats")
"""One that is trained in steps, and one that splits of the labelled clips choose the settings of."""


def sound(label_id: int, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(7000) / RATE
    pitch = [300, 0, 900][label_id] * rng.uniform(0.9, 1.1)
    tone = 0.3 * np.sin(2 * np.pi * pitch * time * (1 + (label_id == 2) * time))
    return 0.02 * (10 if label_id == 1 else 1) * rng.standard_normal(len(time)) + tone


def write_dataset(folder: Path, shuffled: bool) -> DatasetSpec:
    """Three classes told apart with ease; where `shuffled`, each training label goes to as many clips of each class."""
    folder.mkdir()
    lines = ["path,label,split"]
    for split, count in PER_CLASS.items():
        for label_id in range(3):
            for index in range(count):
                name = f"{split}{label_id}-{index}.wav"
                rng = np.random.default_rng((len(split), label_id, index, 1))
                soundfile.write(folder / name, sound(label_id, rng), RATE)
                listed = index % 3 if shuffled and split == "train" else label_id
                lines.append(f"{name},{LABELS[listed]},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return DatasetSpec(name="own", labels=folder / "labels.csv")


def prepared(folder: Path, shuffled: bool) -> None:
    spec = write_dataset(folder / "data", shuffled)
    plan = PrepareDatasetPlan.model_validate(
        {"settings": {"storage_sample_rate_hz": RATE}, "dataset": spec, "n": 36, "replicates": REPLICATES}
    )
    paths = [str(folder / name) for name in ("gold", "test", "prepared.json")]
    prepare(*paths, config=json.loads(plan.model_dump_json()), code_version="c")


def trained(folder: Path, gold: Path) -> None:
    save_classifier(build_classifier(AST_ARCHITECTURE, ["x", "y"], -6.0, 3.0, seed=1), folder / "start")
    for name in ("vanilla", "accepted", "retrieved"):
        write_synthetic(folder / name, [], {})
    optim = {"steps": 80, "batch_size": 12, "learning_rate": 5e-3, "record_every": 20, "evaluate_every": 20}
    config: dict[str, Any] = {
        "settings": {"optim": optim, "oracle_steps": 10, "learners": {"names": LEARNERS, "splits": 1}},
        "replicates": list(REPLICATES),
        "methods": {"gold": METHODS["gold"].model_dump(mode="json")},
        "augmentation_factors": [2],
        "rounds": 0,
    }
    inputs = [str(path) for path in (folder / "start", gold, folder / "vanilla", folder / "accepted")]
    unread = dict.fromkeys(("retrieved_path", "corpus_path", "clap_path"), inputs[2])
    train(*inputs, str(folder / "classifiers"), str(folder / "trained.json"), config=config, code_version="c", **unread)


def accuracies(folder: Path) -> dict[str, float]:
    """Accuracy of each learner on the test clips."""
    write_clap(folder / "clap")
    inputs = [
        str(folder / name) for name in ("classifiers", "gold", "test", "vanilla", "accepted", "retrieved", "clap")
    ]
    outputs = [str(folder / name) for name in ("evaluation", "classifier", "evaluated.json")]
    methods = {"gold": METHODS["gold"].model_dump(mode="json")}
    config: dict[str, Any] = {"settings": {"resamples": 200}, "replicates": list(REPLICATES), "methods": methods}
    evaluate(*inputs, *outputs, config=config, code_version="c")
    found = read_json(folder / "evaluation" / "evaluation.json")
    assert found["test"]["clips"] == 3 * PER_CLASS["test"]
    assert found["methods"]["gold"]["accuracy"] == found["learners"]["ast"]["gold"]["accuracy"]
    return {learner: float(found["learners"][learner]["gold"]["accuracy"]["mean"]) for learner in LEARNERS}


def test_shuffled_training_labels_give_chance_and_true_ones_do_not(tmp_path: Path) -> None:
    found = {}
    for name in ("shuffled", "true"):
        folder = tmp_path / name
        folder.mkdir()
        prepared(folder, shuffled=name == "shuffled")
        trained(folder, folder / "gold")
        found[name] = accuracies(folder)
    # Replicates are judged on the same clips, so these count once: 99.9 % of a binomial.
    clips = 3 * PER_CLASS["test"]
    interval = 3.3 * math.sqrt((1 / 3) * (2 / 3) / clips)
    for learner in LEARNERS:
        assert abs(found["shuffled"][learner] - 1 / 3) < interval
        assert found["true"][learner] > 1 / 3 + 2 * interval


def test_training_on_the_test_split_stops_the_stage(tmp_path: Path) -> None:
    prepared(tmp_path, shuffled=False)
    for name in ("splits.json", "health.json"):
        (tmp_path / "test" / name).write_bytes((tmp_path / "gold" / name).read_bytes())
    (tmp_path / "test" / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match="test split, and train_classifier is not evaluate_classifier"):
        trained(tmp_path, tmp_path / "test")
