"""The benchmark of the codec: what it reads, what it measures, its tables."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from common.config.corpus import SpectralCodecConfig
from common.diffusion.spectral_codec import SpectralCodec
from common.errors import ConfigError, DataError
from contrib.nano.training import load_settings
from tests.benchmarks.codec import NANO, Clip, Split, Trip, codec_table, codecs, figures, measure, parse, splits
from tests.benchmarks.figures import table
from tests.benchmarks.learner_sets import SETS
from tests.kit.sounds import TONES, tone
from tests.unit.benchmarks.test_learners_benchmark import FOLDS, miniature

CONFIG = SpectralCodecConfig(n_mels=32, latent_channels=48, griffin_lim_steps=2)
CODECS = {"nano": partial(SpectralCodec.fit, config=CONFIG)}


def clips(numbers: range) -> list[Clip]:
    return [Clip(tone(label, number), label) for label in TONES for number in numbers]


def test_oracles_hear_clips_before_and_after_a_codec_that_is_fitted_outside_the_test_split() -> None:
    none, nano = measure("demo", Split(clips(range(8)), clips(range(8, 12))), CODECS, steps=20)
    assert none.accuracy["plain"] == 100 and set(none.lost.values()) == {0.0}
    assert nano.accuracy["plain"] == 100 - nano.lost["plain"] > 60
    assert nano.decoding > 0 and nano.shape == ("32 / 512 / 128 / 2", "31.2 x 48")


def test_the_codec_of_nano_is_the_one_that_is_shipped() -> None:
    assert codecs()[NANO]([]).config.latent_channels == load_settings().prepare_corpus.codec.latent_channels


def test_a_fold_that_tests_is_left_out_of_the_clips_that_are_learned(tmp_path: Path) -> None:
    layout = SETS["digits"].layout
    assert layout is not None
    miniature(tmp_path, layout)
    found = splits("digits", tmp_path, 0)
    assert len(found) == len(splits("digits", tmp_path, 1)) + 2 == len(FOLDS)
    assert [(len(split.train), len(split.test)) for split in found] == [(16, 8)] * 3
    with pytest.raises(DataError, match="DATA="):
        splits("digits", None, 1)


def test_tables_state_what_is_lost_and_why_a_set_is_missing() -> None:
    none = Trip("none", "demo", {"plain": 90.0, "CNN": 95.0}, {"plain": 0.0, "CNN": 0.0}, 0.0)
    shape = ("32 / 512 / 128 / 2", "31.2 x 48")
    nano = Trip("nano", "demo", {"plain": 84.0, "CNN": 94.0}, {"plain": 6.0, "CNN": 1.0}, 0.05, shape)
    other = replace(nano, accuracy={"plain": 86.0, "CNN": 94.0}, lost={"plain": 4.0, "CNN": 1.0}, decoding=0.02)
    plain, cnn, esc, decoding = figures([none, nano, other], {"esc10": "left out: no audio"}, ["demo", "esc10"])
    assert (plain.value, plain.met) == (pytest.approx(5.0), False) and cnn.met
    assert (decoding.value, decoding.met) == (0.05, True)
    assert "left out: no audio" in table([esc])
    rows = codec_table([none, nano])
    assert "| none | - | - | - | 90.0 | 95.0 |" in rows
    assert "| nano | 32 / 512 / 128 / 2 | 31.2 x 48 | 0.050 | 84.0 (-6.0) | 94.0 (-1.0) |" in rows


def test_an_unknown_set_is_named_with_those_there_are() -> None:
    assert parse(["--sets=digits"]).sets == ["digits"]
    with pytest.raises(ConfigError, match="esc10"):
        parse(["--sets=esc11"])
