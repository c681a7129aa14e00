"""The benchmark of learners: its dataset files, its tables, and the plain regression beside it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.audio.signal import write_flac
from common.config.dataset import PrepareDatasetPlan
from common.config.methods import METHODS
from common.datasets.listing import list_clips
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError, DataError
from common.records.gold import GoldSet
from components.prepare_dataset.run import run as prepare_dataset
from tests.benchmarks.figures import table
from tests.benchmarks.learner_sets import SETS, Layout, folds, read_rows, write_dataset
from tests.benchmarks.learners import CLASSIC, Cell, Result, cell_table, cells, figures, parse, peers
from tests.benchmarks.plain_regression import BANDS, FLOOR_DB, STATISTICS, fitted, scores, statistics
from tests.benchmarks.recorders import CONDITIONS
from tests.benchmarks.simple_classifiers import CEPSTRA, CLASSIFIERS, features
from tests.kit.sounds import RATE, TONES, tone

LABELS = TONES[:2]
FOLDS = ("a", "b", "c")


def miniature(data: Path, layout: Layout) -> None:
    """Two labels, three folds with two groups of two clips each, and a row of another set."""
    folder = data / layout.folder
    columns = list(dict.fromkeys(["path", "label", "split", "fold", "group", layout.fold]))
    rows = []
    for label in LABELS:
        for fold in FOLDS:
            for take in range(4):
                name = f"{label}-{fold}{take}.flac"
                folder.mkdir(parents=True, exist_ok=True)
                write_flac(folder / name, tone(label, 4 * FOLDS.index(fold) + take), RATE)
                row = {"path": name, "label": label, "group": f"{fold}{take // 2}", layout.fold: fold}
                rows.append(row | ({layout.only[0]: layout.only[1] or fold} if layout.only else {}))
    rows.append({"path": "other.flac", "label": "other", "group": "x", "split": "other"} if layout.only else rows.pop())
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("name", [name for name in SETS if SETS[name].layout])
def test_each_fold_tests_once_and_its_clips_stay_where_they_are(name: str, tmp_path: Path) -> None:
    layout = SETS[name].layout
    assert layout is not None
    miniature(tmp_path / "data", layout)
    found, left_out = cells([name], tmp_path / "data", tmp_path / "made", 0)
    assert not left_out
    assert [(cell.fold, cell.n) for cell in found] == [(fold, n) for fold in FOLDS for n in SETS[name].targets]
    assert not list((tmp_path / "made").rglob("*.flac"))
    for cell in found:
        rows = list_clips(resolve_dataset(cell.dataset)).rows
        assert {row.label for row in rows} == set(LABELS)
        assert all((row.split == "test") == (f"-{cell.fold}" in row.source) for row in rows)
        assert all(row.group and Path(row.path).is_file() for row in rows)


def test_the_pipeline_prepares_a_cell_and_simple_classifiers_hear_its_clips(tmp_path: Path) -> None:
    layout = SETS["foley8"].layout
    assert layout is not None
    miniature(tmp_path / "data", layout)
    rows = read_rows(layout, tmp_path / "data")
    spec = resolve_dataset(str(write_dataset("foley8", layout, rows, "b", tmp_path / "data", tmp_path / "made")))
    plan = PrepareDatasetPlan(dataset=spec, n=8, replicates=(0, 1)).model_dump(mode="json")
    paths = [str(tmp_path / each) for each in ("gold", "test", "metrics.json")]
    prepare_dataset(*paths, config=plan, code_version="t")
    gold = GoldSet(tmp_path / "gold")
    assert {clip.group[0] for clip in gold.clips.values() if clip.group} == {"a", "c"}
    found = peers(gold, tmp_path / "test", gold.replicates)
    assert found == dict.fromkeys([*STATISTICS, *CLASSIFIERS], (100.0, 100.0))


def test_sets_without_audio_are_named_and_the_demo_needs_none(tmp_path: Path) -> None:
    found, left_out = cells(list(SETS), None, tmp_path, 0)
    assert found == [Cell("demo", 32, "", "demo")]
    assert set(left_out) == set(SETS) - {"demo"} and all("DATA=" in reason for reason in left_out.values())
    _, left_out = cells(["esc10"], tmp_path, tmp_path, 0)
    assert "metadata.csv" in left_out["esc10"]


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    layout = Layout("set", "fold", "sounds", "CC0")
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "metadata.csv"
    path.write_text("path,label,group\na.wav,a,g\n")
    with pytest.raises(DataError, match="no column fold"):
        read_rows(layout, tmp_path)
    path.write_text("path,label,group,fold\na.wav,a,g,1\n")
    with pytest.raises(DataError, match="fewer than 2 values"):
        read_rows(layout, tmp_path)
    path.write_text("path,label,group,fold\na.wav,a,g,2\nb.wav,b,h,1\n")
    assert folds(layout, read_rows(layout, tmp_path)) == ["1", "2"]


def test_plain_regression_hears_pitch_whatever_level_and_floor() -> None:
    ids = [0, 1] * 8
    clips = [tone(LABELS[label], number) for number, label in enumerate(ids)]
    quiet = [(0.01 * clip).astype(np.float32) for clip in clips]
    heard, unseen = ([statistics(clip, RATE) for clip in found] for found in (clips[:8], quiet[8:]))
    assert scores(fitted(heard, ids[:8]), unseen, ids[8:]) == dict.fromkeys(STATISTICS, 1.0)
    np.testing.assert_allclose(statistics(quiet[0], RATE), statistics(clips[0], RATE), atol=1e-3)


@pytest.mark.parametrize("samples", [1, 100, 16000])
def test_statistics_of_any_clip_are_finite_and_within_the_range(samples: int) -> None:
    for clip in (np.zeros(samples, np.float32), np.ones(samples, np.float32)):
        found = statistics(clip, RATE)
        assert found.shape == (7 * BANDS,) and np.isfinite(found).all()
        assert found[:BANDS].min() >= -FLOOR_DB and found[:BANDS].max() <= 0
        more = features(clip, RATE)
        assert more.shape == (7 * BANDS + 3 * CEPSTRA,) and np.isfinite(more).all()
        np.testing.assert_array_equal(more[: 7 * BANDS], found)


RESULT = Result(
    cell=Cell("digits", 50, "theo", "theo.yaml"),
    chosen=(70.0, 72.0),
    pairs=("stats on gold", "blend on noise"),
    plain={"plain": (66.0, 68.0), "plain, thirds": (60.0, 60.0)},
    simple=dict.fromkeys(CLASSIFIERS, (64.0, 66.0)),
    delivered="stats on gold: 91.0",
    kept=dict.fromkeys(CONDITIONS, 97.5),
    learners={"ast": 20.0, "stats": 71.0},
    warnings=("validation_by_clip",),
    failures=0,
    seconds=61.0,
    train_s=40.0,
)


def test_targets_are_judged_by_the_mean_over_folds_and_replicates() -> None:
    other = replace(
        RESULT,
        cell=replace(RESULT.cell, fold="jackson"),
        chosen=(60.0, 66.0),
        plain={"plain": (69.0, 71.0), "plain, thirds": (65.0, 65.0)},
        simple=dict.fromkeys(CLASSIFIERS, (64.0, 66.0)) | {"extra trees": (66.0, 68.0)},
    )
    reached, beside, simple, *rest = figures([RESULT, other], [], {}, ["digits"])
    assert (reached.value, reached.target, reached.met) == (67.0, 65.0, True)
    assert (beside.value, beside.met) == (-1.5, False)
    assert (simple.value, simple.met) == (1.0, True)
    assert "2 fold(s), 4 replicates" in reached.reason and "68.5" in reached.peer
    # Nothing was run for n = 100.
    assert [figure.met for figure in rest] == [None, None, None]


def test_a_failed_cell_leaves_its_set_unmeasured_and_says_why() -> None:
    failed = [(replace(RESULT.cell, fold="jackson"), "the run ended with status 1")]
    drawn = table(figures([RESULT], failed, {"esc10": "left out: no DATA"}, ["digits", "esc10"]))
    assert "not measured" in drawn and "the run ended with status 1" in drawn and "left out: no DATA" in drawn
    assert "yes" not in drawn


def test_the_table_of_cells_shows_choices_learners_and_what_is_delivered() -> None:
    head, _, row = cell_table([RESULT]).splitlines()
    assert "| ast | stats |" in head and "cnn" not in head
    for text in ("theo", "71.0", "67.0", "stats on gold 1, blend on noise 1", "stats on gold: 91.0", "20.0"):
        assert text in row
    assert row.count("|") == head.count("|")


def test_only_methods_without_synthetic_audio_are_compared() -> None:
    assert CLASSIC[0] == "gold" and len(CLASSIC) > 1
    assert all(METHODS[name].recipe is None for name in CLASSIC)
    assert parse(["--sets=demo,esc10", "--methods="]).methods == ",".join(CLASSIC)
    with pytest.raises(ConfigError, match="did you mean digits"):
        parse(["--sets=digit"])
