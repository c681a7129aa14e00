from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from common.audio.signal import rms_dbfs
from common.diffusion.backend import T2ABackend
from common.errors import DataError
from components.align_t2a.encoding import encode_pairs
from components.align_t2a.pairs import Group, equalize, fit_length, groups
from tests.kit.sounds import RATE, tone


def peak_dbfs(audio: np.ndarray) -> float:
    return 20 * float(np.log10(np.abs(audio).max()))


def test_winner_and_losers_get_one_level_by_gain_alone() -> None:
    winner, losers = tone("bus", 0), [2 * tone("jazz", 1), 0.01 * tone("dog_bark", 2)]
    treated, others = equalize(winner, losers, -1.0)
    assert treated is not None and np.array_equal(treated, winner)
    for before, after in zip(losers, others, strict=True):
        assert after is not None
        assert rms_dbfs(after) == pytest.approx(rms_dbfs(winner), abs=1e-3)
        assert np.allclose(after / np.abs(after).max(), before / np.abs(before).max(), atol=1e-6)


def test_a_clip_that_would_pass_the_peak_limit_lowers_all() -> None:
    spiky = 0.001 * tone("jazz", 0)
    spiky[100] = 0.5
    winner, (loser, other) = equalize(tone("bus", 0), [spiky, tone("jazz", 1)], -1.0)
    assert winner is not None and loser is not None and other is not None
    assert peak_dbfs(loser) == pytest.approx(-1.0, abs=1e-3)
    levels = [rms_dbfs(clip) for clip in (winner, loser, other)]
    assert max(levels) - min(levels) < 1e-3
    assert levels[0] < rms_dbfs(tone("bus", 0)) - 3


def test_silent_clips_are_left_out_and_counted_and_nothing_but_silence_is_an_error(
    backend: T2ABackend, group: Callable[..., Group]
) -> None:
    silence = np.zeros(8000, np.float32)
    assert equalize(tone("bus", 0), [silence], -1.0)[1] == [None]
    clips = [
        (group("bus", 0), tone("bus", 0), [silence, tone("jazz", 0)]),
        (group("bus", 1), 1e-5 * tone("bus", 1), [tone("bus", 2), tone("bus", 3)]),
    ]
    pairs = encode_pairs(backend, clips, 4, -1.0)
    assert (pairs.pairs, pairs.silent_losers, pairs.silent_winners) == (1, 1, ("bus-1",))
    with pytest.raises(DataError, match="0 generated and 1 gold clips are silent"):
        encode_pairs(backend, clips[1:], 4, -1.0)


def test_length_is_the_loudest_window_or_silence_at_the_end() -> None:
    audio = np.zeros(1000, np.float32)
    audio[600:700] = 0.5
    assert np.array_equal(fit_length(audio, 100), audio[600:700])
    assert np.array_equal(fit_length(audio, 1200), np.concatenate([audio, np.zeros(200, np.float32)]))
    assert fit_length(audio, 1000) is not None and np.array_equal(fit_length(audio, 1000), audio)


@pytest.mark.parametrize("gain", [0.5, 0.11, 2.7])
def test_a_pair_that_differs_only_by_gain_has_equal_latents(
    backend: T2ABackend, group: Callable[..., Group], gain: float
) -> None:
    audio = tone("bus", 0)
    pairs = encode_pairs(backend, [(group("bus", 0, 1), audio, [np.float32(gain) * audio])], 4, -1.0)
    (bucket,) = pairs.buckets
    assert torch.allclose(bucket.winners, bucket.losers, atol=1e-4)


def test_a_clip_longer_than_the_window_is_cut_to_its_loudest_part_in_both(
    backend: T2ABackend, group: Callable[..., Group]
) -> None:
    window = backend.max_frames * backend.hop_length
    long = np.concatenate([0.01 * tone("bus", 0, 1.0), tone("bus", 1, window / RATE)])
    pairs = encode_pairs(backend, [(group("bus", 0, 1), long, [tone("bus", 1, window / RATE)])], 4, -1.0)
    (bucket,) = pairs.buckets
    assert bucket.winners.shape[-1] == backend.max_frames
    assert torch.allclose(bucket.winners, bucket.losers, atol=0.2)


def test_each_gold_clip_meets_its_own_losers_of_its_own_replicate(group: Callable[..., Group]) -> None:
    made = [group(label, number, 3) for label in ("bus", "jazz") for number in range(2)]
    gold = [g.winner for g in made]
    losers = [clip for g in reversed(made) for clip in reversed(g.losers)]
    strangers = [clip.model_copy(update={"replicate": 1}) for clip in losers]
    found = groups(gold, [*losers, *strangers], 0, 2)
    assert [g.winner for g in found] == gold
    assert [g.losers for g in found] == [g.losers[:2] for g in made]
    with pytest.raises(DataError, match="has 3 losers, expected 4"):
        groups(gold, losers, 0, 4)


def test_every_pair_keeps_its_winner_and_label(backend: T2ABackend, group: Callable[..., Group]) -> None:
    clips = [(group("bus", 0), tone("bus", 0), [np.zeros(8000, np.float32), tone("jazz", 0)])]
    clips += [(group("jazz", 1), tone("jazz", 1), [tone("bus", 3), tone("bus", 4)])]
    pairs = encode_pairs(backend, clips, 4, -1.0)
    (bucket,) = pairs.buckets
    assert pairs.silent_losers == 1 and pairs.pairs == 3
    assert bucket.winner_of.tolist() == [0, 1, 1] and bucket.caption_of.tolist() == [0, 1, 1]
    for label, row in (("bus", 0), ("jazz", 1)):
        expected = backend.condition([f"sound of a {label}"], [0.5])
        assert torch.allclose(bucket.condition.cross[row], expected.cross[0], atol=1e-6)
        assert torch.allclose(bucket.condition.global_[row], expected.global_[0], atol=1e-6)


@pytest.mark.parametrize("label", ["bus", "jazz", "dog_bark", "shopping mall", "Fire engine, fire truck (siren)"])
def test_the_whole_prompt_reaches_the_text_encoder(
    backend: T2ABackend, group: Callable[..., Group], monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    seen: list[torch.Tensor] = []
    encoder = backend.text_encoder
    encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    renamed = group("bus", 0, 1)
    renamed = Group(renamed.winner.model_copy(update={"label": label}), renamed.losers)
    encode_pairs(backend, [(renamed, tone("bus", 0), [tone("bus", 1)])], 4, -1.0)
    text = backend.tokenizer.decode(seen[0][0], skip_special_tokens=True)
    spoken = label.lower().replace("_", " ")
    assert text.replace(" ", "") == f"sound of a {spoken}".replace(" ", "")
    assert backend.tokenizer.unk_token_id not in seen[0][0]
