"""Training and validation clips of a replicate, and training clips of the oracle."""

from __future__ import annotations

from common.config.dataset import PrepareDatasetConfig
from common.errors import ConfigError, DataError
from components.prepare_dataset.clips import Clip
from components.prepare_dataset.drawing import draw, hold_out_groups, labels_of, without_content
from components.prepare_dataset.splits import SHARED_SEED, Splits


def training_total(splits: Splits, n: int | None) -> int:
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


def draw_replicate(
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
    classes = len(labels_of(splits.pool))
    share = max(classes, round(settings.validation_fraction * len(splits.pool)))
    target, keep = (min(share, remaining), total) if remaining else (share, classes)
    held = _validation_groups(splits, settings, target, keep, seed)
    splits.validation_by = "group" if held else "clip"
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


def draw_oracle(splits: Splits, settings: PrepareDatasetConfig, first: int) -> list[Clip]:
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
