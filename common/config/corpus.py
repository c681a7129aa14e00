"""Settings of `prepare_corpus`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.config.base import Frozen, Plan
from common.config.codec import SpectralCodecConfig
from common.registered import one_of

SPECTRAL, EMBEDDED = "spectral", "embedded"


class PrepareCorpusConfig(Frozen):
    """The captioned corpus for pretraining the text-to-audio model and the judges."""

    source: Literal["procedural", "folder", "tar", "none"] = Field(
        default="folder",
        description="`folder`: audio files with captions; `tar`: the same in tar shards; `procedural`: the built-in "
        "generator; `none`: no corpus, for presets whose models are all published",
    )
    audio_dir: str | None = Field(
        default=None,
        description="`folder`: root of the audio files; `tar`: where the shards (*.tar) lie, or a text file with the "
        "address of one on each line. A path, file:// or s3://",
    )
    captions_file: str | None = Field(
        default=None,
        description="`folder`, `tar`: captions, joined with the audio by file name or YouTube id. For `ontology` "
        "AudioSet's segments CSV, with class_labels_indices.csv and ontology.json beside it. A path, file:// or s3://",
    )
    captions_format: Annotated[str, one_of("components.prepare_corpus.formats", "auto")] = Field(
        default="auto",
        description="`plain`: CSV or JSONL with the columns file, caption and, if known, label; `ontology`: captions "
        "are worded from AudioSet's classes; the others as published; `auto`: told by the columns",
    )
    clips: int = Field(default=2000, ge=8, description="`procedural`: how many to make")
    procedural_clips: int = Field(
        default=0,
        ge=0,
        description="`folder`, `tar`: how many clips of the built-in generator join them; ours, for small collections",
    )
    durations_s: tuple[float, ...] = Field(
        default=(10.0,), min_length=1, description="a longer file is cut to its loudest window. Paper: 10 s"
    )
    sample_rate_hz: int = Field(default=44100, ge=8000, le=48000, description="Stable Audio Open: 44.1 kHz")
    channels: Literal[1, 2] = Field(default=2, description="Stable Audio Open: stereo; mono clips are doubled")
    clips_per_shard: int = Field(default=500, ge=1, description="`tar`: a shard of the corpus is made of each input")
    heldout_fraction: float = Field(
        default=0.05, gt=0, lt=0.5, description="of the shards; ours: for choosing models by held-out captions"
    )
    max_bad_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="unusable or absent files and captions before the stage fails; ours"
    )
    keep_audio: bool = Field(default=True, description="keep audio shards, for pretraining CLAP and the classifier")
    vae: str = Field(
        default="stabilityai/stable-audio-open-1.0",
        description="`spectral`, or the diffusers pipeline (folder or hub id) whose `vae` encodes",
    )
    vae_revision: str | None = Field(default=None, description="commit on the hub; set it for runs that must repeat")
    latent_dtype: Literal["float32", "float16"] = Field(
        default="float32",
        description="float16 halves the shards; its rounding (1/2048) is finer than that of training in bf16 (1/256)",
    )
    encode_batch: int = Field(
        default=8,
        ge=1,
        description="clips of equal length that a GPU encodes at once; a CPU takes them one by one. Ours",
    )
    codec: SpectralCodecConfig = SpectralCodecConfig()
    codec_fit_clips: int = Field(default=800, ge=8, description="ours: the components are stable from some hundreds on")
    tokenizer: str = Field(
        default="google/flan-t5-large",
        description="`embedded` (words, letters, bytes of this corpus), or a folder or hub id; paper: flan-t5-large",
    )
    tokenizer_revision: str | None = None
    max_tokens: int = Field(default=128, ge=64, description="official code: 128")

    @model_validator(mode="after")
    def _folder_is_named(self) -> PrepareCorpusConfig:
        if self.source in ("folder", "tar") and self.captions_file is not None and self.audio_dir is None:
            raise ValueError("captions_file is given without audio_dir: name where the audio lies")
        if self.vae == SPECTRAL and self.codec.sampling_rate != self.sample_rate_hz:
            raise ValueError(
                f"codec.sampling_rate ({self.codec.sampling_rate}) differs from sample_rate_hz ({self.sample_rate_hz})"
            )
        return self


class PrepareCorpusPlan(Plan):
    """Input of `prepare_corpus`."""

    settings: PrepareCorpusConfig
    seed: int
    excluded_ids_files: tuple[str, ...] = Field(
        default=(), description="files that name the AudioSet and Freesound clips of datasets"
    )
    wanted: bool = Field(default=True, description="false = nothing of the run takes clips from it: it stays empty")
