"""Windows of recordings, licences, and what captions say."""

from __future__ import annotations

import numpy as np
import pytest

from common.audio.signal import check_signal
from common.errors import DataError
from contrib.nano.clips import LONGEST_S, RATE_HZ, at_some_level, windows
from contrib.nano.licences import licence_family
from contrib.nano.wording import common_label, word_sound, word_speech, word_word
from tests.unit.nano.conftest import tone

LENGTH = round(LONGEST_S * RATE_HZ)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def test_a_short_recording_is_one_clip_without_the_silence_around_it() -> None:
    (clip,) = windows(np.concatenate([silence(1), tone(0.5), silence(2)]))
    assert abs(len(clip) - 0.5 * RATE_HZ) < 0.05 * RATE_HZ
    assert windows(silence(3)) == []


def test_a_long_recording_is_cut_at_its_loudest_moments_and_nowhere_in_silence() -> None:
    quiet, loud = tone(1.5, level=0.1), tone(1.5, level=0.8)
    found = windows(np.concatenate([quiet, silence(5), loud, silence(5), tone(1.5, level=0.001)]))
    assert [len(clip) for clip in found] == [LENGTH] * len(found)
    levels = [float(np.abs(clip).max()) for clip in found]
    assert levels[0] > 0.7
    assert min(levels) > 0.09, "the faint end, 58 dB below the loudest, gives no clip"
    assert any(level < 0.2 for level in levels)


def test_windows_of_a_steady_sound_overlap_by_half_at_most_and_are_not_too_many() -> None:
    steady = np.random.default_rng(0).normal(0, 0.1, 5 * RATE_HZ).astype(np.float32)
    found = windows(steady)
    starts = sorted(int(np.argmax(np.correlate(steady, clip[1000:2000], "valid"))) for clip in found)
    assert 3 <= len(found) <= 7
    assert min(np.diff(starts)) >= LENGTH // 2
    assert len(windows(np.tile(steady, 4))) == 12


def test_a_cut_side_is_faded_and_a_natural_one_is_not() -> None:
    begins_loud = np.concatenate([tone(0.3, level=0.9), tone(3, level=0.3)])
    first = windows(begins_loud)[0]
    assert np.abs(first[160:240]).max() > 0.8
    assert abs(first[-1]) < 1e-3 < np.abs(first[-200:]).max()


def test_clips_are_scaled_to_peaks_between_12_and_1_dbfs() -> None:
    rng = np.random.default_rng(0)
    peaks = [20 * np.log10(np.abs(at_some_level(tone(0.1, level=0.01), rng)).max()) for _ in range(50)]
    assert -12.1 < min(peaks) < -9
    assert -4 < max(peaks) < -0.9


def test_an_offset_that_would_make_a_clip_unusable_is_taken_away() -> None:
    clip = at_some_level(0.5 + tone(0.5, level=0.1), np.random.default_rng(0))
    assert abs(float(clip.mean())) < 1e-3
    assert check_signal(clip, RATE_HZ) == "ok"


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("CC0 1.0", "CC0"),
        ("CC BY (version not stated)", "CC BY"),
        ("cc-by ==> http://creativecommons.org/licenses/by/3.0/", "CC BY"),
        ("Attribution-Share Alike 3.0 United States", "CC BY-SA"),
        ("GPL-2+ / CC BY-SA 3.0 (mixed)", "GPL"),
        ("generated with espeak-ng (GPL-3+ program)", "generated"),
        ("public domain", "public domain"),
    ],
)
def test_licences_that_allow_use_with_attribution_are_told_by_family(text: str, family: str) -> None:
    assert licence_family(text, "dog.flac") == family


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CC BY-NC 3.0 (dataset as a whole)", r"refused \(NC\)"),
        ("Creative Commons Attribution-NonCommercial", r"refused \(NonCommercial\)"),
        ("CC BY-ND 4.0", r"refused \(ND\)"),
        ("Sampling Plus 1.0", r"refused \(Sampling\)"),
        ("free for research", r"refused \(research\)"),
        ("ask the author", "unknown"),
        ("", "unknown"),
    ],
)
def test_other_licences_are_refused_with_the_name_of_the_file(text: str, found: str) -> None:
    with pytest.raises(DataError, match=rf"dog\.flac: licence .*{found}.*allowed.*metadata\.csv"):
        licence_family(text, "dog.flac")


@pytest.mark.parametrize(
    ("name", "label", "told"),
    [
        ("gravel, footsteps", "footsteps", "footsteps on gravel"),
        ("rain, supertux", "rain", "rain"),
        ("bubble bird, brainparty", "bird", "bubble bird"),
        ("splat", None, "splat"),
        ("newroot, frozen bubble", None, "newroot"),
        ("malevoices oo, note A3", "singing", "male voices oo, note a3"),
        ("2, tuxpaint", None, "a sound effect"),
    ],
)
def test_a_sound_is_told_by_whole_words_of_its_name_and_not_by_the_name_of_its_game(
    name: str, label: str | None, told: str
) -> None:
    wording = word_sound(name, None)
    assert (wording.label, wording.told[0]) == (label, told)


def test_labels_of_collections_are_called_alike_and_empty_ones_give_way_to_the_name() -> None:
    assert common_label("hi_hat") == "hi-hat"
    assert common_label("bass_drum") == common_label("kick") == "kick drum"
    assert common_label("other") is None
    assert word_sound("a sound effect, crow", common_label("misc")).label == "crow"


def test_clips_of_a_recording_get_different_captions_from_its_name_and_its_label() -> None:
    wording = word_sound("big dog bark", None)
    captions = [wording.captions(clip, 2) for clip in range(6)]
    assert all(len(set(pair)) == 2 for pair in captions)
    assert {"big dog bark", "a dog barks", "sound of a dog", "dog"} <= {
        caption for pair in captions for caption in pair
    }
    assert len({caption for _, caption in captions}) == 6


def test_a_spoken_word_that_names_a_sound_is_never_captioned_by_the_word_alone() -> None:
    assert "seven" in word_word("seven").named
    dog = word_word("dog", "woman")
    assert dog.label == "spoken dog"
    assert not dog.named
    assert 'a woman saying "dog"' in dog.told


@pytest.mark.parametrize(
    ("caption", "label", "told"),
    [
        ("a person saying the letter a-14 in Danish", "letter_da", "a person saying the letter a in Danish"),
        ("a person saying the syllable in Czech", "syllable_cs", "a person saying a syllable in Czech"),
        ("a person saying the number three in ko", "number_ko", "a person saying the number three in Korean"),
        ('a person saying "egypt camel"', "word_en", 'a person saying "camel"'),
        ('a person saying "conf otherinparty"', "speech_en", "a person speaking English"),
    ],
)
def test_captions_of_speech_say_what_is_heard(caption: str, label: str, told: str) -> None:
    wording = word_speech(caption, label)
    assert (wording.label, wording.told[0]) == ("speech", told)
