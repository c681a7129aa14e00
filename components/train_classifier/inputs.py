"""Inputs of the stage, and the jobs built from them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.config.base import OptimConfig
from common.config.learners import Encoder, probe_of
from common.config.recipes import LOSERS, Recipe
from common.config.train_classifier import TrainClassifierPlan
from common.errors import DataError
from common.learners.architectures import encoder_files
from common.log import event, get_logger
from common.models.registry import WEIGHTS, locate
from common.records.audio_folder import read_clips
from common.records.clips import GoldClip, SyntheticClip
from common.records.gold import GoldSet
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore
from components.train_classifier.candidates import Candidate
from components.train_classifier.clips import ClipSet, check_labels, clip_set, extra_real_clips, synthetic_clips
from components.train_classifier.jobs import Job
from components.train_classifier.learner_job import Pretrained
from components.train_classifier.training import selection_figure
from components.train_classifier.waveform import Backgrounds

ORACLE = "oracle"
WHOLE_CLIPS = 0.9
WINDOW_STEP_S = 1.28

log = get_logger("train_classifier")


@dataclass(frozen=True)
class Inputs:
    """Everything that jobs are built from; hashed once.

    Attributes:
        oracle: training clips of the oracle: labelled clips outside test and the first replicate's validation.
        everything: all labelled clips outside the test split.
        synthetic: clips that may fill the slot, by recipe and replicate, at the largest factor.
        clap: which some learners hear through.
        backgrounds: None = no method mixes in clips of the corpus.
        encoders: further frozen encoders, by the learner that hears through each.
    """

    base: Pretrained
    clap: Pretrained
    encoders: Mapping[str, Pretrained]
    labels: tuple[str, ...]
    multi_label: bool
    train: dict[int, ClipSet]
    validation: dict[int, ClipSet]
    oracle: ClipSet
    everything: ClipSet
    synthetic: dict[tuple[Recipe | None, int], ClipSet]
    store: ItemStore
    backgrounds: Backgrounds | None

    def job(self, candidate: Candidate, plan: TrainClassifierPlan) -> Job:
        """Build the job of a candidate."""
        gold, synthetic = self.train[candidate.replicate], self.synthetic[candidate.recipe, candidate.replicate]
        return Job(
            name=str(candidate),
            seed=candidate.training_seed,
            base=self.base,
            labels=self.labels,
            multi_label=self.multi_label,
            gold=gold,
            validation=self.validation[candidate.replicate],
            synthetic=synthetic.first(candidate.factor),
            classic=candidate.classic,
            strength=candidate.strength,
            optim=optim_of(plan, gold, plan.settings.optim.steps),
            settings=plan.settings,
            store=self.store,
            backgrounds=self.backgrounds if candidate.classic == "background" else None,
        )

    def possible(self, plan: TrainClassifierPlan) -> TrainClassifierPlan:
        """Remove from `plan` the methods whose clips neither dataset nor corpus has. Raises DataError: none is left."""
        lacking = [
            name
            for name, method in plan.methods.items()
            if method.without_clips
            and not all(self.synthetic[method.recipe, replicate].clips for replicate in plan.replicates)
        ]
        for name in lacking:
            event(log, "left_out", method=name, reason=plan.methods[name].without_clips)
        if len(lacking) == len(plan.methods):
            reasons = "; ".join(f"{name}: {plan.methods[name].without_clips}" for name in lacking)
            raise DataError(f"no method is left to train ({reasons}); name others in METHODS too, such as gold")
        return plan.model_copy(update={"methods": {n: m for n, m in plan.methods.items() if n not in lacking}})

    def oracle_job(self, plan: TrainClassifierPlan) -> Job:
        """Build the job of the oracle: the same recipe on the oracle's clips, trained longer.

        The last checkpoint is kept, without validation. The oracle judges labels of synthetic clips and is no method. A
        recipe that counts in epochs stops at `oracle_steps`.
        """
        optim = optim_of(plan, self.oracle, plan.settings.oracle_steps)
        return replace(
            self.job(Candidate(plan.replicates[0], None), plan),
            name=ORACLE,
            gold=self.oracle,
            validation=None,
            optim=optim.model_copy(update={"steps": min(optim.steps, plan.settings.oracle_steps)}),
        )


def read_inputs(
    classifier: Path,
    clap: Path,
    gold: Path,
    clips: Mapping[str, Path],
    corpus: Path,
    plan: TrainClassifierPlan,
    code_version: str,
) -> Inputs:
    """Read and check the inputs; audio is hashed, not decoded.

    `clips` are folders of other clips, by `vanilla`, `accepted` and `retrieved`.

    Raises:
        ConfigError: the selection figure does not suit the dataset's labels, or an encoder was not fetched.
        DataError: a replicate lacks training or validation clips, or synthetic clips have other labels.
    """
    gold_set = GoldSet(gold)
    selection_figure(plan.settings.select_by, gold_set.multi_label)
    recipes: dict[Recipe | None, None] = {None: None}
    recipes |= dict.fromkeys(method.recipe for method in plan.methods.values())
    origin = {recipe: _origin(recipe) for recipe in recipes if recipe is not None and recipe.source != "real"}
    known = {name: read_clips(clips[name], SyntheticClip) for name in sorted(set(origin.values()))}
    check_labels([clip for found in known.values() for clip in found], gold_set.labels)
    factor = max(plan.augmentation_factors)
    synthetic: dict[tuple[Recipe | None, int], ClipSet] = {}
    for recipe, replicate in itertools.product(recipes, plan.replicates):
        if recipe is None:
            synthetic[recipe, replicate] = clip_set(gold, list[GoldClip](), gold_set.label_ids)
        elif recipe in origin:
            name, train = origin[recipe], gold_set.train(replicate)
            chosen = synthetic_clips(recipe, replicate, known[name], factor, plan.rounds, train, plan.keep)
            synthetic[recipe, replicate] = clip_set(clips[name], chosen, gold_set.label_ids)
        else:
            sides = gold_set.train(replicate), gold_set.val(replicate), gold_set.oracle()
            extra = extra_real_clips(*sides, factor, replicate)
            synthetic[recipe, replicate] = clip_set(gold, extra, gold_set.label_ids)

    def real(found: Sequence[GoldClip], what: str) -> ClipSet:
        if not found:
            raise DataError(f"{gold} has no {what}; prepare the dataset again with more clips")
        return clip_set(gold, found, gold_set.label_ids)

    by_clips = plan.settings.window == "clips"
    window = window_for([clip.duration_s for clip in gold_set.clips.values()]) if by_clips else None
    return Inputs(
        base=Pretrained(classifier, artifact_hash(classifier), window),
        clap=Pretrained(clap, artifact_hash(clap), None),
        encoders={probe_of(name): _encoder(each) for name, each in plan.settings.learners.encoders.items()},
        labels=tuple(gold_set.labels),
        multi_label=gold_set.multi_label,
        train={
            replicate: real(gold_set.train(replicate), f"training clips for replicate {replicate}")
            for replicate in plan.replicates
        },
        validation={
            replicate: real(gold_set.val(replicate), f"validation clips for replicate {replicate}")
            for replicate in plan.replicates
        },
        oracle=real(gold_set.oracle(), "labelled clips"),
        everything=real(sorted(gold_set.clips.values(), key=lambda clip: clip.clip_id), "labelled clips"),
        synthetic=synthetic,
        store=ItemStore("train_classifier", code_version, scope=plan.scope),
        backgrounds=Backgrounds.of(corpus, plan.settings.model_dump()["background"]["clips"])
        if any(method.classic == "background" for method in plan.methods.values())
        else None,
    )


def _encoder(settings: Encoder) -> Pretrained:
    folder = locate(settings.checkpoint, settings.revision, WEIGHTS)
    return Pretrained(folder, artifact_hash(folder, encoder_files(folder)), None)


def window_for(durations_s: Sequence[float]) -> float:
    """Window that holds nine of ten clips whole, in seconds; longer clips are heard window by window.

    A multiple of 1.28 s, so that a clip more or less does not change it.
    """
    longest_of_most = sorted(durations_s)[math.ceil(WHOLE_CLIPS * len(durations_s)) - 1]
    return WINDOW_STEP_S * max(1, math.ceil(round(longest_of_most / WINDOW_STEP_S, 6)))


def _origin(recipe: Recipe) -> str:
    """Name of the folder that holds a recipe's clips."""
    if recipe.from_corpus:
        return "retrieved"
    return "vanilla" if recipe.name == LOSERS.name else "accepted"


def optim_of(plan: TrainClassifierPlan, gold: ClipSet, steps: int) -> OptimConfig:
    """Optimiser settings of a training on `gold`, the same for all methods, with or without synthetic clips."""
    return plan.settings.optim_for(len(gold.clips) * (1 + max(plan.augmentation_factors)), steps)
