"""Verdict: one true sentence on whether synthetic audio helped, with its cautions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from common.config.learners import find_learner
from common.config.methods import BASELINE, BEST_CLASSIC, COMBINED, SUBJECT
from common.contracts.evaluation import Best, Difference, Evaluation, MethodDifference, MethodScores
from common.contracts.report import Verdict
from common.pages.numbers import percent, points
from common.study.comparisons import FIGURES, MIN_REPLICATES, reliable

State = Literal["improved", "worse", "unclear", "none"]


def verdict(evaluation: Evaluation, fixed_gold_set: bool, further_cautions: Sequence[str] = ()) -> Verdict:
    """Decide and phrase whether synthetic audio helped: the best classifier with it, then the paper's question.

    Where the run has classifiers with and without synthetic audio, their difference decides; both are those that
    validation chose among all learners and methods. Else Synthio against gold only decides, both with AST.

    The state is "improved" or "worse" only when the interval of the paired difference excludes 0, over at least
    `MIN_REPLICATES` replicates; fewer trainings cannot tell a gain from chance.

    Args:
        fixed_gold_set: whether all replicates share their gold clips.
        further_cautions: sentences that do not follow from the evaluation.
    """
    main = _find(evaluation.differences, SUBJECT, BASELINE)
    combined = _find(evaluation.differences, COMBINED, BEST_CLASSIC)
    best = evaluation.best.difference
    clauses = [_main(main, evaluation)] if main else []
    clauses += [_combined(combined, main is None)] if combined else []
    text = (
        "; ".join(clauses) + "."
        if clauses
        else (
            "No verdict: this run does not hold both methods of a comparison "
            f"({SUBJECT} with {BASELINE}, or {COMBINED} with a classic augmentation)."
        )
    )
    if evaluation.best.without:
        text = f"{_best(evaluation.best.without, evaluation)}." + (
            f" The paper's question, with AST: {text}" if clauses else ""
        )
    if fixed_gold_set and (clauses or evaluation.best.without):
        text = "For this gold set: " + text
    return Verdict(
        improved=_above(best or main),
        beats_classic=_above(combined),
        state=_state(best or main or combined),
        text=text,
        cautions=[*_cautions(evaluation, best or main or combined), *further_cautions],
    )


def _find(differences: Sequence[MethodDifference], method: str, versus: str) -> MethodDifference | None:
    return next((row for row in differences if (row.method, row.versus) == (method, versus)), None)


def _above(row: Difference | None) -> bool | None:
    return None if row is None else reliable(dict(row)) > 0


def _state(row: Difference | None) -> State:
    if row is None:
        return "none"
    states: dict[int, State] = {1: "improved", -1: "worse", 0: "unclear"}
    return states[reliable(dict(row))]


def _best(without: Best, evaluation: Evaluation) -> str:
    """What the best classifiers without and with synthetic audio reach; the latter only if the run has one."""
    synthetic, row = evaluation.best.synthetic, evaluation.best.difference
    name = FIGURES[evaluation.figure]
    found = f"The best classifier without synthetic audio reaches {name} {_reached(without, evaluation)}"
    if row and synthetic:
        gain = f"{points(row.mean)} points, {points(row.low)} to {points(row.high)}"
        meaning = {1: "it helps", -1: "it harms", 0: "no reliable gain"}[reliable(dict(row))]
        if len(row.per_seed) < MIN_REPLICATES:
            meaning = f"{_plural(len(row.per_seed), 'replicate')} cannot tell a gain from chance"
        found += f", with it {_reached(synthetic, evaluation)}: {meaning} ({gain})"
    ahead = not row or not synthetic or without.score.mean >= synthetic.score.mean
    if ahead and find_learner(without.learner).simple and without.method == BASELINE:
        found += f". A simple baseline does best: {_pair(without, evaluation)}"
    return found


def _reached(side: Best, evaluation: Evaluation) -> str:
    return f"{percent(side.score.mean)} ({_pair(side, evaluation)})"


def _pair(side: Best, evaluation: Evaluation) -> str:
    return f"{find_learner(side.learner).title}; {evaluation.methods[side.method].title}"


def _main(row: Difference, evaluation: Evaluation) -> str:
    # Means over the replicates that both methods have, so that their difference equals the stated gain.
    after, before = (_mean(evaluation.methods[name], row.seeds) for name in (SUBJECT, BASELINE))
    confidence = f"{100 * evaluation.confidence:g} %"
    count, clips = len(row.per_seed), evaluation.test.clips
    figures = (
        f"({points(row.mean)} points, {confidence} interval {points(row.low)} to {points(row.high)}; "
        f"{_plural(count, 'replicate')}, {_plural(clips, 'test clip')})"
    )
    name = FIGURES[evaluation.figure]
    raised, reached = f"{name} from {percent(before)} to {percent(after)}", f"{percent(after)} {name}"
    if count < MIN_REPLICATES:
        few = f"{count} replicates" if count > 1 else "One replicate"
        start = f"{few} cannot tell a gain from chance: Synthio reached {reached}"
        return f"{start} against {percent(before)} for gold only {figures}"
    return {
        "improved": f"Synthio raised {raised} {figures}",
        "worse": f"Synthio lowered {raised} {figures}",
        "unclear": f"No reliable gain: Synthio reached {reached} against {percent(before)} for gold only {figures}",
    }[_state(row)]


def _combined(row: Difference, alone: bool) -> str:
    joined = "joined with the best classic augmentation"
    what = {
        "improved": "beat that augmentation alone",
        "worse": "did worse than that augmentation alone",
        "unclear": "did not reliably beat that augmentation alone",
    }[_state(row)]
    subject = f"Synthio {joined}" if alone else f"{joined} it"
    return f"{subject} {what} ({points(row.mean)} points, {points(row.low)} to {points(row.high)})"


def _mean(scores: MethodScores, seeds: Sequence[int]) -> float:
    values = dict(zip(scores.seeds, scores.score.per_seed, strict=True))
    return sum(values[seed] for seed in seeds) / len(seeds)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _cautions(evaluation: Evaluation, row: Difference | None) -> list[str]:
    cautions = []
    leaked = evaluation.leaks.test_clips
    if leaked:
        cautions.append(
            f"{leaked} of {_plural(evaluation.test.clips, 'test clip')} also stand among the training or "
            "synthetic clips, so the figures flatter; see Data health."
        )
    if evaluation.leaks.shared_groups:
        cautions.append("Some groups have clips in both training and test; see Data health.")
    cautions += evaluation.heard
    if evaluation.failures:
        failed = _plural(len(evaluation.failures), "training")
        cautions.append(f"{failed} failed: the figures are those of the others; see Failures.")
    if row is not None and MIN_REPLICATES <= len(row.per_seed) < 5:
        cautions.append(
            f"{len(row.per_seed)} replicates: the intervals are widened for so few; five or more would be firmer."
        )
    if evaluation.test.groups > 1 and evaluation.resampled == "clips":
        cautions.append(
            f"The test clips come from only {evaluation.test.groups} groups (speakers, recordings): the "
            "intervals speak for these groups, not for new ones."
        )
    return cautions
