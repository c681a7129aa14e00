"""Inputs of the stage, and the jobs built from them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.config.base import OptimConfig
from common.config.learners import Encoder, find_learner, probe_of
from common.config.methods import Method
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
from components.train_classifier.candidates import Candidate, strengths
from components.train_classifier.clips import ClipSet, check_labels, clip_set, extra_real_clips, synthetic_clips
from components.train_classifier.job import AstJob, LearnerJob, Pretrained
from components.train_classifier.learner_kinds import KINDS
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
        learners: the model that each learner beside AST hears through, or any where it needs none.
        oracle: training clips of the oracle: labelled clips outside test and the first replicate's validation.
        everything: all labelled clips outside the test split.
        synthetic: clips that may fill the slot, by recipe and replicate, at the largest factor.
        backgrounds: None = no method mixes in clips of the corpus.
    """

    plan: TrainClassifierPlan
    base: Pretrained
    learners: Mapping[str, Pretrained]
    labels: tuple[str, ...]
    multi_label: bool
    train: dict[int, ClipSet]
    validation: dict[int, ClipSet]
    oracle: ClipSet
    everything: ClipSet
    synthetic: dict[tuple[Recipe | None, int], ClipSet]
    store: ItemStore
    backgrounds: Backgrounds | None

    def ast_job(self, candidate: Candidate) -> AstJob:
        """Build the job of a candidate."""
        given = self._given(candidate.recipe, candidate.replicate, candidate.classic)
        return AstJob(
            **{**given, "synthetic": given["synthetic"].first(candidate.factor)},
            pretrained=self.base,
            name=str(candidate),
            seed=candidate.training_seed,
            strength=candidate.strength,
            optim=self.optim(given["gold"], self.plan.settings.optim.steps),
        )

    @property
    def select_by(self) -> str:
        """Validation figure that decides, see `selection_figure`."""
        return selection_figure(self.plan.settings.select_by, self.multi_label)

    def oracle_job(self) -> AstJob:
        """Build the job of the oracle: the same recipe on the oracle's clips, trained longer.

        The last checkpoint is kept, without validation. The oracle judges labels of synthetic clips and is no method. A
        recipe that counts in epochs stops at `oracle_steps`.
        """
        most = self.plan.settings.oracle_steps
        optim = self.optim(self.oracle, most)
        return replace(
            self.ast_job(Candidate(self.plan.replicates[0], None)),
            name=ORACLE,
            gold=self.oracle,
            validation=None,
            optim=optim.model_copy(update={"steps": min(optim.steps, most)}),
        )

    def learner_job(self, learner: str, name: str, replicate: int, method: Method) -> LearnerJob:
        """Build the job of a learner on the clips of a method, which is called `name`."""
        return LearnerJob(
            **self._given(method.recipe, replicate, method.classic),
            pretrained=self.learners[learner],
            learner=learner,
            method=name,
            replicate=replicate,
            strengths=strengths(method.classic, self.plan.settings),
        )

    def optim(self, gold: ClipSet, steps: int) -> OptimConfig:
        """Optimiser settings of a training on `gold`, the same for all methods, with or without synthetic clips."""
        clips = len(gold.clips) * (1 + max(self.plan.augmentation_factors))
        return self.plan.settings.optim_for(clips, steps)

    def _given(self, recipe: Recipe | None, replicate: int, classic: str) -> dict[str, Any]:
        return {
            "labels": self.labels,
            "multi_label": self.multi_label,
            "gold": self.train[replicate],
            "validation": self.validation[replicate],
            "synthetic": self.synthetic[recipe, replicate],
            "classic": classic,
            "settings": self.plan.settings,
            "store": self.store,
            "backgrounds": self.backgrounds if classic == "background" else None,
        }


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
        DataError: a replicate lacks training or validation clips, or synthetic clips have other labels, or neither
            dataset nor corpus has the clips of any method.
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
    base = Pretrained(classifier, artifact_hash(classifier), window)
    through = {"clap": Pretrained(clap, artifact_hash(clap), None)}
    learners = {probe_of(name): _encoder(each) for name, each in plan.settings.learners.encoders.items()}
    for name in plan.settings.learners.names:
        if name in KINDS:
            learners[name] = through.get(find_learner(name).frozen or "", base)
    return Inputs(
        plan=_possible(plan, synthetic),
        base=base,
        learners=learners,
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


def _possible(plan: TrainClassifierPlan, synthetic: Mapping[tuple[Recipe | None, int], ClipSet]) -> TrainClassifierPlan:
    """The plan without the methods whose clips neither dataset nor corpus has. Raises DataError: none is left."""
    lacking = [
        name
        for name, method in plan.methods.items()
        if method.without_clips and not all(synthetic[method.recipe, replicate].clips for replicate in plan.replicates)
    ]
    for name in lacking:
        event(log, "left_out", method=name, reason=plan.methods[name].without_clips)
    if len(lacking) == len(plan.methods):
        reasons = "; ".join(f"{name}: {plan.methods[name].without_clips}" for name in lacking)
        raise DataError(f"no method is left to train ({reasons}); name others in METHODS too, such as gold")
    return plan.model_copy(update={"methods": {n: m for n, m in plan.methods.items() if n not in lacking}})


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
