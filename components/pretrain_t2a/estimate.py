"""Estimate of a pretraining's memory and time, counted on the meta device before anything is loaded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common.config.base import OptimConfig
from common.config.corpus import SPECTRAL, PrepareCorpusConfig
from common.config.t2a import PretrainT2AConfig
from common.corpus.shards import Corpus
from common.corpus.vocabulary import build_vocabulary
from common.diffusion.backend import rotary_table, saved_bytes
from common.errors import ConfigError
from common.storage import read_json
from common.study.cost_table import GPU, SHARE_OF_PEAK, costs
from components.pretrain_t2a.architecture import build_text_encoder, build_transformer
from components.pretrain_t2a.published import count_parameters

PUBLISHED = {
    "sample_rate_hz": 44100,
    "hop_length": 2048,
    "latent_channels": 64,
    "vae_parameters": 156_000_000,
    "vocabulary": 32_128,
}
"""Stable Audio Open's autoencoder (arXiv 2407.14358) and T5's vocabulary."""

TEXT_TOKENS = 128
_FP32, _BF16 = 4, 2


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a training.

    Attributes:
        flops_per_clip: FLOP per clip and training step, of the transformer only.
        fixed_bytes: weights, gradients, optimiser state and averaged weights of one process.
        activation_bytes: activations of one clip; rough.
        clips: per process and micro-step.
    """

    trained: int
    frozen: int
    flops_per_clip: float
    fixed_bytes: float
    activation_bytes: float
    clips: int
    optim: OptimConfig
    processes: int

    @property
    def bytes(self) -> float:
        """Memory of one process in bytes."""
        return self.fixed_bytes + self.clips * self.activation_bytes

    def clips_per_s(self, gpu: GPU) -> float:
        """Throughput of all processes together, with a GPU each."""
        return self.processes / gpu.compute_s(self.flops_per_clip, self.optim.precision)

    def lines(self) -> list[str]:
        """Format the estimate as lines of text."""
        optim, giga = self.optim, 1e9
        lines = [
            f"{self.trained:,} parameters learn, {self.frozen:,} are frozen; "
            f"{self.flops_per_clip / 1e12:.3g} TFLOP per clip and step, without text encoder",
            f"{optim.steps:,} steps of {optim.batch_size} clips in {self.processes} process(es), each {self.clips} at "
            f"a time: {self.fixed_bytes / giga:.2f} GB of weights and training state and about "
            f"{self.clips * self.activation_bytes / giga:.2f} GB of activations each",
        ]
        for name, gpu in costs().gpus.items():
            rate = self.clips_per_s(gpu)
            hours = optim.steps * optim.batch_size / rate / 3600
            fits = "fits" if self.bytes < 0.9 * gpu.memory_gb * giga else "does not fit"
            lines.append(
                f"{self.processes} x {name} {gpu.memory_gb} GB: {fits}; at {SHARE_OF_PEAK:.0%} of peak "
                f"{rate:,.0f} clips/s, {hours:,.1f} h"
            )
        return lines


def estimate_training(config: PretrainT2AConfig, corpus: Mapping[str, int], processes: int) -> Estimate:
    """Estimate the cost of training on a corpus; a published start is estimated by the shapes of a random one."""
    optim = config.optim
    if optim is None:
        raise ConfigError("pretrain_t2a.optim is null: the model is handed on, nothing is trained")
    frames = math.ceil(round(config.transformer.window_s * corpus["sample_rate_hz"]) / corpus["hop_length"])
    with torch.device("meta"):
        transformer = build_transformer(config, corpus["latent_channels"], frames)
        text_encoder = build_text_encoder(config.text_encoder, corpus["vocabulary"])
    network, text = (sum(p.numel() for p in module.parameters()) for module in (transformer, text_encoder))
    learns_text = config.start == "random" and config.text_encoder.start == "random"
    trained, frozen = network + text * learns_text, text * (not learns_text) + corpus["vae_parameters"]
    forward, activations = _measured(transformer, frames)
    checkpointing, layers = config.gradient_checkpointing, config.transformer.num_layers
    if checkpointing:
        tokens = (frames + 1) * int(transformer.config.num_attention_heads) * int(transformer.config.attention_head_dim)
        activations = activations / layers + layers * tokens * _FP32
    copies = _BF16 * trained if optim.precision == "bf16" else 0
    state = _FP32 * trained * (5 if optim.ema_decay else 4)
    shared = processes if optim.sharding == "fsdp" else 1
    return Estimate(
        trained=trained,
        frozen=frozen,
        flops_per_clip=forward * (4 if checkpointing else 3),
        fixed_bytes=state / shared + copies + _FP32 * frozen,
        activation_bytes=activations * (1 if optim.precision == "bf16" else 2),
        clips=max(1, optim.batch_size // (processes * optim.accumulation)),
        optim=optim,
        processes=processes,
    )


def corpus_numbers(corpus: Corpus) -> dict[str, int]:
    """Numbers of an existing corpus that `estimate_training` needs."""
    vae = read_json(corpus.vae_dir / "config.json")
    return {
        "sample_rate_hz": int(corpus.manifest["sample_rate_hz"]),
        "hop_length": int(corpus.manifest["hop_length"]),
        "latent_channels": int(vae.get("latent_channels", vae.get("decoder_input_channels", 0))),
        "vae_parameters": sum(count_parameters(file) for file in corpus.vae_dir.glob("*.safetensors")),
        "vocabulary": len(corpus.vocabulary()),
    }


def planned_numbers(config: PrepareCorpusConfig) -> dict[str, int]:
    """Expected numbers of a corpus that does not exist yet; a published autoencoder counts as Stable Audio Open's."""
    if config.vae != SPECTRAL:
        return dict(PUBLISHED)
    codec = config.codec
    return {
        "sample_rate_hz": codec.sampling_rate,
        "hop_length": codec.frame_hop * codec.frames_per_latent,
        "latent_channels": codec.latent_channels,
        "vae_parameters": 0,
        "vocabulary": len(build_vocabulary([])),
    }


def _measured(transformer: Any, frames: int) -> tuple[float, float]:
    """Measure FLOPs of one clip's forward pass and bytes saved for the backward pass, in bf16."""
    # The model's own `to` would warn about parts that are best kept in fp32.
    nn.Module.to(transformer, torch.bfloat16)
    shape = transformer.config
    table = tuple(part.to("meta") for part in rotary_table(transformer, frames + 1, torch.device("cpu")))

    def forward() -> Tensor:
        return transformer(
            _empty(1, shape.in_channels, frames),
            _empty(1),
            encoder_hidden_states=_empty(1, TEXT_TOKENS + 2, shape.cross_attention_input_dim),
            global_hidden_states=_empty(1, 1, shape.global_states_input_dim),
            rotary_embedding=table,
            return_dict=False,
        )[0]

    with FlopCounterMode(display=False) as counter:
        kept = saved_bytes(transformer, forward)
    return float(counter.get_total_flops()), kept


def _empty(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta", dtype=torch.bfloat16)
