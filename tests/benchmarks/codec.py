"""What a round trip through the spectral codec costs: accuracy of two oracles on test clips, and time of decoding.

The oracles are plain logistic regression on log-mel statistics and the product's small CNN. They learn from all clips of
a set outside its test split; the test clips are scored as they are, and after the codec. That of nano is taken as it is
shipped, fitted to its own corpus; the others are fitted to the clips that the oracles learn from.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from common.audio.signal import read_mono, resample
from common.config.corpus import SpectralCodecConfig
from common.diffusion.spectral_codec import SpectralCodec
from common.errors import DataError, SynthioError, unknown_name
from common.learners.cnn import LogMel, fit_convnet
from common.models.shipped import shipped_folder
from common.procedural.demo import DEMO_RATE_HZ, demo_clips
from contrib.nano.training import load_settings
from tests.benchmarks.figures import Figure, publish
from tests.benchmarks.learner_sets import DEMO, SETS, folds, read_rows
from tests.benchmarks.plain_regression import fitted, scores, statistics

RATE = 16000
LOSS, DECODING = 4.0, 0.08
"""Points that a round trip may cost an oracle, and CPU-seconds of decoding for a second of audio."""
DEFAULT_SETS = (DEMO, "esc10", "digits")
CNN_STEPS = 1200
_EARLIER = {"n_fft": 1024, "frame_hop": 256, "frames_per_latent": 4, "latent_channels": 64, "floor_db": -80.0}
_NANO = load_settings().prepare_corpus.codec
NANO = "nano"
FITTED: dict[str, SpectralCodecConfig] = {
    "128 channels": _NANO.model_copy(update={"latent_channels": 128}),
    "256 channels": _NANO.model_copy(update={"latent_channels": 256}),
    "all channels": _NANO.model_copy(update={"latent_channels": _NANO.n_mels * _NANO.frames_per_latent}),
    "settings of 0.6": SpectralCodecConfig.model_validate(_EARLIER),
}
MakeCodec = Callable[[Iterable[NDArray[np.float32]]], SpectralCodec]
"""A codec from the clips that it may be fitted to."""


def codecs() -> dict[str, MakeCodec]:
    """The shipped codec and those that are fitted, by name."""
    shipped = SpectralCodec.from_pretrained(shipped_folder("nano/t2a") / "vae")
    return {NANO: lambda _: shipped, **{name: partial(SpectralCodec.fit, config=each) for name, each in FITTED.items()}}


Floats = NDArray[np.floating]


class Clip(NamedTuple):
    """A labelled mono clip (T,) at `RATE`."""

    audio: NDArray[np.float32]
    label: str


class Split(NamedTuple):
    """Clips of a set: those outside the test split, and those in it."""

    train: list[Clip]
    test: list[Clip]


@dataclass(frozen=True)
class Trip:
    """One codec on one split.

    Attributes:
        accuracy: in percent, by oracle.
        lost: points below the accuracy without codec, by oracle.
        decoding: CPU-seconds for a second of audio; 0 without codec.
        shape: bands / window / hop / steps, and latents a second x channels; "-" without codec.
    """

    codec: str
    set_name: str
    accuracy: dict[str, float]
    lost: dict[str, float]
    decoding: float
    shape: tuple[str, str] = ("-", "-")


class Oracles:
    """A regression on log-mel statistics and a small CNN, trained on clips."""

    def __init__(self, clips: Sequence[Clip], steps: int = CNN_STEPS) -> None:
        self._labels = sorted({clip.label for clip in clips})
        truth = self._truth(clips)
        self._regressions = fitted((statistics(clip.audio, RATE) for clip in clips), truth)
        self._front = LogMel()
        features = [self._features(clip.audio).numpy() for clip in clips]
        targets = np.eye(len(self._labels), dtype=np.float32)[truth]
        self._net = fit_convnet(features, targets, [], targets[:0], 0.0, multi_label=False, steps=steps, seed=0)

    @torch.no_grad()
    def accuracy(self, clips: Sequence[Clip]) -> dict[str, float]:
        """Accuracy in percent, by oracle."""
        truth = self._truth(clips)
        found = scores(self._regressions, (statistics(clip.audio, RATE) for clip in clips), truth)
        found["CNN"] = float(
            np.mean([int(self._net(self._features(clip.audio)).argmax()) for clip in clips] == np.array(truth))
        )
        return {name: 100 * value for name, value in found.items()}

    def _truth(self, clips: Sequence[Clip]) -> list[int]:
        return [self._labels.index(clip.label) for clip in clips]

    def _features(self, audio: NDArray[np.float32]) -> torch.Tensor:
        filled = np.pad(audio, (0, max(0, self._front.shortest - len(audio))))
        features: torch.Tensor = self._front(torch.from_numpy(filled))
        return features


def splits(name: str, data: Path | None, most_folds: int) -> list[Split]:
    """The set's clips, once for each fold that tests.

    Args:
        data: folder of the audio; None = not given.
        most_folds: 0 = all.

    Raises:
        DataError: the audio is not there.
    """
    layout = SETS[name].layout
    if layout is None:
        found = Split([], [])
        for clip in demo_clips():
            audio = resample(clip.audio, DEMO_RATE_HZ, RATE)
            (found.test if clip.split == "test" else found.train).append(Clip(audio, clip.label))
        return [found]
    if data is None:
        raise DataError(f"DATA=<folder> names no {layout.folder}")
    rows = read_rows(layout, data)
    clips = []
    for row in rows:
        clips.append((row[layout.fold], Clip(read_mono(data / layout.folder / row["path"], RATE), row["label"])))
    return [
        Split([clip for fold, clip in clips if fold != held_out], [clip for fold, clip in clips if fold == held_out])
        for held_out in folds(layout, rows)[: most_folds or None]
    ]


def measure(set_name: str, split: Split, codecs: Mapping[str, MakeCodec], steps: int = CNN_STEPS) -> list[Trip]:
    """The split's test clips without codec, and after each one."""
    oracles = Oracles(split.train, steps)
    plain = oracles.accuracy(split.test)
    trips = [Trip("none", set_name, plain, dict.fromkeys(plain, 0.0), 0.0)]
    for name, make in codecs.items():
        codec = make(clip.audio for clip in split.train)
        returned, seconds, length = [], 0.0, 0
        for clip in split.test:
            latents = codec.encode(torch.from_numpy(clip.audio)[None, None]).latent_dist.mode()
            start = time.process_time()
            decoded = codec.decode(latents).sample[0, 0]
            seconds += time.process_time() - start
            length += len(decoded)
            returned.append(Clip(decoded[: len(clip.audio)].numpy(), clip.label))
        after = oracles.accuracy(returned)
        lost = {oracle: plain[oracle] - after[oracle] for oracle in plain}
        trips.append(Trip(name, set_name, after, lost, seconds / length * RATE, shape(codec)))
    return trips


