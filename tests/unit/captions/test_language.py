from __future__ import annotations

import numpy as np
import pytest

from common.captions.checks import in_other_language
from common.procedural.captions import write_caption
from common.procedural.clips import CLASSES

OTHER = {
    "german": "leise Schritte auf Kies und ein Zug in der Ferne",
    "french": "une cloche sonne dans le village avec du vent",
    "spanish": "una campana suena en el pueblo con viento",
    "italian": "una campana suona nella piazza con il vento",
    "portuguese": "um sino toca na praça com o vento",
    "dutch": "een bel klinkt op het plein bij de kerk",
    "swedish": "en klocka ringer på torget med vind och regn",
    "polish": "dzwon bije na rynku i w oddali jest wiatr",
    "turkish": "bir köpek ve rüzgar sesi",
    "indonesian": "suara lonceng di desa dengan angin",
}


@pytest.mark.parametrize("language", OTHER)
def test_a_sentence_in_another_language_of_latin_script_is_told(language: str) -> None:
    assert in_other_language(OTHER[language], "English")
    assert not in_other_language(OTHER[language], language)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hum, hiss",
        "a van door slams, then someone met by a die press pours con carne",
        "las vegas slot machines in a casino",
        "a mariachi band playing la bamba in el paso",
        "an oud and a qanun",
    ],
)
def test_names_and_loan_words_make_no_other_language(text: str) -> None:
    assert not in_other_language(text, "English")


def test_no_caption_of_the_built_in_corpus_is_taken_for_another_language() -> None:
    rng = np.random.default_rng(0)
    captions = [write_caption(label, rng) for label in CLASSES for _ in range(30)]
    assert not any(in_other_language(caption, "English") for caption in captions)
