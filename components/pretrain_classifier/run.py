"""Reads the corpus, trains or verifies a classifier, writes its directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common.classifier.model import at_level, save_classifier
from common.config.classifier import PretrainClassifierPlan
from common.corpus.shards import Corpus
from common.models.registry import locate
from common.runtime.stage import stage
from common.runtime.timing import model_time
from common.storage import read_json, write_json
from common.storage.artifacts import artifact_hash
from common.storage.hashing import hash_json
from common.storage.items import ItemStore
from components.pretrain_classifier.pretraining import FILES, NAME, TRAINING, Job, get_published, pretrain

FIGURES = ("labels", "clips", "unlabelled_clips", "held_out_accuracy", "held_out_map")


def run(
    corpus_path: str, classifier_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> dict[str, Any]:
    """Pretrain a classifier or verify a published one; `component.py` describes the arguments.

    Returns:
        Numbers of labels and clips; after training also accuracy and mAP on held-out clips.

    Raises:
        ConfigError: the checkpoint is not available, takes features of an unsupported kind, or has no level to set.
        DataError: the checkpoint is damaged or no audio classifier, or the corpus has no labels.
    """
    plan = PretrainClassifierPlan.model_validate(config)
    target = Path(classifier_path)
    with stage(NAME, config, metrics_path, {"classifier": classifier_path}, {"corpus": corpus_path}) as running:
        if plan.settings.checkpoint is None or plan.settings.optim is not None:
            _train(Path(corpus_path), target, plan, code_version)
        else:
            with model_time():
                classifier = get_published(plan.settings.checkpoint, plan.settings.revision, plan.settings.window_s)
            save_classifier(at_level(classifier, plan.settings.level) if plan.settings.level else classifier, target)
            origin = {"checkpoint": plan.settings.checkpoint, "revision": plan.settings.revision}
            write_json(target / TRAINING, {**origin, "labels": len(classifier.labels), "curve": []})
        done = read_json(target / TRAINING)
        running.record({key: done[key] for key in FIGURES if key in done})
    return running.figures


def _train(corpus_dir: Path, target: Path, plan: PretrainClassifierPlan, code_version: str) -> None:
    store = ItemStore(NAME, code_version)
    key: dict[str, Any] = {"corpus": hash_json(Corpus(corpus_dir).manifest), "plan": plan.model_dump(mode="json")}
    if plan.settings.checkpoint is not None:
        # A folder may hold other weights under the same name.
        key["start"] = artifact_hash(locate(plan.settings.checkpoint, plan.settings.revision, FILES))

    def make(folder: Path) -> None:
        with model_time():
            pretrain(Job(plan, corpus_dir, store, key, folder))

    shutil.copytree(store.get_or_make(make, **key), target, dirs_exist_ok=True)
    store.checkpoints(**key).clear()
    shutil.rmtree(store.scratch_dir(**key), ignore_errors=True)
