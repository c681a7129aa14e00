"""The idea of the stage: accept a generated clip if its judges hear its label in it and it copies no other clip.

`decide` gives each clip of a replicate a score, a margin and, if it is rejected, a reason. Read next: `thresholds.py`
(score, margin, and the threshold from gold validation clips), `second_judge.py` (the judge beside CLAP),
`recordings.py` (detection of copies), `replicate.py` (hears the clips of a replicate and calls `decide`), `folders.py`
(what lies on disk), `summary.py` (the account of all rounds).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.config.clap import FilterAudioConfig
from common.errors import DataError
from common.records.clips import SyntheticClip
from components.filter_audio.recordings import first_copy, nearest_first
from components.filter_audio.thresholds import Flags, Threshold, claim_scores


@dataclass(frozen=True)
class Embedded:
    """Clip ids and embeddings (N, D), rows of norm 1, in the same order."""

    ids: tuple[str, ...]
    embeddings: np.ndarray


class Opinion(NamedTuple):
    """What the second judge says of a clip: the probability of its label, the lowest of several, and whether it passes.

    The probability is None where the judge has no say; both are where it was not asked.
    """

    probability: float | None
    passes: bool | None


def decide(
    clips: Sequence[SyntheticClip],
    claims: Flags,
    embeddings: np.ndarray,
    label_embeddings: np.ndarray,
    gold: Embedded,
    accepted_before: Mapping[tuple[str, tuple[str, ...]], Embedded],
    fingerprints: Callable[[str], np.ndarray],
    threshold: Threshold,
    config: FilterAudioConfig,
    filtered: Mapping[str, bool],
    opinions: Mapping[str, Opinion],
) -> list[SyntheticClip]:
    """Score every clip, and give each rejected clip a reason; clips that failed the signal checks get no score.

    A recipe without a filter rejects only clips that fail the signal checks. Reasons, in order:
    the code of the signal check; `low_score` or `low_margin`; `second_judge`; `near_copy` (of a gold clip);
    `near_duplicate` (of a clip with the same recipe and labels, accepted earlier or with a higher score).

    Args:
        claims: (N, K) labels of each clip.
        embeddings: (N, D) of the clips; rows of clips that failed the signal checks are ignored.
        label_embeddings: (K, D) of the label prompts, by label id.
        accepted_before: clips accepted in earlier rounds, by recipe and labels.
        config: similarities from which a pair is compared or counts as one recording.
        opinions: of the second judge, by the ids of clips that it was asked about.

    Returns the clips, in their order, with these fields filled in. Raises DataError: a clip's recipe is not one of the
    run's.
    """
    unknown = {clip.recipe for clip in clips} - filtered.keys()
    if unknown:
        raise DataError(f"clips of recipe {', '.join(sorted(unknown))}: expected one of {', '.join(sorted(filtered))}")
    scores, margins = claim_scores(embeddings @ label_embeddings.T, claims)
    similarity = embeddings @ gold.embeddings.T
    found = []
    for row, clip in enumerate(clips):
        if clip.signal != "ok":
            found.append(clip.model_copy(update={"reason": clip.signal}))
            continue
        score, margin = float(scores[row]), float(margins[row])
        second = opinions.get(clip.clip_id, Opinion(None, None))
        reason = threshold.reason(score, margin) if filtered[clip.recipe] else None
        if reason is None and second.passes is False:
            reason = "second_judge"
        nearest = int(similarity[row].argmax())
        told = {"reason": reason, "clap_score": score, "clap_margin": margin, **_near(gold, similarity[row], nearest)}
        judged = {"second_probability": second.probability, "second_passes": second.passes}
        found.append(clip.model_copy(update=told | judged))
    checked = [row for row, clip in enumerate(clips) if filtered[clip.recipe] and found[row].reason is None]
    _refuse_copies(found, checked, similarity, gold, fingerprints, config)
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for row in sorted(checked, key=lambda row: (-(found[row].clap_score or 0.0), found[row].clip_id)):
        if found[row].reason is None:
            groups.setdefault((clips[row].recipe, clips[row].labels), []).append(row)
    for key, rows in groups.items():
        _refuse_duplicates(found, rows, embeddings, accepted_before.get(key), fingerprints, config)
    return found


def _near(gold: Embedded, similarity: np.ndarray, place: int) -> dict[str, object]:
    """Fields that name a gold clip as the nearest one."""
    return {"nearest_clip_id": gold.ids[place], "nearest_similarity": float(similarity[place])}


def _refuse_copies(
    found: list[SyntheticClip],
    rows: Sequence[int],
    similarity: np.ndarray,
    gold: Embedded,
    fingerprints: Callable[[str], np.ndarray],
    config: FilterAudioConfig,
) -> None:
    """Reject copies of gold clips, by cosines (N, K), and record which clip they copy."""
    for row in rows:
        near = nearest_first(similarity[row], config.copy_similarity, config.max_compared)
        ids = [gold.ids[column] for column in near]
        source = first_copy(found[row].clip_id, ids, fingerprints, config.same_recording)
        if source is not None:
            copied = _near(gold, similarity[row], near[ids.index(source)])
            found[row] = found[row].model_copy(update={"reason": "near_copy", **copied})


def _refuse_duplicates(
    found: list[SyntheticClip],
    rows: Sequence[int],
    embeddings: np.ndarray,
    before: Embedded | None,
    fingerprints: Callable[[str], np.ndarray],
    config: FilterAudioConfig,
) -> None:
    """Reject each of `rows`, best first, that is the same recording as a clip kept before it."""
    ids = list(before.ids) if before else []
    kept = np.empty((len(ids) + len(rows), embeddings.shape[1]), embeddings.dtype)
    kept[: len(ids)] = before.embeddings if before else 0
    for row in rows:
        near = nearest_first(kept[: len(ids)] @ embeddings[row], config.duplicate_similarity, config.max_compared)
        clip_id = found[row].clip_id
        if first_copy(clip_id, [ids[column] for column in near], fingerprints, config.same_recording):
            found[row] = found[row].model_copy(update={"reason": "near_duplicate"})
            continue
        kept[len(ids)] = embeddings[row]
        ids.append(clip_id)
