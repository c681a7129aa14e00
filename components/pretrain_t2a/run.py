"""Reads the corpus, trains or verifies a text-to-audio model, writes a diffusers pipeline directory."""

from pathlib import Path
from typing import Any

from common.config.t2a import PretrainT2APlan
from common.corpus.pretraining import Pretraining
from common.log import event, get_logger
from common.models.registry import locate
from common.runtime.stage import Figures, stage
from common.storage import read_json, write_json
from common.storage.items import ItemStore
from components.pretrain_t2a.published import (
    PIPELINE_FILES,
    RANDOM,
    TEXT_ENCODER_FILES,
    TRAINING_FILE,
    hand_on,
    reuse,
    verify,
)

NAME = "pretrain_t2a"
FIGURES = ("parameters", "held_out_loss", "steps", "best_step", "clips")

log = get_logger(NAME)


def run(
    corpus_path: str,
    t2a_path: str,
    metrics_path: str,
    *,
    clap_path: str = "",
    config: dict[str, Any],
    code_version: str,
) -> Figures:
    """Reuse, verify or pretrain a text-to-audio model; `component.py` describes the arguments.

    In a run that generates no clips there is no model, only `training.json` with an empty curve.

    Returns the figures written to `metrics_path`.
    """
    plan = PretrainT2APlan.model_validate(config)
    settings, target = plan.settings, Path(t2a_path)
    with stage(NAME, config, metrics_path, {"t2a": t2a_path}, {"corpus": corpus_path, "clap": clap_path}) as running:
        if not plan.wanted:
            write_json(target / TRAINING_FILE, {"curve": []})
        elif settings.reuse is not None:
            reuse(settings.reuse, settings.reuse_sha256, target)
        elif settings.optim is None:
            folder = locate(settings.start, settings.revision, PIPELINE_FILES)
            parameters = verify(folder, settings.sha256)
            published = {"start": settings.start, "revision": settings.revision, "parameters": parameters}
            hand_on(folder, target, {**published, "curve": []})
        else:
            pretrain(Path(corpus_path), Path(clap_path) if clap_path else None, target, plan, code_version)
        record = read_json(target / TRAINING_FILE)
        running.record({key: record[key] for key in FIGURES if key in record})
    return running.figures


def pretrain(corpus_path: Path, clap_path: Path | None, target: Path, plan: PretrainT2APlan, code_version: str) -> None:
    """Train on the corpus unless the store has the model; under torchrun the first process alone writes."""
    import torch

    from common.corpus.shards import Corpus
    from common.runtime.parallel import cpu_count
    from common.training.launch import default_processes, is_main
    from components.pretrain_t2a.estimate import corpus_numbers, estimate_training
    from components.pretrain_t2a.monitor import discard
    from components.pretrain_t2a.pretraining import make_model, monitor_store

    settings = plan.settings
    # Published models are verified before a GPU is used.
    start = None if settings.start == RANDOM else locate(settings.start, settings.revision, PIPELINE_FILES)
    if start is not None:
        verify(start, settings.sha256)
    text = settings.text_encoder
    published = start is None and text.start != RANDOM
    text_encoder = locate(text.start, text.revision, TEXT_ENCODER_FILES) if published else None
    torch.set_num_threads(cpu_count())
    work = Pretraining.of(
        plan,
        ItemStore(NAME, code_version, scope=plan.scope),
        corpus=corpus_path,
        clap=clap_path,
        start=start,
        text_encoder=text_encoder,
    )
    made = work.store.has(**work.key)
    if not made:
        for line in estimate_training(settings, corpus_numbers(Corpus(corpus_path)), default_processes()).lines():
            event(log, "estimate", text=line)
    if is_main():
        work.write(make_model, target)
        discard(monitor_store(work))
    elif not made:
        make_model(work, target)
