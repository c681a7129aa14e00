"""Split of checked clips: the test split, then training and validation clips of each replicate, and of the oracle.

All replicates share the test split, which does not depend on a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.contracts.gold import Drop, SplitBy, ValidationFrom
from common.datasets.labels import Notice
from common.datasets.names import first_names
from common.errors import ConfigError, DataError
from components.prepare_dataset.clips import Clip
from components.prepare_dataset.drawing import count_labels, draw, hold_out_groups, labels_of, without_content

SHARED_SEED = 0
"""Seed of draws that all replicates share."""
_MIN_TEST_GROUPS = 3


@dataclass
class Splits:
    """Splits of a dataset.

    Attributes:
        test_copies: clips of the test split that are left out as copies of training or validation clips.
        pool: clips that training may draw from.
        replicates: (training clips, validation clips) by replicate.
        shared: whether all replicates have the same clips.
        dropped: clips outside the test split that are left out as copies of clips in another split, or because their
            group is in the test split.
    """

    test: list[Clip] = field(default_factory=list)
    test_copies: list[Clip] = field(default_factory=list)
    pool: list[Clip] = field(default_factory=list)
    official_validation: list[Clip] = field(default_factory=list)
    replicates: dict[int, tuple[list[Clip], list[Clip]]] = field(default_factory=dict)
    oracle: list[Clip] = field(default_factory=list)
    shared: bool = False
    dropped: list[Drop] = field(default_factory=list)
    test_dropped: list[Drop] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    test_by: SplitBy = "official"
    validation: ValidationFrom = "official"
    validation_by: SplitBy = "official"

    def warn(self, code: str, message: str, of_test: bool = False) -> None:
        """Add a warning unless it is there already."""
        if Notice(code, message, of_test) not in self.warnings:
            self.warnings.append(Notice(code, message, of_test))


def split_clips(
    clips: Sequence[Clip],
    labels: Sequence[str],
    spec: DatasetSpec,
    settings: PrepareDatasetConfig,
    n: int | None,
    replicates: Sequence[int],
) -> Splits:
    """Split checked clips.

    Args:
        spec: dataset; its `test` says how the test split is made.
        n: exact number of training clips of a replicate; None = all.

    Raises:
        ConfigError: `n` does not fit the data.
        DataError: a class has too few clips.
    """
    splits = Splits()
    _hold_out_test(splits, sorted(clips, key=lambda clip: clip.clip_id), labels, spec, settings)
    _drop_duplicates(splits)
    _drop_groups_of_test(splits)
    _check_classes(splits, labels, clips)
    total = _training_total(splits, n)
    splits.shared = total == len(splits.pool)
    for replicate in replicates:
        splits.replicates[replicate] = _draw_replicate(
            splits, settings, total, SHARED_SEED if splits.shared else replicate
        )
    splits.oracle = _draw_oracle(splits, settings, replicates[0])
    _warn_of_unseen(splits, labels)
    _warn_of_leaks(splits)
    return splits


def _hold_out_test(
    splits: Splits, clips: list[Clip], labels: Sequence[str], spec: DatasetSpec, settings: PrepareDatasetConfig
) -> None:
    given = any(clip.split for clip in clips)
    official = [clip for clip in clips if clip.split == "test"]
    if spec.test == "split" and not official:
        found = "but no clip is in the test split" if given else "but no splits are given"
        raise DataError(f"dataset {spec.name}: test: split, {found}; add them, or give a fraction such as test: 0.2")
    splits.official_validation = [clip for clip in clips if clip.split == "val"]
    rest = [clip for clip in clips if clip.split != "val"]
    if official and not isinstance(spec.test, float):
        splits.test, splits.pool = official, [clip for clip in rest if clip.split != "test"]
        return
    if given:
        splits.warn(
            "test_drawn",
            "a test fraction was asked for: the given test split is not used"
            if official
            else "no clip is in the test split: it is drawn from the training clips",
            of_test=True,
        )
    fraction = spec.test if isinstance(spec.test, float) else settings.test_fraction
    _check_drawable(rest, labels, splits.official_validation)
    target = _held_out(rest, fraction)
    chosen = None
    if any(clip.group for clip in rest):
        chosen = hold_out_groups(rest, target, 1, SHARED_SEED, "test", _MIN_TEST_GROUPS)
        if chosen is None:
            groups = len({clip.group for clip in rest if clip.group})
            splits.warn(
                "test_by_clip",
                f"too few groups ({groups}) to hold some out with every class on both sides: the test "
                "split is drawn by clip, and test accuracy says nothing about unseen groups",
                of_test=True,
            )
    splits.test_by = "clip" if chosen is None else "group"
    if chosen is None:
        chosen = {clip.clip_id for clip in draw(rest, target, SHARED_SEED, "test")}
    splits.test = [clip for clip in rest if clip.clip_id in chosen]
    splits.pool = [clip for clip in rest if clip.clip_id not in chosen]


def _held_out(clips: list[Clip], fraction: float) -> int:
    """Number of clips to hold out: the fraction, or as many as there are labels, of which few clips may have many."""
    return max(min(len(labels_of(clips)), len(clips) // 2), round(fraction * len(clips)))


def _check_drawable(clips: list[Clip], labels: Sequence[str], validation: list[Clip]) -> None:
    """Check that each class has a clip for each split that is drawn; clips for `validation` are given apart."""
    counts, needed = count_labels(clips), 2 if validation else 3
    few = {label: counts[label] for label in sorted(labels) if counts[label] < needed}
    if few:
        label, count = next(iter(few.items()))
        others = f" (likewise {', '.join(map(repr, list(few)[1:6]))})" if len(few) > 1 else ""
        beside = f" beside {held} for validation" if (held := count_labels(validation)[label]) else ""
        parts = "training, test" if validation else "training, validation, test"
        raise DataError(
            f"class {label!r} has {count} usable clip(s){beside}{others}; expected at least {needed}, one for each "
            f"split ({parts}); add clips or leave the class out"
        )


def _drop_duplicates(splits: Splits) -> None:
    """Remove audio that occurs in two splits.

    An official test split must not decide what training sees: its own copy is removed. If the test split was drawn, the
    copy outside of it is removed. Between validation and training, the training copy is removed.
    """
    sides = [("validation", splits.official_validation, [splits.pool])]
    if splits.test_by != "official":
        sides.insert(0, ("test", splits.test, [splits.pool, splits.official_validation]))
    for name, taken, pools in sides:
        sources = {clip.content: clip.source for clip in taken}
        for pool in pools:
            splits.dropped += [
                Drop(clip.source, f"duplicate_of_{name}", f"same audio as {sources[clip.content]}", clip.split)
                for clip in pool
                if clip.content in sources
            ]
            pool[:] = without_content(pool, sources.keys())
    others = {clip.content: clip.source for clip in [*splits.pool, *splits.official_validation]}
    splits.test_copies = [clip for clip in splits.test if clip.content in others]
    splits.test_dropped = [
        Drop(clip.source, "duplicate_of_training", f"same audio as {others[clip.content]}", clip.split)
        for clip in splits.test_copies
    ]
    splits.test = without_content(splits.test, others.keys())
    if splits.test_dropped and not splits.test:
        first = splits.test_dropped[0]
        raise DataError(
            f"every clip of the test split is a copy of a training or validation clip ({first.source}: "
            f"{first.detail}); expected other recordings: correct the split"
        )


def _drop_groups_of_test(splits: Splits) -> None:
    """Remove clips outside the test split whose group (recording, speaker) has clips in it; drawn by clip it may share.

    Where groups run through the whole dataset, so that a class would lose all its clips, nothing is removed; a warning
    follows then.
    """
    if splits.test_by == "clip":
        return
    groups = {clip.group for clip in splits.test if clip.group}
    for clips in (splits.pool, splits.official_validation):
        apart = [clip for clip in clips if clip.group not in groups]
        if labels_of(apart) == labels_of(clips):
            splits.dropped += [
                Drop(clip.source, "group_in_test", f"{clip.group} has clips in the test split", clip.split)
                for clip in clips
                if clip.group in groups
            ]
            clips[:] = apart


def _check_classes(splits: Splits, labels: Sequence[str], clips: Sequence[Clip]) -> None:
    counts = count_labels(splits.pool)
    needed = 1 if splits.official_validation else 2
    for label in labels:
        if counts[label] < needed:
            parts = "training" if needed == 1 else "training and validation"
            where = f"outside the test split{_elsewhere(splits, label, clips)}"
            raise DataError(
                f"class {label!r} has {counts[label]} usable clip(s) {where}; expected at least {needed} for "
                f"{parts}; add clips, put fewer into the test split, or leave the class out"
            )
    for name, clips in (("test", splits.test), ("validation", splits.official_validation)):
        absent = sorted(set(labels) - labels_of(clips))
        if clips and absent:
            meaning = "the figures say nothing of them" if name == "test" else "what is chosen on it is uncertain"
            message = f"the {name} split has no clips of {', '.join(map(repr, absent))}: {meaning}"
            splits.warn(f"{name}_lacks_classes", message, of_test=name == "test")


def _elsewhere(splits: Splits, label: str, clips: Sequence[Clip]) -> str:
    """Where the other clips of a class are, in brackets; empty where it has no others."""
    own = {clip.source for clip in clips if label in clip.labels}
    lost = [drop.reason for drop in splits.dropped if drop.source in own]
    counts = {
        "in it": count_labels(splits.test)[label],
        "for validation": count_labels(splits.official_validation)[label],
        "left out as copies of clips of other splits": sum(reason.startswith("duplicate_of_") for reason in lost),
        "left out since their group has test clips": lost.count("group_in_test"),
    }
    told = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    return f" ({told})" if told else ""


def _warn_of_unseen(splits: Splits, labels: Sequence[str]) -> None:
    """Warn of labels without training clips; few multi-label clips may miss labels, though rare ones go first."""
    for replicate, (train, _) in splits.replicates.items():
        unseen = sorted(set(labels) - labels_of(train))
        if unseen:
            listed = first_names(list(map(repr, unseen)), 10)
            splits.warn(
                "training_lacks_classes",
                f"the {len(train)} training clips of replicate {replicate} have none of {listed}: nothing learns these "
                "classes; raise N",
            )


def _warn_of_leaks(splits: Splits) -> None:
    """Warn of groups with clips in several splits, where they could not be taken apart."""
    sides = [("training", splits.pool), ("validation", splits.official_validation), ("test", splits.test)]
    for (name, clips), (other_name, other) in combinations(sides, 2):
        both = sorted({clip.group for clip in clips if clip.group} & {clip.group for clip in other if clip.group})
        if both:
            message = f"{len(both)} group(s) have clips in both {name} and {other_name}: {first_names(both, 10)}"
            splits.warn("groups_shared", message, of_test=other_name == "test")


def _training_total(splits: Splits, n: int | None) -> int:
    """Number of training clips of a replicate: `n`, or the whole pool.

    Raises ConfigError: the pool has fewer clips, or `n` is below the number of classes.
    """
    available, classes = len(splits.pool), len(labels_of(splits.pool))
    if n is None:
        return available
    if n > available:
        raise ConfigError(
            f"n={n} training clips asked for, but the dataset has {available} outside test and validation; use "
            f"N={available} or less, or leave N out for all of them"
        )
    # A multi-label clip stands for several classes; `_warn_of_unseen` names those that a draw leaves out.
    if n < classes and not any(clip.further_labels for clip in splits.pool):
        raise ConfigError(f"n={n} training clips for {classes} classes; expected at least one clip per class")
    return n


def _draw_replicate(
    splits: Splits, settings: PrepareDatasetConfig, total: int, seed: int
) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips, disjoint by clip, by content, and, where possible, by group.

    Raises DataError: no clip is left for validation.
    """
    if splits.official_validation:
        validation = draw(splits.official_validation, min(total, len(splits.official_validation)), seed, "validation")
        return draw(splits.pool, total, seed, "train"), validation
    remaining = len(splits.pool) - total
    splits.validation = "remaining" if remaining else "training"
    share = _held_out(splits.pool, settings.validation_fraction)
    target, keep = (min(share, remaining), total) if remaining else (share, len(labels_of(splits.pool)))
    held = _validation_groups(splits, settings, target, keep, seed)
    # One replicate by clip is enough to doubt the validation of all.
    splits.validation_by = "group" if held and splits.validation_by != "clip" else "clip"
    if held is None and not remaining:
        held = {clip.clip_id for clip in draw(splits.pool, target, seed, "validation")}
    candidates = [clip for clip in splits.pool if clip.clip_id not in (held or ())]
    train = draw(candidates, total, seed, "train") if remaining else candidates
    aside = held or {clip.clip_id for clip in splits.pool} - {clip.clip_id for clip in train}
    left = [clip for clip in splits.pool if clip.clip_id in aside]
    left = without_content(left, {clip.content for clip in train})
    validation = draw(left, min(total, len(left)), seed, "validation")
    return train, _checked_validation(splits, validation)


