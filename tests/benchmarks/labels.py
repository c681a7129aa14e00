"""How many labels of a run's synthetic clips are right, before and after the filter, and what the clips bring a learner.

Two oracles that no stage of the run has (plain logistic regression on log-mel statistics, and the small CNN) hear all
labelled clips outside the test split. The learner is the linear discriminant of `stats`, trained on the gold clips of
each replicate and on synthetic clips, and scored on the labelled clips that the replicate neither trains on nor
validates with. The test split is heard by the oracles alone, for their own accuracy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config.learners import LearnersConfig
from common.errors import DataError, SynthioError
from common.learners.front_ends import Features, front_end, recorded_copies
from common.learners.linear import fit_discriminant
from common.learners.statistics import SCALES
from common.records.audio_folder import load_clip, read_clips
from common.records.clips import GoldClip, SyntheticClip
from common.records.gold import GoldSet
from common.runtime.split_guard import READER, running_as
from common.storage import read_json
from tests.benchmarks.codec import RATE, Clip, Oracles
from tests.benchmarks.figures import FOLDER, machine

WEIGHTS = (0.1, 0.25, 0.5)
"""Of all synthetic clips together, beside gold's 1."""
SURE = 0.8
"""Probability that the second judge gives a label that it is sure of."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Generated:
    """A synthetic clip: where it lies, and what the filter said of it (a row of `candidates` in filter.json)."""

    folder: Path
    clip: SyntheticClip
    told: Mapping[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether the filter kept it."""
        return self.told["reason"] is None

    @property
    def sure(self) -> bool:
        """Whether the second judge is sure of its label."""
        return (self.told.get("second_probability") or 0.0) >= SURE

    def audio(self) -> NDArray[np.float32]:
        """Its waveform (T,) at `RATE`."""
        return load_clip(self.folder, self.clip, RATE)


KEPT: Mapping[str, Callable[[Generated], bool]] = {
    "all": lambda clip: True,
    "accepted": lambda clip: clip.accepted,
    "accepted, the second judge sure": lambda clip: clip.accepted and clip.sure,
    "rejected": lambda clip: not clip.accepted,
}


@dataclass(frozen=True)
class Row:
    """Clips of a recipe that a rule keeps: their number, the percent with right labels by oracle, and gains by weight.

    `gains` are points of the discriminant over gold alone, means over replicates; empty where no clips are left to
    score it.
    """

    recipe: str
    kept: str
    clips: int
    right: dict[str, float]
    gains: dict[float, float]


def generated(artifacts: Mapping[str, Mapping[str, str]]) -> list[Generated]:
    """Every clip that the filters of a run have decided on."""
    found: dict[str, Generated] = {}
    for stage, outputs in sorted(artifacts.items()):
        if not stage.startswith("filter-audio"):
            continue
        rows = {row["clip_id"]: row for row in read_json(Path(outputs["accepted"]) / "filter.json")["candidates"]}
        for folder in (Path(outputs["accepted"]), Path(outputs["rejected"])):
            for clip in read_clips(folder, SyntheticClip):
                if clip.clip_id in rows:
                    found.setdefault(clip.clip_id, Generated(folder, clip, rows[clip.clip_id]))
    return list(found.values())


