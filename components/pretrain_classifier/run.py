"""Reads the corpus, trains or verifies a classifier, writes its directory."""

from pathlib import Path
from typing import Any

from common.classifier.model import at_level, save_classifier
from common.config.classifier import PretrainClassifierPlan
from common.corpus.pretraining import Pretraining
from common.models.registry import locate
from common.runtime.stage import Figures, stage
from common.runtime.timing import model_time
from common.storage import read_json, write_json
from common.storage.items import ItemStore
from components.pretrain_classifier.pretraining import FILES, NAME, TRAINING, get_published, pretrain

FIGURES = ("labels", "clips", "unlabelled_clips", "held_out_accuracy", "held_out_map")


def run(
    corpus_path: str, classifier_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> Figures:
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
        settings = plan.settings
        if settings.checkpoint is None or settings.optim is not None:
            start = locate(settings.checkpoint, settings.revision, FILES) if settings.checkpoint else None
            store = ItemStore(NAME, code_version, scope=plan.scope)
            Pretraining.of(plan, store, corpus=Path(corpus_path), start=start).write(pretrain, target)
        else:
            with model_time():
                classifier = get_published(settings.checkpoint, settings.revision, settings.window_s)
            save_classifier(at_level(classifier, settings.level) if settings.level else classifier, target)
            origin = {"checkpoint": settings.checkpoint, "revision": settings.revision}
            write_json(target / TRAINING, {**origin, "labels": len(classifier.labels), "curve": []})
        done = read_json(target / TRAINING)
        running.record({key: done[key] for key in FIGURES if key in done})
    return running.figures
