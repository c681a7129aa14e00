from __future__ import annotations

from collections.abc import Callable

import pytest

from common.diffusion.backend import T2ABackend
from components.align_t2a.encoding import EncodedPairs, encode_pairs
from components.align_t2a.pairs import Group
from tests.kit.clips import gold_clip, synthetic_clip
from tests.kit.models import build_t2a
from tests.kit.sounds import TONES, tone


@pytest.fixture
def backend() -> T2ABackend:
    return build_t2a()


def make_group(label: str, number: int, losers: int = 2) -> Group:
    clip_id, label_id = f"{label}-{number}", TONES.index(label)
    made = [
        synthetic_clip(f"{clip_id}.{index}", label, label_id, source_clip_id=clip_id, index=index)
        for index in range(losers)
    ]
    return Group(gold_clip(clip_id, label, label_id), tuple(made))


@pytest.fixture
def pairs(backend: T2ABackend) -> EncodedPairs:
    clips = [
        (make_group(label, number), tone(label, number), [tone(TONES[0], 10 * number + i) for i in (5, 6)])
        for label in TONES[1:]
        for number in range(2)
    ]
    return encode_pairs(backend, clips, 4, -1.0)


@pytest.fixture
def group() -> Callable[..., Group]:
    return make_group
