from __future__ import annotations

import numpy as np
import pytest

from common.procedural.captions import spell, write_caption
from common.procedural.clips import CLASSES, make_clip, render_clip
from common.procedural.demo import DEMO_LABELS, demo_clips
from common.vocabulary import UNK_ID, build_tokenizer, build_vocabulary

RATE = 16000


def spectrum(audio: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2


def test_there_are_at_least_twelve_classes_and_six_in_the_demo() -> None:
    assert len(CLASSES) >= 12
    assert len(DEMO_LABELS) >= 6
    assert set(DEMO_LABELS) <= set(CLASSES)


@pytest.mark.parametrize("label", CLASSES)
def test_a_clip_repeats_bit_for_bit_and_varies_with_its_seed(label: str) -> None:
    first, again = (make_clip(label, np.random.default_rng(1), 0.768, RATE) for _ in range(2))
    other = make_clip(label, np.random.default_rng(2), 0.768, RATE)
    assert first.dtype == np.float32
    assert len(first) == round(0.768 * RATE)
    assert np.abs(first).max() <= 1.0
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("label", CLASSES)
def test_no_clip_holds_digital_silence(label: str) -> None:
    for seed in range(5):
        clip = make_clip(label, np.random.default_rng(seed), 1.024, RATE)
        frames = clip[: len(clip) // 256 * 256].reshape(-1, 256)
        assert float(np.sqrt((frames**2).mean(1)).min()) > 1e-5


@pytest.mark.parametrize("label", CLASSES)
def test_a_caption_names_its_label_whole_or_spelled(label: str) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        clip = render_clip(label, rng, 0.512, RATE)
        caption = write_caption(label, rng, clip.attributes)
        assert any(form in caption for form in (label, spell(label), spell(label, "-"))), caption
        assert caption == caption.lower()


def test_the_demo_is_fixed_and_sounds_like_no_corpus_clip() -> None:
    def share_in_the_telephone_band(audio: np.ndarray, rate: int) -> float:
        power = spectrum(audio)
        bins = np.fft.rfftfreq(len(audio), 1 / rate)
        return float(power[(bins > 250) & (bins < 3600)].sum() / power.sum())

    demo = list(demo_clips(train_per_label=2, test_per_label=2))
    again = list(demo_clips(train_per_label=2, test_per_label=2))
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(demo, again, strict=True))
    inside = np.median([share_in_the_telephone_band(clip.audio, clip.sample_rate_hz) for clip in demo])
    corpus = [make_clip(label, np.random.default_rng(3), 1.024, RATE) for label in DEMO_LABELS]
    assert inside > np.median([share_in_the_telephone_band(clip, RATE) for clip in corpus])
    assert inside > 0.8


def test_demo_clips_do_not_depend_on_how_many_there_are() -> None:
    few = {clip.name: clip.audio for clip in demo_clips(train_per_label=1, test_per_label=1)}
    more = {clip.name: clip.audio for clip in demo_clips(train_per_label=3, test_per_label=2)}
    assert all(np.array_equal(few[name], more[name]) for name in few)


def test_no_text_has_an_unknown_token_and_unseen_labels_differ() -> None:
    captions = [write_caption(label, np.random.default_rng(i)) for i, label in enumerate(CLASSES * 5)]
    tokenizer = build_tokenizer(build_vocabulary(captions))
    texts = ["sound of a zither", "sound of a kazoo", "schlüssel tür", "中文 🎧", 'quote "x" it\'s a/b ../c', *captions]
    ids = [tokenizer.encode(text).ids for text in texts]
    assert all(UNK_ID not in row for row in ids)
    assert len({tuple(row) for row in ids[:5]}) == 5
