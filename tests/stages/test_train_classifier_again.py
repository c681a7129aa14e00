"""What the stage trains anew when inputs or settings change, and what it finds again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import common.runtime.parallel
import components.train_classifier.ast_training as ast_training
from common.errors import DataError
from components.train_classifier.job import AstJob
from tests.kit.corpus import write_corpus
from tests.kit.hashing import hash_dir
from tests.kit.sounds import CLASS_LABELS
from tests.kit.trainings import SYNTHIO, World, config, make_multi_label, run_on, train, write_generated, write_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path / "world")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the trainings that were not found in the store; one process, so that they can be counted.

    Without that of the delivered classifier.
    """
    names: list[str] = []
    real: Callable[..., None] = ast_training._make

    def counted(job: AstJob, folder: Path) -> None:
        names.extend([job.name] if "all clips" not in job.name else [])
        real(job, folder)

    monkeypatch.setattr(ast_training, "_make", counted)
    monkeypatch.setattr(common.runtime.parallel, "cpu_count", lambda: 1)
    yield names


def test_finished_trainings_are_found_again(world: World, tmp_path: Path, trained: list[str]) -> None:
    train(world, tmp_path / "a")
    assert len(trained) == 1 + 2 * (1 + 3 + 3 + 1 + 1 + 1)
    trained.clear()
    train(world, tmp_path / "b")
    assert trained == []
    assert hash_dir(tmp_path / "a") == hash_dir(tmp_path / "b")
    shutil.rmtree(world.accepted)
    write_generated(world.accepted, SYNTHIO, (0, 1, 2), (0, 1), seed=2)
    train(world, tmp_path / "c")
    assert len(trained) == 4
    assert all(name.startswith(SYNTHIO) for name in trained)
    trained.clear()
    train(world, tmp_path / "d", methods=("gold", "noise"), noise={"copies": 1, "strengths": [20.0, 10.0, 5.0]})
    assert sorted(trained) == ["gold+noise=5/0", "gold+noise=5/1"]


def test_a_recipe_counts_its_epochs_over_all_clips_that_the_delivered_classifier_learns_from(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, real = {}, ast_training._make

    def noted(job: AstJob, folder: Path) -> None:
        steps[job.name] = job.optim.steps
        real(job, folder)

    monkeypatch.setattr(ast_training, "_make", noted)
    monkeypatch.setattr(common.runtime.parallel, "cpu_count", lambda: 1)
    train(world, tmp_path / "out", methods=("gold",), recipe="paper")
    clips = json.loads((tmp_path / "out" / "delivered.json").read_text())["clips"]
    # Batches of 24 over gold clips and twice as many synthetic ones, 50 times.
    assert steps["gold/0"] == 50 * 2
    assert steps["ast on gold, all clips"] == 50 * math.ceil(3 * clips / 24) > 100


def test_without_generated_clips_no_oracle_is_trained(world: World, tmp_path: Path, trained: list[str]) -> None:
    train(world, tmp_path / "out", methods=("gold", "extra_real"))
    assert trained and not any("oracle" in name for name in trained)
    assert not (tmp_path / "out" / "oracle").exists()
    assert "oracle" not in json.loads((tmp_path / "out" / "selection.json").read_text())


def test_a_run_whose_methods_all_lack_clips_says_so(world: World, tmp_path: Path, trained: list[str]) -> None:
    with pytest.raises(DataError, match=r"no method is left to train \(synthio_corpus: the corpus holds no clip of"):
        train(world, tmp_path / "out", methods=("synthio_corpus",))
    assert not trained


def test_noise_of_the_corpus_and_combinations_are_made_anew_when_they_change_and_only_then(
    world: World, tmp_path: Path, trained: list[str]
) -> None:
    corpus, other = write_corpus(tmp_path / "corpus"), write_corpus(tmp_path / "other", train=24)
    combinations: dict[str, Any] = {"gentle": {"shift": 0.25}, "usual": {}, "strong": {"semitones": 6.0}}
    plain = {"noise_snr_db": None, "stretch": 0, "semitones": 0}

    def go(name: str, corpus: Path, **settings: Any) -> list[str]:
        trained.clear()
        methods = ("gold", "background_noise", "audiomentations")
        asked = config(
            methods,
            background={"copies": 1, "clips": 30, **settings},
            audiomentations={"copies": 1, "combinations": {k: {**plain, **v} for k, v in combinations.items()}},
        )
        out = tmp_path / name
        run_on(world, out, asked, corpus=corpus)
        chosen = json.loads((out / "selection.json").read_text())["audiomentations/0"]
        assert [row["strength"] for row in chosen["tried"]] == list(combinations)
        return sorted(trained)

    assert len(go("a", corpus)) == 2 * (1 + 3 + 3)
    assert go("b", corpus) == []
    made = go("c", other)
    assert len(made) == 6 and all(name.startswith("gold+background=") for name in made)
    combinations["strong"] = {"shift": 1.0}
    assert go("d", other) == ["gold+audiomentations=strong/0", "gold+audiomentations=strong/1"]


def test_further_labels_are_part_of_what_a_training_is_made_from(
    world: World, tmp_path: Path, trained: list[str]
) -> None:
    make_multi_label(world)
    train(world, tmp_path / "a", methods=("gold",))
    trained.clear()
    train(world, tmp_path / "b", methods=("gold",))
    assert trained == []
    metadata = world.gold / "clips" / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace(f'["{CLASS_LABELS[2]}"]', f'["{CLASS_LABELS[1]}"]'))
    train(world, tmp_path / "c", methods=("gold",))
    assert len(trained) == 2


def test_the_body_is_trained_contrastively_once_for_all_augmentations(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    bodies = []
    real = ast_training._make_body

    def counted(job: AstJob, folder: Path) -> None:
        bodies.extend([job.seed] if "all clips" not in job.name else [])
        real(job, folder)

    monkeypatch.setattr(ast_training, "_make_body", counted)
    optim = {"steps": 4, "batch_size": 8, "learning_rate": 1e-3, "record_every": 2}
    contrastive = {"optim": optim, "hidden_size": 16, "dimensions": 8}
    train(world, tmp_path / "out", methods=("gold", "noise", "synthio"), contrastive=contrastive)
    # Gold with and without noise share a body; synthio and the oracle have other clips.
    assert sorted(bodies) == [0, 0, 0, 1, 1]
    assert len(trained) == 1 + 2 * 5
    assert json.loads((tmp_path / "out" / "failures.json").read_text()) == []
    plain = tmp_path / "plain"
    train(world, plain, methods=("gold",))
    first = (tmp_path / "out" / "gold" / "0" / "model.safetensors").read_bytes()
    assert first != (plain / "gold" / "0" / "model.safetensors").read_bytes()
