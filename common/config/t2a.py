"""Settings of the text-to-audio stages: `pretrain_t2a`, `synthesize_audio`, `align_t2a`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from common.config.base import Frozen, OptimConfig
from common.methods import Recipe


class SamplerConfig(Frozen):
    """How latents are sampled."""

    steps: int = Field(
        default=100, gt=0, description="ours: half of Stable Audio Open's 200; the official code takes 250"
    )
    guidance_scale: float = Field(default=7.0, ge=1, description="paper; the official code has 10")
    batch_size: int = Field(default=16, gt=0)
    bucket_frames: int = Field(
        default=8,
        gt=0,
        description="ours, because clips of nearly equal length then share a batch: latents are rounded up to a "
        "multiple of this many frames (at most to the window) and the audio is cut to the clip's length",
    )


class TransformerConfig(Frozen):
    """Shape of the diffusion transformer; defaults: Stable Audio Open 1.0 (arXiv 2407.14358), 1,057 M parameters."""

    num_layers: int = Field(default=24, gt=0)
    num_attention_heads: int = Field(default=24, gt=0)
    attention_head_dim: int = Field(default=64, gt=0, multiple_of=4)
    num_key_value_attention_heads: int = Field(default=12, gt=0, description="of cross-attention")
    cross_attention_dim: int = Field(default=768, gt=0)
    time_proj_dim: int = Field(default=256, gt=0, multiple_of=2)
    window_s: float = Field(default=10.0, gt=0, description="longest clip; official code: 441,000 samples of 44.1 kHz")

    @model_validator(mode="after")
    def _heads_divide(self) -> TransformerConfig:
        if self.num_attention_heads % self.num_key_value_attention_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_attention_heads ({self.num_key_value_attention_heads})"
            )
        return self


class TextEncoderConfig(Frozen):
    """The T5 encoder and the projection of its output; the corpus brings the tokenizer.

    `start` is a published T5 (kept frozen), or `random`: the sizes below, trained with the transformer.
    """

    start: str = Field(default="google/flan-t5-large", description="official code; `random`, a hub id or a folder")
    revision: str | None = Field(default=None, description="commit of the hub id")
    d_model: int = Field(default=1024, gt=0)
    d_kv: int = Field(default=64, gt=0)
    d_ff: int = Field(default=2816, gt=0)
    num_layers: int = Field(default=24, gt=0)
    num_heads: int = Field(default=16, gt=0)
    conditioning_dim: int = Field(default=768, gt=0, description="Stable Audio Open 1.0")
    max_seconds: float = Field(default=512.0, gt=0, description="of the duration embedding; Stable Audio Open 1.0")


class PretrainT2AConfig(Frozen):
    """Pretraining of the text-to-audio model on the corpus, or a published pipeline that is handed on."""

    start: str = Field(
        default="random",
        description="`random` trains from scratch (paper); else a StableAudioPipeline: hub id or folder, such as "
        "stabilityai/stable-audio-open-1.0",
    )
    revision: str | None = Field(default=None, description="commit of the hub id")
    sha256: dict[str, str] = Field(default={}, description="of files of the published pipeline, checked before use")
    transformer: TransformerConfig = TransformerConfig()
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    sigma_min: float = Field(default=0.3, gt=0, description="of the sampler; Stable Audio Open 1.0")
    sigma_max: float = Field(default=500.0, gt=0, description="of the sampler; Stable Audio Open 1.0")
    optim: OptimConfig = OptimConfig(
        steps=660_000, batch_size=64, learning_rate=5e-4, weight_decay=1e-3, schedule="inverse", ema_decay=0.9999
    )
    condition_dropout: float = Field(default=0.1, ge=0, lt=1, description="stable-audio-tools")
    timestep_sampling: Literal["uniform", "logit_normal"] = Field(default="uniform", description="stable-audio-tools")
    precision: Literal["fp32", "bf16"] = Field(default="bf16", description="ours: autocast in training")
    gradient_checkpointing: bool = Field(default=False, description="ours: less memory, a third more time")
    held_out_max_clips: int = Field(default=256, gt=0, description="ours: of the held-out split, for the curve")


class PretrainT2APlan(Frozen):
    """Input of `pretrain_t2a`."""

    settings: PretrainT2AConfig = PretrainT2AConfig()
    seed: int


class SynthesizeAudioConfig(Frozen):
    """Generation of audio for prompts."""

    sampler: SamplerConfig = SamplerConfig()
    peak_limit_dbfs: float = Field(
        default=-1.0,
        le=0,
        description="ours, because 16-bit FLAC clips at 0: a clip whose peak would pass this gets less gain than its "
        "source clip's loudness asks for",
    )


class SynthesizeAudioPlan(Frozen):
    """Input of `synthesize_audio`.

    `template_clips_per_gold` counts for the template prompts made when no prompts are given; `recipes`
    tells which alignment the model of a prompt has.
    """

    settings: SynthesizeAudioConfig = SynthesizeAudioConfig()
    seeds: tuple[int, ...]
    recipes: tuple[Recipe, ...] = ()
    template_clips_per_gold: int = Field(gt=0)


class AlignT2AConfig(Frozen):
    """Preference alignment; arXiv 2410.02056, 2311.12908, 2412.21037."""

    preference_loss: Literal["dpo", "crpo"] = Field(
        default="dpo",
        description="of the alignment `dpo`: arXiv 2410.02056, or with the winner's own error added (arXiv 2412.21037)",
    )
    beta: float = Field(
        default=2000.0, gt=0, description="official code; on mean errors per element, with the factor 0.5"
    )
    winner_weight: float = Field(
        default=1.0, ge=0, description="lambda of crpo: weight of the winner's own error (arXiv 2412.21037)"
    )
    condition_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="stable-audio-tools; one draw per pair, shared by winner, loser, policy and reference",
    )
    timestep_sampling: Literal["uniform", "logit_normal"] = Field(
        default="uniform", description="official code, whose option is logit-normal"
    )
    adapter: Literal["lora", "full"] = Field(
        default="lora",
        description="ours, because the reference is then the same weights with the adapter off; the official code "
        "trains an adapter too",
    )
    lora_rank: int = Field(default=16, gt=0, description="ours, because it is customary for attention projections")
    optim: OptimConfig = Field(
        default=OptimConfig(
            steps=500, batch_size=32, learning_rate=5e-5, weight_decay=1e-3, warmup_steps=100, schedule="inverse"
        ),
        description="pairs per step: paper; AdamW, its rate, decay and schedule: official code; steps: ours",
    )
    sampler: SamplerConfig = Field(
        default=SamplerConfig(), description="of the clips that measure the distance to the gold set"
    )
    distance_clips_per_class: int = Field(default=2, gt=0, description="ours: generated before and after alignment")
    distance_clips: int = Field(default=32, gt=0, description="ours: at most this many of them in all")
    peak_limit_dbfs: float = Field(default=-1.0, le=0, description="as in `synthesize_audio`")


class AlignT2APlan(Frozen):
    """Input of `align_t2a`: one item per seed and alignment."""

    settings: AlignT2AConfig = AlignT2AConfig()
    seeds: tuple[int, ...]
    alignments: tuple[Literal["dpo", "erm"], ...]
    losers_per_clip: int = Field(gt=0)


class RecipesPlan(Frozen):
    """Which synthetic sets a run needs."""

    seeds: tuple[int, ...]
    recipes: tuple[Recipe, ...]
    augmentation_factor: int = Field(ge=1, le=20)
