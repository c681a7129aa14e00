"""Accept or reject each clip of a replicate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.config.clap import FilterAudioConfig
from common.errors import DataError
from common.records import SyntheticClip
from components.filter_audio.recordings import find_copies, recording_similarity
from components.filter_audio.thresholds import Threshold, claim_scores


@dataclass(frozen=True)
class Embedded:
    """Clips and their embeddings (N, D), rows of norm 1, in one order."""

    ids: tuple[str, ...]
    embeddings: np.ndarray


def decide(
    clips: Sequence[SyntheticClip],
    embeddings: np.ndarray,
    label_embeddings: np.ndarray,
    gold: Embedded,
    accepted_before: Mapping[tuple[str, str], Embedded],
    fingerprints: Callable[[str], np.ndarray],
    threshold: Threshold,
    config: FilterAudioConfig,
    filtered: Mapping[str, bool],
) -> list[SyntheticClip]:
    """Score every clip and give a reason to each one that is rejected.

    A recipe without a filter rejects only clips that fail the signal checks. Reasons, in order:
    the signal checks' code, `low_score` or `low_margin`, `near_copy` (of a gold clip),
    `near_duplicate` (of a clip of the same recipe and label, accepted before or with a higher score).

    Args:
        clips: of one replicate, any recipes.
        embeddings: (N, D) of the clips; those of clips that failed the signal checks do not matter.
        label_embeddings: (K, D) of the label prompts, by label id.
        gold: the replicate's gold training clips.
        accepted_before: by recipe and label, clips accepted in earlier rounds.
        fingerprints: of a synthetic or gold clip by its id.
        threshold: from `calibrate`.
        config: caps.
        filtered: recipe name to whether it is filtered.

    Returns:
        The clips in their order, with score, margin, nearest gold clip and reason.

    Raises:
        DataError: a clip's recipe is not one of the run's.
    """
    unknown = {clip.recipe for clip in clips} - filtered.keys()
    if unknown:
        raise DataError(f"clips of recipe {', '.join(sorted(unknown))}: expected one of {', '.join(sorted(filtered))}")
    label_ids = [clip.label_id for clip in clips]
    scores, margins = claim_scores(embeddings @ label_embeddings.T, label_ids)
    to_gold = embeddings @ gold.embeddings.T
    scored = []
    for row, clip in enumerate(clips):
        if clip.signal != "ok":
            scored.append(clip.model_copy(update={"reason": clip.signal}))
            continue
        nearest = int(to_gold[row].argmax())
        update = {
            "clap_score": float(scores[row]),
            "clap_margin": float(margins[row]),
            "nearest_clip_id": gold.ids[nearest],
            "nearest_similarity": float(to_gold[row, nearest]),
        }
        if filtered[clip.recipe]:
            update["reason"] = threshold.reason(float(scores[row]), float(margins[row]))
        scored.append(clip.model_copy(update=update))
    checked = [row for row, clip in enumerate(scored) if filtered[clip.recipe] and clip.reason is None]
    scored = _without_copies(scored, checked, to_gold, gold, fingerprints, config)
    checked = [row for row in checked if scored[row].reason is None]
    return _without_duplicates(scored, checked, embeddings, accepted_before, fingerprints, config)


def _without_copies(
    clips: list[SyntheticClip],
    rows: list[int],
    to_gold: np.ndarray,
    gold: Embedded,
    fingerprints: Callable[[str], np.ndarray],
    config: FilterAudioConfig,
) -> list[SyntheticClip]:
    ids = [clips[row].clip_id for row in rows]
    copies = find_copies(to_gold[rows], ids, gold.ids, fingerprints, config.copy_similarity, config.same_recording)
    columns = {clip_id: column for column, clip_id in enumerate(gold.ids)}
    result = list(clips)
    for row in rows:
        source = copies.get(clips[row].clip_id)
        if source is not None:
            update = {
                "reason": "near_copy",
                "nearest_clip_id": source,
                "nearest_similarity": float(to_gold[row, columns[source]]),
            }
            result[row] = clips[row].model_copy(update=update)
    return result


def _without_duplicates(
    clips: list[SyntheticClip],
    rows: list[int],
    embeddings: np.ndarray,
    accepted_before: Mapping[tuple[str, str], Embedded],
    fingerprints: Callable[[str], np.ndarray],
    config: FilterAudioConfig,
) -> list[SyntheticClip]:
    groups: dict[tuple[str, str], list[int]] = {}
    for row in sorted(rows, key=lambda row: (-(clips[row].clap_score or 0.0), clips[row].clip_id)):
        groups.setdefault((clips[row].recipe, clips[row].label), []).append(row)
    result = list(clips)
    for key, members in groups.items():
        before = accepted_before.get(key)
        kept_ids = list(before.ids) if before else []
        kept = list(before.embeddings) if before else []
        for row in members:
            clip_id = clips[row].clip_id
            near = [i for i, other in enumerate(kept) if float(other @ embeddings[row]) >= config.duplicate_similarity]
            closest = (recording_similarity(fingerprints(clip_id), fingerprints(kept_ids[i])) for i in near)
            if any(similarity >= config.same_recording for similarity in closest):
                result[row] = clips[row].model_copy(update={"reason": "near_duplicate"})
                continue
            kept_ids.append(clip_id)
            kept.append(embeddings[row])
    return result
