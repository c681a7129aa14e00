"""The idea of the stage: train a latent diffusion model on captioned latents; held-out clips decide which step to keep.

Training starts from random weights or a published pipeline, in one or several processes. Read next: architecture.py
(the untrained model), batches.py (the clips of each step), monitor.py (clips generated during training). Around the
training: run.py (train, verify or reuse), published.py (finished models), estimate.py (memory and time), nodes.py
(several nodes).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import AutoTokenizer
from transformers.models.t5.modeling_t5 import T5EncoderModel

from common.config.t2a import PretrainT2AConfig, PretrainT2APlan
from common.corpus.pretraining import Pretraining
from common.corpus.shards import Corpus, CorpusLatent
from common.diffusion.backend import T2ABackend, error, load_backend
from common.diffusion.objective import draw_times, drop_rows
from common.diffusion.preconditioned import PreconditionedDiT
from common.diffusion.spectral_codec import load_autoencoder
from common.errors import DataError
from common.log import event, get_logger
from common.runtime.seeding import derive_seed
from common.storage import ObjectStore, open_store, write_json
from common.storage.artifacts import artifact_hash
from common.storage.checkpoints import Checkpoints
from common.training import LossFunction, Part, best_by, fit, launch
from common.training.launch import default_processes
from components.pretrain_t2a.architecture import build_pipeline
from components.pretrain_t2a.batches import Clips, LatentStream, group_by_length
from components.pretrain_t2a.monitor import DISTANCE, Monitor, collect, make_judge
from components.pretrain_t2a.published import TRAINING_FILE

log = get_logger("pretrain_t2a")

_HELD_OUT_TIMES = 4
Job = Pretraining[PretrainT2APlan]
Watch = Callable[[int], Mapping[str, float]]
"""Callback of every evaluation: takes the number of finished steps, returns figures for the curve."""


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
    optim, backend = settings.optim, _starting_point(job, corpus)
    # Without it `run` hands the model on.
    assert optim is not None
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
        corpus,
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
    corpus: Corpus,
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
    """Train a pipeline in place; it ends with the (averaged) weights of the best evaluation.

    Args:
        backend: the pipeline on its device, with the autoencoder that made the latents.
        train_text_encoder: whether T5 is random and trained too.
        watch: adds figures at every evaluation.
        processes: number of this one, and of all.

    Returns the training's record for `training.json`. Raises DataError: the latents are longer than the network's
    window, or there are none.
    """
    optim, (index, count) = config.optim, processes
    assert optim is not None
    stream = LatentStream(
        corpus,
        backend.tokenizer,
        batch_size=optim.batch_size,
        seed=seed,
        buffer_clips=config.buffer_clips,
        parts=[Part(k * count + index, count * optim.accumulation, count) for k in range(optim.accumulation)],
        steps=optim.steps,
    )
    _check_window(stream, backend)
    modules = (backend.transformer, backend.projection, backend.text_encoder, backend.vae)
    parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
    event(log, "pretraining", clips=stream.clips, parameters=parameters, device=backend.device, processes=count)
    backend.text_encoder.requires_grad_(train_text_encoder)
    trained = nn.ModuleDict({"transformer": backend.transformer, "projection": backend.projection})
    if train_text_encoder:
        trained["text_encoder"] = backend.text_encoder
    if config.gradient_checkpointing:
        backend.transformer.enable_gradient_checkpointing()
    groups = group_by_length(held_out, backend.tokenizer)

    def evaluate(step: int) -> dict[str, float]:
        figures = {"held_out_loss": held_out_loss(backend, groups, optim.batch_size, seed)}
        return {**figures, **(watch(step) if watch else {})}

    figure = {"clap_distance": DISTANCE, "held_out_loss": "held_out_loss", "last": None}[config.keep_best_by]
    try:
        curve = fit(
            trained,
            loss_function(backend, stream, config),
            optim,
            seed=seed,
            name="pretrain_t2a",
            checkpoints=checkpoints,
            evaluate=evaluate,
            best=best_by(figure, smallest=True) if figure else None,
        )
    finally:
        stream.close()
    for module in modules:
        module.eval()
    if config.gradient_checkpointing:
        backend.transformer.disable_gradient_checkpointing()
    event(log, "trained", best_step=curve.best_step, **curve.speed)
    return {
        "start": config.start,
        "seed": seed,
        "steps": optim.steps,
        "best_step": curve.best_step,
        "keep_best_by": config.keep_best_by,
        "clips": stream.clips,
        "parameters": parameters,
        "held_out_loss": curve.best["held_out_loss"],
        "curve": curve,
    }


def loss_function(backend: T2ABackend, stream: LatentStream, config: PretrainT2AConfig) -> LossFunction:
    """Build the loss of one part of a step's batch."""
    device = backend.device
    dropout, sampling = config.condition_dropout, config.timestep_sampling

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        clips, size = stream.batch(step, part)
        own = part.rows(size)
        t = draw_times(size, generator, sampling)
        eps = _noise((size, *clips.latents.shape[1:]), generator, device)
        drop = torch.rand(size, generator=generator) < dropout
        condition = backend.condition_tokens(clips.ids, clips.mask, clips.durations_s, trim=True)
        condition = drop_rows(condition, backend.null(condition), drop[own])
        return error(backend, clips.latents.to(device), eps[own].to(device), t[own].to(device), condition).mean(), {}

    return loss


