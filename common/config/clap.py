"""Settings of the CLAP stages: `pretrain_clap`, `finetune_clap`, `filter_audio`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from common.config.base import Count, Frozen, NonNegative, OptimConfig, PartialShare, Plan, Positive, PositiveShare
from common.config.recipes import Recipe


class ClapArchitecture(Frozen):
    """Sizes of a CLAP trained from random weights; the defaults are those of LAION's unfused HTS-AT CLAP."""

    sample_rate_hz: Count = 48_000
    window_s: Count = Field(10, description="length of one input window; longer clips take several")
    padding: Literal["repeatpad", "repeat", "pad"] = Field("repeatpad", description="filling of short clips")
    fft_size: Count = 1024
    hop_length: Count = Field(480, description="samples")
    mel_bins: Count = 64
    frequency_min_hz: NonNegative = 50.0
    frequency_max_hz: Positive = 14_000.0
    spec_size: Count = Field(256, description="side of the square image made of the spectrogram")
    patch_size: Count = 4
    patch_width: Count = Field(96, description="channels of the first stage; doubled by each further one")
    depths: tuple[int, ...] = (2, 2, 6, 2)
    audio_heads: tuple[int, ...] = (4, 8, 16, 32)
    attention_window: Count = Field(8, description="side of an attention window, in patches")
    text_width: Count = 768
    text_layers: Count = 12
    text_heads: Count = 12
    text_ff_width: Count = 3072
    max_tokens: int = Field(512, ge=64, description="ours: no caption may be cut, and a spelled label is long")
    projection_dim: Count = 512
    dropout: PartialShare = Field(0.1, description="of the text side; RoBERTa")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        frames = self.window_s * self.sample_rate_hz // self.hop_length + 1
        room = self.spec_size * (self.spec_size // self.mel_bins)
        if frames > room:
            raise ValueError(
                f"{frames} frames of {self.window_s} s do not fit the {room} columns of spec_size {self.spec_size}: "
                "raise hop_length or spec_size"
            )
        if len(self.depths) != len(self.audio_heads):
            raise ValueError(f"depths {self.depths} and audio_heads {self.audio_heads} need one entry per stage each")
        if self.frequency_max_hz * 2 > self.sample_rate_hz:
            raise ValueError(f"frequency_max_hz {self.frequency_max_hz} lies above half of {self.sample_rate_hz} Hz")
        return self


class PretrainClapConfig(Frozen):
    """A published checkpoint, verified and passed through, or training on the corpus, or both."""

    checkpoint: str | None = Field("laion/clap-htsat-unfused", description="hub id or folder; null = random weights")
    revision: str | None = Field("8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a", description="commit of the checkpoint")
    architecture: ClapArchitecture = ClapArchitecture()
    optim: OptimConfig | None = Field(None, description="null = take the checkpoint as it is")
    max_clips: Count | None = Field(None, description="training clips that are used, the first ones; null = all")
    max_heldout_clips: int = Field(500, ge=2, description="ours: held-out clips for the retrieval figures")
    feature_precision: Literal["float32", "float16"] = Field("float32", description="on disk; float16: ± 0.03 dB")
    select_by: Literal["auc", "accuracy", "caption_auc", "audio_to_text_r10", "text_to_audio_r10"] = Field(
        "auc", description="held-out figure that picks the step; ours: `auc` is closest to what the filter does"
    )
    equalizer_db: NonNegative = Field(5.0, description="random equaliser (FilterAugment, arXiv 2110.03282); ours")

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if self.checkpoint is None and self.optim is None:
            raise ValueError("without a checkpoint the model must be trained: set optim or checkpoint")
        return self


class PretrainClapPlan(Plan):
    """Input of `pretrain_clap`."""

    settings: PretrainClapConfig
    seed: int


class FinetuneClapConfig(Frozen):
    """Contrastive fine-tuning on the gold training clips of a replicate."""

    enabled: bool = Field(True, description="paper; off = every replicate uses the pretrained model")
    optim: OptimConfig = Field(
        OptimConfig(steps=100, batch_size=32, learning_rate=1e-5, warmup_steps=10, evaluate_every=25),
        description="ours: few and small steps, because n = 50 overfits quickly; validation AUC chooses",
    )
    equalizer_db: NonNegative = Field(6.0, description="random equaliser; on demo clips AUC falls without it")


class FinetuneClapPlan(Plan):
    """Input of `finetune_clap`: one item per replicate, none where no clips are filtered."""

    settings: FinetuneClapConfig
    replicates: tuple[int, ...]


class ThresholdConfig(Frozen):
    """Acceptance threshold for a clip's match with its label. `percentile` and `margin` are calibrated per replicate.

    Its effect on the replicate's gold validation clips is recorded for every kind.
    """

    kind: Literal["fixed", "percentile", "margin"] = Field("margin", description="ours, measured: docs/FILTER.md")
    min_score: float = Field(0.3, ge=-1, le=1, description="`fixed`: least cosine with the label prompt")
    percentile: float | None = Field(25.0, ge=0, le=100, description="of gold validation's scores or margins; null = 0")

    @model_validator(mode="after")
    def _calibrated(self) -> Self:
        if self.kind == "percentile" and self.percentile is None:
            raise ValueError("threshold kind 'percentile' needs a percentile")
        return self


class SecondJudgeConfig(Frozen):
    """A second judge beside CLAP, fitted to the gold training clips; a clip must pass both."""

    kind: Literal["none", "stats"] = Field("none", description="stats: as the learner of this name, cross-fitted")
    least: Positive = Field(0.25, description="times its probability by chance; ours, measured: docs/FILTER.md")
    folds: int = Field(10, ge=2, description="models; fewer where no class has as many gold clips")
    ridge: Positive = Field(0.2, description="of the discriminant, over the number of clips; as the learner")


Keep = Literal["first", "unsure", "sure"]


class FilterAudioConfig(Frozen):
    """Thresholds of the filter, and how many clips it chooses from."""

    threshold: ThresholdConfig = ThresholdConfig()
    second_judge: SecondJudgeConfig = SecondJudgeConfig()
    duplicate_similarity: PositiveShare = Field(0.95, description="CLAP cosine from which synthetic clips are compared")
    copy_similarity: PositiveShare = Field(0.95, description="CLAP cosine from which clip and gold clip are compared")
    same_recording: PositiveShare = Field(0.75, description="correlation of the spectrograms' detail; ours")
    max_compared: Count = Field(16, description="nearest clips that a clip is compared with; ours, to bound the work")
    surplus: float = Field(1.0, ge=1, le=5, description="clips generated for each one wanted, where there is a filter")
    keep: Keep = Field("first", description="the label's probability by the second judge chooses (arXiv 2502.15588)")
    batch_size: Count = 32

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.keep != "first" and self.second_judge.kind == "none":
            raise ValueError(f"keep {self.keep!r} asks the second judge: set second_judge.kind to stats")
        return self


class FilterAudioPlan(Plan):
    """Input of `filter_audio`: one item per replicate; `recipes` determine which clips are filtered."""

    settings: FilterAudioConfig
    replicates: tuple[int, ...] = Field(min_length=1)
    recipes: tuple[Recipe, ...]


class RetrieveAudioConfig(Frozen):
    """Retrieval of clips of the pretraining corpus: the nearest ones (paper, Table 1), or those of the label."""

    batch_size: Count = Field(32, description="CLAP windows per pass; changes speed only")


class RetrieveAudioPlan(Plan):
    """Input of `retrieve_audio`."""

    settings: RetrieveAudioConfig = RetrieveAudioConfig()
    replicates: tuple[int, ...] = Field(min_length=1)
    recipes: tuple[Recipe, ...] = Field(description="those that take clips of the corpus")
    clips_per_gold: Count
    near_duplicate_cosine: PositiveShare = Field(description="as in `evaluate_classifier`, of copies of gold clips")
    near_duplicate_correlation: PositiveShare
    neighbours_checked: Count
