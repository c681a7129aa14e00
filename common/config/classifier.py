"""Settings of Audio Spectrogram Transformers and of `pretrain_classifier`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from common.config.base import Count, Frozen, NonNegative, OptimConfig, PartialShare, Plan, Positive


class ASTArchitecture(Frozen):
    """Audio Spectrogram Transformer; defaults: AST base (arXiv 2104.01778)."""

    hidden_size: Count = 768
    layers: Count = 12
    heads: Count = 12
    intermediate_size: Count = 3072
    patch_size: Count = 16
    frequency_stride: Count = 10
    time_stride: Count = 10
    max_length: Count = Field(1024, description="frames of 10 ms that the model sees at once")
    num_mel_bins: Count = 128
    sample_rate_hz: int = Field(16000, ge=8000)
    dropout: PartialShare = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size ({self.hidden_size}) must be a multiple of heads ({self.heads})")
        if self.patch_size > min(self.max_length, self.num_mel_bins):
            raise ValueError(
                f"patch_size ({self.patch_size}) exceeds max_length ({self.max_length}) or "
                f"num_mel_bins ({self.num_mel_bins})"
            )
        return self


class LevelConfig(Frozen):
    """The level at which an Audio Spectrogram Transformer hears every clip, and what it does not hear below that."""

    peak_dbfs: float = Field(-10.0, ge=-60, le=0, description="each clip is scaled to this peak")
    floor_db: float = Field(-56.0, ge=-69, le=0, description="least mel energy; ASTFeatureExtractor's own is -69.2")


class SpecAugmentConfig(Frozen):
    """Masks on the log-mel features (arXiv 1904.08779), with a roll in place of time warping."""

    strengths: tuple[float, ...] = Field(
        (0.1, 0.2, 0.4),
        min_length=3,
        description="largest share of an axis under one mask; AST's AudioSet recipe: 0.37, 0.19",
    )
    masks: Count = Field(2, description="masks on each axis; arXiv 1904.08779, policy LD")
    time_roll_s: NonNegative = Field(0.0, description="largest circular shift; ours: the strongest part on short clips")


class RecordingConfig(Frozen):
    """Level, noise floor, digital silence and band, which differ between recorders, at random; 0 = off."""

    gain_db: float = Field(0.0, ge=0, le=60, description="each clip becomes quieter by up to this")
    floor_db: float = Field(0.0, ge=0, le=90, description="half the clips get a noise floor this far below their peak")
    silence_db: float = Field(0.0, ge=0, le=90, description="in half the clips frames this far below the peak are zero")
    lead_s: float = Field(0.0, ge=0, le=5, description="half the clips start with up to this much of it")
    band_hz: NonNegative = Field(0.0, description="half the clips end at a frequency from this to half the rate")

    @property
    def on(self) -> bool:
        """Whether anything varies."""
        return any(value > 0 for value in self.model_dump().values())


class PretrainClassifierConfig(Frozen):
    """A published checkpoint as it is, or training on the corpus's labels, from a checkpoint or from random weights."""

    checkpoint: str | None = Field("MIT/ast-finetuned-audioset-10-10-0.4593", description="null = random weights")
    revision: str | None = Field("f826b80d28226b62986cc218e5cec390b1096902", description="commit; null for a directory")
    architecture: ASTArchitecture = ASTArchitecture()
    window_s: Positive = Field(10.0, description="seconds that a waveform model sees at once; as AudioSet's clips")
    optim: OptimConfig | None = Field(None, description="null = take the checkpoint as it is; else it gets a new head")
    max_clips: Count | None = Field(None, description="training clips that are used, the first ones; null = all")
    max_held_out_clips: Count = Field(2000, description="ours: held-out clips of each evaluation")
    feature_precision: Literal["float32", "float16"] = Field("float32", description="of the features on disk")
    select_by: Literal["accuracy", "map"] = Field("accuracy", description="held-out figure that picks the step; ours")
    specaugment: SpecAugmentConfig = SpecAugmentConfig()
    specaugment_strength: PartialShare = Field(0.0, description="share under one mask in pretraining; 0 = no masks")
    recording: RecordingConfig = RecordingConfig()
    level: LevelConfig | None = Field(None, description="hear all clips at one level; null = as the checkpoint")

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if self.checkpoint is None and self.revision is not None:
            raise ValueError("revision is given without a checkpoint; set revision: null as well")
        if self.checkpoint is None and self.optim is None:
            raise ValueError("without a checkpoint the model must be trained: set optim or checkpoint")
        return self


class PretrainClassifierPlan(Plan):
    """Input of `pretrain_classifier`."""

    settings: PretrainClassifierConfig
    seed: int
