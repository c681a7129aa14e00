"""The learners that hear through the run's CLAP, or through encoders of the settings, from training to evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

import components.train_classifier.learner_fitting as fitting
from common.classifier.model import build_classifier, save_classifier
from common.config.methods import METHODS
from common.contracts.base import write
from common.learners.front_ends import FrontEnd, open_encoder
from common.learners.model import load_learner
from common.learners.opened import open_classifier
from common.records.audio_folder import load_clip, read_clips
from common.records.clips import GoldClip
from common.storage import read_json, write_json
from components.evaluate_classifier.run import run as evaluate
from components.train_classifier.job import LearnerJob
from components.train_classifier.run import run as train
from tests.kit.clips import gold_clip, write_audio_folder
from tests.kit.encoders import write_encoder
from tests.kit.figures import TEST_HEALTH
from tests.kit.gold import CLAP_LABELS, clap_gold, clap_synthetic, clap_synthetic_clip, write_dataset
from tests.kit.models import AST_ARCHITECTURE, write_clap
from tests.kit.sounds import CLAP_RATE, clap_sound

REPLICATES = (0, 1)
NAMES = ("gold", "noise", "synthio")
RECIPE = METHODS["synthio"].recipe.name  # type: ignore[union-attr]
LEARNERS = ("probe_clap", "few_shot_clap")


class World(NamedTuple):
    classifier: Path
    gold: Path
    vanilla: Path
    accepted: Path
    retrieved: Path
    clap: Path
    test: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    world = World(*(folder / name for name in World._fields))
    save_classifier(build_classifier(AST_ARCHITECTURE, ["x", "y"], -6.0, 3.0, seed=1), world.classifier)
    write_clap(world.clap, steps=30)
    clap_gold(world.gold)
    write_dataset(world.gold, name="beeps", domain="test sounds")
    clap_synthetic(world.vanilla, [clap_synthetic_clip(x, "none-template-all", 0, 0) for x in CLAP_LABELS])
    clap_synthetic(world.accepted, [clap_synthetic_clip(x, RECIPE, s, 0) for x in CLAP_LABELS for s in REPLICATES])
    clap_synthetic(world.retrieved, [])
    write_test(world.test, 0.0)
    return world


def write_test(folder: Path, gain_db: float) -> None:
    """A test split of 12 clips at another level."""
    clips, audio = [], {}
    for index in range(12):
        label, clip_id = CLAP_LABELS[index % 3], f"t{index:02d}"
        audio[clip_id] = 10 ** (gain_db / 20) * clap_sound(label, np.random.default_rng(500 + index))
        clips.append(gold_clip(clip_id, label, index % 3, duration_s=0.8, sample_rate_hz=CLAP_RATE))
    write_audio_folder(folder, clips, audio, CLAP_RATE)
    write_json(folder / "labels.json", CLAP_LABELS)
    write(folder / "health.json", TEST_HEALTH)


def trained(
    world: World,
    out: Path,
    clap: Path,
    learners: tuple[str, ...],
    methods: tuple[str, ...] = ("gold",),
    encoders: Mapping[str, Path] = MappingProxyType({}),
) -> Path:
    optim = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "record_every": 2, "evaluate_every": 2}
    asked: dict[str, Any] = {"names": list(learners), "splits": 1, "synthetic_weights": [0, 1]}
    asked["encoders"] = {name: {"checkpoint": str(folder)} for name, folder in encoders.items()}
    config: dict[str, Any] = {
        "settings": {"optim": optim, "oracle_steps": 2, "noise": {"copies": 1}, "learners": asked},
        "replicates": list(REPLICATES),
        "methods": {name: METHODS[name].model_dump(mode="json") for name in methods},
        "augmentation_factors": [1],
        "rounds": 0,
    }
    inputs = [str(path) for path in world[:4]]
    folders = {"retrieved_path": str(world.retrieved), "corpus_path": str(world.retrieved), "clap_path": str(clap)}
    train(*inputs, str(out), str(out) + ".json", config=config, code_version="c", **folders)
    return out


@pytest.fixture(scope="module")
def classifiers(built: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHIO_STORE", str(folder / "store"))
        return trained(built, folder / "classifiers", built.clap, LEARNERS, NAMES)


def predictions(world: World, classifiers: Path, out: Path, names: tuple[str, ...] = NAMES) -> dict[str, np.ndarray]:
    clips = world.vanilla, world.accepted, world.retrieved
    inputs = [str(path) for path in (classifiers, world.gold, world.test, *clips, world.clap)]
    methods = {name: METHODS[name].model_dump(mode="json") for name in names}
    config = {"settings": {"resamples": 200}, "replicates": list(REPLICATES), "methods": methods}
    outputs = [str(out / name) for name in ("evaluation", "classifier", "evaluated.json")]
    evaluate(*inputs, *outputs, config=config, code_version="c")
    with np.load(out / "evaluation" / "predictions.npz", allow_pickle=False) as found:
        return dict(found)


def test_both_learn_from_every_methods_clips_and_are_right_on_the_test_clips_at_any_level(
    built: World, classifiers: Path, tmp_path: Path
) -> None:
    figures = read_json(classifiers / "learners.json")
    assert read_json(classifiers / "failures.json") == []
    for learner in LEARNERS:
        assert {f"{learner}/{method}/{replicate}" for method in NAMES for replicate in REPLICATES} <= set(figures)
    heard = predictions(built, classifiers, tmp_path)
    write_test(tmp_path / "quiet", -30.0)
    quiet = predictions(built._replace(test=tmp_path / "quiet"), classifiers, tmp_path / "again")
    clips = sorted(read_clips(built.test, GoldClip), key=lambda clip: clip.clip_id)
    waveforms = [load_clip(built.test, clip, CLAP_RATE) for clip in clips]
    for learner in LEARNERS:
        name = f"{learner}/synthio/1"
        model = load_learner(classifiers / "learners" / learner / "synthio" / "1")
        assert heard[name] == pytest.approx(model.of_features(open_encoder(built.clap)(waveforms)), abs=1e-4)
        assert (heard[name].argmax(axis=1) == heard["label_id"]).mean() > 0.8
        assert (heard[name].argmax(axis=1) == quiet[name].argmax(axis=1)).all()
    evaluation = read_json(tmp_path / "evaluation" / "evaluation.json")
    assert {*LEARNERS} <= set(evaluation["learners"])


def test_independent_labels_are_learned_and_scored_too(built: World, tmp_path: Path) -> None:
    gold = shutil.copytree(built.gold, tmp_path / "gold")
    write_dataset(gold, multi_label=True)
    world = built._replace(gold=gold)
    out = trained(world, tmp_path / "out", built.clap, LEARNERS)
    assert read_json(out / "failures.json") == []
    heard = predictions(world, out, tmp_path, ("gold",))
    for learner in LEARNERS:
        assert read_json(out / "learners.json")[f"{learner}/gold/0"]["val_map"] > 0.8
        rows = heard[f"{learner}/gold/0"]
        assert (rows.argmax(axis=1) == heard["label_id"]).mean() > 0.8
        assert ((rows > 0.5) == heard["truth"]).mean() > 0.8


def test_a_damaged_clap_fails_them_alone_and_is_named(built: World, tmp_path: Path) -> None:
    clap = shutil.copytree(built.clap, tmp_path / "clap")
    weights = clap / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    out = trained(built, tmp_path / "out", clap, (*LEARNERS, "stats"))
    failures = read_json(out / "failures.json")
    assert {row["method"].split()[0] for row in failures} == set(LEARNERS)
    assert all(f"no CLAP in {clap}" in row["error"] for row in failures)
    assert any(name.startswith("stats/") for name in read_json(out / "learners.json"))


def test_another_clap_is_heard_anew_and_others_learners_are_found_again(
    built: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = fitting._make

    def counted(job: LearnerJob, folder: Path) -> None:
        made.append(job.learner)
        real(job, folder)

    monkeypatch.setattr(fitting, "_make", counted)
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    trained(built, tmp_path / "a", built.clap, (*LEARNERS, "stats"))
    assert set(made) == {*LEARNERS, "stats"}
    made.clear()
    trained(built, tmp_path / "b", built.clap, (*LEARNERS, "stats"))
    assert made == []
    trained(built, tmp_path / "c", write_clap(tmp_path / "other", steps=1), (*LEARNERS, "stats"))
    assert set(made) == set(LEARNERS)


def test_every_encoder_gives_a_learner_on_every_methods_clips_and_an_unknown_one_fails_alone(
    built: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = {"whisper": write_encoder("whisper", tmp_path / "whisper"), "clap2": built.clap}
    encoders["bad"] = write_encoder("whisper", tmp_path / "bad")
    write_json(tmp_path / "bad" / "config.json", {"model_type": "bert"})
    out = trained(built, tmp_path / "out", built.clap, ("blend",), NAMES, encoders)
    failures = read_json(out / "failures.json")
    assert {row["method"].split()[0] for row in failures} == {"probe_bad"}
    assert all("holds a model of the type 'bert'" in row["error"] for row in failures)
    told = read_json(out / "learners.json")
    assert {f"{name}/{method}/1" for name in ("probe_whisper", "probe_clap2") for method in NAMES} <= set(told)
    assert [path.name for path in sorted((out / "encoders").iterdir())] == ["probe_clap2", "probe_whisper"]
    members = {
        member["learner"] for name, row in told.items() if name.startswith("blend/") for member in row["members"]
    }
    assert {"probe_whisper", "probe_clap2"} <= members
    opened: list[Path] = []

    def counted(folder: Path) -> FrontEnd:
        opened.append(folder)
        return open_encoder(folder)

    monkeypatch.setattr("components.evaluate_classifier.scoring.open_encoder", counted)
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    heard = predictions(built, out, tmp_path / "heard")
    assert sorted(path.name for path in opened) == ["probe_clap2", "probe_whisper"], "features are computed once"
    evaluation = read_json(tmp_path / "heard" / "evaluation" / "evaluation.json")
    assert [*evaluation["learners"]] == ["ast", "blend", "probe_clap2", "probe_whisper"]
    assert evaluation["delivered"]["accuracy"]["mean"] > 0.8
    assert set(evaluation["delivered"]["members"]) <= {"probe_whisper", "probe_clap2"}
    clips = sorted(read_clips(built.test, GoldClip), key=lambda clip: clip.clip_id)
    waveforms = [load_clip(built.test, clip, CLAP_RATE) for clip in clips]
    model = load_learner(out / "learners" / "probe_clap2" / "synthio" / "1")
    features = open_encoder(built.clap)(waveforms)
    assert heard["probe_clap2/synthio/1"] == pytest.approx(model.of_features(features), abs=1e-4)
    delivered = open_classifier(tmp_path / "heard" / "classifier")
    answers = delivered.probabilities(waveforms, CLAP_RATE)
    assert (answers.argmax(axis=1) == heard["label_id"]).mean() == evaluation["delivered"]["accuracy"]["mean"]
