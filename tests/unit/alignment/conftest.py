from __future__ import annotations

from collections.abc import Callable

import pytest

from common.diffusion.backend import T2ABackend
from common.records.clips import GoldClip, SyntheticClip
from components.align_t2a.encoding import EncodedPairs, encode_pairs
from components.align_t2a.pairs import Group
from tests.tiny_t2a import LABELS, RATE, build_model, sound


@pytest.fixture
def backend() -> T2ABackend:
    return build_model()


def make_group(label: str, number: int, losers: int = 2) -> Group:
    winner = GoldClip(
        file_name="x.flac",
        clip_id=f"{label}-{number}",
        label=label,
        label_id=LABELS.index(label),
        source="x.wav",
        duration_s=0.5,
        sample_rate_hz=RATE,
    )
    made = [
        SyntheticClip(
            file_name=f"{label}-{number}.{index}.flac",
            clip_id=f"{label}-{number}.{index}",
            label=label,
            label_id=winner.label_id,
            caption="",
            recipe="",
            seed=0,
            source_clip_id=winner.clip_id,
            index=index,
            round=0,
            duration_s=0.5,
            sample_rate_hz=RATE,
            writer="",
            model_hash="",
            sampling_seed=0,
            sampler={},
            gain_db=0.0,
        )
        for index in range(losers)
    ]
    return Group(winner, tuple(made))


@pytest.fixture
def pairs(backend: T2ABackend) -> EncodedPairs:
    clips = [
        (make_group(label, number), sound(label, number), [sound(LABELS[0], 10 * number + i) for i in (5, 6)])
        for label in LABELS[1:]
        for number in range(2)
    ]
    return encode_pairs(backend, clips, 4, -1.0)


@pytest.fixture
def group() -> Callable[..., Group]:
    return make_group