def _validation_groups(
    splits: Splits, settings: PrepareDatasetConfig, target: int, keep: int, seed: int
) -> set[str] | None:
    groups = len({clip.group for clip in splits.pool if clip.group})
    if not groups:
        return None
    held = hold_out_groups(splits.pool, target, keep, seed, "validation", settings.validation_min_groups)
    if held is None:
        splits.warn(
            "validation_by_clip",
            f"the training clips have {groups} group(s), too few to hold some out for validation "
            f"(at least {settings.validation_min_groups}, with every class on both sides): validation is drawn by clip "
            "and may look better than the test",
        )
    return held


def _checked_validation(splits: Splits, validation: list[Clip]) -> list[Clip]:
    if not validation:
        raise DataError(
            "no clips are left for validation once copies of training clips are set aside; lower N, or add clips"
        )
    classes = labels_of(splits.pool)
    if len(labels_of(validation)) < len(classes):
        splits.warn(
            "small_validation",
            f"validation has {len(validation)} clip(s) and does not hold all {len(classes)} "
            "classes: what is chosen on it is uncertain; lower N",
        )
    if splits.validation == "training":
        splits.warn(
            "validation_from_training",
            "no labelled clips remain beside the training clips: validation is taken from them",
        )
    return validation


def _draw_oracle(splits: Splits, settings: PrepareDatasetConfig, first: int) -> list[Clip]:
    """Training clips of the oracle: all labelled clips but test and the validation clips of replicate `first`.

    If there are more than the cap, the training clips of that replicate are kept, and the rest is drawn.
    """
    train, validation = splits.replicates[first]
    aside = {clip.clip_id for clip in validation}
    contents = {clip.content for clip in validation}
    chosen = {clip.clip_id for clip in train}
    rest = [clip for clip in splits.pool + splits.official_validation if clip.clip_id not in aside | chosen]
    rest = without_content(rest, contents)
    room = max(0, settings.oracle_max_clips - len(train))
    more = rest if len(rest) <= room else draw(rest, room, SHARED_SEED, "oracle")
    return sorted([*train, *more], key=lambda clip: clip.clip_id)
