from __future__ import annotations

import math

import pytest

from common.captions.metrics import distinct, diversity, diversity_by_label, self_bleu


def test_distinct_counts_different_n_grams_over_all() -> None:
    assert distinct(["a b a b"], 1) == pytest.approx(2 / 4)
    assert distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct(["a b", "a b"], 2) == pytest.approx(1 / 2)
    assert distinct([], 1) == 0


def test_self_bleu_is_one_for_copies_and_zero_without_a_common_word() -> None:
    assert self_bleu(["a loud dog bark in rain"] * 3) == pytest.approx(1)
    assert self_bleu(["one two three four", "five six seven eight"]) == 0


def test_self_bleu_of_a_pair_is_the_closed_form() -> None:
    # 2 of 4 words, then with one added to both (1 + 1) / (3 + 1), 1 / 3, 1 / 2; no brevity penalty.
    wanted = (2 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25
    assert self_bleu(["a b c d", "a b x y"]) == pytest.approx(wanted)


def test_a_short_caption_pays_for_its_brevity() -> None:
    long, short = "a b c d e f", "a b"
    wanted_short = math.exp(1 - 6 / 2)
    wanted_long = (2 / 6 * 2 / 6 * 1 / 5 * 1 / 4) ** 0.25
    assert self_bleu([long, short]) == pytest.approx((wanted_short + wanted_long) / 2)


def test_copies_have_no_spread_and_the_label_is_looked_for_as_a_phrase() -> None:
    found = diversity({"dog bark": ["sound of a dog bark"] * 4, "rain": ["training day", "loud rain"]})
    assert found["label_recall"] == pytest.approx(5 / 6)
    assert found["captions"] == 6
    assert found["unique_share"] == pytest.approx((1 / 4 + 1) / 2)
    assert found["word_spread"] == pytest.approx((0 + 1) / 2)


def test_figures_do_not_depend_on_the_order_of_labels() -> None:
    captions = {"b": [f"b {n}" for n in range(80)], "a": [f"a {n} {n % 3}" for n in range(60)]}
    assert diversity(captions) == diversity(dict(reversed(captions.items())))


def test_no_captions_give_zeros() -> None:
    assert set(diversity({}).values()) == {0}


def test_figures_of_the_whole_are_means_over_labels_and_a_lone_caption_has_no_pairs() -> None:
    captions = {"dog bark": ["a dog bark", "a loud dog bark near a door"], "rain": ["rain"]}
    by_label, whole = diversity_by_label(captions), diversity(captions)
    assert set(by_label) == set(captions) and "self_bleu" not in by_label["rain"]
    assert whole["self_bleu"] == by_label["dog bark"]["self_bleu"]
    assert whole["distinct_1"] == pytest.approx(
        (by_label["dog bark"]["distinct_1"] + by_label["rain"]["distinct_1"]) / 2
    )
