"""Accuracy of the classifier that the pipeline chooses from n clips, beside simple classifiers of the same clips.

Each cell (a set, a number of clips, a fold that tests) is an ordinary run of the pipeline, with methods that need no
synthetic audio. Its figure is `best.without` of report.json: in each replicate, the pair of learner and method that
validation chose, on the test clips. The peers, plain logistic regression above all, hear the replicate's training clips
alone. All cells share a store, so that pretraining is done once; a cell that nothing has changed for takes seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.config.learners import learners_in_order
from common.config.methods import BASELINE, DEFAULT_METHODS, METHODS
from common.contracts import base
from common.contracts.gold import Health
from common.errors import DataError, SynthioError, unknown_name
from common.learners.opened import open_classifier
from common.records.audio_folder import load_clip, read_clips
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from common.runtime.split_guard import READER, running_as
from common.storage import read_json
from tests.benchmarks.figures import FOLDER, Figure, publish
from tests.benchmarks.learner_sets import SETS, folds, read_rows, write_dataset
from tests.benchmarks.plain_regression import STATISTICS, fitted, scores
from tests.benchmarks.recorders import CONDITIONS, agreement
from tests.benchmarks.simple_classifiers import CLASSIFIERS, accuracies, features

RATE = 16000
MOST_CLIPS = 160
LOSS = 1.0
"""Points by which the pipeline's choice may fall below plain regression, or below the best other simple classifier."""
CLASSIC = tuple(name for name in DEFAULT_METHODS if METHODS[name].recipe is None)


@dataclass(frozen=True)
class Cell:
    """One run: a set, its training clips, the fold that tests ("" = the dataset's own split), the dataset's name."""

    name: str
    n: int
    fold: str
    dataset: str


@dataclass(frozen=True)
class Result:
    """What a cell gave; accuracies in percent.

    Attributes:
        chosen: accuracy of what validation chose, by replicate.
        pairs: these choices, as "learner on method".
        plain: accuracy of plain regression, by its statistics and replicate.
        simple: of the other simple classifiers, likewise.
        delivered: the classifier that is handed on, trained on all labelled clips outside the test split, in words.
        kept: percent of test clips whose answer it keeps under other recording conditions, by condition.
        learners: mean accuracy on gold clips alone, by learner.
        warnings: codes of the warnings about the data and its splits.
        failures: trainings that failed.
        seconds: wall time of the run.
        train_s: of them, those of `train_classifier`.
    """

    cell: Cell
    chosen: tuple[float, ...]
    pairs: tuple[str, ...]
    plain: dict[str, tuple[float, ...]]
    simple: dict[str, tuple[float, ...]]
    delivered: str
    kept: dict[str, float]
    learners: dict[str, float]
    warnings: tuple[str, ...]
    failures: int
    seconds: float
    train_s: float


def cells(names: Sequence[str], data: Path | None, folder: Path, most_folds: int) -> tuple[list[Cell], dict[str, str]]:
    """Cells of the sets, whose dataset files are written to `folder`, and why sets are left out, by name.

    Args:
        data: folder of the audio; None = not given.
        most_folds: of each set; 0 = all.
    """
    found: list[Cell] = []
    left_out: dict[str, str] = {}
    for name in names:
        layout, sizes = SETS[name].layout, SETS[name].targets
        if layout is None:
            found += [Cell(name, n, "", name) for n in sizes]
        elif data is None:
            left_out[name] = f"left out: DATA=<folder> names no {layout.folder}"
        else:
            try:
                rows = read_rows(layout, data)
            except DataError as error:
                left_out[name] = f"left out: {error}"
                continue
            for fold in folds(layout, rows)[: most_folds or None]:
                path = write_dataset(name, layout, rows, fold, data, folder)
                found += [Cell(name, n, fold, str(path.resolve())) for n in sizes]
    return found, left_out


def run(cell: Cell, asked: argparse.Namespace) -> Path:
    """Run the pipeline on a cell; return the run's folder.

    Raises:
        SynthioError: the run failed.
    """
    runs: Path = asked.folder / "runs"
    log = asked.folder / "logs" / f"{cell.name}{cell.fold and f'-{cell.fold}'}-{cell.n}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    before = (runs / "latest").resolve()
    command = [sys.executable, "-m", "pipelines", "run-pipeline", f"--dataset={cell.dataset}", f"--n={cell.n}"]
    command += [f"--seeds={asked.replicates}", f"--methods={asked.methods}", f"--preset={asked.preset}"]
    command += [f"--overrides={asked.overrides}", f"--runs={runs}", f"--store={asked.store}", "--fetch=0"]
    with log.open("w", encoding="utf-8") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    after = (runs / "latest").resolve()
    if after == before:
        last = log.read_text(encoding="utf-8").splitlines()[-1:]
        raise SynthioError(f"the run ended with status {status}: {' '.join(last)} (see {log})")
    return after


