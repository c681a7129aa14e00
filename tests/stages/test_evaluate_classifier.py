from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from transformers import ClapModel, ClapProcessor, pipeline

import common.runtime.parallel
import components.evaluate_classifier.scoring as scoring
from common.audio.signal import levelled
from common.classifier.model import build_classifier, save_classifier
from common.config.methods import METHODS
from common.contracts.base import write
from common.contracts.evaluation import COPIES
from common.contracts.training import Calibrated, Chosen, Delivery, Selection
from common.errors import DataError
from common.learners.model import LearnerModel, LinearHead
from common.learners.opened import open_classifier
from common.learners.statistics import SCALES
from common.records.audio_folder import load_clip, read_clips
from common.records.clips import GoldClip
from common.storage import read_json, write_json
from components.evaluate_classifier.run import run
from tests.kit.clips import gold_clip, write_audio_folder
from tests.kit.figures import TEST_HEALTH, chosen
from tests.kit.gold import CLAP_LABELS, clap_gold, clap_synthetic, clap_synthetic_clip, write_dataset
from tests.kit.models import AST_ARCHITECTURE, write_clap
from tests.kit.predictions import predict_logits
from tests.kit.sounds import CLAP_RATE, clap_sound

REPLICATES = (0, 1)
NAMES = ("gold", "noise", "synthio", "synthio_classic")
RECIPE = METHODS["synthio"].recipe.name  # type: ignore[union-attr]
CODE = "test"


class World(NamedTuple):
    classifiers: Path
    gold: Path
    test: Path
    vanilla: Path
    accepted: Path
    retrieved: Path
    clap: Path


def write_test(folder: Path, copies: dict[str, np.ndarray] | None = None) -> None:
    """A test split of 12 clips; `copies` replaces the sound of some."""
    clips, audio = [], {}
    for index in range(12):
        label, clip_id = CLAP_LABELS[index % 3], f"t{index:02d}"
        audio[clip_id] = clap_sound(label, np.random.default_rng(500 + index))
        group = f"speaker {index // 2}"
        clips.append(gold_clip(clip_id, label, index % 3, group=group, duration_s=0.8, sample_rate_hz=CLAP_RATE))
    write_audio_folder(folder, clips, audio | (copies or {}), CLAP_RATE)
    write_json(folder / "labels.json", CLAP_LABELS)
    write(folder / "health.json", TEST_HEALTH)


def write_learner(folder: Path) -> dict[str, Calibrated]:
    """The learner `stats` on gold and on Synthio's clips, better on validation than any AST; returns its figures."""
    figures = {}
    for method in ("gold", "synthio"):
        for replicate in REPLICATES:
            place = folder / "stats" / method / str(replicate)
            place.mkdir(parents=True)
            head = LinearHead(len(CLAP_LABELS), len(SCALES))
            head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(replicate)) / 100)
            LearnerModel("stats", "statistics", head, tuple(CLAP_LABELS), False).save(place)
            shutil.copytree(place, folder.parent / "delivered", dirs_exist_ok=True)
            figures[f"stats/{method}/{replicate}"] = Calibrated(
                calibrated_loss=0.3, judged_loss=0.3, temperature=1.0, weight=1.0
            )
    return figures


def write_classifiers(folder: Path) -> None:
    trained: dict[str, Chosen] = {}
    for index, (name, replicate) in enumerate(
        [(name, replicate) for name in NAMES for replicate in REPLICATES] + [("oracle", 0)]
    ):
        model = build_classifier(AST_ARCHITECTURE, CLAP_LABELS, -6.0, 3.0, seed=index)
        save_classifier(model, folder / "oracle" if name == "oracle" else folder / name / str(replicate))
        if name != "oracle":
            trained[f"{name}/{replicate}"] = chosen(val_accuracy=0.9 if (name, replicate) == ("noise", 1) else 0.5)
    best = dict.fromkeys(REPLICATES, "noise")
    write(folder / "selection.json", Selection(select_by="accuracy", best_classic=best, **trained))
    write_json(folder / "failures.json", [])
    write(folder / "delivered.json", delivery("stats", "synthio"))
    asts = {
        f"ast/{name}": Calibrated(calibrated_loss=1.0, judged_loss=None, temperature=1.0, weight=1.0)
        for name in trained
    }
    write(folder / "learners.json", {**asts, **write_learner(folder / "learners")})