class Discriminants:
    """The learner, in each replicate of a run."""

    def __init__(self, gold: GoldSet) -> None:
        self._gold, self._hears = gold, front_end("statistics")
        self._labels = len(gold.labels)
        self._of: dict[str, Features] = {}

    def accuracy(self, replicate: int, clips: Sequence[Generated], weight: float) -> float | None:
        """Percent of the replicate's unused labelled clips; None where there are none.

        Args:
            clips: synthetic ones of the replicate.
            weight: of all of them together, beside gold's 1.
        """
        train = self._gold.train(replicate)
        used = {clip.clip_id for clip in [*train, *self._gold.val(replicate)]}
        unseen = [clip for clip in self._gold.oracle() if clip.clip_id not in used]
        if not unseen:
            return None
        rows = [(clip.label_id, row) for clip in train for row in self._with_copies(clip)]
        share = weight / (1 + weight) if clips else 0.0
        weights = np.full(len(rows), len(train) * (1 - share) / len(rows))
        if clips:
            rows += [(clip.clip.label_id, self._heard(clip.clip.clip_id, clip.audio)) for clip in clips]
            weights = np.concatenate([weights, np.full(len(clips), len(train) * share / len(clips))])
        targets = np.eye(self._labels)[[label for label, _ in rows]]
        ridges = LearnersConfig().ridges
        ridge = ridges[len(ridges) // 2] / len(train)
        fitted = fit_discriminant(np.stack([row for _, row in rows]), targets, weights, ridge, False, SCALES)
        heard = np.stack([self._heard(clip.clip_id, lambda clip=clip: self._gold.load(clip, RATE)) for clip in unseen])
        return 100 * float(np.mean(fitted.logits(heard).argmax(axis=1) == [clip.label_id for clip in unseen]))

    def _heard(self, name: str, audio: Callable[[], NDArray[np.float32]]) -> Features:
        if name not in self._of:
            self._of[name] = self._hears([audio()])[0]
        return self._of[name]

    def _with_copies(self, clip: GoldClip) -> list[Features]:
        waveform = self._gold.load(clip, RATE)
        return list(self._hears([waveform, *recorded_copies(waveform, RATE, clip.clip_id)]))


def measure(run: Path) -> tuple[dict[str, float], list[Row]]:
    """The oracles' accuracy on test clips in percent, and a row for each recipe and rule.

    Raises:
        DataError: there is no such run, or its clips have several labels.
    """
    gold, clips, oracles, own = hear(run)
    return own, list(_rows(oracles, Discriminants(gold), clips, gold.replicates))


def hear(run: Path) -> tuple[GoldSet, list[Generated], Oracles, dict[str, float]]:
    """Gold set and generated clips of a run, its oracles, and their accuracy on test clips in percent.

    Raises:
        DataError: there is no such run, or its clips have several labels.
    """
    if not (run / "run.json").is_file():
        raise DataError(f"no run in {run}: expected run.json there; give RUN=runs/<name of a run>")
    artifacts = read_json(run / "run.json")["artifacts"]
    gold, test = GoldSet(artifacts["prepare-dataset"]["gold"]), Path(artifacts["prepare-dataset"]["test"])
    if gold.multi_label:
        raise DataError(f"{run}: clips with several labels; this benchmark is for one label a clip")
    oracles = Oracles([Clip(gold.load(clip, RATE), clip.label) for clip in gold.oracle()])
    with running_as(READER):
        own = oracles.accuracy([Clip(load_clip(test, clip, RATE), clip.label) for clip in read_clips(test, GoldClip)])
    return gold, generated(artifacts), oracles, own


def labels_right(oracles: Oracles, clips: Sequence[Generated]) -> dict[str, float]:
    """Percent of the clips whose label each oracle hears."""
    return oracles.accuracy([Clip(each.audio(), each.clip.label) for each in clips])


def _rows(
    oracles: Oracles, learners: Discriminants, clips: Sequence[Generated], replicates: Sequence[int]
) -> Iterator[Row]:
    alone = {replicate: learners.accuracy(replicate, [], 0.0) for replicate in replicates}
    for recipe in sorted({each.clip.recipe for each in clips}):
        for name, keeps in KEPT.items():
            own = [each for each in clips if each.clip.recipe == recipe and keeps(each)]
            if not own:
                continue
            right = labels_right(oracles, own)
            gains = {}
            for weight in WEIGHTS:
                found = [
                    (
                        learners.accuracy(
                            replicate, [each for each in own if each.clip.replicate == replicate], weight
                        ),
                        alone[replicate],
                    )
                    for replicate in replicates
                ]
                if known := [after - before for after, before in found if after is not None and before is not None]:
                    gains[weight] = float(np.mean(known))
            yield Row(recipe, name, len(own), right, gains)


def table(own: Mapping[str, float], rows: Sequence[Row]) -> str:
    """Markdown: labels right by oracle, and the learner's gain in points by weight."""
    head = ["recipe", "clips", "number", *(f"right by {name}" for name in own), *(f"gain at {w}" for w in WEIGHTS)]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    lines.append(
        f"| (real test clips) | - | - | {' | '.join(f'{value:.1f}' for value in own.values())} |{' - |' * len(WEIGHTS)}"
    )
    for row in rows:
        right = [f"{row.right[name]:.1f}" for name in own]
        gains = [f"{row.gains[weight]:+.1f}" if weight in row.gains else "-" for weight in WEIGHTS]
        lines.append(f"| {' | '.join([row.recipe, row.kept, str(row.clips), *right, *gains])} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table of a run, write `build/bench/labels.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/latest"))
    try:
        own, rows = measure(parser.parse_args().run.resolve())
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{machine()}\n\n{table(own, rows)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    told = [{"recipe": r.recipe, "kept": r.kept, "clips": r.clips, "right": r.right, "gains": r.gains} for r in rows]
    (FOLDER / "labels.json").write_text(json.dumps({"oracles": own, "rows": told}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
