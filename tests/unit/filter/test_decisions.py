from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from common.config.clap import FilterAudioConfig
from common.contracts.generation import Bounds, Counts, EmptyClass, FilterFigures, Judged
from common.errors import DataError
from common.records.clips import SyntheticClip
from components.filter_audio.filtering import Embedded, Opinion, decide
from components.filter_audio.summary import summarize
from components.filter_audio.thresholds import Threshold
from tests.kit.clips import synthetic_clip

FILTERED, PLAIN = "dpo-mixcap-filtered", "none-template-all"
PROMPTS = np.eye(3, 4)
GOLD = Embedded(("g0", "g1"), np.array([[0.6, 0, 0, 0.8], [0, 0.6, 0, 0.8]]))
THRESHOLD = Threshold(kind="margin", min_margin=0.0)


def make(clip_id: str, label_id: int = 0, recipe: str = FILTERED, signal: str = "ok") -> SyntheticClip:
    return synthetic_clip(
        clip_id, f"label {label_id}", label_id, caption="c", recipe=recipe, source_clip_id="g0", signal=signal
    )


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


def fingerprints(clip_id: str) -> np.ndarray:
    """Ids with the same first letter are the same recording."""
    rng = np.random.default_rng(ord(clip_id[0]))
    rows = rng.standard_normal((8, 4))
    return rows / np.linalg.norm(rows)


def decisions(
    clips: list[SyntheticClip],
    embeddings: list[np.ndarray],
    before: dict[tuple[str, tuple[str, ...]], Embedded] | None = None,
    marks: Callable[[str], np.ndarray] = fingerprints,
    threshold: Threshold = THRESHOLD,
    opinions: dict[str, Opinion] | None = None,
    **config: Any,
) -> list[SyntheticClip]:
    labels = [f"label {number}" for number in range(3)]
    decided = decide(
        clips,
        np.array([[label in clip.labels for label in labels] for clip in clips]),
        np.stack(embeddings),
        PROMPTS,
        GOLD,
        before or {},
        marks,
        threshold,
        FilterAudioConfig(**config),
        {FILTERED: True, PLAIN: False},
        opinions or {},
    )
    assert [decision.clip_id for decision in decided] == [clip.clip_id for clip in clips]
    return decided


def run(
    clips: list[SyntheticClip],
    embeddings: list[np.ndarray],
    before: dict[tuple[str, tuple[str, ...]], Embedded] | None = None,
) -> dict[str, str | None]:
    return {decision.clip_id: decision.reason for decision in decisions(clips, embeddings, before)}


def test_a_clip_of_the_wrong_class_is_rejected_unless_its_recipe_has_no_filter() -> None:
    wrong = unit(0.1, 0.9, 0, 0)
    reasons = run([make("a"), make("b"), make("c", recipe=PLAIN)], [unit(0.9, 0.1, 0, 0), wrong, wrong])
    assert reasons == {"a": None, "b": "low_margin", "c": None}


def test_a_clip_that_fails_the_signal_check_is_rejected_under_any_recipe() -> None:
    good = unit(0.9, 0.1, 0, 0)
    reasons = run([make("a", signal="silence"), make("b", recipe=PLAIN, signal="clipping")], [good, good])
    assert reasons == {"a": "silence", "b": "clipping"}


def test_a_clip_must_pass_both_judges_and_the_account_tells_which_rejected_it() -> None:
    right, wrong = unit(0.9, 0.1, 0, 0), unit(0.1, 0.9, 0, 0)
    clips = [make(clip_id) for clip_id in "abcde"]
    heard = {"a": Opinion(0.9, True), "b": Opinion(0.1, False), "c": Opinion(0.8, True), "d": Opinion(0.2, False)}
    decided = decisions(clips, [right, right, wrong, wrong, right], opinions=heard)
    assert [each.reason for each in decided] == [None, "second_judge", "low_margin", "low_margin", None]
    assert [clip.second_probability for clip in decided] == [0.9, 0.1, 0.8, 0.2, None]
    (told,) = summarize(None, decided, {}).rounds
    assert told.judged == Judged(clips=4, clap=1, second=1, both=1)
    assert summarize(None, [clips[4]], {}).rounds[0].judged is None


def test_a_near_copy_of_a_gold_clip_is_rejected_and_an_alike_embedding_alone_is_not() -> None:
    like_gold = unit(0.62, 0, 0, 0.78)
    decided = decisions([make("g9"), make("h")], [like_gold, like_gold])
    assert [clip.reason for clip in decided] == ["near_copy", None]
    assert decided[0].nearest_clip_id == "g0" and (decided[0].nearest_similarity or 0) > 0.95


