"""How near labels are to what a text-to-audio model knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.corpus.vocabulary import build_tokenizer, build_vocabulary
from common.models.concepts import Nearness, concepts_of, nearest, spelled_words

CONCEPTS = ["bell", "bicycle bell", "dog bark", "rain"]


def test_the_nearest_concept_shares_most_words() -> None:
    assert [nearest(label, CONCEPTS) for label in ("Dog_Barks", "church bell", "chainsaw")] == [
        Nearness("Dog_Barks", "dog bark", 1.0),
        Nearness("church bell", "bell", 0.5),
        Nearness("chainsaw", None, 0.0),
    ]
    assert nearest("rain", []) == Nearness("rain", None, 0.0)


def test_nothing_is_known_of_models_that_do_not_come_with_the_project() -> None:
    assert concepts_of("stabilityai/stable-audio-open-1.0") is None and concepts_of("random") is None


@pytest.mark.parametrize(("label", "words"), [("dog bark", []), ("Zyx bark", ["zyx"]), ("鐘", ["鐘"]), ("a", [])])
def test_words_that_the_text_encoder_reads_by_letters_are_found(tmp_path: Path, label: str, words: list[str]) -> None:
    vocabulary = build_vocabulary(["sound of a dog bark", "a dog can be heard", "a bell, a dog, rain"] * 3)
    build_tokenizer(vocabulary, 32).save_pretrained(tmp_path)
    assert spelled_words(tmp_path, label) == words


def test_without_a_tokenizer_file_nothing_is_known(tmp_path: Path) -> None:
    assert spelled_words(tmp_path, "dog") == []
