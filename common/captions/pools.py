"""Pools of acoustic elements, one per label; a pool spans all clips of a label in a replicate."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from common.captions.checks import contains_phrase
from common.captions.records import Elements
from common.runtime.seeding import numpy_generator


class Element(NamedTuple):
    """A phrase, and one clip whose caption contains it."""

    kind: Literal["events", "scenes"]
    text: str
    clip_id: str


Pool = tuple[Element, ...]


def build_pools(elements: Iterable[tuple[str, str, Elements]], seed: int) -> dict[str, Pool]:
    """Build the pools from label, clip id and elements of each clip, in any order.

    Returns for each label its distinct phrases, sorted; of several clips with a phrase `seed` chooses the owner.
    """
    owners: dict[str, dict[tuple[Literal["events", "scenes"], str], set[str]]] = {}
    for label, clip_id, found in elements:
        phrases = owners.setdefault(label, {})
        for text in found.events:
            phrases.setdefault(("events", text), set()).add(clip_id)
        for text in found.scenes:
            phrases.setdefault(("scenes", text), set()).add(clip_id)
    return {
        label: tuple(
            Element(kind, text, min(clips, key=lambda clip_id: _rank(seed, text, clip_id)))
            for (kind, text), clips in sorted(phrases.items(), key=lambda item: item[0])
        )
        for label, phrases in owners.items()
    }


def _rank(seed: int, text: str, clip_id: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}\0{clip_id}".encode()).digest()


def joined(pools: Mapping[str, Pool], labels: Iterable[str]) -> Pool:
    """Merge the pools of all labels of a clip: each phrase once, in the order of `build_pools`."""
    found: dict[tuple[str, str], Element] = {}
    for label in labels:
        for element in pools.get(label, ()):
            found.setdefault((element.kind, element.text), element)
    return tuple(found[key] for key in sorted(found))


def draw(pool: Pool, share: float, seed: int, *names: str | int) -> Pool:
    """Draw a random `share` of a pool (rounded up), sorted; depends only on its arguments."""
    if not pool:
        return ()
    size = min(len(pool), math.ceil(share * len(pool)))
    chosen = numpy_generator(seed, "pool", *names).choice(len(pool), size, replace=False)
    return tuple(pool[index] for index in sorted(chosen))


def texts(pool: Pool) -> Elements:
    """Phrases of a pool by kind."""
    return Elements(
        events=tuple(element.text for element in pool if element.kind == "events"),
        scenes=tuple(element.text for element in pool if element.kind == "scenes"),
    )


def parents(caption: str, pool: Pool, source_clip_id: str) -> tuple[str, ...]:
    """Source clip first, then the clips whose elements occur in `caption`, sorted."""
    used = {element.clip_id for element in pool if contains_phrase(caption, element.text)}
    return (source_clip_id, *sorted(used - {source_clip_id}))
