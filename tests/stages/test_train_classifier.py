"""Every method's trainings: their budget, what is chosen, the learners, and what fails."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import pytest

import common.runtime.parallel
import components.train_classifier.learner_fitting as learner_fitting
from common.classifier.model import load_classifier, save_classifier
from common.config.learners import LEARNERS
from common.config.methods import DEFAULT_METHODS, METHODS
from common.errors import ConfigError, DataError
from common.learners.model import load_learner
from common.learners.opened import open_classifier
from common.records.gold import GoldSet
from components.train_classifier.run import run
from tests.kit.hashing import hash_dir
from tests.kit.models import write_other_classifier
from tests.kit.sounds import CLASS_LABELS
from tests.kit.trainings import World, config, give_further_labels, make_multi_label, run_on, train, write_world

NAMES = [name for name, learner in LEARNERS.items() if learner.frozen != "clap"]
FAST = {"names": NAMES, "cnn_steps": 2, "splits": 1, "synthetic_weights": [0, 1]}
"""All learners."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(built: World, tmp_path: Path) -> World:
    """A copy that a test may change."""
    shutil.copytree(built.gold.parent, tmp_path / "world")
    return World(*(tmp_path / "world" / name for name in World._fields))


@pytest.fixture(scope="module")
def finished(built: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a stage with default settings in `out`, its figures in `metrics.json`, its work in `store`."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SYNTHIO_STORE", str(folder / "store"))
        train(built, folder / "out")
    return folder


def test_every_method_gets_equal_budget_and_a_loadable_model(finished: Path) -> None:
    out, figures = finished / "out", json.loads((finished / "metrics.json").read_text())
    selection = json.loads((out / "selection.json").read_text())
    assert json.loads((out / "failures.json").read_text()) == []
    assert figures["classifiers"] == 12
    for method in DEFAULT_METHODS:
        for replicate in (0, 1):
            row = selection[f"{method}/{replicate}"]
            assert (row["steps"], row["examples"]) == (8, 48)
            assert sum(row["slot"].values()) == 24
            assert row["curve"][-1]["step"] == 8
            assert load_classifier(out / method / str(replicate)).labels == list(CLASS_LABELS)
            uses_clips = METHODS[method].recipe is not None
            assert (row["slot"]["synthetic"] > 0) == uses_clips
    assert load_classifier(out / "oracle").labels == list(CLASS_LABELS)
    assert selection["vanilla/0"]["gold_stands_in_for"] == ["siren"]
    assert selection["vanilla/0"]["synthetic_clips"] == 2 * 2
    assert selection["synthio/0"]["synthetic_clips"] == 3 * 2
    assert selection["oracle"]["gold_clips"] == 18


