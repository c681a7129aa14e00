"""Whatever classifier a run delivers, opened from its directory: a transformers model, a learner, or a blend.

A blend is a directory with `learner.json` that names its members, whose directories stand under `members/`; its answer
is the weighted mean of their tempered probabilities.
"""

import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.audio.signal import MonoStream, open_mono, resample
from common.classifier.features import checked
from common.classifier.inference import (
    last_layer,
    peak_of,
    probabilities,
    set_last_layer,
    stream_logits,
    stream_windows,
)
from common.classifier.model import Classifier, load_classifier, save_classifier
from common.config.learners import BLEND, LEARNERS, is_encoder_probe
from common.contracts.training import Member
from common.errors import DataError, StorageError, unknown_name
from common.learners.calibration import Floats, blended
from common.learners.model import RECORD, LearnerModel, load_learner
from common.storage import read_json, write_json

LONGEST_S = 60
"""A learner hears a clip of up to so many seconds whole, as it was trained; `prepare_dataset` keeps no longer ones."""
_CONFIG = "config.json"
_MEMBERS = "members"
Source = Callable[[int], AbstractContextManager[MonoStream]]
"""Opens a clip at a rate."""


@dataclass(frozen=True)
class Opened(ABC):
    """A classifier that is ready to hear clips."""

    labels: tuple[str, ...]
    multi_label: bool
    threshold: float | None
    """Least probability of a label that counts as heard, where labels are independent; None = not stated."""

    @property
    @abstractmethod
    def sample_rates_hz(self) -> tuple[int, ...]:
        """Rates at which it hears clips, ascending; several only in a blend."""

    @abstractmethod
    def heard(self, source: Source) -> Floats:
        """Probabilities (labels,) of one clip, while memory does not grow with its length."""

    def probabilities(self, waveforms: Sequence[NDArray[np.float32]], sample_rate_hz: int) -> Floats:
        """Probabilities (clips, labels) of mono clips (T,). Raises DataError: one is not mono or not finite."""
        rows = [self.heard(partial(_stream, clip, index, sample_rate_hz)) for index, clip in enumerate(waveforms)]
        return np.stack(rows) if rows else np.zeros((0, len(self.labels)))

    def of_file(self, path: Path) -> Floats:
        """Probabilities (labels,) of a file of any length. Raises AudioError: it cannot be read."""
        return self.heard(partial(open_mono, path))


@dataclass(frozen=True)
class OpenedTransformer(Opened):
    """A transformers directory: an Audio Spectrogram Transformer, fine-tuned or with a fitted last layer, or another.

    A clip's logits are the mean over its fixed windows.
    """

    classifier: Classifier

    @property
    def sample_rates_hz(self) -> tuple[int, ...]:
        """The model's rate."""
        return (self.classifier.sample_rate_hz,)

    def heard(self, source: Source) -> Floats:
        """Probabilities (labels,) of one clip, which is read twice where the front end scales it."""
        rate, peak = self.classifier.sample_rate_hz, None
        if self.classifier.front_end.peak is not None:
            with source(rate) as audio:
                peak = peak_of(audio.blocks)
        with source(rate) as audio:
            logits = stream_logits(self.classifier, audio.blocks, audio.samples, peak=peak)
        return probabilities(logits[None], self.multi_label)[0]


@dataclass(frozen=True)
class OpenedLearner(Opened):
    """A learner's directory.

    A clip of at most `LONGEST_S` is heard whole; of a longer one the mean of the probabilities of its windows of that
    length counts: the fewest that cover it, evenly spaced.
    """

    model: LearnerModel

    @property
    def sample_rates_hz(self) -> tuple[int, ...]:
        """The front end's rate; a pretrained front end may be missing where features are computed already."""
        return (self.model.sample_rate_hz,)

    def heard(self, source: Source) -> Floats:
        """Probabilities (labels,) of one clip."""
        rate = self.model.sample_rate_hz
        with source(rate) as audio:
            windows = stream_windows(audio.blocks, audio.samples, LONGEST_S * rate)
            total, count = np.zeros(len(self.labels)), 0
            for window in windows:
                total, count = total + self.model.of_waveforms([window])[0], count + 1
        return np.asarray(total / count)


@dataclass(frozen=True)
class OpenedBlend(Opened):
    """A blend's directory."""

    members: tuple[tuple[Opened, Member], ...]

    @property
    def sample_rates_hz(self) -> tuple[int, ...]:
        """Rates of the members."""
        return tuple(sorted({rate for member, _ in self.members for rate in member.sample_rates_hz}))

    def heard(self, source: Source) -> Floats:
        """Probabilities (labels,) of one clip."""
        return blended(((each.heard(source), member) for each, member in self.members), self.multi_label)


def _stream(
    clip: NDArray[np.float32], index: int, sample_rate_hz: int, rate_hz: int
) -> AbstractContextManager[MonoStream]:
    waveform = checked(resample(clip, sample_rate_hz, rate_hz), index)
    return nullcontext(MonoStream(len(waveform), iter([waveform])))


