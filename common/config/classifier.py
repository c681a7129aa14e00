"""Settings of Audio Spectrogram Transformers and of `pretrain_classifier`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from common.config.base import Frozen, OptimConfig, Plan
from common.config.recording import RecordingConfig


class ASTArchitecture(Frozen):
    """Audio Spectrogram Transformer; defaults: AST base (arXiv 2104.01778)."""

    hidden_size: int = Field(default=768, gt=0)
    layers: int = Field(default=12, gt=0)
    heads: int = Field(default=12, gt=0)
    intermediate_size: int = Field(default=3072, gt=0)
    patch_size: int = Field(default=16, gt=0)
    frequency_stride: int = Field(default=10, gt=0)
    time_stride: int = Field(default=10, gt=0)
    max_length: int = Field(default=1024, gt=0, description="frames of 10 ms that the model sees at once")
    num_mel_bins: int = Field(default=128, gt=0)
    sample_rate_hz: int = Field(default=16000, ge=8000)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> ASTArchitecture:
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

    peak_dbfs: float = Field(default=-10.0, ge=-60, le=0, description="each clip is scaled to this peak")
    floor_db: float = Field(
        default=-56.0,
        ge=-69,
        le=0,
        description="mel energies of the scaled clip are raised to this; ASTFeatureExtractor's own floor is -69.2; the "
        "loudest bin of a clip lies about 70 dB above -56",
    )


class SpecAugmentConfig(Frozen):
    """Masks on the log-mel features (arXiv 1904.08779), with a roll in place of time warping."""

    strengths: tuple[float, ...] = Field(
        default=(0.1, 0.2, 0.4),
        min_length=3,
        description="largest share of the mel bins and of the frames under one mask; "
        "AST's AudioSet recipe: 0.37 of the bins, 0.19 of the frames",
    )
    masks: int = Field(default=2, ge=1, description="masks on each axis; arXiv 1904.08779, policy LD")
    time_roll_s: float = Field(
        default=0.0,
        ge=0,
        description="largest circular shift; ours: the strongest part of the classic set on short clips",
    )


class PretrainClassifierConfig(Frozen):
    """A published checkpoint as it is, or training on the corpus's labels, from a checkpoint or from random weights."""

    checkpoint: str | None = Field(
        default="MIT/ast-finetuned-audioset-10-10-0.4593",
        description="hub id or directory of an AST (paper) or another AutoModelForAudioClassification; "
        "null = random weights of `architecture`",
    )
    revision: str | None = Field(
        default="f826b80d28226b62986cc218e5cec390b1096902", description="commit of the checkpoint; null for a directory"
    )
    architecture: ASTArchitecture = ASTArchitecture()
    window_s: float = Field(
        default=10.0,
        gt=0,
        description="seconds that a checkpoint on waveforms (wav2vec 2.0, HuBERT, WavLM …) sees at once; ours: as "
        "AudioSet's clips; spectrogram models state it themselves",
    )
    optim: OptimConfig | None = Field(
        default=None, description="null = take the checkpoint as it is; else it gets a new head for the corpus's labels"
    )
    max_clips: int | None = Field(
        default=None, gt=0, description="training clips of the corpus that are used, the first ones; null = all"
    )
    max_held_out_clips: int = Field(default=2000, gt=0, description="ours: held-out clips of each evaluation")
    feature_precision: Literal["float32", "float16"] = Field(
        default="float32",
        description="of the features, which lie on the machine's disk, 0.5 MB for 10 s in float32; float16 halves that",
    )
    select_by: Literal["accuracy", "map"] = Field(
        default="accuracy",
        description="held-out figure by which the best evaluation is kept; map = mean precision; ours",
    )
    specaugment: SpecAugmentConfig = SpecAugmentConfig()
    specaugment_strength: float = Field(
        default=0.0, ge=0, lt=1, description="largest share under one mask in pretraining; 0 = no masks"
    )
    recording: RecordingConfig = RecordingConfig()
    level: LevelConfig | None = Field(
        default=None,
        description="hear all clips at one level, kept in preprocessor_config.json; null = as the checkpoint, or for "
        "random weights as they are",
    )

    @model_validator(mode="after")
    def _has_weights(self) -> PretrainClassifierConfig:
        if self.checkpoint is None and self.revision is not None:
            raise ValueError("revision is given without a checkpoint; set revision: null as well")
        if self.checkpoint is None and self.optim is None:
            raise ValueError("without a checkpoint the model must be trained: set optim or checkpoint")
        return self


class PretrainClassifierPlan(Plan):
    """Input of `pretrain_classifier`."""

    settings: PretrainClassifierConfig
    seed: int
