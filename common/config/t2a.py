"""Settings of the text-to-audio stages: `pretrain_t2a`, `synthesize_audio`, `align_t2a`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.config.base import Frozen, OptimConfig, Plan
from common.config.recipes import Recipe
from common.registered import one_of


class SamplerConfig(Frozen):
    """Sampling of latents."""

    steps: int = Field(
        default=100, gt=0, description="ours: half of Stable Audio Open's 200; the official code takes 250"
    )
    spacing: Literal["exponential", "karras"] = Field(
        default="exponential",
        description="how the noise levels lie between the model's largest and smallest: evenly in their logarithm "
        "(diffusers, official code), or as in arXiv 2206.00364, which suits few steps: `steps: 8, spacing: karras` is "
        "the few-step mode",
    )
    noise: Literal["independent", "brownian"] = Field(
        default="independent",
        description="what the stochastic solver adds at each step: a fresh draw of the clip's generator, or diffusers' "
        "Brownian tree; both have the same distribution, and the tree takes most of a small model's time",
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
    precondition: bool = Field(
        default=False,
        description="of stable_audio: the linear part of the prediction goes around the network "
        "(common/diffusion/preconditioned.py), for one that is hardly wider than its latents",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> TransformerConfig:
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

    start: str = Field(default="google/flan-t5-large", description="official code; `random`, a hub id or a folder")
    revision: str | None = Field(default=None, description="commit of the hub id")
    d_model: int = Field(default=1024, gt=0)
    d_kv: int = Field(default=64, gt=0)
    d_ff: int = Field(default=2816, gt=0)
    num_layers: int = Field(default=24, gt=0)
    num_heads: int = Field(default=16, gt=0)
    conditioning_dim: int = Field(default=768, gt=0, description="Stable Audio Open 1.0")
    max_seconds: float = Field(default=512.0, gt=0, description="of the duration embedding; Stable Audio Open 1.0")


class MonitorConfig(Frozen):
    """Audible examples and measurements during pretraining."""

    every: int = Field(
        default=10_000,
        gt=0,
        description="ours: steps between two looks: at evaluations whose step is a multiple of this, and at the end",
    )
    prompts: tuple[str, ...] = Field(
        default=(), description="heard at every look; empty = the first different captions of the held-out split"
    )
    prompt_count: int = Field(default=8, ge=0, description="ours: how many of them are taken when `prompts` is empty")
    clips: int = Field(
        default=256, ge=0, description="ours: held-out captions that clips are generated for and measured; 0 = none"
    )
    sampler: SamplerConfig = SamplerConfig(steps=50)


class PretrainT2AConfig(Frozen):
    """Pretraining of the text-to-audio model on the corpus, or a published pipeline passed through."""

    start: str = Field(
        default="random",
        description="`random` trains from scratch (paper); else a pipeline, hub id or folder, such as "
        "stabilityai/stable-audio-open-1.0, which is trained further, or with `optim: null` handed on",
    )
    revision: str | None = Field(
        default=None, description="commit of the hub id; null = the one in common/models/models.yaml, if there is one"
    )
    sha256: dict[str, str] = Field(default={}, description="of files of the published pipeline, checked before use")
    reuse: str | None = Field(
        default=None,
        description="folder or s3:// address of an earlier result of this stage, handed on instead of training",
    )
    reuse_sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="of the reused model, as `sha256` in its training.json; null = the one that stands there",
    )
    backend: Annotated[str, one_of("common.diffusion.backends")] = Field(
        default="stable_audio", description="kind of model that `random` builds; paper: stable_audio"
    )
    transformer: TransformerConfig = TransformerConfig()
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    sigma_min: float = Field(default=0.3, gt=0, description="of stable_audio's sampler; Stable Audio Open 1.0")
    sigma_max: float = Field(default=500.0, gt=0, description="of stable_audio's sampler; Stable Audio Open 1.0")
    optim: OptimConfig | None = Field(
        default=OptimConfig(
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
    condition_dropout: float = Field(default=0.1, ge=0, lt=1, description="stable-audio-tools")
    timestep_sampling: Literal["uniform", "logit_normal"] = Field(default="uniform", description="stable-audio-tools")
    gradient_checkpointing: bool = Field(default=False, description="ours: less memory, a third more time")
    buffer_clips: int = Field(
        default=16_384,
        gt=0,
        description="ours, because 10 s latents of that many take 0.9 GB: clips are shuffled among so many at a time, "
        "and as many are read ahead; a corpus that fits stays in memory",
    )
    held_out_max_clips: int = Field(default=256, gt=0, description="ours: of the held-out split, for the curve")
    monitor: MonitorConfig = MonitorConfig()
    keep_best_by: Literal["clap_distance", "held_out_loss", "last"] = Field(
        default="clap_distance",
        description="which weights training ends with: those of the look with the smallest kernel distance (arXiv "
        "2502.15602) on CLAP embeddings, which is unbiased for few clips; of the evaluation with the smallest error; "
        "or the last ones",
    )

    @model_validator(mode="after")
    def _something_to_do(self) -> PretrainT2AConfig:
        if self.start == "random" and self.optim is None and self.reuse is None:
            raise ValueError("a random model must be trained: set optim, or start to a published pipeline")
        if self.keep_best_by == "clap_distance" and self.optim is not None and self.monitor.clips == 1:
            raise ValueError("monitor.clips is 1; a distance needs two clips or more, or none and another keep_best_by")
        return self


class PretrainT2APlan(Plan):
    """Input of `pretrain_t2a`."""

    settings: PretrainT2AConfig = PretrainT2AConfig()
    seed: int
    wanted: bool = Field(default=True, description="false = no method of the run generates clips: there is no model")


class SynthesizeAudioConfig(Frozen):
    """Generation of audio for prompts."""

    sampler: SamplerConfig = SamplerConfig()
    start: Literal["noise", "source"] = Field(
        default="noise",
        description="paper: from pure noise; `source` starts from the gold clip that a prompt augments, noised to "
        "`noise_level` (SDEdit, arXiv 2108.01073). Losers and `vanilla` always start from noise: a noised winner is "
        "no sample of the model",
    )
    noise_level: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="of `start: source`: the diffusion time from which it is denoised; 1 forgets the source. ours, "
        "because half way labels survive and details change",
    )
    match_recording: Literal["none", "gold"] = Field(
        default="none",
        description="ours: `gold` gives generated clips the equaliser, band limit and noise floor of the replicate's "
        "training clips, by one filter per replicate and model; losers and `vanilla` stay as they are, and the method "
        "`vanilla_matched` is matched in any case. A clip always has the level of its source clip",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="of the transformer. auto: bf16 where the GPU has it, fp32 elsewhere, which repeats bit for bit; "
        "text is encoded once per caption, audio decoded once per clip: both in fp32",
    )
    compile: Literal["none", "regional"] = Field(
        default="none",
        description="ours: `regional` compiles the transformer's blocks (torch.compile): a minute at the start, faster "
        "steps after it; worth it from some hundred clips on a GPU",
    )
    sample_rate_hz: int | None = Field(
        default=None, ge=8000, description="of the clips written; null = the model's own rate"
    )
    peak_limit_dbfs: float = Field(
        default=-1.0,
        le=0,
        description="ours, because 16-bit FLAC clips at 0: a clip whose peak would pass this gets less gain than its "
        "source clip's loudness asks for",
    )


class SynthesizeAudioPlan(Plan):
    """Input of `synthesize_audio`.

    `template_clips_per_gold` counts the template prompts made when no prompts are given; `recipes`
    determine the alignment of the model for each prompt.
    """

    settings: SynthesizeAudioConfig = SynthesizeAudioConfig()
    seeds: tuple[int, ...]
    recipes: tuple[Recipe, ...] = ()
    template_clips_per_gold: int = Field(ge=0)


PreferenceLoss = Literal["dpo", "crpo", "sdpo", "linear"]


class AlignT2AConfig(Frozen):
    """Preference alignment; arXiv 2410.02056, 2311.12908, 2412.21037, 2511.03317, 2605.21123."""

    preference_loss: PreferenceLoss | tuple[PreferenceLoss, ...] = Field(
        default="dpo",
        description="of the alignment `dpo`: arXiv 2410.02056; `crpo` adds the winner's own error (arXiv 2412.21037); "
        "`sdpo` scales the loser's gradient so that the winner's error does not rise (arXiv 2511.03317); `linear` has "
        "a utility in place of the sigmoid that does not saturate (arXiv 2605.21123). Of a list each is tried, and "
        "`keep_best_by` chooses among them",
    )
    beta: float = Field(
        default=2000.0, gt=0, description="official code; on mean errors per element, with the factor 0.5"
    )
    winner_weight: float = Field(
        default=1.0, ge=0, description="lambda of crpo: weight of the winner's own error (arXiv 2412.21037)"
    )
    winner_margin: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="mu of sdpo, official code: share of the winner's own descent that the loser must leave; at 0 the "
        "winner's error just does not rise, at 1 the loser counts only where it helps",
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
    sampler: SamplerConfig = Field(
        default=SamplerConfig(), description="of the clips that measure the distance to the gold set"
    )
    distance_clips_per_class: int = Field(
        default=2, gt=0, description="ours: generated before, during and after alignment"
    )
    distance_clips: int = Field(default=32, gt=0, description="ours: at most this many of them in all")
    peak_limit_dbfs: float = Field(default=-1.0, le=0, description="as in `synthesize_audio`")
    gradient_checkpointing: bool = Field(
        default=False,
        description="ours: less memory, a third more time. On a GPU whose memory the longest clips exceed, the stage "
        "splits batches (optim.accumulation) and then turns this on by itself; the result is the same up to rounding",
    )
    probe_every: int = Field(
        default=100,
        gt=0,
        description="ours, because a probe costs about ten steps: steps between two looks at the held-out error and "
        "the distance to the gold set",
    )
    held_out_clips: int = Field(
        default=64, gt=0, description="ours: at most this many gold validation clips give the held-out error"
    )
    held_out_draws: int = Field(
        default=8, gt=0, description="ours: noise levels per validation clip, spread evenly over (0, 1)"
    )
    learner_clips_per_class: int = Field(
        default=4,
        gt=0,
        description="ours, with `keep_best_by: learner_gain`: generated at each probe in place of the distance's, for "
        "at most as many gold clips as a class has",
    )
    keep_best_by: Literal["spectrum_db", "latent_frechet", "held_out_error", "learner_gain", "none"] = Field(
        default="spectrum_db",
        description="ours: of the states whose held-out error is within `max_error_rise` of the lowest, the one "
        "nearest to the gold set is kept. The distance tells how far alignment has come, but keeps falling while a few "
        "dozen clips are memorised; the error shows that, but hardly tells good states apart. `learner_gain` "
        "keeps the state, whatever its error, whose clips help a learner most: a linear discriminant on log-mel "
        "statistics, fitted to gold and generated clips, is scored on validation clips (32 of them chose worse than "
        "`spectrum_db`, docs/RESULTS.md). The unaligned model "
        "competes too; `none` keeps the last",
    )
    max_error_rise: float = Field(
        default=0.02,
        ge=0,
        description="ours: a held-out error above the lowest by more than this share of the unaligned model's is "
        "worse: such a state is not kept, and alignment stops early",
    )
    max_distance_rise: float = Field(
        default=0.1,
        ge=0,
        description="ours: likewise alignment stops when `spectrum_db` got worse, which a few dozen generations give "
        "less precisely",
    )
    patience: int = Field(
        default=2, gt=0, description="ours: probes in a row that must be that much worse before alignment stops"
    )

    @property
    def preference_losses(self) -> tuple[PreferenceLoss, ...]:
        """The losses to try."""
        return (self.preference_loss,) if isinstance(self.preference_loss, str) else self.preference_loss

    @model_validator(mode="after")
    def _can_choose(self) -> AlignT2AConfig:
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
    """Input of `align_t2a`: one item per seed and alignment."""

    settings: AlignT2AConfig = AlignT2AConfig()
    seeds: tuple[int, ...]
    alignments: tuple[Literal["dpo", "erm"], ...]
    losers_per_clip: int = Field(gt=0)
