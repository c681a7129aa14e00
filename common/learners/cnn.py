"""A small convolutional network that is trained from scratch on few clips: its front end, its layers, its training.

Random equalisers, shifts and stretches stand in for recordings that the clips do not hold; the recipe was found by
measurement on spoken digits, foley and environmental sounds.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.audio.mel import FRAME_LENGTH, PeakMelPower
from common.learners.statistics import places

BANDS, HOP, FLOOR_DB = 64, 256, -60.0
_WIDTHS = (16, 32, 64, 64)
_DROPOUT, _SMOOTHING = 0.2, 0.1
_BATCH, _LEARNING_RATE, _WEIGHT_DECAY = 16, 3e-3, 0.05
_EQUALISER_DB, _SHIFT_BANDS, _STRETCH = 10.0, 2, 0.2
_LEAST_STEPS = 5
"""Of the schedule, whose warm-up of four steps would have no length."""
_TRAINED_FRAMES = 160
"""Frames of 16 ms of a training example at most: 2.56 s."""
_LEAST_FRAMES = 13
"""Of fewer the layers leave nothing; shorter clips are filled up."""

Change = Callable[[Tensor, torch.Generator], Tensor]
"""Augmentation of a batch (B, frames, bands)."""


class LogMel(nn.Module):
    """(frames, bands) of a mono waveform (T,), in dB below the clip's loudest band, at least `FLOOR_DB`."""

    sample_rate_hz = 16000
    shortest = FRAME_LENGTH

    def __init__(self) -> None:
        super().__init__()
        self.mel = PeakMelPower(self.sample_rate_hz, BANDS, 512, HOP)

    def forward(self, waveform: Tensor) -> Tensor:
        """Features of one clip; T ≥ `shortest`."""
        level = 10 * (self.mel(waveform) + 1e-12).log10()
        return (level - level.max()).clamp_min(FLOOR_DB)


