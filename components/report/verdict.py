"""Verdict: one true sentence on whether synthetic audio helped, with its cautions."""

from collections.abc import Sequence

from common.config.learners import find_learner
from common.config.methods import BASELINE, BEST_CLASSIC, COMBINED, SUBJECT
from common.contracts.evaluation import Best, Difference, Evaluation, MethodScores
from common.contracts.report import Verdict
from common.datasets.names import first_names
from common.pages.direction import isolated
from common.pages.numbers import percent, points
from common.study.comparisons import FIGURES, MIN_REPLICATES, reliable
from components.report.wording import pair

FEW_TEST_CLIPS = 20
"""Fewer are named as a caution: one clip is more than 5 %."""
_STATES = {1: "improved", -1: "worse", 0: "unclear"}


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
    differences = {(row.method, row.versus): row for row in evaluation.differences}
    main, combined = differences.get((SUBJECT, BASELINE)), differences.get((COMBINED, BEST_CLASSIC))
    best = evaluation.best
    clauses = [_main(main, evaluation)] if main else []
    clauses += [_combined(combined, main is None)] if combined else []
    text = f"{'; '.join(clauses)}."
    if best.without:
        text = f"{_best(best.without, evaluation)}." + (f" The paper's question, with AST: {text}" if clauses else "")
    elif not clauses:
        text = (
            "No verdict: this run does not hold both methods of a comparison "
            f"({SUBJECT} with {BASELINE}, or {COMBINED} with a classic augmentation)."
        )
    if leaked := evaluation.leaks.test_clips:
        text += (
            f" But {leaked} of {_plural(evaluation.test.clips, 'test clip')} also stand among the training, corpus or "
        )
        text += "synthetic clips, so the figures flatter; see Data health."
    decides = best.difference or main
    row = decides or combined
    return Verdict(
        improved=decides and reliable(decides) > 0,
        beats_classic=combined and reliable(combined) > 0,
        state=_STATES[reliable(row)] if row else "none",
        text=f"For this gold set: {text}" if fixed_gold_set and (clauses or best.without) else text,
        cautions=[*_cautions(evaluation, row), *further_cautions],
    )


def _best(without: Best, evaluation: Evaluation) -> str:
    """What the best classifiers without and with synthetic audio reach; the latter only if the run has one."""
    synthetic, row = evaluation.best.synthetic, evaluation.best.difference

    def reached(side: Best) -> str:
        return f"{percent(side.score.mean)} ({pair(side.learner, side.method, evaluation)})"

    found = f"The best classifier without synthetic audio reaches {FIGURES[evaluation.figure]} {reached(without)}"
    if row and synthetic:
        meaning = {1: "it helps", -1: "it harms", 0: "no reliable gain"}[reliable(row)]
        if len(row.per_seed) < MIN_REPLICATES:
            meaning = f"{_plural(len(row.per_seed), 'replicate')} cannot tell a gain from chance"
        found += f", with it {reached(synthetic)}: {meaning} ({_gain(row)})"
    if control := evaluation.best.control:
        found += f". The control, corpus clips as they are, reaches {reached(control)}"
        if beside := evaluation.best.control_difference:
            what = {1: "synthetic audio beats it", -1: "synthetic audio does worse", 0: "no reliable difference"}
            found += f": {what[reliable(beside)]} ({_gain(beside)})"
            if row and reliable(row) > 0 and reliable(beside) <= 0:
                found += ", so the gain is what the corpus holds"
    others = [side.score.mean for side in (synthetic if row else None, control) if side]
    ahead = all(without.score.mean >= other for other in others)
    if ahead and find_learner(without.learner).simple and without.method == BASELINE:
        found += f". A simple baseline does best: {pair(without.learner, without.method, evaluation)}"
    return found


def _main(row: Difference, evaluation: Evaluation) -> str:
    # Means over the replicates that both methods have, so that their difference equals the stated gain.
    after, before = (percent(_mean(evaluation.methods[name], row.seeds)) for name in (SUBJECT, BASELINE))
    count, name = len(row.per_seed), FIGURES[evaluation.figure]
    figures = (
        f"({points(row.mean)} points, {100 * evaluation.confidence:g} % interval {points(row.low)} to "
        f"{points(row.high)}; {_plural(count, 'replicate')}, {_plural(evaluation.test.clips, 'test clip')})"
    )
    if sign := reliable(row):
        return f"Synthio {'raised' if sign > 0 else 'lowered'} {name} from {before} to {after} {figures}"
    start = "No reliable gain"
    if count < MIN_REPLICATES:
        start = f"{f'{count} replicates' if count > 1 else 'One replicate'} cannot tell a gain from chance"
    return f"{start}: Synthio reached {after} {name} against {before} for gold only {figures}"


def _combined(row: Difference, alone: bool) -> str:
    joined = "joined with the best classic augmentation"
    subject = f"Synthio {joined}" if alone else f"{joined} it"
    what = {1: "beat", -1: "did worse than", 0: "did not reliably beat"}[reliable(row)]
    return f"{subject} {what} that augmentation alone ({_gain(row)})"


def _gain(row: Difference) -> str:
    return f"{points(row.mean)} points, {points(row.low)} to {points(row.high)}"


def _mean(scores: MethodScores, replicates: Sequence[int]) -> float:
    values = dict(zip(scores.seeds, scores.score.per_seed, strict=True))
    return sum(values[replicate] for replicate in replicates) / len(replicates)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _cautions(evaluation: Evaluation, row: Difference | None) -> list[str]:
    cautions, test = [], evaluation.test
    if lacking := [isolated(label) for label, count in test.per_class.items() if not count]:
        cautions.append(f"No test clip has the label {first_names(lacking, 5)}: the figures say nothing of it.")
    most = max(test.per_class, key=lambda label: test.per_class[label], default=None)
    if most and evaluation.figure == "accuracy" and (share := test.per_class[most] / test.clips) > 0.5:
        cautions.append(f"{percent(share)} of the test clips are {isolated(most)}: always saying so reaches as much.")
    if 0 < test.clips < FEW_TEST_CLIPS:
        each = percent(1 / test.clips)
        cautions.append(f"Only {_plural(test.clips, 'test clip')}: one of them, heard rightly or not, counts {each}.")
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
    if test.groups > 1 and evaluation.resampled == "clips":
        cautions.append(
            f"The test clips come from only {test.groups} groups (speakers, recordings): the "
            "intervals speak for these groups, not for new ones."
        )
    return cautions
