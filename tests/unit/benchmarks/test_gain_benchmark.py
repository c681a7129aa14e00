"""The benchmark of the gain: its arrangements of clips, and its tables."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from common.errors import ConfigError, DataError
from tests.benchmarks.gain import ARRANGEMENTS, Result, cells, parse, summary, table
from tests.benchmarks.learners import Cell

FOLDS = ("1", "2", "3", "4")


def miniature(data: Path, name: str) -> None:
    """Folds of two clips each of the set, and three clips that belong to the corpus alone where that is elsewhere."""
    arrangement = ARRANGEMENTS[name]
    layout = arrangement.layout
    assert layout is not None
    columns = list(dict.fromkeys(["path", "label", "split", "group", "caption", layout.fold]))
    rows = [
        {"path": f"{fold}{take}.flac", "label": "dog", "group": fold, "caption": "a dog", layout.fold: fold}
        | ({layout.only[0]: layout.only[1] or fold} if layout.only else {})
        for fold in FOLDS
        for take in range(2)
    ]
    others = [{"path": f"other{take}.flac", "label": "cat", "caption": "a cat"} for take in range(3)]
    for folder in {layout.folder, arrangement.corpus}:
        (data / folder).mkdir(parents=True, exist_ok=True)
        apart = not arrangement.rotated or arrangement.labelled
        own = rows * (folder == layout.folder) + others * (folder == arrangement.corpus and apart)
        with (data / folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(own)


def column(path: str, name: str) -> list[str]:
    with open(path, newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", [name for name in ARRANGEMENTS if ARRANGEMENTS[name].layout])
def test_test_clips_gold_clips_and_corpus_share_no_clip(name: str, tmp_path: Path) -> None:
    miniature(tmp_path / "data", name)
    found = cells([name], [], tmp_path / "data", tmp_path / "made", 0)
    assert [cell.fold for cell, _ in found] == [fold for fold in FOLDS for _ in ARRANGEMENTS[name].sizes]
    for cell, overrides in found:
        labelled = cell.dataset.replace(".yaml", ".csv")
        paths, splits = column(labelled, "path"), column(labelled, "split")
        assert [path for path, split in zip(paths, splits, strict=True) if split == "test"] == [
            f"{cell.fold}{take}.flac" for take in range(2)
        ]
        settings = dict(setting.split("=", 1) for setting in overrides.split())
        corpus = column(settings["prepare_corpus.captions_file"], "file")
        assert corpus and not set(corpus) & set(paths)
        labels = column(settings["prepare_corpus.captions_file"], "label")
        expected = ["dog" if ARRANGEMENTS[name].labelled and not file.startswith("other") else "" for file in corpus]
        assert labels == expected
        assert settings["prepare_corpus.audio_dir"] == str((tmp_path / "data" / ARRANGEMENTS[name].corpus).resolve())


def test_recordings_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="DATA=<folder> that holds fsdd_16k"):
        cells(["digits"], [], None, tmp_path, 0)
    with pytest.raises(ConfigError, match="esc10"):
        parse(["--sets", "esc11"])


def test_methods_of_one_side_alone_are_refused() -> None:
    with pytest.raises(ConfigError, match="none with synthetic audio"):
        parse(["--methods", "gold,noise,corpus_label"])
    with pytest.raises(ConfigError, match="none without synthetic audio"):
        parse(["--methods", "synthio"])


def result(fold: str, gain: float) -> Result:
    return Result(
        cell=Cell("digits", 50, fold, "x.yaml"),
        without=60.0,
        synthetic=60.0 + gain,
        low=gain - 2,
        high=gain + 2,
        pair="stats on synthio",
        control=None,
        beside=None,
        learners={},
        oracles={"regression": 88.1, "cnn": 90.2},
        right={"dpo-template-filtered": {"regression": 76.0, "cnn": 91.0}},
        clips={"dpo-template-filtered": 120},
        seconds=61.0,
    )


def test_the_gain_of_a_set_is_the_mean_over_folds_with_the_intervals_of_these_and_of_others_like_them() -> None:
    assert summary([result("a", 1.0)]).splitlines()[-1] == "| digits | 50 | 1 | 60.0 | 61.0 | +1.0 | -1.0 to +3.0 | - |"
    # Half of each interval is 2: that of their mean is 2 / √2. Student's t for two folds is 12.706, the standard error 1.
    last = summary([result("a", 1.0), result("b", 3.0)]).splitlines()[-1]
    assert last == "| digits | 50 | 2 | 60.0 | 62.0 | +2.0 | +0.6 to +3.4 | -10.7 to +14.7 |"


def test_a_row_tells_the_shares_of_right_labels_and_of_the_oracles() -> None:
    row = table([result("a", 1.0)]).splitlines()[-1]
    assert "| dpo-template-filtered: 76 / 91 of 120 | 88 / 90 |" in row and "+1.0 (-1.0 to +3.0)" in row
