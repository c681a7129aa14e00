"""The idea of the stage: train a latent diffusion model on captioned latents; held-out clips decide which step to keep.

Training starts from random weights or a published pipeline, in one or several processes. Read next: architecture.py
(the untrained model), batches.py (which clips make up a step), stream.py (reads them from the shards), trainer.py (loss
and training), monitor.py (clips generated during training). Around the training: run.py (train, verify or reuse),
published.py (finished models), estimate.py (memory and time), nodes.py (several nodes).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import AutoTokenizer
from transformers.models.t5.modeling_t5 import T5EncoderModel

from common.config.t2a import PretrainT2AConfig, PretrainT2APlan
from common.corpus.pretraining import Pretraining
from common.corpus.shards import Corpus, CorpusLatent
from common.diffusion.backend import T2ABackend, load_backend
from common.diffusion.preconditioned import PreconditionedDiT
from common.diffusion.spectral_codec import load_autoencoder
from common.errors import ConfigError, DataError
from common.log import event, get_logger
from common.storage import ObjectStore, open_store, write_json
from common.storage.artifacts import artifact_hash
from common.storage.checkpoints import Checkpoints
from common.training import Part, launch
from common.training.launch import default_processes
from components.pretrain_t2a.architecture import build_pipeline
from components.pretrain_t2a.batches import group_by_length
from components.pretrain_t2a.monitor import Monitor, collect, make_judge
from components.pretrain_t2a.published import TRAINING_FILE
from components.pretrain_t2a.stream import CorpusShards, LatentStream, Shards
from components.pretrain_t2a.trainer import Watch, train

log = get_logger("pretrain_t2a")


Job = Pretraining[PretrainT2APlan]


def make_model(job: Job, folder: Path) -> None:
    """Train in one process per GPU.

    Of `job.inputs`, `clap` scores clips generated during the training, `start` is the pipeline to train further, and
    `text_encoder` a published one; without it, a text encoder that does not come from `start` is random, and trained.
    """
    launch(run_job, (job, folder), default_processes())


def monitor_store(job: Job) -> ObjectStore:
    """Store of the clips generated during the training."""
    return open_store(f"{job.store.checkpoints(**job.key).uri}-monitor")


def run_job(where: tuple[Job, Path]) -> None:
    """Train in one process; the first process writes the model with `training.json` and `monitor/`."""
    job, folder = where
    state = PartialState(cpu=not torch.cuda.is_available())
    corpus, settings = Corpus(job.corpus_dir), job.plan.settings
    clap, start, text_encoder = (job.inputs.get(name) for name in ("clap", "start", "text_encoder"))
    optim = training_settings(settings)
    backend = _starting_point(job, corpus)
    backend.pipeline.to(state.device)
    held_out = list(islice(corpus.latents("heldout"), settings.held_out_max_clips))
    if start is None and isinstance(backend.transformer, PreconditionedDiT):
        backend.transformer.fit_scale([torch.from_numpy(clip.latent) for clip in held_out])
    looked_at = held_out[: settings.monitor.clips]
    main = state.is_main_process
    store = monitor_store(job)
    monitor = Monitor(
        backend,
        settings.monitor,
        held_out,
        judge=make_judge(clap, corpus, backend, looked_at) if main and clap else None,
        store=store if main else None,
        seed=job.plan.seed,
        steps=optim.steps,
    )
    record = pretrain(
        CorpusShards(corpus, "train"),
        held_out,
        backend,
        settings,
        train_text_encoder=start is None and text_encoder is None,
        seed=job.plan.seed,
        checkpoints=job.store.checkpoints(**job.key),
        watch=monitor,
        processes=(state.process_index, state.num_processes),
    )
    if main:
        backend.save(folder)
        record = {**record, "prompts": monitor.prompts, "sha256": artifact_hash(folder)}
        write_json(folder / TRAINING_FILE, record)
        collect(store, folder)


def pretrain(
    shards: Shards,
    held_out: Sequence[CorpusLatent],
    backend: T2ABackend,
    config: PretrainT2AConfig,
    *,
    train_text_encoder: bool,
    seed: int,
    checkpoints: Checkpoints | None = None,
    watch: Watch | None = None,
    processes: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Train a pipeline in place.

    Args:
        shards: encoded training clips, of various lengths.
        backend: the pipeline on its device, with the autoencoder that made the latents.
        train_text_encoder: whether T5 is random and trained too.
        seed: seeds batches, noise, times and dropout.
        watch: adds figures at every evaluation.

    Raises:
        ConfigError: there is nothing to train.
        DataError: the latents are longer than the network's window, or there are none.

    Returns the training's record for `training.json`.
    """
    optim = training_settings(config)
    index, count = processes
    parts = [Part(k * count + index, count * optim.accumulation, count) for k in range(optim.accumulation)]
    stream = LatentStream(
        shards,
        backend.tokenizer,
        batch_size=optim.batch_size,
        seed=seed,
        buffer_clips=config.buffer_clips,
        parts=parts,
        steps=optim.steps,
    )
    _check_window(stream, backend)
    modules = (backend.transformer, backend.projection, backend.text_encoder, backend.vae)
    parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
    event(log, "pretraining", clips=stream.clips, parameters=parameters, device=backend.device, processes=count)
    try:
        curve = train(
            backend,
            stream,
            group_by_length(held_out, backend.tokenizer),
            config,
            train_text_encoder=train_text_encoder,
            seed=seed,
            checkpoints=checkpoints,
            watch=watch,
        )
    finally:
        stream.close()
    event(log, "trained", best_step=curve.best_step, **curve.speed)
    return {
        "start": config.start,
        "seed": seed,
        "steps": optim.steps,
        "best_step": curve.best_step,
        "keep_best_by": config.keep_best_by,
        "clips": stream.clips,
        "parameters": parameters,
        "held_out_loss": _at(curve, curve.best_step, "held_out_loss"),
        "curve": curve,
    }


