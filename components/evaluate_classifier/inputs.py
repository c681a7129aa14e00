"""Inputs of the stage: clips, models, and the tasks to run on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config.evaluation import EvaluateClassifierPlan
from common.config.methods import in_order
from common.contracts.base import read
from common.contracts.evaluation import COPIES, CorpusCopies
from common.contracts.gold import HeldOutHealth
from common.contracts.training import Delivery, Failure, Learners, Member, Selection
from common.errors import DataError
from common.learners.architectures import encoder_files
from common.learners.front_ends import CLAP, ENCODER
from common.learners.model import hears_through
from common.records.audio_folder import Clip, clips_hash, read_clips
from common.records.clips import GoldClip, SyntheticClip
from common.records.gold import GoldSet
from common.runtime.work import Task
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore
from components.evaluate_classifier.scoring import Clips, Encoder, PredictTask, embed_tasks

ORACLE, DELIVERED = "oracle", "delivered"
MEMBERS = "members.json"


@dataclass(frozen=True)
class Inputs:
    """Everything that the stage reads.

    Attributes:
        sets: gold, vanilla, accepted and retrieved clips, by these names; a set without clips is left out.
        corpus_copies: copies of gold clips that `retrieve_audio` left out of the corpus; None = it found none.
        train_ids: ids of gold clips that any replicate trains on.
        failures: of train_classifier.
        embed: embedding tasks by set; the test clips are set "test".
        learners: figures of train_classifier's other learners on validation, by `<learner>/<method>/<replicate>`.
        predict: predictions of the test clips, by method and replicate; of other learners, by `<learner>/<method>`.
        validate: prediction tasks on the replicate's validation clips, for a multi-label dataset only.
        delivered: what train_classifier says of the delivered classifier, and its prediction task on the test clips.
        oracle: prediction tasks of the oracle by set; the test clips are set "test".
    """

    gold: GoldSet
    test: Clips
    sets: dict[str, Clips]
    corpus_copies: CorpusCopies | None
    train_ids: frozenset[str]
    test_health: HeldOutHealth
    selection: Selection
    failures: list[Failure]
    learners: Learners
    clap: Path
    embed: dict[str, list[Task]]
    predict: dict[tuple[str, int], PredictTask]
    validate: dict[tuple[str, int], PredictTask]
    blends: dict[tuple[str, int], list[Member]]
    delivered: tuple[Delivery, PredictTask]
    oracle: dict[str, PredictTask]

    @property
    def labels(self) -> list[str]:
        """Names by label id."""
        return self.gold.labels

    def truth(self, clips: Sequence[GoldClip | SyntheticClip]) -> NDArray[Any]:
        """(N,) label ids; for a multi-label dataset (N, K), whether a clip has a label.

        Raises DataError: a further label of a clip is not one of the dataset's.
        """
        if not self.gold.multi_label:
            return np.array([clip.label_id for clip in clips], dtype=np.int64)
        return self.gold.targets(clips)


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

    `clips` are folders of other training clips, by `vanilla`, `accepted` and `retrieved`.

    Raises DataError: the test split has no clips or other labels than the gold set.
    """
    gold_set = GoldSet(gold)
    labels = list(gold_set.labels)
    test_labels = read(list[str], test / "labels.json")
    if test_labels != labels:
        raise DataError(f"{test}: labels {test_labels} differ from the gold set's {labels}; prepare the dataset again")
    test_clips = _clips(test, GoldClip)
    if not test_clips.records:
        raise DataError(f"{test} holds no clips; give the dataset a test split or a test fraction above 0")
    found = {"gold": _clips(gold, GoldClip)} | {name: _clips(path, SyntheticClip) for name, path in clips.items()}
    sets = {name: clips for name, clips in found.items() if clips.records}
    everything = {"test": test_clips, **sets}
    store, batch = ItemStore("evaluate_classifier", code_version, scope=plan.scope), plan.settings.batch_size
    digest = artifact_hash(clap)
    judged = {name: clips for name, clips in everything.items() if name not in ("gold", "retrieved")}
    made = {
        (method, replicate): folder / str(replicate)
        for method, folder in _models(classifiers, plan)
        for replicate in plan.replicates
        if (folder / str(replicate)).is_dir()
    }
    blends = {cell: folder / MEMBERS for cell, folder in made.items() if (folder / MEMBERS).is_file()}
    models = {cell: (folder, artifact_hash(folder)) for cell, folder in made.items() if cell not in blends}
    own = {replicate: tuple(gold_set.val(replicate)) for replicate in plan.replicates if gold_set.multi_label}
    validation = {replicate: Clips(clips_hash(gold, records), gold, records) for replicate, records in own.items()}
    told = read(Delivery, classifiers / "delivered.json")
    oracle, delivered = classifiers / ORACLE, classifiers / DELIVERED
    encoders = {
        path.name: Encoder(artifact_hash(path, encoder_files(path)), path)
        for path in sorted((classifiers / "encoders").glob("*"))
    }

    def predict(model: tuple[Path, str], clips: Clips) -> PredictTask:
        through = hears_through(model[0])
        clap_tasks = embed_tasks(store, clap, digest, clips, batch) if through == CLAP else []
        return PredictTask(store, *model, clips, batch, clap_tasks, encoders if through == ENCODER else {})

    embed = {name: embed_tasks(store, clap, digest, clips, batch) for name, clips in everything.items()}
    return Inputs(
        gold=gold_set,
        test=test_clips,
        sets=sets,
        corpus_copies=read(CorpusCopies, copies) if (copies := clips["retrieved"] / COPIES).is_file() else None,
        train_ids=frozenset(clip.clip_id for replicate in plan.replicates for clip in gold_set.train(replicate)),
        test_health=read(HeldOutHealth, test / "health.json"),
        selection=read(Selection, classifiers / "selection.json"),
        failures=read(list[Failure], classifiers / "failures.json") + told.failures,
        learners=read(Learners, classifiers / "learners.json"),
        clap=clap,
        embed=embed,
        predict={key: predict(model, test_clips) for key, model in models.items()},
        validate={
            (method, replicate): predict(model, validation[replicate])
            for (method, replicate), model in models.items()
            if replicate in validation
        },
        blends={cell: read(list[Member], file) for cell, file in blends.items()},
        delivered=(
            told,
            # It may be a blend, and any member may hear through the CLAP or an encoder.
            PredictTask(store, delivered, artifact_hash(delivered), test_clips, batch, embed["test"], encoders),
        ),
        oracle={name: PredictTask(store, oracle, artifact_hash(oracle), clips, batch) for name, clips in judged.items()}
        if oracle.is_dir()
        else {},
    )


def _models(classifiers: Path, plan: EvaluateClassifierPlan) -> list[tuple[str, Path]]:
    """Name and folder of each method's models, those of other learners as `<learner>/<method>`."""
    methods = in_order(plan.methods)
    own = [(method, classifiers / method) for method in methods]
    found = [path.name for path in sorted((classifiers / "learners").glob("*"))]
    return own + [
        (f"{name}/{method}", classifiers / "learners" / name / method) for name in found for method in methods
    ]


def _clips(folder: Path, kind: type[Clip]) -> Clips:
    records = tuple(sorted(read_clips(folder, kind), key=lambda clip: clip.clip_id))
    return Clips(clips_hash(folder, records), folder, records)