def open_classifier(folder: Path) -> Opened:
    """Open a classifier's directory, of any kind.

    Raises:
        ConfigError: the model takes features of a kind that is not supported.
        DataError: there is no classifier, or its files are damaged or do not fit each other.
    """
    # Unlike Path.is_file, os.path.isfile takes a name that is too long.
    if os.path.isfile(folder / RECORD):
        record = _record(folder)
        return _open_blend(folder, record) if record.get("learner") == BLEND else _open_single(folder)
    if not os.path.isfile(folder / _CONFIG):
        inside = folder / "classifier"
        near = f"; name {inside}" if os.path.isdir(inside) else ""
        raise DataError(
            f"no classifier at {folder}: expected a folder with config.json, preprocessor_config.json and "
            f"model.safetensors, or with {RECORD}{near}"
        )
    return _open_single(folder)


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = read_json(folder / RECORD)
    except StorageError as error:
        raise _damaged(folder, f"{RECORD} cannot be read") from error
    if not isinstance(found, dict):
        raise _damaged(folder, f"{RECORD} holds no object")
    return found


def _open_single(folder: Path) -> Opened:
    """Open a directory that is no blend: a blend in a blend could name itself."""
    if os.path.isfile(folder / RECORD):
        model = load_learner(folder)
        return OpenedLearner(model.labels, model.multi_label, _record(folder).get("threshold"), model)
    made = load_classifier(folder)
    threshold = getattr(made.model.config, "threshold", None)
    return OpenedTransformer(tuple(made.labels), made.multi_label, threshold, made)


def _open_blend(folder: Path, record: dict[str, Any]) -> OpenedBlend:
    try:
        labels = tuple(str(label) for label in record["labels"])
        told = [(Member(**{k: each[k] for k in each if k != "folder"}), each["folder"]) for each in record["members"]]
        several, threshold = bool(record["multi_label"]), record.get("threshold")
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, f"{RECORD} describes no blend ({type(error).__name__}: {error})") from error
    members = []
    for place, (member, at) in enumerate(told):
        if not _may_join(member.learner) or at != f"{_MEMBERS}/{place}":
            known = ", ".join(sorted(LEARNERS.keys() - {BLEND}))
            found = f"member {place} is {member.learner!r} in {at!r}"
            raise _damaged(folder, f"{found}; expected one of {known} in '{_MEMBERS}/{place}'")
        members.append((_open_single(folder / at), member))
    _check_members(folder, members, labels, several)
    return OpenedBlend(labels, several, threshold, tuple(members))


def _may_join(learner: str) -> bool:
    """Whether a blend may have the learner as a member."""
    return is_encoder_probe(learner) or (learner in LEARNERS and learner != BLEND)


def _check_members(
    folder: Path, members: Sequence[tuple[Opened, Member]], labels: tuple[str, ...], multi_label: bool
) -> None:
    if not members:
        raise _damaged(folder, "a blend without members")
    for place, (opened, member) in enumerate(members):
        for name, value in (("temperature", member.temperature), ("weight", member.weight)):
            if not (math.isfinite(value) and value > 0):
                raise _damaged(folder, f"the {name} of member {place} is {value:g}; expected a number above 0")
        if (opened.labels, opened.multi_label) != (labels, multi_label):
            raise _damaged(
                folder,
                f"member {place} gives {'several' if opened.multi_label else 'one'} of {', '.join(opened.labels)}; "
                f"expected {'several' if multi_label else 'one'} of {', '.join(labels)}",
            )


def _damaged(folder: Path, found: str) -> DataError:
    return DataError(f"cannot load the classifier at {folder}: {found}; make it again or copy it whole")


def save_blend(folder: Path, members: Sequence[tuple[Member, Path]]) -> None:
    """Write the directory of a blend, with copies of its members' directories; replaces an earlier attempt.

    Raises:
        ConfigError: a name is no learner's, or the blend's.
        DataError: there is no member, one cannot be opened, or their labels differ.
    """
    for member, _ in members:
        if not _may_join(member.learner):
            raise unknown_name("member of a blend", member.learner, LEARNERS.keys() - {BLEND})
    opened = [(_open_single(source), member) for member, source in members]
    first = opened[0][0] if opened else None
    _check_members(folder, opened, first.labels if first else (), bool(first and first.multi_label))
    shutil.rmtree(folder / _MEMBERS, ignore_errors=True)
    for place, (_, source) in enumerate(members):
        shutil.copytree(source, folder / _MEMBERS / str(place))
    record = {
        "learner": BLEND,
        "labels": list(opened[0][0].labels),
        "multi_label": opened[0][0].multi_label,
        # The highest: from audio at this rate each member gets all that it can hear.
        "sample_rate_hz": max(rate for each, _ in opened for rate in each.sample_rates_hz),
        "members": [{**dict(member), "folder": f"{_MEMBERS}/{place}"} for place, (member, _) in enumerate(members)],
    }
    write_json(folder / RECORD, record)


def set_threshold(folder: Path, threshold: float) -> None:
    """State the `threshold` of a classifier with independent labels in its directory, of any kind."""
    path = folder / (RECORD if os.path.isfile(folder / RECORD) else _CONFIG)
    write_json(path, {**read_json(path), "threshold": threshold})


def set_temperature(folder: Path, temperature: float) -> None:
    """Divide the logits of a learner or a transformers model by `temperature`, in its directory."""
    if os.path.isfile(folder / RECORD):
        record = read_json(folder / RECORD)
        write_json(folder / RECORD, {**record, "temperature": record["temperature"] * temperature})
        return
    classifier = load_classifier(folder)
    layer = last_layer(classifier)
    set_last_layer(classifier, layer.weight.detach().numpy() / temperature, layer.bias.detach().numpy() / temperature)
    save_classifier(classifier, folder)