def read(cell: Cell, folder: Path) -> Result:
    """The figures of a finished run, with those of plain regression on the same clips."""
    report, record = read_json(folder / "report.json"), read_json(folder / "run.json")
    best = report["best"]["without"]
    replicates = [int(replicate) for replicate in best["chosen"]]
    prepared = record["artifacts"]["prepare-dataset"]
    gold = GoldSet(prepared["gold"])
    found = peers(gold, Path(prepared["test"]), replicates)
    train_s = sum(row["seconds"] for row in record["stages"] if row["name"].startswith("train-classifier"))
    return Result(
        cell=cell,
        chosen=tuple(100 * value for value in best["accuracy"]["per_seed"]),
        pairs=tuple(f"{pair['learner']} on {pair['method']}" for pair in best["chosen"].values()),
        plain={name: found[name] for name in STATISTICS},
        simple={name: found[name] for name in CLASSIFIERS},
        delivered=in_words(report.get("delivered")),
        kept=kept(Path(record["artifacts"]["evaluate-classifier"]["classifier"]), Path(prepared["test"])),
        learners={
            name: 100 * rows[BASELINE]["accuracy"]["mean"]
            for name, rows in report["learners"].items()
            if BASELINE in rows
        },
        warnings=tuple(base.read(Health, gold.path / "health.json").warning_codes),
        failures=len(report["failures"]),
        seconds=record["wall_seconds"],
        train_s=train_s,
    )


