"""Audio players of the report: selection of clips, and FLAC files and spectrograms embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import Field

from common.audio.picture import png, spectrogram
from common.contracts.base import Contract
from common.records.clips import SyntheticClip
from common.runtime.seeding import derive_seed

Floats = NDArray[np.float32]


class Player(Contract):
    """Player of one clip."""

    audio: str = Field(description="data URI of a FLAC file")
    spectrogram: str = Field(description="data URI of a PNG")
    size: int = Field(description="bytes of the FLAC file")
    duration_s: float = Field(description="of the whole clip")
    cut: bool = Field(description="whether the player has only the start of the clip")


def choose(clips: Sequence[SyntheticClip], recipe: str, per_class: int, total: int) -> list[SyntheticClip]:
    """Draw clips of a recipe at random, not by quality, and evenly over the classes as far as clips exist.

    Args:
        clips: candidates in any order.

    Returns clips ordered by label, then by the draw.
    """
    by_label: dict[str, list[SyntheticClip]] = {}
    for clip in sorted(clips, key=lambda clip: (derive_seed(0, "report", clip.clip_id), clip.clip_id)):
        if clip.recipe == recipe:
            by_label.setdefault(clip.label, []).append(clip)
    turns = [
        by_label[label][turn] for turn in range(per_class) for label in sorted(by_label) if turn < len(by_label[label])
    ]
    return sorted(turns[:total], key=lambda clip: clip.label)


class Carrier:
    """Builds players until the page's audio budget is used up.

    Args:
        budget: bytes of FLAC that the page may hold.
        max_s: longest duration in seconds; longer clips are cut.
    """

    def __init__(self, budget: int, max_s: float) -> None:
        self._left, self._max_s = budget, max_s
        self._made: dict[str, Player] = {}

    def carry(self, name: str, load: Callable[[], tuple[Floats, int]]) -> Player | None:
        """Build the player of a clip; None when the page has no room for it.

        Args:
            name: name of the clip; a repeated name reuses the player but counts against the budget again.
            load: returns the mono waveform (T,) in [-1, 1] and its rate in Hz.
        """
        if name not in self._made:
            waveform, rate = load()
            self._made[name] = make_player(waveform, rate, self._max_s)
        player = self._made[name]
        if player.size > self._left:
            return None
        self._left -= player.size
        return player


def make_player(waveform: Floats, rate: int, max_s: float) -> Player:
    """Build a player with FLAC (16 bit) and spectrogram of the first `max_s` seconds of a mono waveform (T,)."""
    heard = waveform[: max(1, round(max_s * rate))]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(heard, -1, 1), rate, format="FLAC", subtype="PCM_16")
    data = buffer.getvalue()
    image = png(spectrogram(heard, rate))
    return Player(
        audio=_uri("audio/flac", data),
        spectrogram=_uri("image/png", image),
        size=len(data),
        duration_s=len(waveform) / rate,
        cut=len(heard) < len(waveform),
    )


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
