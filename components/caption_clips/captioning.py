"""The idea of the stage: caption each gold training clip, and replace a caption that fails the checks.

A captioner is either embedded (label and acoustic measurements, no model) or an audio LLM. A refused caption is
replaced by the embedded captioner's. Read next: `acoustics.py` (measurements and their wording), `audio_llm.py`
(captions from an audio LLM), `run.py` (batches, kept in the item store).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from common.captions.checks import check_sentence, plain_caption
from common.config.captions import CaptionClipsConfig
from common.errors import DataError
from common.records.clips import Caption, Record
from common.records.text import joined_labels, normalize_label
from components.caption_clips.acoustics import Recording, describe, measure

if TYPE_CHECKING:
    from components.caption_clips.audio_llm import AudioLLMCaptioner


class AcousticCaptioner:
    """Captions from label and measurements: pitch, brightness, tempo, loudness, background. Needs no model."""

    name = "acoustics/1"
    batch_size = 64

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz

    def caption(self, recordings: Sequence[Recording], seeds: Sequence[int]) -> list[str]:
        """Captions from measurements; `seeds` are ignored."""
        return [
            describe(joined_labels(recording.clip.labels), measure(recording.audio, self.sample_rate_hz))
            for recording in recordings
        ]


class Refusal(Record):
    """A replaced caption, with the reason code."""

    clip_id: str
    reason: str


def checked_captions(
    recordings: Sequence[Recording],
    seeds: Sequence[int],
    captioner: AcousticCaptioner | AudioLLMCaptioner,
    settings: CaptionClipsConfig,
) -> tuple[list[Caption], list[Refusal]]:
    """Caption recordings; a caption that fails the checks is replaced by one from measurements.

    An audio LLM's caption need not contain the label: it describes what is heard; the label is added
    where captions for generation are written.
    """
    fallback = AcousticCaptioner(captioner.sample_rate_hz)
    captions: list[Caption] = []
    refusals: list[Refusal] = []
    for recording, text in zip(recordings, captioner.caption(recordings, seeds), strict=True):
        clip, writer, labels = recording.clip, captioner.name, list[str]()
        if not isinstance(captioner, AcousticCaptioner):
            text, refused = check_sentence(text, settings.max_words, settings.min_ascii_share)
            if refused:
                refusals.append(Refusal(clip_id=clip.clip_id, reason=refused))
                writer, text = fallback.name, fallback.caption([recording], [0])[0]
        if writer == fallback.name:
            labels = [normalize_label(label) for label in clip.labels]
        facts = {"clip_id": clip.clip_id, "label": clip.label, "label_id": clip.label_id}
        captions.append(Caption.model_validate(facts | {"caption": plain_caption(text, labels), "captioner": writer}))
    return captions, refusals


def open_captioner(settings: CaptionClipsConfig) -> AcousticCaptioner | AudioLLMCaptioner:
    """Captioner named in the settings. Raises ConfigError: its checkpoint cannot be loaded."""
    if settings.backend == "acoustics":
        return AcousticCaptioner(settings.sample_rate_hz)
    from components.caption_clips.audio_llm import AudioLLMCaptioner

    return AudioLLMCaptioner(settings.audio_llm)


def refuse_too_many(reasons: Mapping[str, int], total: int, settings: CaptionClipsConfig) -> None:
    """Fail if too many captions were replaced.

    Raises DataError: more than `max_replaced_share` of `total` were refused.
    """
    refused = sum(reasons.values())
    if refused > settings.max_replaced_share * total:
        found = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        raise DataError(
            f"the audio LLM's captions of {refused} of {total} clips failed the checks ({found}); expected at most "
            f"{settings.max_replaced_share:.0%}; check caption_clips.audio_llm, or set caption_clips.backend=acoustics"
        )
