"""Inputs of the stage: clips, models, and the tasks to run on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config.evaluation import EvaluateClassifierPlan
from common.config.learners import AST
from common.config.methods import in_order
from common.contracts.base import read
from common.contracts.evaluation import COPIES, CorpusCopies
from common.contracts.gold import HeldOutHealth
from common.contracts.training import Blend, Calibrated, Delivery, Failure, Learners, Selection
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
from components.evaluate_classifier.comparison import model_name
from components.evaluate_classifier.scoring import Clips, Encoder, PredictTask, embed_tasks
from components.evaluate_classifier.statistics import Key

ORACLE, DELIVERED = "oracle", "delivered"


@dataclass(frozen=True)
class Inputs:
    """Everything that the stage reads.

    Attributes:
        sets: gold, vanilla, accepted and retrieved clips, by these names; a set without clips is left out.
        corpus_copies: copies of gold clips that `retrieve_audio` left out of the corpus; None = it found none.
        train_ids: ids of gold clips that any replicate trains on.
        failures: of train_classifier.
        embed: embedding tasks by set; the test clips are set "test".
        learners: what validation clips say of each model and blend, by its name and replicate.
        predict: predictions of the test clips by each model, likewise.
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
    learners: dict[Key, Blend | Calibrated]
    clap: Path
    embed: dict[str, list[Task]]
    predict: dict[Key, PredictTask]
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
    delivery = read(Delivery, classifiers / "delivered.json")
    oracle, delivered = classifiers / ORACLE, classifiers / DELIVERED
    encoders = {
        path.name: Encoder(artifact_hash(path, encoder_files(path)), path)
        for path in sorted((classifiers / "encoders").glob("*"))
    }
    embed = {name: embed_tasks(store, clap, digest, clips, batch) for name, clips in everything.items()}

    def predict(name: str, replicate: int) -> PredictTask:
        model = classifiers / ("learners" if "/" in name else "") / name / str(replicate)
        through = hears_through(model)
        heard = embed["test"] if through == CLAP else [], encoders if through == ENCODER else {}
        return PredictTask(store, model, artifact_hash(model), test_clips, batch, *heard)

    learners = _learners(classifiers, plan.methods)
    return Inputs(
        gold=gold_set,
        test=test_clips,
        sets=sets,
        corpus_copies=read(CorpusCopies, copies) if (copies := clips["retrieved"] / COPIES).is_file() else None,
        train_ids=frozenset(clip.clip_id for replicate in plan.replicates for clip in gold_set.train(replicate)),
        test_health=read(HeldOutHealth, test / "health.json"),
        selection=read(Selection, classifiers / "selection.json"),
        failures=read(list[Failure], classifiers / "failures.json") + delivery.failures,
        learners=learners,
        clap=clap,
        embed=embed,
        predict={key: predict(*key) for key, told in learners.items() if not isinstance(told, Blend)},
        delivered=(
            delivery,
            # It may be a blend, and any member may hear through the CLAP or an encoder.
            PredictTask(store, delivered, artifact_hash(delivered), test_clips, batch, embed["test"], encoders),
        ),
        oracle={name: PredictTask(store, oracle, artifact_hash(oracle), clips, batch) for name, clips in judged.items()}
        if oracle.is_dir()
        else {},
    )


def _learners(classifiers: Path, methods: Iterable[str]) -> dict[Key, Blend | Calibrated]:
    """What learners.json says, by a model's name and replicate: AST first, methods in their order."""
    told, order = read(Learners, classifiers / "learners.json"), in_order(methods)
    cells = sorted((cell.split("/") for cell in told), key=lambda cell: (cell[0] != AST, cell[0], order.index(cell[1])))
    return {(model_name(learner, method), int(s)): told[f"{learner}/{method}/{s}"] for learner, method, s in cells}


def _clips(folder: Path, kind: type[Clip]) -> Clips:
    records = tuple(sorted(read_clips(folder, kind), key=lambda clip: clip.clip_id))
    return Clips(clips_hash(folder, records), folder, records)