def peers(gold: GoldSet, test: Path, replicates: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """Accuracy in percent by replicate of plain regression, by its statistics, and of the other simple classifiers."""
    # As in the stage that evaluates: a peer is fitted without a look at these.
    with running_as(READER):
        held_out = read_clips(test, GoldClip)
        unseen = [features(load_clip(test, clip, RATE), RATE) for clip in held_out]
    truth = [clip.label_id for clip in held_out]
    found = []
    for replicate in replicates:
        train = gold.train(replicate)
        heard, labels = [features(gold.load(clip, RATE), RATE) for clip in train], [clip.label_id for clip in train]
        found.append(scores(fitted(heard, labels), unseen, truth) | accuracies(heard, labels, unseen, truth))
    return {name: tuple(100 * row[name] for row in found) for name in found[0]}


def kept(classifier: Path, test: Path) -> dict[str, float]:
    """`agreement` of the delivered classifier on the test clips, `MOST_CLIPS` at most, evenly drawn."""
    with running_as(READER):
        held_out = read_clips(test, GoldClip)
        unseen = [load_clip(test, clip, RATE) for clip in held_out[:: -(-len(held_out) // MOST_CLIPS)]]
    return agreement(open_classifier(classifier), unseen, RATE)


def in_words(delivered: dict[str, Any] | None) -> str:
    """What is handed on, as report.json tells it; "" where it does not."""
    if not delivered or delivered.get("test_accuracy") is None:
        return ""
    return f"{delivered['learner']} on {delivered['method']}: {100 * delivered['test_accuracy']:.1f}"


def figures(
    results: Sequence[Result], failed: Sequence[tuple[Cell, str]], left_out: dict[str, str], names: Sequence[str]
) -> list[Figure]:
    """Three figures for each set and number of clips: accuracy, and distances to the best simple classifiers."""
    made = []
    for name in names:
        for n, target in SETS[name].targets.items():
            title = f"{SETS[name].title}, n = {n}"
            own = [result for result in results if (result.cell.name, result.cell.n) == (name, n)]
            errors = [error for cell, error in failed if (cell.name, cell.n) == (name, n)]
            reason = left_out.get(name) or "; ".join(errors)
            beside = [
                f"{title}, above the {kind}" for kind in ("better plain regression", "best other simple classifier")
            ]
            if reason or not own:
                made.append(Figure(title, None, ">=", target, "%", reason=reason))
                made += [Figure(name, None, ">=", -LOSS, "points", reason=reason) for name in beside]
                continue
            ours = float(np.mean([value for result in own for value in result.chosen]))
            plain, simple = (_means([getattr(result, kind) for result in own]) for kind in ("plain", "simple"))
            pair, times = Counter(pair for result in own for pair in result.pairs).most_common(1)[0]
            count = sum(len(result.chosen) for result in own)
            said = f"{ours:.1f} %; most often {pair} ({times} of {count})"
            told = "; ".join(f"{kind}: {value:.1f} %" for kind, value in (plain | simple).items())
            made.append(Figure(title, ours, ">=", target, "%", said, told, f"{len(own)} fold(s), {count} replicates"))
            made += [
                Figure(name, ours - max(means.values()), ">=", -LOSS, "points")
                for name, means in zip(beside, (plain, simple), strict=True)
            ]
    return made


def _means(peers: Sequence[dict[str, tuple[float, ...]]]) -> dict[str, float]:
    """Mean over cells and replicates by name."""
    return {name: float(np.mean([value for own in peers for value in own[name]])) for name in peers[0]}


def cell_table(results: Sequence[Result]) -> str:
    """A row for each cell, as Markdown: accuracies in percent, and each learner's mean on gold clips alone."""
    learners = learners_in_order({name for result in results for name in result.learners})
    head = ["set", "n", "fold", "chosen", *STATISTICS, *CLASSIFIERS, "chosen pairs", "delivered, all labelled clips"]
    head += [f"kept: {name}" for name in CONDITIONS] + learners
    head += ["warnings", "failed", "s", "s of training"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for result in results:
        pairs = ", ".join(f"{pair} {count}" for pair, count in Counter(result.pairs).most_common())
        of = [f"{result.learners[name]:.1f}" if name in result.learners else "-" for name in learners]
        row = [result.cell.name, str(result.cell.n), result.cell.fold or "-", f"{np.mean(result.chosen):.1f}"]
        row += [f"{np.mean(values):.1f}" for values in (result.plain | result.simple).values()]
        row += [pairs, result.delivered or "-", *(f"{result.kept[name]:.1f}" for name in CONDITIONS), *of]
        row += [", ".join(result.warnings) or "-", str(result.failures), f"{result.seconds:.0f}"]
        lines.append(f"| {' | '.join([*row, f'{result.train_s:.0f}'])} |")
    return "\n".join(lines)


def options(text: str | None, sets: Iterable[str], methods: str, name: str) -> argparse.ArgumentParser:
    """Parser of what benchmarks of whole runs take.

    Args:
        text: what the benchmark does.
        sets: names that `--sets` takes.
        methods: default.
        name: of the folder of its runs.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="", help=f"comma-separated: {', '.join(sets)}; default: all")
    parser.add_argument("--data", default="", help="folder of the audio of all sets but the demo")
    parser.add_argument("--replicates", type=int, default=5)
    parser.add_argument("--folds", type=int, default=0, help="of each set, for a first look; 0 = all")
    parser.add_argument("--methods", default="", help=f"default: {methods}")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--overrides", default="")
    parser.add_argument("--folder", type=Path, default=FOLDER / name, help="of the runs")
    parser.add_argument("--store", default="", help="of finished work; default: below the folder")
    parser.set_defaults(known=tuple(sets), usual=methods)
    return parser


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """What a parser of `options` makes of the command line, with defaults filled in.

    Raises:
        ConfigError: there is no such set.
    """
    asked = parser.parse_args(arguments)
    asked.sets = asked.sets.replace(",", " ").split() or list(asked.known)
    if unknown := [name for name in asked.sets if name not in asked.known]:
        raise unknown_name("set", unknown[0], asked.known)
    asked.methods, asked.folder = asked.methods or asked.usual, asked.folder.resolve()
    return asked


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line; no method may need synthetic audio.

    Raises:
        ConfigError: there is no such set.
    """
    return parsed(options(__doc__, SETS, ",".join(CLASSIC), "learners"), arguments)


def main() -> int:
    """Run the cells, print the tables, write `build/bench/learners.json`; 1 = a run failed."""
    try:
        asked = parse()
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    data = Path(asked.data).expanduser() if asked.data else None
    found, left_out = cells(asked.sets, data, asked.folder / "datasets", asked.folds)
    for name, reason in left_out.items():
        print(f"{name} is {reason}", flush=True)
    results: list[Result] = []
    failed: list[tuple[Cell, str]] = []
    for cell in found:
        print(f"{cell.name}, n = {cell.n}{cell.fold and f', fold {cell.fold}'}: ", end="", flush=True)
        try:
            results.append(read(cell, run(cell, asked)))
        except SynthioError as error:
            failed.append((cell, str(error)))
            print(error, flush=True)
            continue
        last = results[-1]
        beside = ", ".join(f"{kind}: {np.mean(values):.1f} %" for kind, values in last.plain.items())
        print(f"{np.mean(last.chosen):.1f} % ({beside}); {last.seconds:.0f} s", flush=True)
    if results:
        print(f"\n{cell_table(results)}\n")
        text = json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False)
        (asked.folder / "cells.json").write_text(text + "\n", encoding="utf-8")
    publish("learners", figures(results, failed, left_out, asked.sets))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
