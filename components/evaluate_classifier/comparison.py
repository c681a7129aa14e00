"""Scores of all methods and their pairwise differences, from predictions on the test split."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config.evaluation import EvaluateClassifierConfig
from common.config.learners import AST, learners_in_order
from common.config.methods import BASELINE, BEST_CLASSIC, COMBINED, SUBJECT, Method, in_order
from common.contracts.evaluation import (
    Best,
    Bests,
    ClassGains,
    ClassicScores,
    Comparison,
    Difference,
    LearnerScore,
    MethodDifference,
    MethodScores,
    Pair,
    Scores,
    ZeroShotScores,
)
from common.study.comparisons import holm
from components.evaluate_classifier.multi_label import SeveralLabels, affordable
from components.evaluate_classifier.statistics import Key, OneLabel, Scorer, resampling

Predictions = dict[str, dict[int, NDArray[np.float64]]]
"""Probabilities (N, K) by method and replicate."""
Arms = dict[str, dict[int, Key]]
"""Models by side of a comparison and replicate; a side is a method, or the best classic of each replicate."""

ZERO_SHOT: Key = ("zero_shot", 0)
"""Key of the CLAP that was not trained on the dataset."""

DELIVERED_MODEL: Key = ("delivered", 0)
"""Key of the delivered classifier, which was trained on all labelled clips."""


def compared(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs (method, versus) of the methods with predictions and `BEST_CLASSIC`; the two of the verdict come first."""
    ordered = in_order(methods)
    pairs = [(SUBJECT, BASELINE), (COMBINED, BEST_CLASSIC)]
    pairs += [(SUBJECT, other) for other in ordered if other not in (SUBJECT, COMBINED)]
    pairs += [(COMBINED, SUBJECT)]
    pairs += [(other, BASELINE) for other in ordered if other != BASELINE]
    known = set(methods)
    return list(dict.fromkeys((a, b) for a, b in pairs if a in known and b in known and a != b))


def compare(
    predictions: Predictions,
    zero_shot: NDArray[np.float64],
    delivered: NDArray[np.float64],
    truth: NDArray[Any],
    groups: list[str | None],
    labels: Sequence[str],
    methods: Mapping[str, Method],
    best_classic: Mapping[int, str],
    best: Mapping[str, Mapping[int, str]],
    thresholds: Mapping[Key, float],
    settings: EvaluateClassifierConfig,
    seed: int,
) -> tuple[Comparison, Scores]:
    """Scores, differences and per-class gains.

    Args:
        zero_shot: (N, K) probabilities of a model that was not trained on the dataset.
        delivered: (N, K) probabilities of the delivered classifier.
        truth: (N,) label ids; for a multi-label dataset (N, K), whether a clip has a label.
        groups: (N,) group of each test clip.
        best: model that validation chose, by side (`Method.side`) and replicate.
        thresholds: for a multi-label dataset.

    Returns the comparison, and the scores of the delivered classifier.
    """
    several = truth.ndim == 2
    count = affordable(settings.resamples, *truth.shape) if several else settings.resamples
    draws = resampling(groups, count, seed, settings.confidence, settings.min_groups)
    answers = {(name, s): rows for name, arm in predictions.items() for s, rows in arm.items()}
    answers |= {ZERO_SHOT: zero_shot, DELIVERED_MODEL: delivered}
    bins = settings.calibration_bins
    scorer: Scorer = (
        SeveralLabels(truth, answers, thresholds, draws, bins) if several else OneLabel(truth, answers, draws, bins)
    )
    trained: Arms = {name: {s: (name, s) for s in sorted(predictions[name])} for name in in_order(predictions)}
    arms: Arms = {name: arm for name, arm in trained.items() if arm and name in methods}
    chosen = {s: (name, s) for s, name in sorted(best_classic.items()) if (name, s) in answers}
    classic = None
    if chosen:
        by_replicate = {s: name for s, (name, _) in chosen.items()}
        classic = ClassicScores(chosen=by_replicate, seeds=list(chosen), **dict(scorer.score(list(chosen.values()))))
    sides = arms | ({BEST_CLASSIC: chosen} if chosen else {})
    pairs = [pair for pair in compared(list(sides)) if _common(sides, *pair)]
    comparison = Comparison(
        figure=scorer.figure,
        methods={
            name: MethodScores(title=methods[name].title, seeds=list(arm), **dict(scorer.score(list(arm.values()))))
            for name, arm in arms.items()
        },
        best_classic=classic,
        differences=_differences(scorer, sides, pairs),
        per_class=_per_class(scorer, sides, pairs, labels),
        resampled=draws.unit,
        resamples=count,
        zero_shot=ZeroShotScores(title="Zero-shot CLAP", **dict(scorer.score([ZERO_SHOT]))),
        learners=_learners(scorer, trained, methods),
        best=_best(scorer, best),
    )
    return comparison, scorer.score([DELIVERED_MODEL])


