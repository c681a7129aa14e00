"""Classify audio files with a trained classifier (`make classify MODEL=<dir> AUDIO=<file or folder> [JSON=1]`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.audio.walk import AUDIO_SUFFIXES, HARMLESS, walk_audio
from common.errors import DataError, Interrupted, one_line
from common.log import printable
from pipelines.commands.printing import print_json_array

if TYPE_CHECKING:
    from common.learners.opened import Opened

OPTIONS = {"--model": ..., "--audio": ..., "--json": False}


def audio_files(place: Path) -> list[tuple[Path, str]]:
    """List the file itself, or all audio files below the folder, sorted, each with the reason why it cannot be taken.

    Raises DataError: `place` does not exist, or the folder holds no audio.
    """
    try:
        is_file, is_folder = place.is_file(), place.is_dir()
    except OSError as error:
        raise DataError(f"{place}: {one_line(error)}; set AUDIO to an audio file or to a folder of them") from error
    if is_file:
        return [(place, "")]
    if not is_folder:
        raise DataError(f"no such file or folder: {place}; set AUDIO to an audio file or to a folder of them")
    walked = [found for found in walk_audio(place) if found.reason not in HARMLESS]
    if not walked:
        raise DataError(f"{place} holds no audio files; expected one of {', '.join(sorted(AUDIO_SUFFIXES))}")
    return [(place / found.source, found.reason and f"{found.reason}: {found.detail}") for found in walked]


def classify(model: Path, files: Iterable[tuple[Path, str]]) -> Iterator[dict[str, Any]]:
    """Classify files one by one, window by window where they are long; memory does not grow with their length.

    Yields:
        Per file `{file, label, probability, probabilities}` with the most probable label; where clips may have several
        labels also `labels`, those at or above the model's threshold; `silent` for a file with nothing above -60 dBFS;
        `{file, error}` for a file that cannot be read.

    Raises:
        ConfigError: the model takes features of an unsupported kind.
        DataError: there is no classifier.
    """
    from common.learners.opened import open_classifier

    classifier = open_classifier(model)
    for file, untaken in files:
        try:
            found = {"error": untaken} if untaken else _classified(classifier, file)
        except Interrupted:
            raise
        except Exception as error:
            found = {"error": one_line(error).removeprefix(f"{' '.join(str(file).split())}: ")}
        yield {"file": str(file), **found}


def _classified(classifier: Opened, file: Path) -> dict[str, Any]:
    from common.audio.signal import SILENCE_DBFS, open_mono
    from common.classifier.inference import peak_of

    with open_mono(file, classifier.sample_rates_hz[0]) as audio:
        silent = peak_of(audio.blocks) < 10 ** (SILENCE_DBFS / 20)
    row = classifier.of_file(file)
    best = int(row.argmax())
    by_label = {label: float(value) for label, value in zip(classifier.labels, row, strict=True)}
    found = {"label": classifier.labels[best], "probability": float(row[best]), "probabilities": by_label}
    if classifier.multi_label:
        threshold = 0.5 if classifier.threshold is None else classifier.threshold
        found["labels"] = sorted((x for x in by_label if by_label[x] >= threshold), key=lambda x: -by_label[x])
    return found | ({"silent": True} if silent else {})


def run(options: argparse.Namespace) -> int:
    """Print each answer as it is made, in a table or as JSON; errors of files go to standard error at their place.

    Returns exit status: 0 = every file was classified, 1 = a file could not be read.
    """
    files = audio_files(options.audio)
    rows = classify(options.model, files)
    shown = (
        print_json_array(rows)
        if options.json
        else _print_table(rows, max(len(printable(str(file))) for file, _ in files))
    )
    failed = False
    for row in shown:
        if "error" in row:
            failed = True
            print(printable(f"error: {row['file']}: {row['error']}"), file=sys.stderr, flush=True)
        elif "silent" in row:
            print(
                printable(f"note: {row['file']}: silent, so that the answer says nothing"), file=sys.stderr, flush=True
            )
    return 1 if failed else 0


def _print_table(rows: Iterable[dict[str, Any]], width: int) -> Iterator[dict[str, Any]]:
    for row in rows:
        if "error" not in row:
            # All labels above the threshold where clips may have several, else the most probable one.
            shown = [(row["probabilities"][label], label) for label in row.get("labels") or [row["label"]]]
            answer = ", ".join(f"{share:.3f}  {label}" for share, label in shown)
            answer += "" if row.get("labels", True) else " (below the threshold: no label was heard)"
            print(f"{printable(row['file']):<{width}}  {printable(answer)}", flush=True)
        yield row
