"""Learners on clips that tell little, or on which one of them fails: the stage goes on and delivers a classifier."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import components.train_classifier.learner_kinds as kinds
from common.classifier.model import build_classifier, save_classifier
from common.config.classifier import ASTArchitecture
from common.config.methods import METHODS
from common.learners.opened import open_classifier
from components.train_classifier.run import run
from tests.kit.clips import gold_clip
from tests.kit.gold import write_gold
from tests.kit.models import AST_ARCHITECTURE, write_clap
from tests.kit.sounds import CLASS_LABELS, RATE, class_sound

Sound = Callable[[int, np.random.Generator], np.ndarray]
LEARNERS = ("probe", "probe_clap", "few_shot_clap", "stats", "cnn")


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "clap"
    write_clap(folder, steps=2)
    return folder


def deliver(
    folder: Path,
    clap: Path,
    counts: Mapping[str, tuple[int, int, int]],
    sound: Sound = class_sound,
    architecture: ASTArchitecture = AST_ARCHITECTURE,
) -> dict[str, Any]:
    """Train all learners on gold clips; returns figures, failures, and what is delivered.

    Args:
        counts: clips of each class for training and for validation.
        sound: of a class.
    """
    save_classifier(build_classifier(architecture, ["x", "y"], -6.0, 3.0, seed=1), folder / "ast")
    draws, clips, audio = np.random.default_rng(0), [], {}
    parts: dict[str, list[str]] = {}
    for part, numbers in counts.items():
        parts[part] = [f"{part}{label}-{i}" for label, number in enumerate(numbers) for i in range(number)]
    for clip_id in [*parts["train"], *parts["val"]]:
        label = int(clip_id.split("-")[0][-1])
        audio[clip_id] = sound(label, draws)
        clips.append(gold_clip(clip_id, CLASS_LABELS[label], label, duration_s=len(audio[clip_id]) / RATE))
    write_gold(folder / "gold", clips, audio, {0: parts})
    for name in ("vanilla", "accepted"):
        (folder / name / "clips").mkdir(parents=True)
        (folder / name / "clips" / "metadata.jsonl").write_text("")
    optim = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "record_every": 2, "evaluate_every": 2}
    asked = {"names": ["ast", *LEARNERS, "blend"], "splits": 1, "cnn_steps": 2}
    run(
        *(str(folder / name) for name in ("ast", "gold", "vanilla", "accepted", "out", "metrics.json")),
        config={
            "settings": {"optim": optim, "oracle_steps": 4, "learners": asked},
            "replicates": [0],
            "methods": {"gold": METHODS["gold"].model_dump(mode="json")},
            "augmentation_factors": [1],
            "rounds": 0,
        },
        code_version="v1",
        retrieved_path=str(folder / "vanilla"),
        corpus_path=str(folder / "vanilla"),
        clap_path=str(clap),
    )
    told = {name: json.loads((folder / "out" / f"{name}.json").read_text()) for name in ("learners", "failures")}
    opened = open_classifier(folder / "out" / "delivered")
    heard = opened.probabilities([sound(label, draws) for label in range(3)], RATE)
    assert np.isfinite(heard).all() and heard.sum(axis=1) == pytest.approx(1, abs=1e-6)
    return {**told, "heard": heard}


def silent_third(label: int, draws: np.random.Generator) -> np.ndarray:
    return np.zeros(7000, np.float32) if label == 2 else class_sound(label, draws)


def always_the_same(_: int, __: np.random.Generator) -> np.ndarray:
    return class_sound(0, np.random.default_rng(7))


def always_constant(_: int, __: np.random.Generator) -> np.ndarray:
    return np.full(7000, 0.25, np.float32)


@pytest.mark.parametrize(
    ("counts", "sound"),
    [
        pytest.param({"train": (3, 3, 1), "val": (2, 2, 1)}, class_sound, id="one clip in a class"),
        pytest.param({"train": (3, 3, 3), "val": (2, 2, 0)}, class_sound, id="a class without validation clips"),
        pytest.param({"train": (3, 3, 3), "val": (2, 2, 2)}, silent_third, id="a silent class"),
        pytest.param({"train": (3, 3, 3), "val": (2, 2, 2)}, always_the_same, id="all clips equal"),
        pytest.param({"train": (3, 3, 3), "val": (2, 2, 2)}, always_constant, id="constant clips, constant features"),
        pytest.param({"train": (1, 1, 1), "val": (1, 1, 1)}, class_sound, id="one clip in every class"),
    ],
)
def test_every_learner_copes(tmp_path: Path, clap: Path, counts: dict[str, tuple[int, int, int]], sound: Sound) -> None:
    told = deliver(tmp_path, clap, counts, sound)
    assert told["failures"] == []
    assert {name.split("/")[0] for name in told["learners"]} == {"ast", *LEARNERS, "blend"}
    assert all(np.isfinite(row["calibrated_loss"]) for row in told["learners"].values())


def test_a_silent_class_is_told_from_the_others(tmp_path: Path, clap: Path) -> None:
    told = deliver(tmp_path, clap, {"train": (4, 4, 4), "val": (4, 4, 4)}, silent_third)
    assert told["heard"].argmax(axis=1).tolist() == [0, 1, 2]


def test_an_encoder_of_another_rate_hears_resampled_clips(tmp_path: Path, clap: Path) -> None:
    half = AST_ARCHITECTURE.model_copy(update={"sample_rate_hz": RATE // 2})
    told = deliver(tmp_path, clap, {"train": (3, 3, 3), "val": (2, 2, 2)}, architecture=half)
    assert told["failures"] == []
    assert {name.split("/")[0] for name in told["learners"]} == {"ast", *LEARNERS, "blend"}


def test_a_learner_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, clap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(kinds, "fit_discriminant", fail)
    told = deliver(tmp_path, clap, {"train": (3, 3, 3), "val": (2, 2, 2)})
    (row,) = told["failures"]
    assert (row["method"], row["seed"]) == ("stats on gold", 0) and "Singular matrix" in row["error"]
    assert {name.split("/")[0] for name in told["learners"]} == {"ast", *LEARNERS, "blend"} - {"stats"}