def delivery(learner: str, method: str) -> Delivery:
    told = {"members": [learner], "clips": 12, "failures": [], "calibrated_loss": 0.3, "judged_loss": None}
    return Delivery.model_validate({"learner": learner, "method": method, **told})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    world = World(*(folder / name for name in World._fields))
    write_clap(world.clap)
    clap_gold(world.gold)
    write_dataset(world.gold, name="beeps", domain="test sounds")
    write_test(world.test)
    write_classifiers(world.classifiers)
    losers = [clap_synthetic_clip(label, "none-template-all", 0, index) for label in CLAP_LABELS for index in range(2)]
    clap_synthetic(world.vanilla, losers)
    clap_synthetic(world.accepted, [clap_synthetic_clip(x, RECIPE, s, 0) for x in CLAP_LABELS for s in REPLICATES])
    clap_synthetic(world.retrieved, [])
    return world


@pytest.fixture
def world(built: World, tmp_path: Path) -> World:
    """A copy that a test may change."""
    shutil.copytree(built.gold.parent, tmp_path / "world")
    return World(*(tmp_path / "world" / name for name in World._fields))


def evaluate(world: World, out: Path) -> dict[str, Any]:
    methods = {name: METHODS[name].model_dump(mode="json") for name in reversed(NAMES)}
    config = {"settings": {"resamples": 300.0}, "replicates": [0.0, 1.0], "methods": methods}
    run(
        *map(str, world),
        str(out / "evaluation"),
        str(out / "classifier"),
        str(out / "metrics.json"),
        config=config,
        code_version=CODE,
    )
    found: dict[str, Any] = read_json(out / "evaluation" / "evaluation.json")
    return found


