"""Collections of recordings: folders with audio and a `metadata.csv`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audio.signal import is_silent, read_audio, resample, to_mono
from common.errors import ConfigError, DataError, unknown_name
from contrib.nano.clips import RATE_HZ, Clip, Credit, at_some_level, windows
from contrib.nano.licences import licence_family
from contrib.nano.wording import Wording, common_label, word_sound, word_speech, word_word

Row = dict[str, str]

COLUMNS = ("path", "label", "group", "caption", "source", "licence", "attribution")
ESC50_GROUPS = frozenset({"fs212698", "fs251617"})
"""Recordings of ESC-50 in `corpus_16k`, beside its crying babies."""


@dataclass(frozen=True)
class Kind:
    """How clips are made of a collection.

    Attributes:
        speeds: each recording is heard at each of these; rare sounds at several.
        grouped: rows of one `group` are takes of one recording.
    """

    word: Callable[[Row], Wording]
    speeds: tuple[float, ...] = (1.0, 0.9, 1.1)
    captions: int = 2
    grouped: bool = True


KINDS = {
    "corpus_16k": Kind(lambda row: word_sound(row["caption"], common_label(row["label"]))),
    "sounds_16k": Kind(lambda row: word_sound(row["caption"], None)),
    "effects_16k": Kind(lambda row: word_sound(row["caption"], None)),
    "drums_16k": Kind(lambda row: word_sound(row["caption"], common_label(row["label"])), grouped=False),
    "speech_16k": Kind(lambda row: word_speech(row["caption"], row["label"]), (1.0,), 1, grouped=False),
    "words_16k": Kind(lambda row: word_word(row["label"].replace("_", " ")), (1.0,), 1, grouped=False),
}
"""Collections that weights which ship may be trained on. Labels of sounds and effects were guessed from parts of
words (`splat` → door), so that theirs are found again from whole words."""


@dataclass(frozen=True)
class Recordings:
    """A collection without what is left out.

    Attributes:
        families: licence family of each row.
    """

    name: str
    folder: Path
    rows: tuple[Row, ...]
    families: tuple[str, ...]
    left_out: int

    def key(self) -> list[Row]:
        """The list."""
        return list(self.rows)

    def groups(self) -> list[str]:
        """Groups of the rows."""
        column = "group" if KINDS[self.name].grouped else "path"
        return [row[column] or row["path"] for row in self.rows]

    def clips(self, unit: int, rng: np.random.Generator) -> Iterator[Clip]:
        """Windows of a recording at each speed, each with other captions."""
        kind, row = KINDS[self.name], self.rows[unit]
        audio, info = read_audio(self.folder / row["path"])
        wording, place = kind.word(row).shuffled(rng), int(rng.integers(100))
        for speed in kind.speeds:
            heard = resample(to_mono(audio), round(info.sample_rate_hz * speed), RATE_HZ)
            for window in [] if is_silent(heard) else windows(heard):
                captions = wording.captions(place, kind.captions)
                yield Clip(at_some_level(window, rng), captions, wording.label, row["path"])
                place += 1

    def credits(self) -> list[Credit]:
        """Licence and author of each file."""
        return [
            Credit(row["path"], row["licence"], family, row["attribution"], row["source"])
            for row, family in zip(self.rows, self.families, strict=True)
        ]


def read_collection(folder: Path, left_out: str) -> Recordings:
    """Read the list of a collection.

    Args:
        left_out: what is kept for evaluation, with spaces between: `foley8`, `foley8:1,2` (these folds), `esc50`.

    Raises:
        ConfigError: unknown collection, or `left_out` is none of these.
        DataError: there is no such list, it lacks columns, or a licence is refused.
    """
    if folder.name not in KINDS:
        raise unknown_name("collection", folder.name, KINDS)
    kept_apart = [_kept_apart(part) for part in left_out.split()]
    rows = _read_rows(folder / "metadata.csv")
    used = tuple(row for row in rows if not any(holds(row) for holds in kept_apart))
    families = tuple(licence_family(row["licence"], f"{folder / row['path']}") for row in used)
    return Recordings(folder.name, folder, used, families, len(rows) - len(used))


def _kept_apart(part: str) -> Callable[[Row], bool]:
    name, _, folds = part.partition(":")
    if name == "foley8":
        chosen = set(folds.split(",")) if folds else None
        return lambda row: bool(fold := row.get("foley8_fold")) and (chosen is None or fold in chosen)
    if part == "esc50":
        return lambda row: row["source"].startswith("ESC-") or row["group"] in ESC50_GROUPS
    raise ConfigError(f"LEAVE_OUT: {part!r} is unknown; expected foley8, foley8:1,2 (folds), esc50, or none")


def _read_rows(file: Path) -> list[Row]:
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{file} lacks the columns {', '.join(missing)}; expected {', '.join(COLUMNS)}")
            rows = [{column: value or "" for column, value in row.items()} for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}; a collection is a folder of audio with this list") from error
    if not rows:
        raise DataError(f"{file} lists no recording")
    return rows
