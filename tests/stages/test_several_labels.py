"""Clips of several labels from the files of a small dataset to the report, over the stages that treat them apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from scipy.special import softmax
from sklearn.metrics import average_precision_score, f1_score

from common.audio.signal import levelled
from common.clap.scorer import ClapScorer
from common.classifier.inference import probabilities
from common.classifier.model import build_classifier, save_classifier
from common.classifier.scores import choose_threshold
from common.errors import DataError
from common.learners.opened import open_classifier
from common.records.audio_folder import load_clip, read_clips
from common.records.clips import GoldClip, SyntheticClip
from common.records.gold import GoldSet
from common.records.text import template_caption
from common.runtime.split_guard import TEST_SPLIT
from common.storage import read_json
from components.evaluate_classifier.run import run as evaluate
from components.evaluate_classifier.scoring import PredictTask
from components.plan.planning import PLANS
from components.plan.run import run as make_plan
from components.prepare_dataset.run import run as prepare
from components.report.run import run as report
from components.train_classifier.run import run as train
from pipelines.commands.classify import audio_files, classify
from tests.kit.clips import generated_clip
from tests.kit.gold import write_synthetic
from tests.kit.models import AST_ARCHITECTURE, write_clap
from tests.kit.predictions import predict_logits
from tests.unit.report.artifacts import PATHS, RECIPE, make_run

RATE = 16000
REPLICATES = (0, 1)
LABELS = ["bell", "hiss", "siren"]
METHODS = ("gold", "noise", "synthio")
SETTINGS = (
    "train_classifier.optim.steps=80 train_classifier.optim.batch_size=12 train_classifier.optim.evaluate_every=20 "
    "train_classifier.optim.learning_rate=0.004 train_classifier.oracle_steps=60 augmentation_factor=1 "
    "evaluate_classifier.resamples=400"
)
SETS = (("bell",), ("hiss",), ("siren",), ("bell", "hiss"), ("siren", "bell"))


class World(NamedTuple):
    root: Path
    plans: dict[str, dict[str, Any]]


def sound(labels: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """A mixture of what the labels sound like, with noise that makes some clips hard."""
    time = np.arange(7000) / RATE
    parts = {
        "bell": 0.3 * np.sin(2 * np.pi * 300 * rng.uniform(0.9, 1.1) * time),
        "hiss": 0.15 * rng.standard_normal(len(time)),
        "siren": 0.3 * np.sin(2 * np.pi * 900 * rng.uniform(0.9, 1.1) * time * (1 + time)),
    }
    mixed = sum(rng.uniform(0.2, 1) * parts[label] for label in labels) + 0.04 * rng.standard_normal(len(time))
    return np.asarray(mixed, dtype=np.float32)


def write_dataset(folder: Path) -> Path:
    """Wave files, a label file with ';' between the labels of a clip, and the dataset's YAML."""
    folder.mkdir()
    lines = ["path,label,split"]
    for split, count in (("train", 40), ("test", 30)):
        for index in range(count):
            labels, name = SETS[index % len(SETS)], f"{split}{index:02d}.wav"
            soundfile.write(folder / name, sound(labels, np.random.default_rng((len(split), index))), RATE)
            lines.append(f"{name},{';'.join(labels)},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    yaml = folder / "own.yaml"
    yaml.write_text("name: own\nlabels: labels.csv\nmulti_label: true\nlicence: CC0-1.0\ndomain: test sounds\n")
    return yaml


def write_generated(folder: Path, gold: GoldSet, recipe: str) -> None:
    """One clip for each gold clip of each replicate, with all labels of it."""
    clips, audio = [], {}
    for replicate in REPLICATES:
        for source in gold.train(replicate):
            clip = generated_clip(
                recipe,
                replicate,
                source.clip_id,
                label=source.label,
                label_id=source.label_id,
                further_labels=source.further_labels,
            )
            audio[clip.clip_id] = sound(source.labels, np.random.default_rng([replicate, len(clips)]))
            clips.append(clip)
    write_synthetic(folder, clips, audio)


def evaluated(world: World, root: Path, out: str = "") -> dict[str, Any]:
    names = [f"{out}evaluation", f"{out}classifier", f"{out}evaluated.json"]
    inputs = [str(root / name) for name in ("classifiers", "gold", "test", "vanilla", "accepted", "retrieved", "clap")]
    evaluate(
        *inputs, *(str(root / name) for name in names), config=world.plans["evaluate_classifier"], code_version="c"
    )
    found: dict[str, Any] = read_json(root / names[0] / "evaluation.json")
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """All artifacts from the plan to the evaluation."""
    root = tmp_path_factory.mktemp("world")
    yaml = write_dataset(root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHIO_STORE", str(root / "store"))
        plans = make_plan(str(yaml), "smoke", 20, ",".join(METHODS), len(REPLICATES), SETTINGS, "")
        made = World(root, dict(zip(PLANS, plans, strict=True)))
        prepare(
            *(str(root / name) for name in ("gold", "test", "prepared.json")),
            config=made.plans["prepare_dataset"],
            code_version="c",
        )
        gold = GoldSet(root / "gold")
        write_generated(root / "vanilla", gold, "none-template-all")
        write_generated(root / "accepted", gold, RECIPE)
        write_synthetic(root / "retrieved", [], {})
        write_clap(root / "clap")
        save_classifier(build_classifier(AST_ARCHITECTURE, ["x", "y"], -6.0, 3.0, seed=1), root / "start")
        inputs = [str(root / name) for name in ("start", "gold", "vanilla", "accepted")]
        train(
            *inputs,
            str(root / "classifiers"),
            str(root / "trained.json"),
            config=made.plans["train_classifier"],
            code_version="c",
            retrieved_path=str(root / "retrieved"),
            corpus_path=str(root / "vanilla"),
            clap_path=str(root / "clap"),
        )
        evaluated(made, root)
    return made


@pytest.fixture
def evaluation(world: World) -> dict[str, Any]:
    found: dict[str, Any] = read_json(world.root / "evaluation" / "evaluation.json")
    return found


def answers(model: Path, folder: Path, clips: Sequence[GoldClip | SyntheticClip]) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities (clips, labels), from the files and by the plain model."""
    truth = np.array([[label in (clip.label, *clip.further_labels) for label in LABELS] for clip in clips])
    logits = predict_logits(model, [load_clip(folder, clip, RATE) for clip in clips], RATE)
    return truth, probabilities(logits, multi_label=True)


def test_figures_are_those_of_scikit_learn_on_the_answers_of_the_trained_models(
    world: World, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(world.root / "test", tmp_path / "copy", ignore=shutil.ignore_patterns(TEST_SPLIT))
    clips = read_clips(tmp_path / "copy", GoldClip)
    assert sum(len(clip.further_labels) for clip in clips) == 12
    assert (evaluation["figure"], evaluation["labels"], evaluation["failures"]) == ("map", LABELS, [])
    for method in METHODS:
        row = evaluation["methods"][method]
        for place, replicate in enumerate(REPLICATES):
            truth, scores = answers(world.root / "classifiers" / method / str(replicate), tmp_path / "copy", clips)
            expected = average_precision_score(truth, scores, average="macro")
            assert row["map"]["per_seed"][place] == pytest.approx(expected, abs=1e-5)
            heard = scores >= row["thresholds"][place]
            assert row["macro_f1"]["per_seed"][place] == pytest.approx(
                f1_score(truth, heard, average="macro"), abs=1e-5
            )
        assert row["map"]["mean"] > truth.mean() + 0.2
    assert evaluation["test"]["per_class"] == {"bell": 18, "hiss": 12, "siren": 12}
    saved = np.load(world.root / "evaluation" / "predictions.npz")
    ids = [clip.clip_id for clip in clips]
    np.testing.assert_array_equal(saved["truth"][[saved["clip_id"].tolist().index(i) for i in ids]], truth)


def test_thresholds_follow_the_validation_clips_and_not_the_test_clips(
    world: World, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    def thresholds(found: dict[str, Any]) -> list[list[float]]:
        return [found["methods"][name]["thresholds"] for name in METHODS] + [found["zero_shot"]["thresholds"]]

    gold = GoldSet(world.root / "gold")
    for name, row in zip(METHODS, thresholds(evaluation), strict=False):
        for replicate, threshold in zip(REPLICATES, row, strict=True):
            model = world.root / "classifiers" / name / str(replicate)
            assert threshold == pytest.approx(choose_threshold(*answers(model, gold.path, gold.val(replicate))))

    for part in ("classifiers", "gold", "test", "vanilla", "accepted", "retrieved", "clap"):
        shutil.copytree(world.root / part, tmp_path / part)
    metadata = tmp_path / "test" / "clips" / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    for row in rows:
        row["label_id"] = (row["label_id"] + 1) % 3
        row["label"], row["further_labels"] = LABELS[row["label_id"]], []
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test" / "SHA256SUMS").unlink()
    turned = evaluated(world, tmp_path)
    assert thresholds(turned) == thresholds(evaluation)
    assert turned["methods"]["gold"]["map"] != evaluation["methods"]["gold"]["map"]


def test_the_threshold_of_zero_shot_is_that_of_the_first_replicates_validation_clips(
    world: World, evaluation: dict[str, Any]
) -> None:
    scorer, gold = ClapScorer.load(world.root / "clap"), GoldSet(world.root / "gold")
    prompts = float(scorer.model.logit_scale_a.detach().exp()) * scorer.embed_text(
        [template_caption(one) for one in LABELS]
    )

    def threshold(replicate: int) -> float:
        clips = gold.val(replicate)
        heard = [levelled(gold.load(clip, scorer.sample_rate_hz)) for clip in clips]
        similarity = scorer.embed_audio(heard, scorer.sample_rate_hz) @ prompts.T
        return choose_threshold(gold.targets(clips), softmax(similarity.astype(np.float64), axis=1))

    first, second = map(threshold, REPLICATES)
    assert evaluation["zero_shot"]["thresholds"] == [pytest.approx(first, abs=1e-6)] and first != second


def test_a_member_whose_answers_fail_takes_only_its_blend_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make = PredictTask.make

    def failing(task: PredictTask, folder: Path) -> None:
        if "stats" in task.model.parts and "1" in task.model.parts and task.clips.folder.name == "test":
            raise DataError("no answer")
        make(task, folder)

    monkeypatch.setattr(PredictTask, "make", failing)
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "store"))
    found = evaluated(world, world.root, out="failing-")
    assert {row["method"] for row in found["failures"]} == {f"stats/{method}" for method in METHODS}
    assert [found["learners"][name]["gold"]["seeds"] for name in ("probe", "stats", "blend")] == [[0, 1], [0], [0]]


def test_a_synthetic_clip_is_as_asked_for_where_the_oracle_hears_one_of_its_labels_most(
    world: World, evaluation: dict[str, Any]
) -> None:
    oracle = evaluation["oracle"]
    assert 0.5 < oracle["test_map"] <= 1 and "test_accuracy" not in oracle
    clips = read_clips(world.root / "accepted", SyntheticClip)
    truth, scores = answers(world.root / "classifiers" / "oracle", world.root / "accepted", clips)
    right = truth[np.arange(len(clips)), scores.argmax(axis=1)]
    assert oracle["sets"][f"{RECIPE}, accepted"]["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert right.mean() > (scores.argmax(axis=1) == [clip.label_id for clip in clips]).mean()


def test_the_leak_guard_compares_all_sets(evaluation: dict[str, Any]) -> None:
    assert evaluation["leaks"]["test_clips"] == 0
    assert evaluation["leaks"]["sets"].keys() == {"gold", "vanilla", "accepted"}


def test_the_model_that_is_handed_on_names_labels_by_its_threshold_and_its_card_says_so(
    world: World, evaluation: dict[str, Any]
) -> None:
    folder, threshold = world.root / "classifier", evaluation["delivered"]["threshold"]
    opened = open_classifier(folder)
    assert opened.threshold == threshold and opened.multi_label
    (row,) = classify(folder, audio_files(world.root / "data" / "test03.wav"))
    assert row["labels"] == sorted(
        (label for label in LABELS if row["probabilities"][label] >= threshold), key=lambda x: -row["probabilities"][x]
    )
    heard = opened.of_file(world.root / "data" / "test03.wav")
    assert [row["probabilities"][label] for label in opened.labels] == pytest.approx(heard, abs=1e-4)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"probability of {threshold:.3g} on" in " ".join(card.split())
    assert "| | mAP | macro-F1 |" in card and '"type": "map"' in card
    assert "accuracy" not in card.split("## Licences")[0].replace("| accuracy", "").split("---\n", 2)[2]


def test_the_report_speaks_of_mean_average_precision_and_has_no_confusion_matrix(
    world: World, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    paths = make_run(tmp_path / "run")
    paths |= {name: world.root / name for name in ("evaluation", "gold", "classifiers", "vanilla", "accepted")}
    shutil.copytree(world.root / "accepted", tmp_path / "accepted")
    shutil.copy(tmp_path / "run" / "accepted" / "filter.json", tmp_path / "accepted" / "filter.json")
    paths["accepted"] = tmp_path / "accepted"
    outputs = ("results", "page.html", "summary.md", "confusion.json", "metrics.json")
    figures, labels, matrix = report(
        {name: str(paths[name]) for name in PATHS},
        *(str(tmp_path / name) for name in outputs),
        config=world.plans["report"],
    )
    assert (labels, matrix) == (LABELS, None)
    assert figures["map_gold"] == pytest.approx(evaluation["methods"]["gold"]["map"]["mean"], abs=1e-5)
    found = read_json(tmp_path / "results" / "report.json")
    assert found["figure"] == "map" and " mAP " in found["verdict"]["text"]
    assert found["methods"]["gold"]["average_precision"].keys() == set(LABELS)
    assert found["methods"]["gold"]["map"] == evaluation["methods"]["gold"]["map"]
    assert found["data"]["classes"]["bell"]["test"] == 18
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert "mAP" in page and "What is mistaken for what" not in page
    assert "Accuracy on the same" not in page
    assert "| method | mAP |" in (tmp_path / "summary.md").read_text(encoding="utf-8")
