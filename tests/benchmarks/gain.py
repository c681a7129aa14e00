"""What synthetic audio gains: the best classifier with it beside the best without, both chosen on validation.

Each cell (a set, a number of clips, a fold that tests) is an ordinary run of the pipeline with a corpus of its own, which
holds neither gold nor test clips. The control, corpus clips of the label as they are, says whether the generator beats
what it may learn from. Two oracles of `labels.py` hear the accepted clips.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from common.config.methods import resolve_methods
from common.errors import ConfigError, DataError, SynthioError
from common.storage import read_json
from tests.benchmarks.figures import machine
from tests.benchmarks.labels import Generated, hear, labels_right
from tests.benchmarks.learner_sets import DEMO, SETS, Layout, Row, folds, read_rows, write_dataset
from tests.benchmarks.learners import Cell, options, parsed, run

METHODS = "gold,noise,corpus_label,vanilla,synthio,synthio_corpus,extra_real"


@dataclass(frozen=True)
class Arrangement:
    """A set as labelled clips and corpus.

    Attributes:
        sizes: numbers of training clips.
        layout: of the labelled clips; None = the demo with the procedural corpus of the preset.
        corpus: folder of the corpus's audio, with `metadata.csv`.
        rotated: gold is the fold before the one that tests, and the corpus all other clips of the set's own folder.
        labelled: the corpus has the labels of the set's own clips, which their captions do not name.
    """

    sizes: tuple[int, ...]
    layout: Layout | None = None
    corpus: str = ""
    rotated: bool = False
    labelled: bool = False


_ESC = SETS["esc10"].layout
assert _ESC is not None
ARRANGEMENTS = {
    DEMO: Arrangement((32,)),
    "digits": Arrangement((50, 100), SETS["digits"].layout, "words_16k"),
    "esc10": Arrangement((50,), _ESC, _ESC.folder, rotated=True),
    "esc50": Arrangement((100, 200), replace(_ESC, only=None, licence="CC BY-NC 3.0"), _ESC.folder, rotated=True),
    "foley8": Arrangement((50,), SETS["foley8"].layout, "corpus_16k", rotated=True, labelled=True),
}


@dataclass(frozen=True)
class Result:
    """What a cell gave; accuracies and shares in percent, differences in points.

    Attributes:
        without: accuracy of the best without synthetic audio, chosen on validation, mean over replicates.
        synthetic: of the best with it.
        low: of the 95 % interval of their paired difference.
        pair: the learner and method that were chosen most often with synthetic audio.
        control: accuracy of the best with corpus clips as they are; None = the corpus holds none of the labels.
        beside: mean, low and high of its paired difference: with synthetic audio minus the control.
        learners: accuracy by learner and method, mean over replicates.
        oracles: accuracy of the two oracles on test clips.
        right: share of right labels by recipe and oracle, of accepted clips.
        clips: number of accepted clips by recipe.
    """

    cell: Cell
    without: float
    synthetic: float
    low: float
    high: float
    pair: str
    control: float | None
    beside: tuple[float, float, float] | None
    learners: dict[str, dict[str, float]]
    oracles: dict[str, float]
    right: dict[str, dict[str, float]]
    clips: dict[str, int]
    seconds: float

    @property
    def gain(self) -> float:
        """Points of the best with synthetic audio over the best without."""
        return self.synthetic - self.without


def cells(
    names: Sequence[str], sizes: Sequence[int], data: Path | None, folder: Path, most_folds: int
) -> list[tuple[Cell, str]]:
    """Cells of the sets with the overrides that name their corpus; dataset and caption files are written to `folder`.

    Raises:
        DataError: a set's audio is not in `data`.
    """
    found = []
    for name in names:
        arrangement = ARRANGEMENTS[name]
        wanted = [n for n in arrangement.sizes if not sizes or n in sizes]
        if arrangement.layout is None:
            found += [(Cell(name, n, "", name), "") for n in wanted]
            continue
        if data is None:
            raise DataError(f"{name} needs recordings: DATA=<folder> that holds {arrangement.layout.folder}")
        rows = read_rows(arrangement.layout, data)
        every = folds(arrangement.layout, rows)
        for place, fold in enumerate(every[: most_folds or None]):
            corpus = _corpus_rows(data / arrangement.corpus)
            own = rows
            if arrangement.rotated:
                gold = every[place - 1]
                own = [row for row in rows if row[arrangement.layout.fold] in (fold, gold)]
                corpus = [row for row in corpus if row[arrangement.layout.fold] not in (fold, gold)]
            dataset = write_dataset(name, arrangement.layout, own, fold, data, folder).resolve()
            labels = arrangement.layout.fold if arrangement.labelled else ""
            captions = _write_captions(folder / f"{name}-{fold}-corpus.csv", corpus, labels)
            audio = (data / arrangement.corpus).resolve()
            overrides = f"prepare_corpus.source=folder prepare_corpus.audio_dir={audio} "
            overrides += f"prepare_corpus.captions_file={captions}"
            found += [(Cell(name, n, fold, str(dataset)), overrides) for n in wanted]
    return found


def _corpus_rows(folder: Path) -> list[Row]:
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write_captions(path: Path, rows: Sequence[Row], labelled: str) -> Path:
    """`labelled` is the column that is filled for clips whose label is written, too."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "caption", "label"])
        writer.writerows([row["path"], row["caption"], row.get(labelled) and row["label"]] for row in rows)
    return path.resolve()