def learner_and_method(name: str) -> tuple[str, str]:
    """Learner and method of a model's name: `<learner>/<method>`, or the method of an AST."""
    learner, slash, method = name.rpartition("/")
    return (learner, method) if slash else (AST, name)


def model_name(learner: str, method: str) -> str:
    """Name of a model, as `learner_and_method` reads it."""
    return method if learner == AST else f"{learner}/{method}"


def _learners(scorer: Scorer, trained: Arms, methods: Mapping[str, Method]) -> dict[str, dict[str, LearnerScore]]:
    """Figure of each learner on each method's clips; AST's are those of the methods."""
    found: dict[str, dict[str, LearnerScore]] = {}
    for name, arm in trained.items():
        learner, method = learner_and_method(name)
        if arm and method in methods:
            score = scorer.headline(list(arm.values()))
            found.setdefault(learner, {})[method] = LearnerScore(seeds=list(arm), **{scorer.figure: score})
    return {name: found[name] for name in learners_in_order(found)}


def _best(scorer: Scorer, best: Mapping[str, Mapping[int, str]]) -> Bests:
    """Figure of what validation chose on each side, and how that with synthetic audio differs from the others."""
    sides = {}
    for side, chosen in best.items():
        if chosen:
            pairs = {replicate: learner_and_method(chosen[replicate]) for replicate in sorted(chosen)}
            learner, method = Counter(pairs.values()).most_common(1)[0][0]
            score = scorer.headline([(chosen[replicate], replicate) for replicate in pairs])
            named = {replicate: Pair(learner=one, method=other) for replicate, (one, other) in pairs.items()}
            sides[side] = Best(learner=learner, method=method, chosen=named, **{scorer.figure: score})

    def gain(other: str) -> Difference | None:
        replicates = sorted(set(best.get(other, {})) & set(best.get("with", {})))
        first, second = ([(best[side][replicate], replicate) for replicate in replicates] for side in ("with", other))
        return Difference(seeds=replicates, **dict(scorer.difference(first, second))) if replicates else None

    return Bests(
        without=sides.get("without"),
        synthetic=sides.get("with"),
        difference=gain("without"),
        control=sides.get("control"),
        control_difference=gain("control"),
    )


def _differences(scorer: Scorer, arms: Arms, pairs: list[tuple[str, str]]) -> list[MethodDifference]:
    found = {pair: scorer.difference(*_paired(arms, *pair)) for pair in pairs}
    against_gold = [pair for pair in pairs if pair[1] == BASELINE]
    corrected = dict(zip(against_gold, holm([found[pair].p for pair in against_gold]), strict=True))
    return [
        MethodDifference(
            method=a, versus=b, seeds=_common(arms, a, b), p_holm=corrected.get((a, b)), **dict(found[a, b])
        )
        for a, b in pairs
    ]


def _common(arms: Arms, first: str, second: str) -> list[int]:
    return [replicate for replicate in arms[first] if replicate in arms[second]]


def _paired(arms: Arms, first: str, second: str) -> tuple[list[Key], list[Key]]:
    replicates = _common(arms, first, second)
    return [arms[first][replicate] for replicate in replicates], [arms[second][replicate] for replicate in replicates]


def _per_class(scorer: Scorer, arms: Arms, pairs: list[tuple[str, str]], labels: Sequence[str]) -> ClassGains | None:
    if not pairs:
        return None
    method, versus = pairs[0]
    return ClassGains(method=method, versus=versus, classes=scorer.gains(*_paired(arms, method, versus), labels))
