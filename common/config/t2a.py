"""Settings of the text-to-audio stages: `pretrain_t2a`, `synthesize_audio`, `align_t2a`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.config.base import (
    Count,
    Frozen,
    Natural,
    NonNegative,
    OptimConfig,
    PartialShare,
    Plan,
    Positive,
    PositiveShare,
    Share,
)
from common.config.recipes import Recipe
from common.registered import one_of


class SamplerConfig(Frozen):
    """Sampling of latents."""

    steps: Count = Field(100, description="ours: half of Stable Audio Open's 200; the official code takes 250")
    spacing: Literal["exponential", "karras"] = Field(
        "exponential", description="noise levels even in their logarithm, or as in arXiv 2206.00364, for few steps (8)"
    )
    noise: Literal["independent", "brownian"] = Field("independent", description="fresh draws, or diffusers' slow tree")
    guidance_scale: float = Field(7.0, ge=1, description="paper; the official code has 10")
    batch_size: Count = 16
    bucket_frames: Count = Field(8, description="latents are rounded up to a multiple, to share batches; ours")


class TransformerConfig(Frozen):
    """Shape of the diffusion transformer; defaults: Stable Audio Open 1.0 (arXiv 2407.14358), 1,057 M parameters."""

    num_layers: Count = 24
    num_attention_heads: Count = 24
    attention_head_dim: Count = Field(64, multiple_of=4)
    num_key_value_attention_heads: Count = Field(12, description="of cross-attention")
    cross_attention_dim: Count = 768
    time_proj_dim: Count = Field(256, multiple_of=2)
    window_s: Positive = Field(10.0, description="longest clip; official code: 441,000 samples of 44.1 kHz")
    precondition: bool = Field(False, description="of stable_audio, for one hardly wider than its latents")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.num_attention_heads % self.num_key_value_attention_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_attention_heads ({self.num_key_value_attention_heads})"
            )
        return self


class TextEncoderConfig(Frozen):
    """The T5 encoder and the projection of its output; the tokenizer comes from the corpus.

    `start` is a published T5 (kept frozen), or `random`: the sizes below, trained with the transformer.
    """

    start: str = Field("google/flan-t5-large", description="official code; `random`, a hub id or a folder")
    revision: str | None = Field(None, description="commit of the hub id")
    d_model: Count = 1024
    d_kv: Count = 64
    d_ff: Count = 2816
    num_layers: Count = 24
    num_heads: Count = 16
    conditioning_dim: Count = Field(768, description="Stable Audio Open 1.0")
    max_seconds: Positive = Field(512.0, description="of the duration embedding; Stable Audio Open 1.0")


class MonitorConfig(Frozen):
    """Audible examples and measurements during pretraining."""

    every: Count = Field(10_000, description="ours: at evaluations whose step is a multiple, and at the end")
    prompts: tuple[str, ...] = Field((), description="heard at every look; empty = the first held-out captions")
    prompt_count: Natural = Field(8, description="ours: how many of them are taken when `prompts` is empty")
    clips: Natural = Field(256, description="ours: held-out captions that clips are measured for; 0 = none")
    sampler: SamplerConfig = SamplerConfig(steps=50)


class PretrainT2AConfig(Frozen):
    """Pretraining of the text-to-audio model on the corpus, or a published pipeline passed through."""

    start: str = Field("random", description="`random` (paper), or a hub id or folder to train further or hand on")
    revision: str | None = Field(None, description="commit of the hub id; null = that of common/models/models.yaml")
    sha256: dict[str, str] = Field({}, description="of files of the published pipeline, checked before use")
    reuse: str | None = Field(None, description="folder or s3:// address of an earlier result to hand on")
    reuse_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="null = that in its training.json")
    backend: Annotated[str, one_of("common.diffusion.backends")] = Field("stable_audio", description="of `random`")
    transformer: TransformerConfig = TransformerConfig()
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    sigma_min: Positive = Field(0.3, description="of stable_audio's sampler; Stable Audio Open 1.0")
    sigma_max: Positive = Field(500.0, description="of stable_audio's sampler; Stable Audio Open 1.0")
    optim: OptimConfig | None = Field(
        OptimConfig(
            steps=660_000,
            batch_size=64,
            learning_rate=5e-4,
            weight_decay=1e-3,
            schedule="inverse",
            ema_decay=0.9999,
            evaluate_every=10_000,
            precision="bf16",
        ),
        description="null = take `start` as it is",
    )
    condition_dropout: PartialShare = Field(0.1, description="stable-audio-tools")
    timestep_sampling: Literal["uniform", "logit_normal"] = Field("uniform", description="stable-audio-tools")
    gradient_checkpointing: bool = Field(False, description="ours: less memory, a third more time")
    buffer_clips: Count = Field(16_384, description="clips are shuffled among so many (10 s: 0.9 GB); ours")
    held_out_max_clips: Count = Field(256, description="ours: of the held-out split, for the curve")
    monitor: MonitorConfig = MonitorConfig()
    keep_best_by: Literal["clap_distance", "held_out_loss", "last"] = Field(
        "clap_distance", description="kernel distance of CLAP embeddings (arXiv 2502.15602), error, or no choice"
    )

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.start == "random" and self.optim is None and self.reuse is None:
            raise ValueError("a random model must be trained: set optim, or start to a published pipeline")
        if self.keep_best_by == "clap_distance" and self.optim is not None and self.monitor.clips == 1:
            raise ValueError("monitor.clips is 1; a distance needs two clips or more, or none and another keep_best_by")
        return self

    @property
    def trains(self) -> bool:
        """Whether a model is trained, on the corpus, rather than taken as it is."""
        return self.optim is not None and self.reuse is None


class PretrainT2APlan(Plan):
    """Input of `pretrain_t2a`."""

    settings: PretrainT2AConfig = PretrainT2AConfig()
    seed: int
    wanted: bool = Field(True, description="false = no method of the run generates clips: there is no model")


class SynthesizeAudioConfig(Frozen):
    """Generation of audio for prompts."""

    sampler: SamplerConfig = SamplerConfig()
    start: Literal["noise", "source"] = Field("noise", description="paper: noise; `source`: SDEdit, arXiv 2108.01073")
    noise_level: PositiveShare = Field(0.5, description="of a start from a clip; ours: labels survive half way")
    match_recording: Literal["none", "gold"] = Field("none", description="ours: gold's equaliser, band limit, floor")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where a GPU has it")
    compile: Literal["none", "regional"] = Field("none", description="of the blocks; a minute, then faster steps; ours")
    sample_rate_hz: int | None = Field(None, ge=8000, description="of the clips written; null = the model's own rate")
    peak_limit_dbfs: float = Field(-1.0, le=0, description="limits the gain that matches the source's loudness; ours")


class SynthesizeAudioPlan(Plan):
    """Input of `synthesize_audio`.

    `template_clips_per_gold` counts the template prompts made when no prompts are given; `recipes`
    determine the alignment of the model for each prompt.
    """

    settings: SynthesizeAudioConfig = SynthesizeAudioConfig()
    replicates: tuple[int, ...]
    recipes: tuple[Recipe, ...] = ()
    template_clips_per_gold: Natural


PreferenceLoss = Literal["dpo", "crpo", "sdpo", "linear"]


class AlignT2AConfig(Frozen):
    """Preference alignment; arXiv 2410.02056, 2311.12908, 2412.21037, 2511.03317, 2605.21123."""

    preference_loss: PreferenceLoss | tuple[PreferenceLoss, ...] = Field(
        "dpo", description="arXiv 2410.02056, 2412.21037, 2511.03317, 2605.21123; `keep_best_by` chooses from a list"
    )
    beta: Positive = Field(2000.0, description="official code; on mean errors per element, with the factor 0.5")
    winner_weight: NonNegative = Field(1.0, description="lambda of crpo: of the winner's error (arXiv 2412.21037)")
    winner_margin: Share = Field(0.9, description="mu of sdpo: share of the winner's descent kept; official code")
    condition_dropout: PartialShare = Field(0.1, description="one draw per pair; stable-audio-tools")
    timestep_sampling: Literal["uniform", "logit_normal"] = Field("uniform", description="official code")
    adapter: Literal["lora", "full"] = Field("lora", description="ours: the reference is the model without it")
    lora_rank: Count = Field(16, description="ours, because it is customary for attention projections")
    optim: OptimConfig = Field(
        OptimConfig(
            steps=500,
            batch_size=32,
            learning_rate=5e-5,
            weight_decay=1e-3,
            warmup_steps=100,
            schedule="inverse",
            precision="bf16",
        ),
        description="pairs per step: paper; AdamW, its rate, decay and schedule: official code; steps, precision: ours",
    )
    sampler: SamplerConfig = Field(SamplerConfig(), description="of clips that measure the distance to gold")
    distance_clips_per_class: Count = Field(2, description="ours: generated before, during and after alignment")
    distance_clips: Count = Field(32, description="ours: at most this many of them in all")
    peak_limit_dbfs: float = Field(-1.0, le=0, description="as in `synthesize_audio`")
    gradient_checkpointing: bool = Field(False, description="ours: less memory, more time; the stage may set it itself")
    probe_every: Count = Field(100, description="steps between two probes, each of which costs about ten; ours")
    held_out_clips: Count = Field(64, description="ours: gold validation clips of the held-out error, at most")
    held_out_draws: Count = Field(8, description="ours: noise levels per validation clip, spread evenly over (0, 1)")
    learner_clips_per_class: Count = Field(4, description="of `learner_gain`, in place of the distance's; ours")
    keep_best_by: Literal["spectrum_db", "latent_frechet", "held_out_error", "learner_gain", "none"] = Field(
        "spectrum_db",
        description="ours: the state nearest to gold of those within `max_error_rise`; the distance falls on while "
        "clips are memorised. `learner_gain`: whose clips help a linear discriminant most (docs/RESULTS.md)",
    )
    max_error_rise: NonNegative = Field(0.02, description="share of the unaligned error; above, alignment stops; ours")
    max_distance_rise: NonNegative = Field(0.1, description="of `spectrum_db`, likewise; ours")
    patience: Count = Field(2, description="ours: probes in a row that must be that much worse before alignment stops")

    @property
    def preference_losses(self) -> tuple[PreferenceLoss, ...]:
        """The losses to try."""
        return (self.preference_loss,) if isinstance(self.preference_loss, str) else self.preference_loss

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        names = self.preference_losses
        if not names or len(set(names)) < len(names):
            raise ValueError(f"preference_loss must name losses, each once; found {list(names)}")
        if len(names) > 1 and self.keep_best_by == "none":
            raise ValueError(
                f"preference_loss names {', '.join(names)}, but keep_best_by is none, which cannot choose among them; "
                "set keep_best_by=learner_gain, or name one loss"
            )
        return self


class AlignT2APlan(Plan):
    """Input of `align_t2a`: one item per replicate and alignment."""

    settings: AlignT2AConfig = AlignT2AConfig()
    replicates: tuple[int, ...]
    alignments: tuple[Literal["dpo", "erm"], ...]
    losers_per_clip: Count