def training_settings(config: PretrainT2AConfig) -> Any:
    """Return `config.optim`. Raises ConfigError: it is null."""
    if config.optim is None:
        raise ConfigError("pretrain_t2a.optim is null: there are no steps to train; set it, or hand the model on")
    return config.optim


def check_autoencoder(vae: Any, manifest: dict[str, Any], where: str | Path) -> None:
    """Check that an autoencoder has the corpus's sample rate, channels and hop length.

    Raises DataError: one of them differs.
    """
    found = {
        "sample_rate_hz": int(vae.config.sampling_rate),
        "channels": int(vae.config.audio_channels),
        "hop_length": int(vae.hop_length),
    }
    for name, value in found.items():
        if value != manifest[name]:
            raise DataError(
                f"the autoencoder in {where} has {name} {value}, the corpus {manifest[name]}: its latents mean nothing "
                "to this model; run prepare_corpus with this model's autoencoder (prepare_corpus.vae), or set "
                "pretrain_t2a.optim=null to take the model as it is"
            )


def _starting_point(job: Job, corpus: Corpus) -> T2ABackend:
    vae = load_autoencoder(corpus.vae_dir)
    check_autoencoder(vae, corpus.manifest, corpus.vae_dir)
    if (start := job.inputs.get("start")) is not None:
        backend = load_backend(start)
        check_autoencoder(backend.vae, corpus.manifest, start)
        _check_same(backend.vae, vae, start)
        return backend
    tokenizer = AutoTokenizer.from_pretrained(str(corpus.tokenizer_dir))
    text_encoder = None
    if (published := job.inputs.get("text_encoder")) is not None:
        text_encoder = T5EncoderModel.from_pretrained(str(published), use_safetensors=True).eval()
    return build_pipeline(job.plan.settings, vae, tokenizer, job.plan.seed, text_encoder)


def _check_same(found: Any, expected: Any, where: Path) -> None:
    first, second = found.state_dict(), expected.state_dict()
    if first.keys() != second.keys() or not all(torch.equal(first[key], second[key]) for key in first):
        raise DataError(
            f"the autoencoder in {where} has other weights than the one that encoded the corpus: run prepare_corpus "
            "with prepare_corpus.vae set to this model, or set pretrain_t2a.optim=null to take the model as it is"
        )


def _check_window(stream: LatentStream, backend: T2ABackend) -> None:
    longest = max(stream.lengths)
    if longest > backend.max_frames:
        raise DataError(
            f"the corpus has latents of {longest} frames, the network's window is {backend.max_frames} "
            f"({backend.window_s:.2f} s): raise pretrain_t2a.transformer.window_s, or lower prepare_corpus.durations_s"
        )


def _at(curve: Sequence[dict[str, float]], step: int, figure: str) -> float:
    return next((row[figure] for row in curve if row["step"] == step and figure in row), curve[-1][figure])
