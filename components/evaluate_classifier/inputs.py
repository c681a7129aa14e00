"""What the stage reads: clips, models, and the work that is to be done on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.audio_folder import read_clips
from common.config.evaluation import EvaluateClassifierPlan
from common.errors import DataError
from common.gold import GoldSet
from common.hashing import hash_dir
from common.items import ItemStore
from common.records import GoldClip, SyntheticClip
from common.storage import read_json
from components.evaluate_classifier.scoring import Clips, EmbedTask, PredictTask, embed_tasks
from components.evaluate_classifier.selection import listed

ORACLE = "oracle"


@dataclass(frozen=True)
class Inputs:
    """Everything that the stage reads.

    Attributes:
        labels: names by label id.
        test: the test clips.
        sets: gold, vanilla, accepted and retrieved clips, by these names; a set without clips is left out.
        train_ids: ids of all gold clips that a replicate trains on.
        oracle_clips: how many real clips the oracle was trained on.
        selection: what train_classifier chose on validation.
        failures: trainings that failed there.
        embed: tasks by set, the test clips under "test".
        predict: tasks by method and seed, on the test clips.
        oracle: the oracle's tasks by set, the test clips under "test".
    """

    labels: list[str]
    test: Clips
    sets: dict[str, Clips]
    train_ids: frozenset[str]
    oracle_clips: int
    selection: dict[str, Any]
    failures: list[dict[str, Any]]
    embed: dict[str, list[EmbedTask]]
    predict: dict[tuple[str, int], PredictTask]
    oracle: dict[str, PredictTask]


def read_inputs(
    classifiers: Path,
    gold: Path,
    test: Path,
    clips: Mapping[str, Path],
    clap: Path,
    plan: EvaluateClassifierPlan,
    code_version: str,
) -> Inputs:
    """Read records and hash models; audio is hashed, not decoded.

    Args:
        classifiers: what train_classifier wrote.
        gold: the real clips for training and validation.
        test: the test clips.
        clips: folders of other clips that were trained on, by `vanilla`, `accepted` and, if given, `retrieved`.
        clap: the pretrained one.
        plan: of the stage.
        code_version: of the stage's code.

    Raises:
        DataError: the test split has no clips or other labels than the gold set.
    """
    gold_set = GoldSet(gold)
    labels = list(gold_set.labels)
    test_labels = read_json(test / "labels.json")
    if test_labels != labels:
        raise DataError(f"{test}: labels {test_labels} differ from the gold set's {labels}; prepare the dataset again")
    test_clips = _clips(test, GoldClip)
    if not test_clips.records:
        raise DataError(f"{test} holds no clips; give the dataset a test split or a test fraction above 0")
    found = {"gold": _clips(gold, GoldClip)} | {name: _clips(path, SyntheticClip) for name, path in clips.items()}
    sets = {name: clips for name, clips in found.items() if clips.records}
    everything = {"test": test_clips, **sets}
    store, batch = ItemStore("evaluate_classifier", code_version), plan.settings.batch_size
    digest = hash_dir(clap)
    judged = {name: clips for name, clips in everything.items() if name not in ("gold", "retrieved")}
    oracle = classifiers / ORACLE
    return Inputs(
        labels=labels,
        test=test_clips,
        sets=sets,
        train_ids=frozenset(clip.clip_id for seed in plan.seeds for clip in gold_set.train(seed)),
        oracle_clips=len(gold_set.oracle()),
        selection=read_json(classifiers / "selection.json"),
        failures=read_json(classifiers / "failures.json"),
        embed={name: embed_tasks(store, clap, digest, clips, batch) for name, clips in everything.items()},
        predict={
            (method, seed): PredictTask(store, model, hash_dir(model), test_clips, batch)
            for method in listed(plan.methods)
            for seed in plan.seeds
            if (model := classifiers / method / str(seed)).is_dir()
        },
        oracle={name: PredictTask(store, oracle, hash_dir(oracle), clips, batch) for name, clips in judged.items()}
        if oracle.is_dir()
        else {},
    )


def _clips(folder: Path, kind: type[GoldClip] | type[SyntheticClip]) -> Clips:
    found: list[GoldClip] | list[SyntheticClip] = (
        read_clips(folder, GoldClip) if kind is GoldClip else read_clips(folder, SyntheticClip)
    )
    records: list[GoldClip | SyntheticClip] = sorted(found, key=lambda clip: clip.clip_id)
    return Clips(hash_dir(folder / "clips") if records else "", folder, tuple(records))
