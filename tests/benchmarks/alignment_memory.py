"""Memory and speed of alignment: LoRA, whose reference is the adapter switched off, against a deep-copied reference.

Bytes of parameters, gradients and optimizer state are counted on tensors: at the real sizes without
memory (`meta` device), at a tiny size for real. On a GPU the allocated peak and the pairs per second
are measured at the real sizes with random weights.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from diffusers.pipelines.stable_audio.pipeline_stable_audio import StableAudioPipeline

from common.config.t2a import AlignT2AConfig, PretrainT2AConfig
from common.diffusion.backend import T2ABackend, error
from common.diffusion.backends.stable_audio import StableAudio
from common.diffusion.text import Condition, join
from common.training import WHOLE
from components.align_t2a.adapter import Policy, make_policy
from components.align_t2a.encoding import Bucket
from components.align_t2a.step import batch_loss
from components.pretrain_t2a.architecture import build_text_encoder, build_transformer, latent_channels
from tests.benchmarks.figures import Figure

Peer = Literal["lora", "lora_copied", "full"]
PEERS: dict[Peer, str] = {
    "lora": "LoRA, reference = adapter off",
    "lora_copied": "LoRA, deep-copied reference",
    "full": "full fine-tuning, deep-copied reference",
}
NO_GPU = "no GPU on this machine"
T5_VOCABULARY = 32128
TOKENS = 130
PAIRS_PER_STEP = 32
CARD_GB = 24.0


def alignment_figures(settings: AlignT2AConfig | None = None, config: PretrainT2AConfig | None = None) -> list[Figure]:
    """All figures of alignment.

    Args:
        settings: rank and loss; default: production.
        config: sizes; default: Stable Audio Open's.
    """
    settings, config = settings or AlignT2AConfig(), config or PretrainT2AConfig()
    figures = [*_counted(settings, config), *_tiny(settings)]
    return figures + (_measured(settings, config) if torch.cuda.is_available() else _unmeasured())


def training_bytes(policy: Policy) -> int:
    """Bytes of parameters (each once), gradients and AdamW's state after one step."""
    with policy.reference() as reference:
        held = {id(p): p for module in (policy.trained, reference.transformer) for p in module.parameters()}
    trained = [p for p in policy.trained.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(trained, foreach=False)
    optimizer.step()
    state = [value for entry in optimizer.state.values() for value in entry.values()]
    gradients = [p.grad for p in trained if p.grad is not None]
    return _bytes(held.values()) + _bytes(gradients) + _bytes(state)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def make_peer(peer: Peer, backend: T2ABackend, rank: int, gradient_checkpointing: bool = False) -> Policy:
    """A policy over `backend`, in place; `lora_copied` differs from `lora` in its reference alone."""
    if peer == "full":
        return make_policy(backend, "full", rank, 0, gradient_checkpointing)
    copied = copy.copy(backend)
    if peer == "lora_copied":
        copied.transformer = copy.deepcopy(backend.transformer).requires_grad_(False)
    policy = make_policy(backend, "lora", rank, 0, gradient_checkpointing)
    return policy if peer == "lora" else replace(policy, reference=lambda: nullcontext(copied))


def real_size(config: PretrainT2AConfig, device: str) -> T2ABackend:
    """A whole pipeline of random weights: autoencoder of Stable Audio Open, text encoder, projection, transformer."""
    text = config.text_encoder
    with torch.device(device), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*weight_norm.*")
        vae = AutoencoderOobleck()
        frames = -(-round(config.transformer.window_s * vae.config.sampling_rate) // vae.hop_length)
        parts = {
            "vae": vae,
            "text_encoder": build_text_encoder(text, T5_VOCABULARY),
            "projection_model": StableAudio.build_projection(text.d_model, text.conditioning_dim, text.max_seconds),
            "transformer": build_transformer(config, latent_channels(vae), frames),
        }
    backend = StableAudio(StableAudioPipeline(tokenizer=None, scheduler=StableAudio.build_scheduler(config), **parts))
    for part in (backend.vae, backend.text_encoder, backend.projection, backend.transformer):
        part.requires_grad_(False)
    return backend


def _counted(settings: AlignT2AConfig, config: PretrainT2AConfig) -> list[Figure]:
    backend = real_size(config, "meta")
    counts: dict[Peer, int] = {}
    for peer in PEERS:
        own = copy.copy(backend)
        own.transformer = copy.deepcopy(backend.transformer)
        counts[peer] = training_bytes(make_peer(peer, own, settings.lora_rank))
    name = f"DPO memory: parameters, gradients, optimizer state, counted (real sizes, rank {settings.lora_rank})"
    return [*_ratios(name, counts), _fits_counted(settings, backend)]


def activation_bytes(policy: Policy, pairs: int) -> int:
    """Bytes that the policy's forward pass keeps for the backward pass, in fp32: autocast to bf16 keeps fewer."""
    backend, kept = policy.backend, {}
    weights = {p.untyped_storage()._cdata for p in policy.trained.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    policy.trained.train()
    bucket = random_bucket(backend, pairs, backend.max_frames, TOKENS)
    both = torch.cat([bucket.winners, bucket.losers]).to(backend.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        times = torch.full((2 * pairs,), 0.5, device=backend.device)
        loss = error(backend, both, torch.zeros_like(both), times, join([bucket.condition, bucket.condition])).sum()
    kept.pop(loss.untyped_storage()._cdata, None)
    return sum(kept.values())


def _fits_counted(settings: AlignT2AConfig, backend: T2ABackend) -> Figure:
    policy = make_peer("lora", backend, settings.lora_rank)
    others = _bytes(p for part in (backend.vae, backend.text_encoder, backend.projection) for p in part.parameters())
    held, activations = training_bytes(policy) + others, activation_bytes(policy, 1)
    return replace(
        _fits((held + activations) / 1e9, "counted; a GPU's allocator and work buffers come on top"),
        figure="alignment at the real sizes, whole pipeline on the card, batch of 1 pair: counted",
        ours=f"{held / 1e9:.2f} GB weights, gradients, optimizer state; {activations / 1e9:.2f} GB activations in fp32",
    )


def _tiny(settings: AlignT2AConfig) -> list[Figure]:
    from tests.kit.models import build_t2a

    # The rank takes the same share of the tiny width as it takes of the real one.
    width = build_t2a().transformer.config.attention_head_dim * 2
    rank = max(1, settings.lora_rank * width // 1536)
    counts = {peer: training_bytes(make_peer(peer, build_t2a(), rank)) for peer in PEERS}
    return _ratios(f"DPO memory: parameters, gradients, optimizer state, allocated (tiny size, rank {rank})", counts)


def _ratios(name: str, counts: dict[Peer, int]) -> list[Figure]:
    return [
        Figure(
            figure=f"{name}, against {PEERS[peer]}",
            value=counts["lora"] / counts[peer],
            op="<=",
            target=0.6,
            unit="x",
            ours=f"{PEERS['lora']}: {counts['lora'] / 1e6:,.2f} MB",
            peer=f"{counts[peer] / 1e6:,.2f} MB",
        )
        for peer in ("lora_copied", "full")
    ]


def random_bucket(backend: T2ABackend, pairs: int, frames: int, tokens: int) -> Bucket:
    """Random pairs of one length under random conditions of the model's sizes."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    sizes = backend.transformer.config
    cross = draw(pairs, tokens, sizes.cross_attention_input_dim).to(backend.device)
    condition = Condition(cross, draw(pairs, 1, sizes.global_states_input_dim).to(backend.device))
    latents = [draw(pairs, backend.latent_channels, frames) for _ in range(2)]
    rows = torch.arange(pairs)
    return Bucket(latents[0], latents[1], rows, rows, condition, backend.null(condition))


def run_steps(policy: Policy, settings: AlignT2AConfig, pairs: int, steps: int, autocast: bool) -> float:
    """Train for `steps` steps of `pairs` random pairs; seconds of all but the first two."""
    backend = policy.backend
    bucket = random_bucket(backend, pairs, backend.max_frames, TOKENS)
    trained = [p for p in policy.trained.parameters() if p.requires_grad]
    fused = True if backend.device.type == "cuda" else None
    optimizer = torch.optim.AdamW(trained, lr=settings.optim.learning_rate, fused=fused)
    policy.trained.train()
    started = time.perf_counter()
    for step in range(steps):
        if step == 2:
            _wait(backend.device)
            started = time.perf_counter()
        generator = torch.Generator().manual_seed(step)
        with torch.autocast(backend.device.type, torch.bfloat16, enabled=autocast):
            loss, _ = batch_loss(policy, bucket, torch.arange(pairs), settings, "dpo", generator, WHOLE)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    _wait(backend.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _measured(settings: AlignT2AConfig, config: PretrainT2AConfig) -> list[Figure]:
    peaks: dict[Peer, int] = {}
    for peer in PEERS:
        policy = make_peer(peer, _transformer_alone(real_size(config, "cuda")), settings.lora_rank)
        peaks[peer] = _peak(policy, settings, 1)
        del policy
        torch.cuda.empty_cache()
    figures = _ratios("DPO memory: allocated peak on the GPU (batch of 1, bf16)", peaks)
    policy = make_peer("lora", real_size(config, "cuda"), settings.lora_rank)
    figures.append(_fits(_peak(policy, settings, 1) / 1e9, ""))
    steps = 12
    seconds = run_steps(policy, settings, PAIRS_PER_STEP, steps, autocast=True)
    return [*figures, _speed((steps - 2) * PAIRS_PER_STEP / seconds, "")]


def _transformer_alone(backend: T2ABackend) -> T2ABackend:
    # Codec and text encoder are the same for all peers, and would blur the ratio.
    backend.vae.to("cpu")
    backend.text_encoder.to("cpu")
    torch.cuda.empty_cache()
    return backend


def _peak(policy: Policy, settings: AlignT2AConfig, pairs: int) -> int:
    torch.cuda.reset_peak_memory_stats()
    run_steps(policy, settings, pairs, 3, autocast=True)
    return int(torch.cuda.max_memory_allocated())


def _fits(peak_gb: float | None, reason: str) -> Figure:
    name = "alignment at the real sizes, whole pipeline on the card, batch of 1 pair: allocated peak"
    return Figure(figure=name, value=peak_gb, op="<=", target=CARD_GB, unit="GB", reason=reason)


def _speed(pairs_per_s: float | None, reason: str) -> Figure:
    ours = f"LoRA, bf16, {PAIRS_PER_STEP} pairs a step, random weights"
    name = "DPO pairs/s, real transformer, 10 s, one H200"
    return Figure(figure=name, value=pairs_per_s, op=">=", target=60.0, unit="pairs/s", ours=ours, reason=reason)


def _unmeasured() -> list[Figure]:
    peak = "DPO memory: allocated peak on the GPU (batch of 1, bf16), against "
    ratios = [
        Figure(figure=peak + PEERS[peer], value=None, op="<=", target=0.6, unit="x", reason=NO_GPU)
        for peer in ("lora_copied", "full")
    ]
    return [*ratios, _fits(None, NO_GPU), _speed(None, NO_GPU)]
