"""I/O shell of `pretrain_classifier`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from common.audio import resample, to_mono
from common.classifier.features import LogMel
from common.classifier.model import save_classifier
from common.config.classifier import PretrainClassifierPlan
from common.corpus import Corpus, CorpusClip
from common.hashing import hash_json
from common.items import ItemStore
from common.stage import model_time, stage
from common.storage import read_json, write_json
from components.pretrain_classifier.published import get_published
from components.pretrain_classifier.training import NAME, LabelledClips, pretrain, raw_log_mel

TRAINING = "training.json"


def run(
    corpus_path: str, classifier_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> dict[str, Any]:
    """Write a classifier directory and its `training.json`.

    Raises:
        DataError: the checkpoint cannot be had or is unfit, or the corpus has no labels.
    """
    plan = PretrainClassifierPlan.model_validate(config)
    target = Path(classifier_path)
    with stage(NAME, config, metrics_path, {"classifier": classifier_path}) as running:
        if plan.settings.checkpoint is None:
            _train(Corpus(corpus_path), target, plan, code_version)
        else:
            with model_time():
                classifier = get_published(plan.settings.checkpoint, plan.settings.revision)
            save_classifier(classifier, target)
            origin = {"checkpoint": plan.settings.checkpoint, "revision": plan.settings.revision}
            write_json(target / TRAINING, {**origin, "labels": len(classifier.labels), "curve": []})
        done = read_json(target / TRAINING)
        running.record({key: done[key] for key in ("labels", "clips", "held_out_accuracy") if key in done})
    return running.figures


def _train(corpus: Corpus, target: Path, plan: PretrainClassifierPlan, code_version: str) -> None:
    store = ItemStore(NAME, code_version)
    key = {"corpus": hash_json(corpus.manifest), "plan": plan.model_dump(mode="json")}

    def make(folder: Path) -> None:
        log_mel = raw_log_mel(plan.settings.architecture)
        count, names = plan.settings.max_clips, corpus.labels
        training = _labelled(islice(corpus.audio("train"), count), names, log_mel)
        held_out = _labelled(islice(corpus.audio("heldout"), count), names, log_mel)
        with model_time():
            classifier, figures = pretrain(training, held_out, names, plan.settings, plan.seed, store.work_dir(**key))
        save_classifier(classifier, folder)
        write_json(folder / TRAINING, {"checkpoint": None, "labels": len(names), **figures})

    shutil.copytree(store.get_or_make(make, **key), target, dirs_exist_ok=True)
    shutil.rmtree(store.work_dir(**key), ignore_errors=True)


def _labelled(clips: Iterable[CorpusClip], names: list[str], log_mel: LogMel) -> LabelledClips:
    """Features of the clips that have a label; a weakly captioned corpus may lack some."""
    features, labels = [], []
    for clip in clips:
        if clip.label is not None:
            waveform = resample(to_mono(clip.audio), clip.sample_rate_hz, log_mel.sample_rate_hz)
            features += log_mel([waveform])
            labels.append(names.index(clip.label))
    return LabelledClips(features, np.array(labels, dtype=np.int64))
