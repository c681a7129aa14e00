"""What a cheap learner gains from generated clips: its loss on gold validation clips, which alignment never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.audio.signal import resample
from common.classifier.inference import probabilities
from common.learners.calibration import cross_entropy, fit_temperature, tempered
from common.learners.front_ends import Features, front_end, recorded_copies
from common.learners.linear import fit_discriminant
from common.learners.statistics import SAMPLE_RATE_HZ, SCALES
from common.records.clips import GoldClip
from common.records.gold import GoldSet

Floats = NDArray[np.float64]
RIDGE = 0.2
"""Of the discriminant, over the number of gold clips; the value that does best on average for the learner `stats`."""


@dataclass(frozen=True)
class HeldOutLearner:
    """The learner `stats` of a replicate, which scores sets of generated clips.

    Attributes:
        gold: features of the training clips and of their recorded copies.
        targets: (N, labels) 1 where a row of `gold` has the label.
        truth: (M, labels) of the validation clips.
    """

    source: GoldSet
    clips: int
    gold: list[Features]
    targets: Floats
    heard: list[Features]
    truth: Floats

    @classmethod
    def of(cls, source: GoldSet, replicate: int) -> HeldOutLearner | None:
        """The learner of a replicate; None without validation clips."""
        train, held_out, hears = source.train(replicate), source.val(replicate), front_end("statistics")
        if not held_out:
            return None
        rows = []
        for clip in train:
            audio = source.load(clip, SAMPLE_RATE_HZ)
            copies = recorded_copies(audio, SAMPLE_RATE_HZ, clip.clip_id)
            rows.append(hears([audio, *copies]))
        targets = np.repeat(_targets(source, train), [len(own) for own in rows], axis=0)
        heard = hears([source.load(clip, SAMPLE_RATE_HZ) for clip in held_out])
        return cls(source, len(train), [row for own in rows for row in own], targets, heard, _targets(source, held_out))

    def loss(self, generated: Sequence[tuple[GoldClip, np.ndarray]] = (), rate: int = SAMPLE_RATE_HZ) -> float:
        """Calibrated cross-entropy on the validation clips, fitted to gold and to generated clips.

        Args:
            generated: the gold clip whose labels each has, and its audio, mono (T,); together they weigh as much as
                the gold clips. None = gold clips alone.
            rate: of the audio, in Hz.
        """
        audio = [resample(made, rate, SAMPLE_RATE_HZ) for _, made in generated]
        further, multi_label = front_end("statistics")(audio), self.source.multi_label
        ours = self.clips / (2 if further else 1)
        weights = [np.full(len(self.gold), ours / len(self.gold)), np.full(len(further), ours / max(len(further), 1))]
        head = fit_discriminant(
            np.stack(self.gold + further),
            np.concatenate([self.targets, _targets(self.source, [clip for clip, _ in generated])]),
            np.concatenate(weights),
            RIDGE / self.clips,
            multi_label,
            SCALES,
        )
        outputs = probabilities(head.logits(np.stack(self.heard)), multi_label)
        temperature = fit_temperature(outputs, self.truth, multi_label)
        return cross_entropy(tempered(outputs, temperature, multi_label), self.truth, multi_label)


def _targets(source: GoldSet, clips: Sequence[GoldClip]) -> Floats:
    """(clips, labels) 1 for each of a clip's labels."""
    made = np.zeros((len(clips), len(source.labels)))
    for row, clip in zip(made, clips, strict=True):
        row[list(source.label_ids(clip))] = 1
    return made
