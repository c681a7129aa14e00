from __future__ import annotations

import numpy as np
import pytest

from common.config.clap import FilterAudioConfig
from common.errors import DataError
from common.records import SyntheticClip
from components.filter_audio.decisions import Embedded, decide
from components.filter_audio.summary import summarize
from components.filter_audio.thresholds import Threshold

FILTERED, PLAIN = "dpo-mixcap-filtered", "none-template-all"
PROMPTS = np.eye(3, 4)
GOLD = Embedded(("g0", "g1"), np.array([[0.6, 0, 0, 0.8], [0, 0.6, 0, 0.8]]))
THRESHOLD = Threshold(kind="margin", min_margin=0.0)


def make(clip_id: str, label_id: int = 0, recipe: str = FILTERED, signal: str = "ok") -> SyntheticClip:
    return SyntheticClip(
        file_name=f"{clip_id}.flac",
        clip_id=clip_id,
        label=f"label {label_id}",
        label_id=label_id,
        caption="c",
        recipe=recipe,
        seed=0,
        source_clip_id="g0",
        index=0,
        round=0,
        duration_s=1,
        sample_rate_hz=8000,
        writer="w",
        model_hash="m",
        sampling_seed=1,
        sampler={},
        gain_db=0,
        signal=signal,
    )


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


def fingerprints(clip_id: str) -> np.ndarray:
    """Ids with the same first letter are the same recording."""
    rng = np.random.default_rng(ord(clip_id[0]))
    rows = rng.standard_normal((8, 4))
    return rows / np.linalg.norm(rows)


def run(
    clips: list[SyntheticClip], embeddings: list[np.ndarray], before: dict[tuple[str, str], Embedded] | None = None
) -> dict[str, str | None]:
    decided = decide(
        clips,
        np.stack(embeddings),
        PROMPTS,
        GOLD,
        before or {},
        fingerprints,
        THRESHOLD,
        FilterAudioConfig(),
        {FILTERED: True, PLAIN: False},
    )
    assert [clip.clip_id for clip in decided] == [clip.clip_id for clip in clips]
    return {clip.clip_id: clip.reason for clip in decided}


def test_a_clip_of_the_wrong_class_is_rejected_unless_its_recipe_has_no_filter() -> None:
    wrong = unit(0.1, 0.9, 0, 0)
    reasons = run([make("a"), make("b"), make("c", recipe=PLAIN)], [unit(0.9, 0.1, 0, 0), wrong, wrong])
    assert reasons == {"a": None, "b": "low_margin", "c": None}


def test_a_clip_that_fails_the_signal_check_is_rejected_under_any_recipe() -> None:
    good = unit(0.9, 0.1, 0, 0)
    reasons = run([make("a", signal="silence"), make("b", recipe=PLAIN, signal="clipping")], [good, good])
    assert reasons == {"a": "silence", "b": "clipping"}


def test_a_near_copy_of_a_gold_clip_is_rejected_and_an_alike_embedding_alone_is_not() -> None:
    like_gold = unit(0.62, 0, 0, 0.78)
    decided = decide(
        [make("g9"), make("h")],
        np.stack([like_gold, like_gold]),
        PROMPTS,
        GOLD,
        {},
        fingerprints,
        THRESHOLD,
        FilterAudioConfig(),
        {FILTERED: True},
    )
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
    before = {(FILTERED, "label 0"): Embedded(("a0",), embedding[None])}
    assert run([make("a1")], [embedding], before) == {"a1": "near_duplicate"}
    other = {("none-mixcap-filtered", "label 0"): Embedded(("a0",), embedding[None])}
    assert run([make("a1")], [embedding], other) == {"a1": None}


def test_every_scored_clip_names_its_nearest_gold_clip() -> None:
    decided = decide(
        [make("a", recipe=PLAIN), make("b", signal="silence")],
        np.stack([unit(0, 1, 0, 1), unit(1, 0, 0, 0)]),
        PROMPTS,
        GOLD,
        {},
        fingerprints,
        THRESHOLD,
        FilterAudioConfig(),
        {FILTERED: True, PLAIN: False},
    )
    assert decided[0].nearest_clip_id == "g1"
    assert decided[0].nearest_similarity == pytest.approx(float(unit(0, 1, 0, 1) @ GOLD.embeddings[1]))
    assert decided[1].clap_score is None and decided[1].nearest_clip_id is None


def test_a_recipe_that_the_run_does_not_know_is_an_error() -> None:
    with pytest.raises(DataError, match="clips of recipe other"):
        run([make("a", recipe="other")], [unit(1, 0, 0, 0)])


def test_the_account_counts_every_clip_once_and_names_empty_classes() -> None:
    first = [make("a"), make("b", 1).model_copy(update={"reason": "low_margin"})]
    account = summarize(None, first, {0: {"threshold": {}}})
    assert account["rounds"][0]["by_recipe"] == {FILTERED: {"accepted": 1, "rejected": 1}}
    assert account["empty_classes"] == [{"seed": 0, "recipe": FILTERED, "label": "label 1"}]
    later = summarize(account, [make("b2", 1)], {})
    assert [row["accepted"] for row in later["rounds"]] == [1, 1] and len(later["candidates"]) == 3
    assert later["empty_classes"] == [] and later["thresholds"] == account["thresholds"]
    empty = summarize(later, [], {})
    assert empty["rounds"][2] | {"by_recipe": {}} == empty["rounds"][2] and empty["candidates"] == later["candidates"]
