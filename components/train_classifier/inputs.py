"""The stage's inputs, and the jobs made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.audio_folder import read_clips
from common.config.classifier import TrainClassifierPlan
from common.errors import DataError
from common.gold import GoldSet
from common.hashing import hash_dir
from common.items import ItemStore
from common.methods import LOSERS, Recipe
from common.records import GoldClip, SyntheticClip
from components.train_classifier.candidates import Candidate
from components.train_classifier.clips import check_labels, synthetic_clips
from components.train_classifier.jobs import ClipSet, Job, clip_set

ORACLE = "oracle"


@dataclass(frozen=True)
class Inputs:
    """Everything that jobs are made of; hashed once.

    Attributes:
        base_dir: the pretrained classifier.
        base_hash: of its content.
        labels: of the dataset, by label id.
        train: gold training clips by replicate.
        validation: gold validation clips by replicate.
        oracle: all labelled clips outside test and validation.
        synthetic: by recipe and replicate, of the largest factor.
        store: of finished trainings.
    """

    base_dir: Path
    base_hash: str
    labels: tuple[str, ...]
    train: dict[int, ClipSet]
    validation: dict[int, ClipSet]
    oracle: ClipSet
    synthetic: dict[tuple[Recipe | None, int], ClipSet]
    store: ItemStore

    def job(self, candidate: Candidate, plan: TrainClassifierPlan) -> Job:
        """The training of a candidate."""
        return Job(
            name=candidate.name,
            seed=candidate.seed,
            base_dir=self.base_dir,
            base_hash=self.base_hash,
            labels=self.labels,
            gold=self.train[candidate.seed],
            validation=self.validation[candidate.seed],
            synthetic=self.synthetic[candidate.recipe, candidate.seed].first(candidate.factor),
            classic=candidate.classic,
            strength=candidate.strength,
            optim=plan.settings.optim,
            settings=plan.settings,
            store=self.store,
        )

    def oracle_job(self, plan: TrainClassifierPlan) -> Job:
        """The training of the oracle: the same recipe on all labelled clips, longer, last checkpoint.

        Nothing is left to choose a checkpoint on; the oracle judges labels of synthetic clips and
        is no method.
        """
        optim = plan.settings.optim.model_copy(update={"steps": plan.settings.oracle_steps})
        return Job(
            name=ORACLE,
            seed=plan.seeds[0],
            base_dir=self.base_dir,
            base_hash=self.base_hash,
            labels=self.labels,
            gold=self.oracle,
            validation=None,
            synthetic=ClipSet((), self.oracle.folder, ()),
            classic="none",
            strength=None,
            optim=optim,
            settings=plan.settings,
            store=self.store,
        )


def read_inputs(
    classifier: Path, gold: Path, vanilla: Path, accepted: Path, plan: TrainClassifierPlan, code_version: str
) -> Inputs:
    """Read and check the inputs; audio is hashed, not decoded.

    Raises:
        DataError: a replicate lacks training or validation clips, or synthetic clips have other labels.
    """
    gold_set = GoldSet(gold)
    recipes: dict[Recipe | None, None] = {None: None}
    recipes |= dict.fromkeys(method.recipe for method in plan.methods.values())
    names = {recipe.name for recipe in recipes if recipe is not None}
    vanilla_clips = read_clips(vanilla, SyntheticClip) if LOSERS.name in names else []
    accepted_clips = read_clips(accepted, SyntheticClip) if names - {LOSERS.name} else []
    check_labels([*vanilla_clips, *accepted_clips], gold_set.labels)
    synthetic = {}
    for recipe in recipes:
        folder = vanilla if recipe is not None and recipe.name == LOSERS.name else accepted
        for seed in plan.seeds:
            clips = synthetic_clips(
                recipe,
                seed,
                vanilla_clips,
                accepted_clips,
                augmentation_factor=max(plan.augmentation_factors),
                rounds=plan.rounds,
            )
            synthetic[recipe, seed] = clip_set(folder, clips)
    return Inputs(
        base_dir=classifier,
        base_hash=hash_dir(classifier),
        labels=tuple(gold_set.labels),
        train={seed: _gold(gold, gold_set.train(seed), f"training clips for seed {seed}") for seed in plan.seeds},
        validation={seed: _gold(gold, gold_set.val(seed), f"validation clips for seed {seed}") for seed in plan.seeds},
        oracle=_gold(gold, gold_set.oracle(), "labelled clips"),
        synthetic=synthetic,
        store=ItemStore("train_classifier", code_version),
    )


def _gold(folder: Path, clips: Sequence[GoldClip], what: str) -> ClipSet:
    if not clips:
        raise DataError(f"{folder} has no {what}; prepare the dataset again with more clips")
    return clip_set(folder, clips)
