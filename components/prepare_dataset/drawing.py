"""Draws of clips: exact numbers, stratified by class, or whole groups."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from common.datasets.rows import Row
from common.runtime.seeding import numpy_generator
from components.prepare_dataset.clips import Clip

Drawn = TypeVar("Drawn", Clip, Row)
"""Clips, or rows of a listing before any audio is read."""

_TRIES = 200
_OF_CLASS = 10


def allocate(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Allocate `total` to classes in proportion to `counts`, by largest remainder (ties by name).

    If `total` suffices, every class gets at least one, taken from the largest share.

    Raises ValueError: `total` exceeds the sum of `counts`.
    """
    available = sum(counts.values())
    if not 0 <= total <= available:
        raise ValueError(f"cannot draw {total} of {available}")
    labels = sorted(label for label, count in counts.items() if count)
    share = {label: total * counts[label] // available for label in labels}
    by_remainder = sorted(labels, key=lambda label: (-(total * counts[label] % available), label))
    for label in by_remainder[: total - sum(share.values())]:
        share[label] += 1
    if total >= len(labels):
        for label in [label for label in labels if not share[label]]:
            share[max(labels, key=lambda name: share[name])] -= 1
            share[label] = 1
    return share


def draw(clips: Sequence[Drawn], total: int, seed: int, purpose: str) -> list[Drawn]:
    """Exactly `total` of `clips`, stratified by class, sorted by clip id.

    The draw of a class depends only on `seed`, `purpose` and the class; a larger draw from the same
    clips contains the smaller one's clips of that class. Clips with several labels are drawn by
    `_draw_several`.

    Raises ValueError: `total` exceeds the number of clips.
    """
    if any(clip.further_labels for clip in clips):
        return _draw_several(clips, total, seed, purpose)
    by_label: dict[str, list[Drawn]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        by_label[clip.label].append(clip)
    chosen: list[Drawn] = []
    for label, count in allocate({label: len(members) for label, members in by_label.items()}, total).items():
        order = numpy_generator(seed, purpose, label).permutation(len(by_label[label]))
        chosen += [by_label[label][index] for index in order[:count]]
    return sorted(chosen, key=lambda clip: clip.clip_id)


def _draw_several(clips: Sequence[Drawn], total: int, seed: int, purpose: str) -> list[Drawn]:
    """Exactly `total` multi-label clips, drawn one by one, each for the label that lacks most of its share.

    Labels without a clip come first, the rarest of them before the others; every label is therefore drawn if `total` is
    at least the number of labels. (After the idea of Sechidis, Tsoumakas and Vlahavas 2011, iterative stratification.)
    """
    if not 0 <= total <= len(clips):
        raise ValueError(f"cannot draw {total} of {len(clips)}")
    by_label: dict[str, list[Drawn]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        for label in clip.labels:
            by_label[label].append(clip)
    counts = {label: len(members) for label, members in by_label.items()}
    waiting = {
        label: [members[index] for index in numpy_generator(seed, purpose, label).permutation(len(members))[::-1]]
        for label, members in by_label.items()
    }
    chosen: dict[str, Drawn] = {}
    have: Counter[str] = Counter()
    while len(chosen) < total:
        label = min(waiting, key=lambda name: (have[name] / counts[name], counts[name], name))
        while waiting[label] and waiting[label][-1].clip_id in chosen:
            waiting[label].pop()
        if not waiting[label]:
            del waiting[label]
            continue
        clip = waiting[label].pop()
        chosen[clip.clip_id] = clip
        have.update(clip.labels)
    return sorted(chosen.values(), key=lambda clip: clip.clip_id)


def draw_candidates(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    """About `most` rows of a listing, in its order, so that a large dataset need not be decoded whole.

    Stratified as in `draw`. A class gets at least `_OF_CLASS` rows, or all it has, so that bad clips, validation and
    training do not exhaust a rare class.
    """
    if len(rows) <= most:
        return list(rows)
    chosen = {row.source for row in draw(rows, most, seed, "candidates")}
    have = count_labels(row for row in rows if row.source in chosen)
    for label in sorted(labels_of(rows)):
        of_label = [row for row in rows if label in row.labels]
        if have[label] < min(_OF_CLASS, len(of_label)):
            # Reduced to this label, so that the draw is of this class alone.
            alone = [replace(row, label=label, further_labels=()) for row in of_label]
            chosen |= {row.source for row in draw(alone, min(_OF_CLASS, len(alone)), seed, "candidates")}
    return [row for row in rows if row.source in chosen]


def labels_of(clips: Iterable[Drawn]) -> set[str]:
    """Set of all labels of `clips`."""
    return {label for clip in clips for label in clip.labels}


def count_labels(clips: Iterable[Drawn]) -> Counter[str]:
    """Number of clips by label; a clip with several labels counts for each."""
    return Counter(label for clip in clips for label in clip.labels)


def hold_out_groups(
    clips: Sequence[Clip], target: int, keep: int, seed: int, purpose: str, min_groups: int
) -> set[str] | None:
    """Ids of about `target` held-out clips in whole groups; None if no choice is valid.

    Many seeded orders of the groups are tried; the best held-out part is nearest to the target in size
    and to all clips in its mix of classes. Both sides hold every class.

    Args:
        target: number of clips wanted, up to twice as many where fewer do not hold every class in whole groups; at most
            half of all clips are held out.
        keep: smallest number of clips that must remain.
        seed: seeds the orders.
        min_groups: with fewer named groups the result is None.
    """
    groups: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[("group", clip.group) if clip.group else ("clip", clip.clip_id)].append(clip)
    if sum(kind == "group" for kind, _ in groups) < min_groups:
        return None
    totals = count_labels(clips)
    sizes = {key: len(members) for key, members in groups.items()}
    keys, generator = sorted(groups), numpy_generator(seed, purpose, "groups")
    best: tuple[float, list[tuple[str, str]]] | None = None
    # So many clips may not hold every class in whole groups; then more are held out.
    for wanted in dict.fromkeys(math.ceil(factor * target) for factor in (1, 1.1, 1.25, 1.5, 2)):
        for _ in range(_TRIES if best is None else 0):
            chosen, size = _fill([keys[index] for index in generator.permutation(len(keys))], sizes, wanted)
            held = count_labels(clip for key in chosen for clip in groups[key])
            score = _score(held, totals, size, len(clips), target, keep)
            if score is not None and (best is None or score < best[0]):
                best = score, chosen
    return None if best is None else {clip.clip_id for key in best[1] for clip in groups[key]}


def _fill(
    order: list[tuple[str, str]], sizes: Mapping[tuple[str, str], int], target: int
) -> tuple[list[tuple[str, str]], int]:
    """Chosen groups and their number of clips; a group is taken if it brings that number nearer to the target."""
    chosen: list[tuple[str, str]] = []
    held = 0
    for key in order:
        if not chosen or abs(held + sizes[key] - target) < abs(held - target):
            chosen.append(key)
            held += sizes[key]
        if held >= target:
            break
    return chosen, held


def _score(
    held: Counter[str], totals: Counter[str], size: int, everything: int, target: int, keep: int
) -> float | None:
    """Distance of a choice of `size` out of `everything` clips from the target; None if the choice is invalid."""
    left = everything - size
    if left < keep or size > everything / 2 or any(not 0 < held[label] < count for label, count in totals.items()):
        return None
    mix = sum(abs(held[label] / size - count / everything) for label, count in totals.items())
    return abs(size - target) / target + mix


def without_content(clips: Sequence[Clip], content: Collection[str]) -> list[Clip]:
    """Clips whose audio hash is not in `content`."""
    return [clip for clip in clips if clip.content not in content]
