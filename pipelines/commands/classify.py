"""Classify audio files with a trained classifier (`make classify MODEL=<dir> AUDIO=<file or folder> [JSON=1]`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.audio import AUDIO_SUFFIXES
from common.audio.walk import HARMLESS, walk_audio
from common.errors import DataError
from pipelines.commands.printing import print_json


def audio_files(place: Path) -> list[tuple[Path, str]]:
    """List the file itself, or all audio files below the folder, sorted, each with the reason why it cannot be taken.

    Raises:
        DataError: `place` does not exist, or the folder holds no audio.
    """
    if place.is_file():
        return [(place, "")]
    if not place.is_dir():
        raise DataError(f"no such file or folder: {place}; set AUDIO to an audio file or to a folder of them")
    walked = [found for found in walk_audio(place) if found.reason not in HARMLESS]
    if not walked:
        raise DataError(f"{place} holds no audio files; expected one of {', '.join(sorted(AUDIO_SUFFIXES))}")
    return [(place / found.source, found.reason and f"{found.reason}: {found.detail}") for found in walked]


def classify(model: Path, place: Path) -> list[dict[str, Any]]:
    """Classify each file; a clip longer than the model's window is classified by the mean logits over its windows.

    Args:
        model: a classifier directory.
        place: an audio file or a folder.

    Returns:
        Per file `{file, label, probability, probabilities}` with the most probable label; where clips may have several
        labels also `labels`, those at or above the model's threshold; `{file, error}` for a file that cannot be read.

    Raises:
        ConfigError: the model takes features of an unsupported kind.
        DataError: there is no classifier or no audio.
    """
    files = audio_files(place)
    from common.audio.signal import read_audio, to_mono
    from common.classifier.inference import predict_logits, probabilities
    from common.classifier.model import load_classifier

    classifier = load_classifier(model)
    rows: list[dict[str, Any]] = []
    for file, untaken in files:
        if untaken:
            rows.append({"file": str(file), "error": untaken})
            continue
        try:
            audio, rate = read_audio(file)
            if audio.shape[-1] == 0:
                raise DataError("no samples; expected at least one")
            logits = predict_logits(classifier, [to_mono(audio)], rate)
        except DataError as error:
            rows.append({"file": str(file), "error": str(error)})
            continue
        row = probabilities(logits, classifier.multi_label)[0]
        best = int(row.argmax())
        by_label = {label: float(value) for label, value in zip(classifier.labels, row, strict=True)}
        found = {"label": classifier.labels[best], "probability": float(row[best]), "probabilities": by_label}
        if classifier.multi_label:
            threshold = getattr(classifier.model.config, "threshold", 0.5)
            heard = sorted((label for label in by_label if by_label[label] >= threshold), key=lambda x: -by_label[x])
            found["labels"] = heard
        rows.append({"file": str(file), **found})
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--model", required=True, type=Path, help="directory, for example RUNS/latest/classifier")
    parser.add_argument("--audio", required=True, type=Path, help="audio file, or folder of audio files")
    parser.add_argument("--json", action="store_true", help="print JSON, with the probabilities of all labels")


def run(options: argparse.Namespace) -> int:
    """Print a table or JSON of the labels; exit status 0 = every file was classified, 1 = a file could not be read."""
    rows = classify(options.model, options.audio)
    if options.json:
        print_json(rows)
    else:
        _print_table([row for row in rows if "error" not in row])
    failed = [row for row in rows if "error" in row]
    for row in failed:
        print(f"error: {row['file']}: {row['error']}", file=sys.stderr)
    return 1 if failed else 0


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    width = max((len(row["file"]) for row in rows), default=0)
    for row in rows:
        # All labels above the threshold where clips may have several, else the most probable one.
        shown = [(row["probabilities"][label], label) for label in row.get("labels") or [row["label"]]]
        print(f"{row['file']:<{width}}  {', '.join(f'{share:.3f}  {label}' for share, label in shown)}")