class ConvNet(nn.Module):
    """Four convolutions, then mean and maximum over time of eight zones of frequency; short clips are filled up."""

    mean: Tensor
    deviation: Tensor
    _places: Tensor

    def __init__(self, labels: int, frames: int) -> None:
        super().__init__()
        a, b, c, d = _WIDTHS
        self.frames = frames
        # A maximum, then the larger of it and 0: as the other way round, with a quarter to compare.
        relu = nn.ReLU()
        pool = nn.Sequential(nn.MaxPool2d(2), relu)
        first, second = _block(2, a, 5, 2), _block(a, b, 3, 1)
        third, fourth = _block(b, c, 3, 1).append(relu), _block(c, d, 3, 1).append(relu)
        self.body = nn.Sequential(first, pool, second, pool, third, fourth)
        self.drop = nn.Dropout(_DROPOUT)
        self.head = nn.Linear(2 * d * BANDS // 8, labels)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("_places", torch.linspace(-1, 1, BANDS)[None, None, :, None], persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (labels,) of one clip (frames, bands)."""
        filled = torch.cat([features, features.new_full((self.frames, BANDS), FLOOR_DB)])
        count = (places(features[:, 0])[-1] + 1).clamp_min(self.frames)
        return self.batch(filled.index_select(0, torch.nonzero(places(filled[:, 0]) < count)[:, 0])[None])[0]

    def arguments(self) -> dict[str, int]:
        """Arguments of the class."""
        return {"labels": self.head.out_features, "frames": self.frames}

    def batch(self, features: Tensor) -> Tensor:
        """Logits (B, labels) of clips of one length, (B, frames, bands)."""
        levels = ((self.relative(features) - self.mean) / self.deviation)[:, None]
        made = self.body(torch.cat([levels, self._places.expand_as(levels)], dim=1))
        pooled = torch.cat([made.mean(dim=3).flatten(1), made.amax(dim=3).flatten(1)], dim=1)
        logits: Tensor = self.head(self.drop(pooled))
        return logits

    @staticmethod
    def relative(features: Tensor) -> Tensor:
        """(B, bands, half the frames): means of two frames, less half of each band's mean over time."""
        halved = nn.functional.avg_pool1d(features.transpose(1, 2), 2, ceil_mode=True)
        return halved - 0.5 * halved.mean(dim=2, keepdim=True)


def _block(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def fit_convnet(
    gold: Sequence[NDArray[np.float32]],
    gold_targets: NDArray[np.floating],
    further: Sequence[NDArray[np.float32]],
    further_targets: NDArray[np.floating],
    share: float,
    *,
    real_last: float = 0.0,
    multi_label: bool,
    steps: int,
    seed: int,
    change: Change | None = None,
) -> ConvNet:
    """Train a network.

    Args:
        gold: (frames, bands) of each clip, with targets (N, labels) 1 where a clip has the label.
        further: clips that fill `share`, in [0, 1), of each batch of 16.
        real_last: final share of the steps that see gold clips alone.
    """
    clips = [*gold, *further] if share else list(gold)
    longest = max(_LEAST_FRAMES, *map(len, clips))
    batch = torch.full((len(clips), longest, BANDS), FLOOR_DB)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    truth = torch.from_numpy(np.concatenate([gold_targets, further_targets])[: len(clips)]).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ConvNet(truth.shape[1], longest)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        levels = net.relative(batch)
        net.mean.copy_(levels.mean())
        net.deviation.copy_(levels.std().clamp_min(1.0))
        optimiser = torch.optim.AdamW(_groups(net), lr=_LEARNING_RATE, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, _LEARNING_RATE, total_steps=max(steps, _LEAST_STEPS), pct_start=0.25, cycle_momentum=False
        )
        orders = [_order(0, len(gold), generator), _order(len(gold), len(clips), generator)]
        for step in range(steps):
            filled = round(share * _BATCH) if step < (1 - real_last) * steps else 0
            chosen = [next(orders[0]) for _ in range(_BATCH - filled)] + [next(orders[1]) for _ in range(filled)]
            examples = _augmented(batch[chosen], generator)[:, :_TRAINED_FRAMES]
            if change is not None:
                examples = change(examples, generator)
            loss = _loss(net.batch(examples), truth[chosen], multi_label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def _groups(net: nn.Module) -> list[dict[str, object]]:
    """Parameters with weight decay, and those of one dimension without."""
    many = [p for p in net.parameters() if p.ndim > 1]
    return [
        {"params": many, "weight_decay": _WEIGHT_DECAY},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _order(start: int, stop: int, generator: torch.Generator) -> Iterator[int]:
    """Places from `start` to `stop` without end, each round in another order."""
    while stop > start:
        yield from (start + torch.randperm(stop - start, generator=generator)).tolist()


def _loss(logits: Tensor, truth: Tensor, multi_label: bool) -> Tensor:
    if multi_label:
        return nn.functional.binary_cross_entropy_with_logits(logits, truth)
    return nn.functional.cross_entropy(logits, truth, label_smoothing=_SMOOTHING)


def _augmented(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Stretch, roll in time, shift along the bands, and a random equaliser, of each clip (B, frames, bands)."""
    count, frames, bands = batch.shape

    def draw() -> Tensor:
        return torch.rand(count, 1, generator=generator)

    centred = torch.arange(frames)[None] - frames / 2
    stretched = centred * ((draw() * 2 - 1) * _STRETCH).exp() + frames / 2
    times = (stretched + (draw() * frames).floor()).round().long() % frames
    batch = batch.gather(1, times[:, :, None].expand(count, frames, bands))
    shift = (draw() * (2 * _SHIFT_BANDS + 1)).floor().long() - _SHIFT_BANDS
    moved = (torch.arange(bands)[None] + shift).clamp(0, bands - 1)
    batch = batch.gather(2, moved[:, None].expand(count, frames, bands))
    place = torch.linspace(-1, 1, bands)[None]
    wave = (math.pi * (place + 1) * (0.5 + 1.5 * draw()) + 2 * math.pi * draw()).cos()
    gain = _EQUALISER_DB * ((draw() * 2 - 1) * place + (draw() * 2 - 1) * wave)
    return (batch + gain[:, None]).clamp_min(FLOOR_DB)