def read(cell: Cell, folder: Path) -> Result:
    """The figures of a finished run."""
    report = read_json(folder / "report.json")
    best, difference = report["best"], report["best"]["difference"]
    chosen, control, beside = best["with"], best.get("control"), best.get("control_difference")
    _, clips, oracles, own = hear(folder)
    accepted: dict[str, list[Generated]] = {}
    for clip in clips:
        if clip.accepted:
            accepted.setdefault(clip.clip.recipe, []).append(clip)
    return Result(
        cell=cell,
        without=100 * best["without"]["accuracy"]["mean"],
        synthetic=100 * chosen["accuracy"]["mean"],
        low=100 * difference["low"],
        high=100 * difference["high"],
        pair=f"{chosen['learner']} on {chosen['method']}",
        control=100 * control["accuracy"]["mean"] if control else None,
        beside=(100 * beside["mean"], 100 * beside["low"], 100 * beside["high"]) if beside else None,
        learners={
            learner: {name: 100 * told["accuracy"]["mean"] for name, told in methods.items()}
            for learner, methods in report["learners"].items()
        },
        oracles=own,
        right={recipe: labels_right(oracles, found) for recipe, found in accepted.items()},
        clips={recipe: len(found) for recipe, found in accepted.items()},
        seconds=read_json(folder / "run.json")["wall_seconds"],
    )


def table(results: Sequence[Result]) -> str:
    """A row for each cell as Markdown."""
    head = ["set", "n", "fold", "best without", "best with", "difference", "chosen with", "control", "difference"]
    head += ["labels of accepted clips right, by recipe (" + ", ".join(results[0].oracles) + ")", "oracles", "s"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for each in results:
        right = [f"{recipe}: {_shares(each.right[recipe])} of {each.clips[recipe]}" for recipe in each.right]
        row = [each.cell.name, str(each.cell.n), each.cell.fold or "-", f"{each.without:.1f}", f"{each.synthetic:.1f}"]
        row += [f"{each.gain:+.1f} ({each.low:+.1f} to {each.high:+.1f})", each.pair]
        row += ["-" if each.control is None else f"{each.control:.1f}"]
        row += ["{:+.1f} ({:+.1f} to {:+.1f})".format(*each.beside) if each.beside else "-"]
        row += ["; ".join(right), _shares(each.oracles)]
        lines.append(f"| {' | '.join([*row, f'{each.seconds:.0f}'])} |")
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """A row for each set and size: the mean gain, with two 95 % intervals.

    The first is of these folds, from the intervals of their rows; the second of folds like these, by Student's t.
    """
    head = ["set", "n", "folds", "best without", "best with", "gain", "of these folds", "of folds like these"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for name, n in dict.fromkeys((each.cell.name, each.cell.n) for each in results):
        own = [each for each in results if (each.cell.name, each.cell.n) == (name, n)]
        gains = np.array([each.gain for each in own])
        halves = {"these": float(np.sqrt(np.sum([((each.high - each.low) / 2) ** 2 for each in own])) / len(own))}
        if len(own) > 1:
            halves["alike"] = float(student.ppf(0.975, len(own) - 1) * gains.std(ddof=1) / np.sqrt(len(own)))
        spans = {kind: f"{gains.mean() - half:+.1f} to {gains.mean() + half:+.1f}" for kind, half in halves.items()}
        means = [float(np.mean([getattr(each, side) for each in own])) for side in ("without", "synthetic")]
        row = [name, str(n), str(len(own)), f"{means[0]:.1f}", f"{means[1]:.1f}", f"{gains.mean():+.1f}"]
        lines.append(f"| {' | '.join([*row, spans['these'], spans.get('alike', '-')])} |")
    return "\n".join(lines)


def _shares(shares: dict[str, float]) -> str:
    return " / ".join(f"{value:.0f}" for value in shares.values())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line.

    Raises:
        ConfigError: there is no such set, or no method with or none without synthetic audio.
    """
    parser = options(__doc__, ARRANGEMENTS, METHODS, "gain")
    parser.add_argument("--n", default="", help="comma-separated numbers of training clips; default: the set's")
    asked = parsed(parser, arguments)
    asked.n = [int(n) for n in asked.n.replace(",", " ").split()]
    sides = {method.side for method in resolve_methods(asked.methods).values()}
    if lacking := {"without", "with"} - sides:
        raise ConfigError(f"METHODS={asked.methods}: none {lacking.pop()} synthetic audio; name one of each to compare")
    return asked


def main() -> int:
    """Run the cells, print the tables, write `gain.json` below the folder of the runs after each; 1 = a run failed."""
    results: list[Result] = []
    failed = False
    try:
        asked = parse()
        data = Path(asked.data).expanduser() if asked.data else None
        planned = cells(asked.sets, asked.n, data, asked.folder / "datasets", asked.folds)
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for cell, corpus in planned:
        print(f"{cell.name}, n = {cell.n}{cell.fold and f', fold {cell.fold}'}: ", end="", flush=True)
        try:
            results.append(read(cell, run(cell, _with_corpus(asked, corpus))))
        except SynthioError as error:
            failed = True
            print(error, flush=True)
            continue
        print(f"{results[-1].gain:+.1f} points; {results[-1].seconds:.0f} s", flush=True)
        told: dict[str, Any] = {"machine": machine(), "cells": [asdict(result) for result in results]}
        (asked.folder / "gain.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    if results:
        print(f"{machine()}\n\n{summary(results)}\n\n{table(results)}")
    return int(failed)


def _with_corpus(asked: argparse.Namespace, corpus: str) -> argparse.Namespace:
    own = copy(asked)
    own.overrides = f"{corpus} {asked.overrides}".strip()
    return own


if __name__ == "__main__":
    sys.exit(main())