def _noise(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    # Every process draws the whole batch's noise, so that their number does not change it; on a GPU this is cheap.
    if device.type != "cuda":
        return torch.randn(shape, generator=generator)
    own = torch.Generator(device).manual_seed(derive_seed(generator.initial_seed(), "noise"))
    return torch.randn(shape, generator=own, device=device)


@torch.no_grad()
def held_out_loss(backend: T2ABackend, held_out: list[Clips], batch_size: int, seed: int) -> float:
    """Mean error on held-out clips, at fixed noise and a grid of times, without guidance dropout."""
    errors = []
    for number, group in enumerate(held_out):
        generator = torch.Generator().manual_seed(derive_seed(seed, "held out noise", number))
        for rows in torch.arange(len(group)).split(batch_size):
            clips = group.rows(rows)
            z = clips.latents.to(backend.device)
            condition = backend.condition_tokens(clips.ids, clips.mask, clips.durations_s)
            for i in range(_HELD_OUT_TIMES):
                eps = torch.randn(z.shape, generator=generator).to(backend.device)
                t = torch.full((len(rows),), (i + 0.5) / _HELD_OUT_TIMES, device=backend.device)
                errors.append(error(backend, z, eps, t, condition))
    return float(torch.cat(errors).mean())


def check_autoencoder(vae: Any, manifest: dict[str, Any], where: str | Path) -> None:
    """Raises DataError: an autoencoder has not the corpus's sample rate, channels or hop length."""
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
        text_encoder = T5EncoderModel.from_pretrained(published, use_safetensors=True, dtype=torch.float32).eval()
    return build_pipeline(job.plan.settings, vae, tokenizer, job.plan.seed, text_encoder)


def _check_same(found: Any, expected: Any, where: Path) -> None:
    first, second = found.state_dict(), expected.state_dict()
    if first.keys() != second.keys() or not all(torch.equal(first[key], second[key]) for key in first):
        raise DataError(
            f"the autoencoder in {where} has other weights than the one that encoded the corpus: run prepare_corpus "
            "with prepare_corpus.vae set to this model, or set pretrain_t2a.optim=null to take the model as it is"
        )


def _check_window(stream: LatentStream, backend: T2ABackend) -> None:
    if stream.longest > backend.max_frames:
        raise DataError(
            f"the corpus has latents of {stream.longest} frames, the network's window is {backend.max_frames} "
            f"({backend.window_s:.2f} s): raise pretrain_t2a.transformer.window_s, or lower prepare_corpus.durations_s"
        )