def shape(codec: SpectralCodec) -> tuple[str, str]:
    """Bands / window / hop / steps, and latents a second x channels."""
    own = SpectralCodecConfig.model_validate({name: codec.config[name] for name in SpectralCodecConfig.model_fields})
    rate = own.sampling_rate / own.frame_hop / own.frames_per_latent
    return (
        f"{own.n_mels} / {own.n_fft} / {own.frame_hop} / {own.griffin_lim_steps}",
        f"{rate:.1f} x {own.latent_channels}",
    )


def mean(trips: Sequence[Trip], value: Callable[[Trip], float]) -> float:
    """Mean over folds."""
    return float(np.mean([value(trip) for trip in trips]))


def figures(
    trips: Sequence[Trip], left_out: Mapping[str, str], names: Sequence[str], codec: str = NANO
) -> list[Figure]:
    """Points that each oracle loses to a codec on each set, and the slowest decoding."""
    made, own = [], [trip for trip in trips if trip.codec == codec]
    for name in names:
        found = [trip for trip in own if trip.set_name == name]
        if not found:
            made.append(Figure(f"{SETS[name].title}: points lost", None, "<=", LOSS, "points", reason=left_out[name]))
        for oracle in found[0].lost if found else ():
            before = mean(found, lambda trip: trip.accuracy[oracle] + trip.lost[oracle])  # noqa: B023  # called here
            after = mean(found, lambda trip: trip.accuracy[oracle])  # noqa: B023
            made.append(
                Figure(
                    f"{SETS[name].title}, {oracle}: points lost", before - after, "<=", LOSS, "points",
                    f"{after:.1f} %", f"without codec: {before:.1f} %", f"{len(found)} fold(s)",
                )
            )  # fmt: skip
    slowest = max((trip.decoding for trip in own), default=None)
    made.append(Figure("decoding a second of audio", slowest, "<=", DECODING, "CPU-s", "one thread, slowest set"))
    return made


def codec_table(trips: Sequence[Trip]) -> str:
    """A row for each codec, as Markdown: its latents, its accuracies on each set and oracle, its time."""
    columns = list(dict.fromkeys((trip.set_name, oracle) for trip in trips for oracle in trip.accuracy))
    head = ["codec", "bands / window / hop / steps", "latents a second x channels", "decoding, CPU-s/s"]
    head += [f"{SETS[name].title}: {oracle}" for name, oracle in columns]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for codec in dict.fromkeys(trip.codec for trip in trips):
        own = [trip for trip in trips if trip.codec == codec]
        coded = own[0].shape != ("-", "-")
        cells = [codec, *own[0].shape, f"{max(trip.decoding for trip in own):.3f}" if coded else "-"]
        for name, oracle in columns:
            found = [trip for trip in own if trip.set_name == name]
            lost = mean(found, lambda trip: trip.lost[oracle])  # noqa: B023  # called here
            after = mean(found, lambda trip: trip.accuracy[oracle])  # noqa: B023
            cells.append(f"{after:.1f} ({-lost:+.1f})" if coded else f"{after:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line.

    Raises:
        ConfigError: there is no such set.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="", help=f"of {', '.join(SETS)}; default: {','.join(DEFAULT_SETS)}")
    parser.add_argument("--data", default="", help="folder of the audio of all sets but the demo")
    parser.add_argument("--folds", type=int, default=0, help="of each set; 0 = all")
    asked = parser.parse_args(arguments)
    asked.sets = asked.sets.replace(",", " ").split() or list(DEFAULT_SETS)
    if unknown := [name for name in asked.sets if name not in SETS]:
        raise unknown_name("set", unknown[0], SETS)
    return asked


def main() -> int:
    """Measure all codecs on all sets, print the tables, write `build/bench/codec.json`."""
    try:
        asked = parse()
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    data = Path(asked.data).expanduser() if asked.data else None
    trips: list[Trip] = []
    left_out: dict[str, str] = {}
    for name in asked.sets:
        try:
            found = splits(name, data, asked.folds)
        except DataError as error:
            left_out[name] = f"left out: {error}"
            print(f"{name} is {left_out[name]}", flush=True)
            continue
        for split in found:
            trips += measure(name, split, codecs())
        print(f"{name}: {len(found)} fold(s) measured", flush=True)
    if trips:
        print(f"\n{codec_table(trips)}\n")
    publish("codec", figures(trips, left_out, asked.sets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