def test_the_figures_of_the_stage_are_those_that_it_returns(
    built: World, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHIO_STORE", str(finished / "store"))
    assert train(built, tmp_path / "out") == json.loads((finished / "metrics.json").read_text())


def test_strengths_and_best_classic_are_chosen_on_validation(finished: Path) -> None:
    selection = json.loads((finished / "out" / "selection.json").read_text())
    for replicate in ("0", "1"):
        classics = {name: selection[f"{name}/{replicate}"] for name in ("noise", "specaugment")}
        for row in classics.values():
            assert len(row["tried"]) >= 3
            assert row["val_accuracy"] == max(tried["val_accuracy"] for tried in row["tried"])
            assert row["strength"] in [tried["strength"] for tried in row["tried"]]
        best = selection["best_classic"][replicate]
        assert classics[best]["val_accuracy"] == max(row["val_accuracy"] for row in classics.values())
        both = selection[f"synthio_classic/{replicate}"]
        assert (both["classic"], both["strength"]) == (best, classics[best]["strength"])


def test_the_augmentation_factor_is_chosen_on_validation_and_its_curve_kept(
    built: World, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHIO_STORE", str(finished / "store"))
    methods = ("gold", "noise", "specaugment", "vanilla", "synthio_classic")
    asked = config(methods) | {"augmentation_factors": [1.0, 2.0, 4.0]}
    out = tmp_path / "out"
    run_on(built, out, asked)
    selection = json.loads((out / "selection.json").read_text())
    for name in ("vanilla/0", "vanilla/1", "synthio_classic/0"):
        row = selection[name]
        assert [tried["factor"] for tried in row["tried"]] == [1, 2, 4]
        chosen = next(tried for tried in row["tried"] if tried["factor"] == row["factor"])
        assert chosen["val_accuracy"] == row["val_accuracy"] == max(tried["val_accuracy"] for tried in row["tried"])
    assert selection["vanilla/0"]["synthetic_clips"] == 2 * min(selection["vanilla/0"]["factor"], 3)
    assert selection["gold/0"]["factor"] is None and len(selection["gold/0"]["tried"]) == 1


def test_the_stage_has_no_way_to_the_test_split() -> None:
    assert "test" not in " ".join(inspect.signature(run).parameters)


@pytest.mark.e2e
def test_results_do_not_depend_on_the_number_of_workers(
    built: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = []
    for workers in (1, 2):
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / f"store{workers}"))
        monkeypatch.setattr(common.runtime.parallel, "cpu_count", lambda workers=workers: workers)
        train(built, tmp_path / f"out{workers}")
        # It says how long each training took.
        (tmp_path / f"out{workers}" / "seconds.json").unlink()
        hashes.append(hash_dir(tmp_path / f"out{workers}"))
    assert hashes[0] == hashes[1]


def test_a_failure_does_not_lose_the_others(world: World, tmp_path: Path) -> None:
    broken = next((world.vanilla / "clips").glob("*.s0.*.flac"))
    broken.write_bytes(b"no audio")
    train(world, tmp_path / "out", methods=("gold", "vanilla", "synthio"), learners=FAST)
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    # Another start of the AST is tried only where the AST itself was trained.
    lost = [("vanilla", 0), *((f"{learner} on vanilla", 0) for learner in ("probe", "stats", "cnn"))]
    assert [(row["method"], row["seed"]) for row in failures] == lost
    assert all(broken.name in row["error"] for row in failures)
    selection = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert {"gold/0", "gold/1", "vanilla/1", "synthio/0", "synthio/1"} <= set(selection)
    assert not (tmp_path / "out" / "vanilla" / "0").exists()


def test_a_learner_that_fails_with_an_augmentation_is_told_once_though_a_method_takes_the_best(
    built: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise DataError("no copies")

    monkeypatch.setattr(learner_fitting, "copies_of", failing)
    train(built, tmp_path / "out", methods=("gold", "noise", "synthio_classic"), learners={**FAST, "names": ["stats"]})
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert [(row["method"], row["seed"]) for row in failures] == [("stats on noise", 0), ("stats on noise", 1)]


def test_every_learner_is_fitted_on_every_methods_clips(world: World, tmp_path: Path) -> None:
    methods = ("gold", "noise", "specaugment", "synthio", "synthio_classic")
    out = tmp_path / "out"
    train(world, out, methods=methods, learners={**FAST, "real_last": [0, 0.5]})
    figures = json.loads((out / "learners.json").read_text())
    # Masks on spectrograms do not apply to learners on other features.
    names = {
        f"{learner}/{name}/{replicate}"
        for learner in ("ast_probe_first", "probe", "stats", "cnn", "blend")
        for name in methods
        for replicate in (0, 1)
        if name != "specaugment" or learner in ("ast_probe_first", "cnn")
    }
    assert set(figures) == names | {f"ast/{name}/{replicate}" for name in methods for replicate in (0, 1)}
    assert all(row["calibrated_loss"] > 0 for row in figures.values())
    assert [trial["option"] for trial in figures["cnn/synthio/0"]["tried"]] == [0, 0.5], "real clips alone come last"
    assert len(figures["stats/synthio/0"]["tried"]) == 1
    assert all(0 <= figures[name]["val_accuracy"] <= 1 for name in names)
    assert all(
        figures[name]["chosen"]["weight"] == 0 for name in names if "/gold/" in name and "chosen" in figures[name]
    )
    for name in names:
        folder = out / "learners" / name
        if name.startswith(("probe/", "ast_probe_first/")):
            assert load_classifier(folder).labels == list(CLASS_LABELS)
        elif name.startswith("blend/"):
            assert {"probe", "stats", "cnn"} <= {member["learner"] for member in figures[name]["members"]}
            assert not folder.exists(), "its members' models are there"
        else:
            assert list(load_learner(folder).labels) == list(CLASS_LABELS)
    told = json.loads((out / "delivered.json").read_text())
    means: dict[tuple[str, str], dict[str, float]] = {}
    for name, row in figures.items():
        learner, method, _ = name.split("/")
        for figure in ("calibrated_loss", "judged_loss"):
            if row[figure] is not None:
                mean = means.setdefault((learner, method), {})
                mean[figure] = mean.get(figure, 0.0) + row[figure] / 2
    judged = min(mean["judged_loss"] for (learner, _), mean in means.items() if learner == "blend")
    networks = [mean["calibrated_loss"] for mean in means.values() if "judged_loss" not in mean]
    assert told["calibrated_loss"] == pytest.approx(means[told["learner"], told["method"]]["calibrated_loss"])
    if told["judged_loss"] is None:
        assert told["calibrated_loss"] == pytest.approx(min(networks))
    else:
        assert told["judged_loss"] == pytest.approx(judged) and told["calibrated_loss"] <= min(networks)
    assert told["clips"] == len(GoldSet(world.gold).clips) and told["failures"] == []
    assert open_classifier(out / "delivered").labels == tuple(CLASS_LABELS)
    # Another start of the same training: equal budget, equal choices.
    chosen = json.loads((out / "selection.json").read_text())
    for method in methods:
        ast, first = chosen[f"{method}/0"], figures[f"ast_probe_first/{method}/0"]
        same = ("steps", "examples", "slot", "classic", "strength", "gold_clips", "synthetic_clips")
        assert {name: first[name] for name in same} == {name: ast[name] for name in same}
        assert first["curve"] != ast["curve"]
    selection = (out / "selection.json").read_bytes()
    train(world, tmp_path / "alone", methods=methods)
    assert json.loads((tmp_path / "alone" / "delivered.json").read_text())["learner"] == "ast"
    assert load_classifier(tmp_path / "alone" / "delivered").labels == list(CLASS_LABELS)
    assert (tmp_path / "alone" / "selection.json").read_bytes() == selection


def test_when_all_trainings_fail_the_stage_fails_and_says_why(world: World, tmp_path: Path) -> None:
    weights = world.classifier / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(DataError, match=r"no classifier was trained.*model|damaged"):
        train(world, tmp_path / "out", methods=("gold",))


def test_clips_of_another_dataset_are_refused(world: World, tmp_path: Path) -> None:
    (world.gold / "labels.json").write_text(json.dumps(["a", "b", "c"]))
    with pytest.raises(DataError, match="another one"):
        train(world, tmp_path / "out", methods=("vanilla",))


def test_clips_of_several_labels_are_trained_with_all_of_them_and_chosen_by_map(world: World, tmp_path: Path) -> None:
    make_multi_label(world)
    figures = train(world, tmp_path / "out", methods=("gold", "noise", "synthio"))
    selection = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert selection["select_by"] == "map"
    assert "val_map_synthio" in figures
    for replicate in (0, 1):
        assert load_classifier(tmp_path / "out" / "synthio" / str(replicate)).multi_label
        chosen = selection[f"noise/{replicate}"]
        assert chosen["val_map"] == max(row["val_map"] for row in chosen["tried"])
        assert "val_accuracy" not in chosen
    assert load_classifier(tmp_path / "out" / "oracle").multi_label
    with pytest.raises(ConfigError, match="several labels"):
        train(world, tmp_path / "again", methods=("gold",), select_by="accuracy")


def test_a_clip_with_an_unknown_further_label_is_refused(world: World, tmp_path: Path) -> None:
    make_multi_label(world)
    give_further_labels(world.gold, unknown=True)
    with pytest.raises(DataError, match=r"no such label.*labels\.json does not"):
        train(world, tmp_path / "out", methods=("gold",))


def test_a_recipe_gives_every_method_the_same_epochs(world: World, tmp_path: Path) -> None:
    train(world, tmp_path / "out", methods=("gold", "synthio"), recipe="official")
    selection = json.loads((tmp_path / "out" / "selection.json").read_text())
    # 9 gold clips and twice as many synthetic ones are one batch of 48, for 50 epochs; the oracle ends at its own number.
    for name in ("gold/0", "gold/1", "synthio/0", "synthio/1"):
        assert (selection[name]["steps"], selection[name]["examples"]) == (50, 50 * 48)
        assert [row["step"] for row in selection[name]["curve"]] == list(range(1, 51))
    assert selection["oracle"]["steps"] == 10


def test_mixup_changes_the_training_and_not_the_budget(world: World, tmp_path: Path) -> None:
    for name, alpha in (("plain", 0.0), ("mixed", 0.4)):
        train(world, tmp_path / name, methods=("gold",), mixup_alpha=alpha)
    plain, mixed = (
        json.loads((tmp_path / name / "selection.json").read_text())["gold/0"] for name in ("plain", "mixed")
    )
    assert plain["examples"] == mixed["examples"]
    assert plain["curve"] != mixed["curve"]


@pytest.mark.e2e
def test_a_classifier_on_waveforms_is_trained_by_every_method_but_specaugment(world: World, tmp_path: Path) -> None:
    shutil.rmtree(world.classifier)
    write_other_classifier("hubert", tmp_path / "published")
    save_classifier(load_classifier(tmp_path / "published", window_s=0.2), world.classifier)
    train(world, tmp_path / "out", methods=("gold", "noise", "specaugment", "synthio_classic"))
    selection = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert selection["best_classic"] == {"0": "noise", "1": "noise"}
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert {row["method"] for row in failures} == {"specaugment"}
    assert all("takes waveforms" in row["error"] for row in failures)
    made = load_classifier(tmp_path / "out" / "synthio_classic" / "1")
    assert (made.labels, made.front_end.max_length) == (CLASS_LABELS, 3200)