@pytest.fixture(scope="module")
def evaluated(built: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHIO_STORE", str(out / "store"))
        return evaluate(built, out), out


def test_accuracy_is_that_of_the_predictions_on_the_test_clips(
    evaluated: tuple[dict[str, Any], Path], built: World
) -> None:
    clips = read_clips(built.test, GoldClip)
    waveforms = [load_clip(built.test, clip, CLAP_RATE) for clip in clips]
    logits = predict_logits(built.classifiers / "synthio" / "1", waveforms, CLAP_RATE)
    right = np.mean(logits.argmax(axis=1) == [clip.label_id for clip in clips])
    assert evaluated[0]["methods"]["synthio"]["accuracy"]["per_seed"][1] == pytest.approx(right, abs=1e-6)


def test_the_zero_shot_row_is_what_the_plain_clap_answers(built: World, evaluated: tuple[dict[str, Any], Path]) -> None:
    evaluation, _ = evaluated
    model, processor = ClapModel.from_pretrained(built.clap).eval(), ClapProcessor.from_pretrained(built.clap)
    prompts = processor.tokenizer([f"sound of a {label}" for label in CLAP_LABELS], padding=True, return_tensors="pt")
    right = []
    for clip in read_clips(built.test, GoldClip):
        waveform = levelled(load_clip(built.test, clip, CLAP_RATE))
        features = processor.feature_extractor(waveform, sampling_rate=CLAP_RATE, return_tensors="pt")
        with torch.inference_mode():
            answer = model(**prompts, **features).logits_per_audio[0]
        right.append(int(answer.argmax()) == clip.label_id)
    assert evaluation["zero_shot"]["accuracy"]["per_seed"] == [pytest.approx(np.mean(right), abs=1e-5)]
    assert "zero_shot" not in evaluation["methods"]


def test_other_learners_are_scored_and_the_best_pairs_are_those_that_validation_chose(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    evaluation, _ = evaluated
    assert list(evaluation["learners"]) == ["ast", "stats"]
    assert evaluation["learners"]["ast"]["gold"]["accuracy"] == evaluation["methods"]["gold"]["accuracy"]
    assert set(evaluation["learners"]["stats"]) == {"gold", "synthio"}
    best = evaluation["best"]
    assert [(best[side]["learner"], best[side]["method"]) for side in ("without", "with")] == [
        ("stats", "gold"),
        ("stats", "synthio"),
    ]
    scores = [evaluation["learners"]["stats"][method]["accuracy"]["per_seed"] for method in ("synthio", "gold")]
    assert best["difference"]["per_seed"] == pytest.approx(np.subtract(*scores))


def test_methods_stand_in_the_order_of_the_catalogue_and_the_verdicts_pairs_first(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    pairs = [(row["method"], row["versus"]) for row in evaluated[0]["differences"]]
    assert pairs[:2] == [("synthio", "gold"), ("synthio_classic", "best_classic")]
    assert ("synthio", "noise") in pairs and ("synthio", "best_classic") in pairs
    assert len(set(pairs)) == len(pairs)


def test_whole_groups_of_test_clips_are_resampled(evaluated: tuple[dict[str, Any], Path]) -> None:
    assert evaluated[0]["resampled"] == "groups"
    assert evaluated[0]["test"]["groups"] == 6


def test_the_classifier_is_chosen_on_validation_whatever_the_test_split_says(built: World, tmp_path: Path) -> None:
    chosen = []
    for shift in range(3):
        test = tmp_path / f"test{shift}"
        shutil.copytree(built.test, test)
        lines = [json.loads(line) for line in (test / "clips" / "metadata.jsonl").read_text().splitlines()]
        for line in lines:
            line["label_id"] = (line["label_id"] + shift) % 3
            line["label"] = CLAP_LABELS[line["label_id"]]
        (test / "clips" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = evaluate(built._replace(test=test), tmp_path / f"out{shift}")
        chosen.append({side: best["chosen"] for side, best in found["best"].items() if best and "chosen" in best})
    assert chosen[0].keys() >= {"without", "with"} and chosen == chosen[:1] * 3


def test_the_delivered_classifier_opens_and_its_card_says_what_it_is(
    evaluated: tuple[dict[str, Any], Path], built: World
) -> None:
    evaluation, out = evaluated
    told = evaluation["delivered"]
    assert (told["learner"], told["method"], told["clips"]) == ("stats", "synthio", 12)
    test = [json.loads(line) for line in (built.test / "clips" / "metadata.jsonl").read_text().splitlines()]
    opened = open_classifier(out / "classifier")
    right = [opened.of_file(built.test / "clips" / row["file_name"]).argmax() == row["label_id"] for row in test]
    assert told["accuracy"]["mean"] == pytest.approx(np.mean(right), abs=1e-6)
    card = (out / "classifier" / "README.md").read_text(encoding="utf-8")
    assert "all 12 labelled clips outside the test split" in card and "no model of transformers" in card
    assert "CC0-1.0" in card and "| this model |" in card


def test_a_delivered_transformer_loads_in_the_plain_pipeline(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(world.classifiers / "delivered")
    shutil.copytree(world.classifiers / "gold" / "0", world.classifiers / "delivered")
    write(world.classifiers / "delivered.json", delivery("ast", "gold"))
    evaluate(world, tmp_path / "out")
    folder = tmp_path / "out" / "classifier"
    classify = pipeline("audio-classification", model=str(folder))
    sound = clap_sound(CLAP_LABELS[0], np.random.default_rng(1))
    answers = classify(sound, top_k=3)
    assert {answer["label"] for answer in answers} == set(CLAP_LABELS)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag" in card
    # The card's own lines work as they stand, on a stereo file of another rate and without ffmpeg.
    stereo = np.repeat(sound[:, None], 2, axis=1)
    soundfile.write(tmp_path / "recording.wav", stereo, 2 * classify.feature_extractor.sampling_rate)
    lines = card.split("```python\n")[1].split("```")[0].replace("<this folder>", str(folder))
    (tmp_path / "card.py").write_text(lines.replace("\nclassify(", "\ntold = classify("), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    names = runpy.run_path("card.py")
    assert {answer["label"] for answer in names["told"]} == set(CLAP_LABELS)
    assert len(names["samples"]) == pytest.approx(len(sound) / 2, abs=1)


def test_oracle_and_distances_cover_vanilla_and_every_recipe(evaluated: tuple[dict[str, Any], Path]) -> None:
    found = evaluated[0]
    names = {"vanilla", f"{RECIPE}, accepted"}
    assert found["oracle"]["sets"].keys() == names
    assert found["distances"]["sets"].keys() == names
    assert found["distances"]["clips"] == 6


def test_a_copy_of_a_test_clip_among_the_training_clips_is_found(world: World, tmp_path: Path) -> None:
    gold = read_clips(world.gold, GoldClip)[0]
    same = load_clip(world.gold, gold, CLAP_RATE)
    noisy = 0.5 * load_clip(world.gold, read_clips(world.gold, GoldClip)[1], CLAP_RATE)
    noisy += 0.01 * np.sqrt(np.mean(noisy**2)) * np.random.default_rng(0).standard_normal(len(noisy)).astype(np.float32)
    shutil.rmtree(world.test)
    write_test(world.test, {"t00": same, "t05": noisy.astype(np.float32)})
    left_out = {"recordings": 1, "validation": 1, "pairs": []}
    write_json(world.retrieved / COPIES, left_out)
    leaks = evaluate(world, tmp_path / "out")["leaks"]
    assert leaks["corpus_copies"] == left_out
    kinds = {(pair["test"], pair["clip"]): pair["kind"] for pair in leaks["pairs"] if pair["set"] == "gold"}
    assert kinds[("t00", gold.clip_id)] == "exact"
    assert kinds[("t05", read_clips(world.gold, GoldClip)[1].clip_id)] == "near"
    assert leaks["test_clips"] == 2


@pytest.mark.e2e
def test_figures_do_not_depend_on_the_number_of_workers(
    built: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for count in (1, 2):
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / f"store{count}"))
        monkeypatch.setattr(common.runtime.parallel, "cpu_count", lambda count=count: count)
        evaluate(built, tmp_path / str(count))
        folder = tmp_path / str(count) / "evaluation"
        written.append([(folder / name).read_bytes() for name in ("evaluation.json", "predictions.npz")])
    assert written[0] == written[1]


def test_a_second_run_predicts_nothing(built: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate(built, tmp_path / "first")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished prediction was made again")

    monkeypatch.setattr(scoring, "open_classifier", refuse)
    monkeypatch.setattr(scoring.ClapScorer, "load", refuse)
    assert evaluate(built, tmp_path / "second") == first


def test_a_damaged_classifier_is_reported_and_the_others_are_evaluated(world: World, tmp_path: Path) -> None:
    (world.classifiers / "synthio" / "0" / "model.safetensors").write_bytes(b"broken")
    found = evaluate(world, tmp_path / "out")
    assert found["methods"]["synthio"]["seeds"] == [1]
    assert [(row["method"], row["seed"]) for row in found["failures"]] == [("synthio", 0)]
    row = next(row for row in found["differences"] if row["method"] == "synthio" and row["versus"] == "gold")
    assert row["seeds"] == [1]


def test_a_damaged_classifier_is_not_delivered(world: World, tmp_path: Path) -> None:
    (world.classifiers / "delivered" / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"delivered classifier could not be evaluated.*copy it whole"):
        evaluate(world, tmp_path / "out")


def _empty(world: World) -> None:
    shutil.rmtree(world.test)
    write_test(world.test)
    (world.test / "clips" / "metadata.jsonl").write_text("")


def _relabel(world: World) -> None:
    write_json(world.test / "labels.json", ["other", "labels", "here"])


@pytest.mark.parametrize(("spoil", "message"), [(_empty, "holds no clips"), (_relabel, "differ from the gold set's")])
def test_a_test_split_that_does_not_fit_is_an_error_that_says_so(
    world: World, tmp_path: Path, spoil: Callable[[World], None], message: str
) -> None:
    spoil(world)
    with pytest.raises(DataError, match=message):
        evaluate(world, tmp_path / "out")
