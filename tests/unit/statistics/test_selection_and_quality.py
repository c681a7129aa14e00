from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from common.config.methods import METHODS, in_order
from common.contracts.evaluation import Evaluation
from common.contracts.gold import Dataset
from components.evaluate_classifier.comparison import compared
from components.evaluate_classifier.evaluation import best_classic_methods
from components.evaluate_classifier.model_card import model_card
from components.evaluate_classifier.quality import label_accuracy, set_distances, synthetic_sets
from tests.unit.report.artifacts import LABELS, make_evaluation, synthetic_clips


def test_the_best_classic_of_a_replicate_is_the_method_without_synthetic_clips() -> None:
    methods = {name: METHODS[name] for name in ("gold", "noise", "synthio_classic")}
    assert best_classic_methods({0: "noise", 1: "specaugment"}, methods) == {0: "noise"}


def test_methods_are_listed_as_in_the_catalogue() -> None:
    assert in_order(["synthio", "noise", "gold"]) == ["gold", "noise", "synthio"]


def test_pairs_are_only_of_methods_that_the_run_has() -> None:
    assert compared(["noise", "gold"]) == [("noise", "gold")]
    assert compared(["synthio"]) == []


def test_label_accuracy_counts_each_set_alone() -> None:
    vanilla, accepted = synthetic_clips("none-template-all", accepted=True), synthetic_clips("r", accepted=True)
    sets = synthetic_sets(vanilla, accepted)
    guesses = np.array([clip.label_id for clip in vanilla] + [0] * len(accepted))
    found = label_accuracy(guesses, [*vanilla, *accepted], sets, LABELS)
    assert found["vanilla"].accuracy == 1.0
    assert found["r, accepted"].accuracy == pytest.approx(1 / len(LABELS))
    assert found["r, accepted"].per_class[LABELS[0]] == 1.0


def test_a_clip_of_several_labels_is_right_where_one_of_them_is_heard_most() -> None:
    clips = [
        clip.model_copy(update={"further_labels": (LABELS[(clip.label_id + 1) % len(LABELS)],)})
        for clip in synthetic_clips("r", accepted=True)
    ]
    for shift, share in ((0, 1.0), (1, 1.0), (2, 0.0)):
        heard = np.array([(clip.label_id + shift) % len(LABELS) for clip in clips])
        assert label_accuracy(heard, clips, synthetic_sets([], clips), LABELS)["r, accepted"].accuracy == share


def test_distances_compare_sets_of_equal_size_and_rank_a_farther_set_farther() -> None:
    rng = np.random.default_rng(0)

    def embeddings(count: int, shift: float = 0.0) -> NDArray[np.float32]:
        return (shift + rng.normal(size=(count, 4))).astype(np.float32)

    sets = {"near": embeddings(300), "far": embeddings(30, 1.5)}
    found = set_distances(embeddings(40), embeddings(10), sets, seed=0, max_clips=1000)
    assert found.clips == 30
    assert found.sets["near"].frechet < found.sets["far"].frechet
    assert found.sets["near"].kernel < found.sets["far"].kernel
    assert found.held_out is not None and abs(found.held_out.kernel) < found.sets["far"].kernel
    few = set_distances(embeddings(40), embeddings(50), sets, seed=0, max_clips=20)
    assert few.held_out is not None and few.held_out.clips == few.gold_clips == 20


def test_a_run_without_synthetic_clips_has_no_distances() -> None:
    found = set_distances(np.zeros((5, 2), np.float32), np.zeros((0, 2), np.float32), {}, seed=0, max_clips=10)
    assert found.sets == {} and found.held_out is None


def card_of(
    changes: dict[str, Any], name: str = "x", licence: str = "CC0-1.0", delivered: Any = None, **how: Any
) -> str:
    evaluation = Evaluation.model_validate({**make_evaluation(resamples=200), **changes})
    told = evaluation.delivered.model_copy(update=delivered or {})
    dataset = Dataset(name=name, domain="sounds", licence=licence, reader="files", test="split", n=None)
    return model_card(evaluation, told, dataset, synthetic=True, **how)


def test_no_name_of_a_dataset_breaks_out_of_the_model_cards_metadata() -> None:
    licence = "CC0\nlicense: mit"
    heard = ["All 9 test clips come from AudioSet."]
    card = card_of({"heard": heard}, 'x"\n---\nevil: <script>', licence, transformers=False)
    assert "- Published models: All 9 test clips come from AudioSet." in card
    metadata, text = card.removeprefix("---\n").split("\n---\n", 1)
    fields = yaml.safe_load(metadata)
    assert fields["license"] == "other" and "evil" not in fields
    assert fields["license_name"] == licence
    assert "<script>" not in text


def test_the_model_card_tells_the_peak_that_the_pipeline_needs() -> None:
    levelled = card_of({}, transformers=True, peak_dbfs=-10.0)
    assert "classify(samples * 0.316 / abs(samples).max())" in levelled
    assert "abs(samples)" not in card_of({}, transformers=True)


def test_labels_are_no_markup_in_the_model_card() -> None:
    figures = {"confusion": [[1, 0], [0, 1]], "recall": [1.0, 1.0]}
    card = card_of({"labels": ["~~a|b~~", "*c* <i>"]}, delivered=figures, transformers=True)
    assert r"|  | \~\~a\|b\~\~ | \*c\* \<i\> |" in card


def test_labels_from_right_to_left_keep_their_figures_in_the_model_card() -> None:
    figures = {"confusion": [[1, 0], [0, 1]], "recall": [1.0, 0.5]}
    card = card_of({"labels": ["כלב", "dog"]}, delivered=figures, transformers=True)
    assert "\u2068כלב\u2069 100.0 %, dog 50.0 %" in card and "\u2068dog" not in card


def mistaken(classes: int) -> str:
    """The card of a run in which only the first class is mistaken, for each other one more often than for the next."""
    names = [f"class {k:02d}" for k in range(classes)]
    matrix = np.eye(classes, dtype=int) * 90
    matrix[0, 1:] = np.arange(classes - 1, 0, -1)
    figures = {"confusion": matrix.tolist(), "recall": [0.5] * classes}
    return card_of({"labels": names}, delivered=figures, transformers=True)


def test_the_model_card_has_the_confusion_matrix_of_a_few_classes() -> None:
    card = mistaken(3)
    # Of 93 clips of the first class 90, 2 and 1.
    assert "|  | class 00 | class 01 | class 02 |\n| --- | --- | --- | --- |\n| **class 00** | 97 | 2 | 1 |" in card
    assert "| **class 02** | 0 | 0 | 100 |" in card


def test_the_model_card_names_the_most_frequent_mistakes_among_many_classes() -> None:
    card = mistaken(13)
    listed = card.split("Most frequent mistakes, in percent of the true class: ")[1].split(".\n")[0].split(", ")
    assert len(listed) == 10
    assert listed[0] == "class 00 heard as class 01 7.1 %" and listed[9].startswith("class 00 heard as class 10")
    assert "**class 00**" not in card
