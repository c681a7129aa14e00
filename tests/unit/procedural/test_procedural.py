from __future__ import annotations

import numpy as np
import pytest

from common.corpus.vocabulary import UNK_ID, build_tokenizer, build_vocabulary
from common.procedural.captions import spell, write_caption
from common.procedural.clips import CLASSES, ProceduralClip, render_clip
from common.procedural.demo import DEMO_LABELS, demo_clips
from common.procedural.words import LOUDNESS_WORDS, PITCH_WORDS, TEMPO_WORDS, TEXTURE_WORDS

RATE = 16000


def spectrum(audio: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2


def test_there_are_at_least_twelve_classes_and_six_in_the_demo() -> None:
    assert len(CLASSES) >= 12
    assert len(DEMO_LABELS) >= 6
    assert set(DEMO_LABELS) <= set(CLASSES)


@pytest.mark.parametrize("label", CLASSES)
def test_a_clip_repeats_bit_for_bit_and_varies_with_its_seed(label: str) -> None:
    first, again = (render_clip(label, np.random.default_rng(1), 0.768, RATE).audio for _ in range(2))
    other = render_clip(label, np.random.default_rng(2), 0.768, RATE).audio
    assert first.dtype == np.float32
    assert len(first) == round(0.768 * RATE)
    assert np.abs(first).max() <= 1.0
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("label", CLASSES)
def test_no_clip_holds_digital_silence(label: str) -> None:
    for seed in range(5):
        clip = render_clip(label, np.random.default_rng(seed), 1.024, RATE).audio
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
    corpus = [render_clip(label, np.random.default_rng(3), 1.024, RATE).audio for label in DEMO_LABELS]
    assert inside > np.median([share_in_the_telephone_band(clip, RATE) for clip in corpus])
    assert inside > 0.8


def test_demo_clips_do_not_depend_on_how_many_there_are() -> None:
    few = {clip.name: clip.audio for clip in demo_clips(train_per_label=1, test_per_label=1)}
    more = {clip.name: clip.audio for clip in demo_clips(train_per_label=3, test_per_label=2)}
    assert all(np.array_equal(few[name], more[name]) for name in few)


def test_no_text_has_an_unknown_token_and_unseen_labels_differ() -> None:
    captions = [write_caption(label, np.random.default_rng(i)) for i, label in enumerate(CLASSES * 5)]
    tokenizer = build_tokenizer(build_vocabulary(captions), 64).backend_tokenizer
    texts = ["sound of a zither", "sound of a kazoo", "schlüssel tür", "中文 🎧", 'quote "x" it\'s a/b ../c', *captions]
    ids = [tokenizer.encode(text).ids for text in texts]
    assert all(UNK_ID not in row for row in ids)
    assert len({tuple(row) for row in ids[:5]}) == 5


def test_template_and_spelled_captions_are_as_frequent_as_prompts_need() -> None:
    captions = [write_caption("dog bark", np.random.default_rng(seed)) for seed in range(2000)]
    template = np.mean([caption == "sound of a dog bark" for caption in captions])
    spelled = np.mean(["d o g" in caption or "d-o-g" in caption for caption in captions])
    assert template >= 0.15
    assert spelled >= 0.08


def clips_of(label: str, count: int = 60) -> list[ProceduralClip]:
    return [render_clip(label, np.random.default_rng(seed), 1.024, RATE) for seed in range(count)]


def test_a_high_beep_is_higher_than_a_low_one() -> None:
    peaks: dict[str, list[float]] = {"low": [], "middle": [], "high": []}
    for clip in clips_of("beep"):
        peaks[clip.attributes.pitch].append(float(np.argmax(spectrum(clip.audio)) / 1.024))
    assert np.median(peaks["low"]) * 1.4 < np.median(peaks["middle"]) < np.median(peaks["high"]) / 1.4


def test_fast_drums_repeat_more_often_than_slow_ones_and_single_ones_do_not() -> None:
    def strong_frames(audio: np.ndarray) -> int:
        level = np.abs(audio[: len(audio) // 512 * 512].reshape(-1, 512)).max(1)
        loud = level > 0.5 * level.max()
        return int(np.sum(loud[1:] & ~loud[:-1])) + int(loud[0])

    counts: dict[str, list[int]] = {"single": [], "slow": [], "fast": []}
    for clip in clips_of("drum"):
        counts[clip.attributes.tempo].append(strong_frames(clip.audio))
    assert np.median(counts["single"]) == 1
    assert 2 <= np.median(counts["slow"]) < np.median(counts["fast"])


def test_loud_clips_are_louder_than_quiet_ones() -> None:
    peaks: dict[str, list[float]] = {"quiet": [], "normal": [], "loud": []}
    for clip in clips_of("bell"):
        peaks[clip.attributes.loudness].append(float(np.abs(clip.audio).max()))
    assert max(peaks["quiet"]) < min(peaks["normal"])
    assert max(peaks["normal"]) < min(peaks["loud"])


def test_a_caption_says_nothing_that_is_not_true_of_the_clip() -> None:
    groups = (("pitch", PITCH_WORDS), ("tempo", TEMPO_WORDS), ("loudness", LOUDNESS_WORDS), ("texture", TEXTURE_WORDS))
    for seed in range(200):
        rng = np.random.default_rng(seed)
        attributes = render_clip("whistle", rng, 0.512, RATE).attributes
        caption = f" {write_caption('whistle', rng, attributes).replace(',', '')} "
        for field, choices in groups:
            for value, wordings in choices.items():
                if value != getattr(attributes, field):
                    assert not any(f" {wording} " in caption for wording in wordings), (caption, attributes)


def test_the_nearest_class_mean_tells_most_classes_apart_but_not_all() -> None:
    def bands(audio: np.ndarray) -> np.ndarray:
        frames = np.lib.stride_tricks.sliding_window_view(audio, 512)[::256] * np.hanning(512)
        log_power = np.log(np.abs(np.fft.rfft(frames))[:, 1:].reshape(-1, 32, 8).sum(2) + 1e-4)
        log_power -= log_power.mean()
        return np.concatenate([log_power.mean(0), log_power.std(0)])

    features = np.array([[bands(clip.audio) for clip in clips_of(label, 24)] for label in CLASSES])
    means = features[:, :16].mean(1)
    distances = ((features[:, 16:, None] - means) ** 2).sum(-1)
    accuracy = np.mean(distances.argmin(-1) == np.arange(len(CLASSES))[:, None])
    assert 0.4 < accuracy < 0.98
