"""The idea of the stage: score every classifier on the test split, compare methods pairwise, and check for leaks.

`evaluate` turns predictions and embeddings into `evaluation.json`. Read next: `inputs.py` (clips, models, tasks),
`scoring.py` (predictions and embeddings, the heavy part), `comparison.py` (scores and differences of methods),
`statistics.py` (bootstrap intervals), `multi_label.py` (clips with several labels), `quality.py` (synthetic clips),
`leaks.py` (leak guard), `model_card.py` (output).
"""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.clap.copies import COMPARE_RATE_HZ, Limits
from common.classifier.scores import choose_threshold, multi_label_map
from common.config.evaluation import EvaluateClassifierPlan
from common.config.methods import Method
from common.contracts.evaluation import DeliveredScores, Distances, Evaluation, HeldOut, Leaks, Oracle
from common.contracts.training import Blend, DeliveredModel, Failure
from common.errors import DataError
from common.learners.calibration import best_of, blended
from common.models.registry import exposure_sentences
from common.records.clips import SyntheticClip
from common.runtime.seeding import derive_seed
from common.runtime.work import item_of
from components.evaluate_classifier.comparison import (
    DELIVERED_MODEL,
    ZERO_SHOT,
    Predictions,
    compare,
    learner_and_method,
    model_name,
)
from components.evaluate_classifier.inputs import Inputs
from components.evaluate_classifier.leaks import ClipSet, find_leaks
from components.evaluate_classifier.quality import label_accuracy, set_distances, synthetic_sets
from components.evaluate_classifier.scoring import embedded, predicted, zero_shot_probabilities
from components.evaluate_classifier.statistics import Key


def evaluate(
    inputs: Inputs, plan: EvaluateClassifierPlan, failed: Mapping[tuple[str, int], str]
) -> tuple[Evaluation, Predictions]:
    """All figures of the stage, from finished tasks; `failed` has the errors of the others.

    Returns content of evaluation.json, rounded, and the probabilities on the test clips. Raises DataError: AST has
    no predictions of any method, or the delivered classifier has none.
    """
    if DELIVERED_MODEL in failed:
        raise DataError(f"the delivered classifier could not be evaluated: {failed[DELIVERED_MODEL]}")
    seed = derive_seed(plan.replicates[0], "evaluate_classifier")
    predictions: Predictions = {}
    for (name, replicate), heard in _answers(inputs, failed).items():
        predictions.setdefault(name, {})[replicate] = heard
    if not predictions.keys() & plan.methods.keys():
        raise DataError("no classifier could be evaluated; see failures.json of train_classifier and the log above")
    thresholds = _thresholds(inputs, plan.replicates[0])
    records = inputs.test.records
    truth = inputs.truth(records)
    embeddings = {name: embedded(tasks) for name, tasks in inputs.embed.items()}
    comparison, scores = compare(
        predictions,
        zero_shot_probabilities(inputs.clap, inputs.embed["test"], inputs.labels),
        predicted(inputs.delivered[1]),
        truth,
        [getattr(clip, "group", None) for clip in records],
        inputs.labels,
        plan.methods,
        best_classic_methods(inputs.selection.best_classic, plan.methods),
        _best(inputs, predictions, plan),
        thresholds,
        plan.settings,
        seed,
    )
    told = inputs.delivered[0].model_dump(include=set(DeliveredModel.model_fields))
    test = _test(inputs)
    evaluation = Evaluation(
        labels=inputs.labels,
        n_train=len(inputs.gold.train(plan.replicates[0])),
        confidence=plan.settings.confidence,
        **dict(comparison),
        delivered=DeliveredScores(**told, threshold=thresholds.get(DELIVERED_MODEL), **dict(scores)),
        test=test,
        oracle=_oracle(inputs, truth),
        distances=_distances(inputs, {name: rows for name, (rows, _) in embeddings.items()}, plan, seed),
        leaks=_leaks(inputs, embeddings, plan),
        failures=[*inputs.failures, *(Failure(method=m, seed=s, error=e) for (m, s), e in sorted(failed.items()))],
        heard=exposure_sentences(plan.heard, test.clips),
        test_health=inputs.test_health,
    )
    return evaluation.rounded(), predictions


def _answers(inputs: Inputs, failed: Collection[Key]) -> dict[Key, NDArray[np.float64]]:
    """Probabilities of each model with a finished task, and of each blend of which no member failed."""
    answers = {key: predicted(task) for key, task in inputs.predict.items() if key not in failed}
    for (name, replicate), told in inputs.learners.items():
        if isinstance(told, Blend):
            _, method = learner_and_method(name)
            keys = [(model_name(member.learner, method), replicate) for member in told.members]
            if all(key in answers for key in keys):
                heard = [(answers[key], member) for key, member in zip(keys, told.members, strict=True)]
                answers[name, replicate] = blended(heard, inputs.gold.multi_label)
    return answers