def test_of_near_duplicates_the_best_scoring_stays() -> None:
    reasons = run(
        [make("a1"), make("a2"), make("b1"), make("a3", label_id=1)],
        [unit(0.90, 0, 0, 0.10), unit(0.95, 0, 0, 0.10), unit(0.93, 0, 0, 0.1), unit(0, 0.9, 0, 0.1)],
    )
    assert reasons == {"a1": "near_duplicate", "a2": None, "b1": None, "a3": None}


def test_a_duplicate_of_a_clip_accepted_in_an_earlier_round_is_rejected() -> None:
    embedding = unit(0.9, 0, 0, 0.1)
    before = {(FILTERED, ("label 0",)): Embedded(("a0",), embedding[None])}
    assert run([make("a1")], [embedding], before) == {"a1": "near_duplicate"}
    other = {("none-mixcap-filtered", ("label 0",)): Embedded(("a0",), embedding[None])}
    assert run([make("a1")], [embedding], other) == {"a1": None}


def test_a_clip_of_several_labels_is_as_good_as_the_one_that_is_heard_least() -> None:
    both = make("a").model_copy(update={"further_labels": ("label 1",)})
    heard = [unit(0.7, 0.6, 0.1, 0), unit(0.9, 0.05, 0.2, 0)]
    decided = decisions([both, both.model_copy(update={"clip_id": "b"})], heard)
    assert [decision.reason for decision in decided] == [None, "low_margin"]
    assert decided[0].clap_score == pytest.approx(float(heard[0][1]))
    assert decided[0].clap_margin == pytest.approx(float(heard[0][1] - heard[0][2]))


def test_where_all_clips_lie_close_together_each_is_compared_with_a_few_only() -> None:
    count, most = 1200, 4
    asked: Counter[str] = Counter()

    def marks(clip_id: str) -> np.ndarray:
        asked[clip_id] += 1
        rows = np.random.default_rng(int(clip_id[1:])).standard_normal((4, 3))
        return rows / np.linalg.norm(rows)

    rng = np.random.default_rng(0)
    clips = [make(f"a{index:04d}") for index in range(count)]
    embeddings = [unit(1, *(0.01 * rng.standard_normal(2)), 0.1) for _ in clips]
    decided = decisions(clips, embeddings, marks=marks, max_compared=most, same_recording=1.0)
    assert {decision.reason for decision in decided} == {None}
    assert sum(asked.values()) <= count * (most + 1)


def test_every_scored_clip_names_its_nearest_gold_clip() -> None:
    decided = decisions([make("a", recipe=PLAIN), make("b", signal="silence")], [unit(0, 1, 0, 1), unit(1, 0, 0, 0)])
    assert decided[0].nearest_clip_id == "g1"
    assert decided[0].nearest_similarity == pytest.approx(float(unit(0, 1, 0, 1) @ GOLD.embeddings[1]))
    assert decided[1].clap_score is None and decided[1].nearest_clip_id is None


def test_a_recipe_that_the_run_does_not_know_is_an_error() -> None:
    with pytest.raises(DataError, match="clips of recipe other"):
        run([make("a", recipe="other")], [unit(1, 0, 0, 0)])


def test_the_account_counts_every_clip_once_and_names_empty_classes() -> None:
    first = [make("a"), make("b", 1).model_copy(update={"reason": "low_margin", "clap_score": 0.2})]
    none: dict[str, Any] = {"planted": {}, "second_planted": {}, "kernel_distance": {}}
    figures = FilterFigures(threshold=Bounds(kind="margin"), gold_scores=[], gold_margins=[], **none)
    account = summarize(None, first, {0: figures})
    assert account.rounds[0].by_recipe == {FILTERED: Counts(accepted=1, rejected=1)}
    assert account.empty_classes == [EmptyClass(seed=0, recipe=FILTERED, label="label 1")]
    told = account.candidates[1]
    assert (told.caption, told.score, told.reason, told.round) == ("c", 0.2, "low_margin", 0)
    later = summarize(account, [make("b2", 1)], {})
    assert [row.accepted for row in later.rounds] == [1, 1] and len(later.candidates) == 3
    assert later.empty_classes == [] and later.thresholds == account.thresholds
    empty = summarize(later, [], {})
    assert empty.rounds[2].by_recipe == {} and empty.candidates == later.candidates
