"""Settings of `prepare_corpus`, and of the analytic spectral codec, a stand-in for a learned autoencoder."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.config.base import Count, Frozen, Natural, PartialShare, Plan, Positive, PositiveShare, Share
from common.registered import one_of

SPECTRAL, EMBEDDED = "spectral", "embedded"


class SpectralCodecConfig(Frozen):
    """Log-mel patches, principal components, Griffin-Lim; one latent frame = `frames_per_latent` spectra.

    Defaults are ours, for speech and sounds at 16 kHz; `make bench-codec` measures what a round trip costs.
    """

    sampling_rate: int = Field(16000, ge=8000, le=48000, description="Hz")
    n_fft: int = Field(512, ge=64)
    frame_hop: int = Field(128, ge=16, description="samples between spectra")
    frames_per_latent: int = Field(4, ge=1, le=8)
    n_mels: int = Field(64, ge=8, le=256)
    latent_channels: int = Field(48, ge=2, description="principal components of n_mels * frames_per_latent")
    std_exponent: Share = Field(0.6, description="latent std ~ component std ** this: 0 whitens; 0.6 was best")
    floor_db: float = Field(-100.0, ge=-120, le=-40, description="of mel magnitudes, re a full-scale sine")
    griffin_lim_steps: int = Field(16, ge=1, le=200)
    peak_limit: PositiveShare = Field(0.98, description="louder decoded clips are scaled down to it")

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.n_fft % 4 or self.frame_hop * 4 > self.n_fft:
            raise ValueError(
                f"n_fft ({self.n_fft}) must be a multiple of 4 and at least 4 * frame_hop ({self.frame_hop})"
            )
        if self.latent_channels > self.n_mels * self.frames_per_latent:
            raise ValueError(
                f"latent_channels ({self.latent_channels}) exceeds n_mels * frames_per_latent "
                f"({self.n_mels * self.frames_per_latent})"
            )
        if self.frame_hop * self.frames_per_latent <= (self.n_fft - self.frame_hop) // 2:
            raise ValueError("one latent frame must be longer than (n_fft - frame_hop) / 2 samples")
        return self


class PrepareCorpusConfig(Frozen):
    """The captioned corpus for pretraining the text-to-audio model and the judges."""

    source: Literal["procedural", "folder", "tar", "none"] = Field("folder", description="files, tar shards, generator")
    audio_dir: str | None = Field(None, description="root of the files, or of the shards: path, file:// or s3://")
    captions_file: str | None = Field(None, description="joined by file name or YouTube id: CSV, JSONL or AudioSet's")
    captions_format: Annotated[str, one_of("components.prepare_corpus.formats", "auto")] = Field(
        "auto", description="`plain`: columns file, caption and, if known, label; the others as published"
    )
    clips: int = Field(2000, ge=8, description="`procedural`: how many to make")
    procedural_clips: Natural = Field(0, description="clips of the built-in generator beside the others; ours")
    durations_s: tuple[float, ...] = Field((10.0,), min_length=1, description="longer: cut to the loudest window")
    audio_s: Positive | None = Field(
        None, description="recordings: longest audio that is kept, for methods that take clips; null = of durations_s"
    )
    sample_rate_hz: int = Field(44100, ge=8000, le=48000, description="Stable Audio Open: 44.1 kHz")
    channels: Literal[1, 2] = Field(2, description="Stable Audio Open: stereo; mono clips are doubled")
    clips_per_shard: Count = Field(500, description="`tar`: a shard of the corpus is made of each input")
    heldout_fraction: float = Field(0.05, gt=0, lt=0.5, description="of the shards, to choose models by; ours")
    max_bad_fraction: PartialShare = Field(0.05, description="unusable or absent files, before the stage fails; ours")
    keep_audio: bool = Field(True, description="keep audio shards, for pretraining CLAP and the classifier")
    vae: str = Field("stabilityai/stable-audio-open-1.0", description="`spectral`, or a pipeline whose `vae` encodes")
    vae_revision: str | None = Field(None, description="commit on the hub; set it for runs that must repeat")
    latent_dtype: Literal["float32", "float16"] = Field("float32", description="float16 halves the shards")
    encode_batch: Count = Field(8, description="clips of equal length that a GPU encodes at once; ours")
    codec: SpectralCodecConfig = SpectralCodecConfig()
    codec_fit_clips: int = Field(800, ge=8, description="ours: the components are stable from some hundreds on")
    tokenizer: str = Field("google/flan-t5-large", description="`embedded`, or folder or hub id; paper: flan-t5-large")
    tokenizer_revision: str | None = None
    max_tokens: int = Field(128, ge=64, description="official code: 128")

    @model_validator(mode="after")
    def _folder_is_named(self) -> Self:
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
    excluded_ids_files: tuple[str, ...] = Field((), description="files that name the clips of datasets")
    wanted: bool = Field(True, description="false = nothing of the run takes clips from it: it stays empty")
    latents: bool = Field(True, description="false = nothing of the run trains on latents: audio alone")
