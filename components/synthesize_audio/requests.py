"""Requests: which clips to generate, with which model and seed, and in which batches; imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.audio.matching import Recording
from common.config.recipes import LOSERS, Recipe
from common.config.t2a import SynthesizeAudioConfig
from common.errors import ConfigError, DataError
from common.records.clips import GoldClip, Prompt, SyntheticClip
from common.runtime.seeding import derive_seed

_OWN = {"start", "noise_level", "match_recording"}
"""Settings left out of a clip's key; `Request.source` and `Request.recording` carry them for the clips they concern."""


@dataclass(frozen=True, slots=True)
class Source:
    """File of a clip whose latents, noised to a diffusion time in (0, 1], a clip starts from.

    Attributes:
        corpus_clip: its key in the pretraining corpus; None = it is the gold clip that is augmented.
    """

    path: str
    sha256: str
    noise_level: float
    duration_s: float
    corpus_clip: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One clip to be generated.

    Attributes:
        model_path: folder of the text-to-audio model.
        duration_s: length of the clip.
        frames: latent length of a window: its part of `duration_s` rounded up to the bucket.
        windows: of the model, one after the other; several only where a clip starts from a longer one.
        target_rms_dbfs: loudness of the source clip.
        source: clip to start from; None = start from pure noise.
        recording: conditions to give the clip; None = as the model makes it.
    """

    prompt: Prompt
    model_path: str
    model_hash: str
    sampling_seed: int
    duration_s: float
    frames: int
    target_rms_dbfs: float
    source: Source | None = None
    recording: Recording | None = None
    windows: int = 1

    def key(self, settings: SynthesizeAudioConfig) -> dict[str, object]:
        """Store key of the clip: everything that determines its samples."""
        return {
            **self.latent_key(),
            "target_rms_dbfs": self.target_rms_dbfs,
            "settings": settings.model_dump(mode="json", exclude=_OWN),
            **({"recording": asdict(self.recording)} if self.recording else {}),
        }

    def latent_key(self) -> dict[str, object]:
        """Part of the key that determines the clip's latents, without the sampler."""
        return {
            "model": self.model_hash,
            "caption": self.prompt.caption,
            "sampling_seed": self.sampling_seed,
            "duration_s": self.duration_s,
            "frames": self.frames,
            "source": [self.source.sha256, self.source.noise_level] if self.source else None,
            **({"windows": self.windows} if self.windows > 1 else {}),
        }


def batch_key(requests: Sequence[Request], settings: SynthesizeAudioConfig) -> dict[str, object]:
    """Store key of a batch's latents; settings of the decoding and the audio do not count."""
    sampling = settings.model_dump(mode="json", include={"sampler", "precision", "compile"})
    return {"latents": [request.latent_key() for request in requests], **sampling}


def sampling_seed(prompt: Prompt) -> int:
    """Seed of a prompt's generator, derived from replicate and prompt id, never from content or order."""
    return derive_seed(prompt.replicate, "synthesize_audio", prompt.prompt_id)


def check_prompts(prompts: Sequence[Prompt], gold: Mapping[str, GoldClip]) -> None:
    """Raises DataError: two prompts share an id, a caption is empty, or a source clip is unknown."""
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.prompt_id in seen:
            raise DataError(f"two prompts have the id {prompt.prompt_id!r}; ids name the clips and must be unique")
        seen.add(prompt.prompt_id)
        if not prompt.caption.strip():
            raise DataError(f"prompt {prompt.prompt_id!r} has an empty caption; the caption stage must write one")
        if prompt.source_clip_id not in gold:
            raise DataError(
                f"prompt {prompt.prompt_id!r} augments the clip {prompt.source_clip_id!r}, which is not in the gold "
                "set; prompts and gold must come from the same run"
            )


def recipe_of(prompt: Prompt, recipes: Sequence[Recipe]) -> Recipe:
    """Recipe of a prompt. Raises ConfigError: it is not one of the run."""
    for recipe in (LOSERS, *recipes):
        if recipe.name == prompt.recipe:
            return recipe
    known = ", ".join(sorted({LOSERS.name, *(recipe.name for recipe in recipes)}))
    raise ConfigError(f"prompt {prompt.prompt_id!r} has the recipe {prompt.recipe!r}; recipes of this run: {known}")


def batches(requests: Sequence[Request], size: int) -> list[tuple[Request, ...]]:
    """Split requests into batches of at most `size` that share model, latent length, windows and kind of start.

    The order of `requests` does not matter. Equal captions are adjacent, so that few are encoded more than once. The
    sampler fills up a group's last batch, because results are bit-equal only at one batch size.
    """
    groups: dict[tuple[str, int, int, bool], list[Request]] = {}
    for request in sorted(requests, key=lambda r: (r.model_hash, r.frames, r.prompt.caption, r.prompt.prompt_id)):
        kind = request.model_hash, request.frames, request.windows, request.source is None
        groups.setdefault(kind, []).append(request)
    return [tuple(group[i : i + size]) for group in groups.values() for i in range(0, len(group), size)]


def synthetic_clip(request: Request, settings: SynthesizeAudioConfig, made: Mapping[str, Any]) -> SyntheticClip:
    """Record of a generated clip; `made` has its `duration_s`, `sample_rate_hz`, `gain_db` and `signal`."""
    return SyntheticClip(
        **request.prompt.descent,
        file_name=f"{request.prompt.prompt_id}.flac",
        clip_id=request.prompt.prompt_id,
        duration_s=made["duration_s"],
        sample_rate_hz=made["sample_rate_hz"],
        model_hash=request.model_hash,
        sampling_seed=request.sampling_seed,
        sampler={
            **settings.sampler.model_dump(mode="json"),
            "frames": request.frames,
            **({"noise_level": request.source.noise_level} if request.source else {}),
        },
        gain_db=made["gain_db"],
        signal=made["signal"],
    )