def _thresholds(inputs: Inputs, first: int) -> dict[Key, float]:
    """Threshold of each model of a multi-label dataset, chosen on its validation clips; zero-shot on `first`'s."""
    if not inputs.gold.multi_label:
        return {}
    found = {key: told.threshold for key, told in inputs.learners.items() if told.threshold is not None}
    validation = {clip.clip_id for clip in inputs.gold.val(first)}
    records = inputs.sets["gold"].records
    places = [place for place, clip in enumerate(records) if clip.clip_id in validation]
    heard = zero_shot_probabilities(inputs.clap, inputs.embed["gold"], inputs.labels)[places]
    told = inputs.delivered[0]
    pair = model_name(told.learner, told.method)
    of_pair = [threshold for (name, _), threshold in found.items() if name == pair]
    # Its own clips were all trained on: the threshold is the mean of those of its replicates.
    found[DELIVERED_MODEL] = sum(of_pair) / len(of_pair)
    return {**found, ZERO_SHOT: choose_threshold(inputs.truth([records[place] for place in places]), heard)}


def _best(inputs: Inputs, predictions: Predictions, plan: EvaluateClassifierPlan) -> dict[str, dict[int, str]]:
    """Model that `best_of` chooses, by side (`Method.side`) and replicate."""
    best: dict[str, dict[int, str]] = {"without": {}, "with": {}, "control": {}}
    for replicate in plan.replicates:
        for side, chosen in best.items():
            order = {}
            for name, arm in predictions.items():
                _, method = learner_and_method(name)
                if replicate in arm and plan.methods[method].side == side:
                    order[name] = inputs.learners[name, replicate]
            if order:
                chosen[replicate] = best_of(order, lambda name: learner_and_method(name)[0])
    return best


def _test(inputs: Inputs) -> HeldOut:
    records = inputs.test.records
    counts = Counter(label for clip in records for label in clip.labels)
    groups = {group for clip in records if (group := getattr(clip, "group", None)) is not None}
    per_class = {label: counts[label] for label in inputs.labels}
    return HeldOut(clips=len(records), groups=len(groups), per_class=per_class)


def _synthetic(inputs: Inputs) -> tuple[list[SyntheticClip], list[SyntheticClip]]:
    vanilla, accepted = (
        [clip for clip in inputs.sets[name].records if isinstance(clip, SyntheticClip)] if name in inputs.sets else []
        for name in ("vanilla", "accepted")
    )
    return vanilla, accepted


def _oracle(inputs: Inputs, truth: NDArray[Any]) -> Oracle | None:
    tasks = inputs.oracle
    if not tasks or not all(item_of(task).is_dir() for task in tasks.values()):
        return None
    vanilla, accepted = _synthetic(inputs)
    guesses = [predicted(tasks[name]).argmax(axis=1) for name in ("vanilla", "accepted") if name in tasks]
    heard = predicted(tasks["test"])
    several, sets = inputs.gold.multi_label, {}
    if guesses:
        both = [*vanilla, *accepted]
        sets = label_accuracy(np.concatenate(guesses), both, synthetic_sets(vanilla, accepted), inputs.labels)
    return Oracle(
        test_map=multi_label_map(truth, heard) if several else None,
        test_accuracy=None if several else float((heard.argmax(axis=1) == truth).mean()),
        trained_on=len(inputs.gold.oracle()),
        sets=sets,
    )


def _distances(
    inputs: Inputs, embeddings: Mapping[str, NDArray[np.float32]], plan: EvaluateClassifierPlan, seed: int
) -> Distances:
    vanilla, accepted = _synthetic(inputs)
    rows = [embeddings[name] for name in ("vanilla", "accepted") if name in embeddings]
    both = np.concatenate(rows) if rows else np.zeros((0, embeddings["gold"].shape[1]), np.float32)
    is_train = np.array([clip.clip_id in inputs.train_ids for clip in inputs.sets["gold"].records])
    sets = {name: both[places] for name, places in synthetic_sets(vanilla, accepted).items()}
    gold = embeddings["gold"]
    return set_distances(gold[is_train], gold[~is_train], sets, seed, plan.settings.max_distance_clips)


def _leaks(
    inputs: Inputs, embeddings: Mapping[str, tuple[NDArray[np.float32], list[str]]], plan: EvaluateClassifierPlan
) -> Leaks:
    sets = {
        name: ClipSet(
            embeddings[name][0],
            partial(clips.load, sample_rate_hz=COMPARE_RATE_HZ),
            name,
            [clip.clip_id for clip in clips.records],
            embeddings[name][1],
        )
        for name, clips in {"test": inputs.test, **inputs.sets}.items()
    }
    settings = plan.settings
    groups = [{getattr(clip, "group", None) for clip in clips.records} for clips in (inputs.test, inputs.sets["gold"])]
    return find_leaks(
        sets.pop("test"),
        list(sets.values()),
        Limits(settings.near_duplicate_cosine, settings.near_duplicate_correlation, settings.neighbours_checked),
        shared_groups=sorted(str(group) for group in (groups[0] & groups[1]) - {None}),
        corpus_copies=inputs.corpus_copies,
    )


def best_classic_methods(best_classic: Mapping[int, str], methods: Mapping[str, Method]) -> dict[int, str]:
    """Method whose classic augmentation was chosen on validation, by replicate; left out where the run has none."""
    alone = {method.classic: name for name, method in methods.items() if method.recipe is None}
    return {replicate: alone[classic] for replicate, classic in sorted(best_classic.items()) if classic in alone}
