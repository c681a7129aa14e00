"""Registered datasets: described in full, found where they lie, and missed clearly."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec
from common.datasets import layouts
from common.datasets.listing import list_clips
from common.datasets.pushed import fetch_dataset, push_dataset
from common.datasets.registry import check_training_clips, dataset_names, fingerprint, resolve_dataset
from common.errors import ConfigError, DataError
from common.storage import open_store
from pipelines.commands.list_datasets import describe, to_text

Put = Callable[..., Path]


def us8k(put: Put, root: str = "urbansound8k") -> Path:
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    lines += [f"{fold}-{n}.wav,{fold},0,4,1,{fold},{n},{'ab'[n]}" for fold in range(1, 11) for n in range(2)]
    audio: dict[str, str | None] = {f"audio/fold{fold}/{fold}-{n}.wav": "x" for fold in range(1, 11) for n in range(2)}
    return put({**audio, "metadata/UrbanSound8K.csv": "\n".join(lines)}, root)


def test_a_reader_is_one_module(put: Put, tmp_path: Path) -> None:
    layouts.__path__.append(str(tmp_path))
    (tmp_path / "toy_layout.py").write_text(
        "from common.datasets.rows import Listing, Row\n"
        "def list_clips(root):\n"
        "    return Listing(rows=[Row(path, path.name, path.parent.name) for path in sorted(root.glob('*/*.wav'))])\n"
    )
    root = put({"dog/1.wav": "x", "rain/2.wav": "x"}, "toy")
    try:
        spec = resolve_dataset(json.dumps({"name": "toy", "reader": "toy_layout", "root": str(root)}))
        assert [row.label for row in list_clips(spec).rows] == ["dog", "rain"] and fingerprint(spec)
    finally:
        layouts.__path__.remove(str(tmp_path))
        sys.modules.pop("common.datasets.layouts.toy_layout", None)
    with pytest.raises(ConfigError, match=r"reader: expected 'files'.*'gtzan'"):
        resolve_dataset(json.dumps({"name": "toy", "reader": "toy_layout", "root": str(root)}))


@pytest.mark.parametrize("name", dataset_names())
def test_a_registered_dataset_is_described_in_full(name: str) -> None:
    spec = resolve_dataset(name)
    shown = describe(spec)
    assert spec.name == name and shown["licence"] != "not stated" and shown["split"] != "not stated"
    if spec.reader != "procedural_demo":
        assert spec.native and spec.source and spec.grouping
        assert spec.archives if spec.access == "download" else spec.instructions
        assert "commit" in (importlib.import_module(f"common.datasets.layouts.{spec.reader}").__doc__ or "")


@pytest.mark.parametrize("name", [name for name in dataset_names() if name != "demo"])
def test_a_dataset_that_is_not_there_says_where_to_get_it_and_where_to_put_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path))
    spec = resolve_dataset(name)
    how = f"make fetch-data DATASET={name}" if spec.access == "download" else str(spec.instructions)
    for use in (list_clips, fingerprint, lambda spec: check_training_clips(spec, 10)):
        with pytest.raises(ConfigError) as caught:
            use(spec)
        for part in (name, how, str(tmp_path / name), "does not exist", spec.licence):
            assert part in str(caught.value)
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="is empty"):
        list_clips(spec)


def test_a_dataset_is_found_in_the_data_folder_or_where_its_file_says(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path))
    us8k(put)
    spec = resolve_dataset("urbansound8k")
    assert len(list_clips(spec).rows) == 20 and describe(spec)["here"]
    (tmp_path / "own.yaml").write_text("reader: urbansound8k\nroot: urbansound8k\ntest_folds: [2]\n")
    own = resolve_dataset(str(tmp_path / "own.yaml"))
    assert own.root == tmp_path / "urbansound8k" and fingerprint(own) != fingerprint(spec)
    with pytest.raises(ConfigError, match="use N=2 to N=18"):
        check_training_clips(spec, 19)


def test_the_root_travels_with_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path))
    written = json.dumps(resolve_dataset("esc50").model_dump(mode="json", exclude_none=True))
    monkeypatch.setenv("SYNTHIO_DATA", "/elsewhere")
    assert resolve_dataset(written).root == tmp_path / "esc50"


def test_the_fingerprint_sees_a_changed_clip_and_a_changed_table(put: Put) -> None:
    spec = DatasetSpec(name="us", reader="urbansound8k", root=us8k(put), test_folds=(10,))
    seen = {fingerprint(spec)}
    assert spec.root is not None
    clip, table = spec.root / "audio" / "fold1" / "1-0.wav", spec.root / "metadata" / "UrbanSound8K.csv"
    os.utime(clip, ns=(1, 1))
    seen.add(fingerprint(spec))
    table.write_text(table.read_text().replace("1-0.wav,1,", "1-0.wav,99,"))
    seen.add(fingerprint(spec))
    assert len(seen) == 3


def test_a_published_dataset_can_be_pushed_and_keeps_its_splits_and_groups(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path))
    us8k(put)
    spec = resolve_dataset("urbansound8k")
    pushed = resolve_dataset(push_dataset(spec, open_store(tmp_path / "store")))
    assert len(pushed.corpus_ids) == 1
    assert pushed.licence == spec.licence and not pushed.archives and pushed.use == "non-commercial"
    there = list_clips(fetch_dataset(pushed, tmp_path / "there")).rows
    assert [(row.source, row.label, row.split, row.group) for row in there] == [
        (row.source, row.label, row.split, row.group) for row in list_clips(spec).rows
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reader": "esc50", "labels": "/x.csv"}, "expected no `labels:`, `audio:` or `pushed:` with `reader: esc50`"),
        ({"audio": "/x", "test_folds": [1]}, "expected no `root:` and no folds with `reader: files`"),
        ({"reader": "esc50", "test_folds": [1], "validation_folds": [1]}, "fold 1 is both"),
        ({"reader": "esc10"}, "reader"),
        ({"reader": "esc50", "archives": [{"url": "ftp://x/y.zip"}]}, "archives"),
        ({"reader": "esc50", "archives": [{"url": "https://x/y.zip", "folder": "../up"}]}, "archives"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve_dataset(json.dumps({"name": "x", **fields}))


def test_several_labels_need_a_dataset_file_that_says_so(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.datasets.layouts import urbansound8k

    plain = urbansound8k.list_clips

    def several(root: Path) -> object:
        listing = plain(root)
        listing.rows[0] = listing.rows[0].__class__(**{**vars(listing.rows[0]), "further_labels": ("b",)})
        return listing

    monkeypatch.setattr(urbansound8k, "list_clips", several)
    spec = DatasetSpec(name="us", reader="urbansound8k", root=us8k(put), test_folds=(10,))
    with pytest.raises(DataError, match="add `multi_label: true`"):
        list_clips(spec)
    assert list_clips(spec.model_copy(update={"multi_label": True})).rows[0].labels == ("a", "b")


def test_the_list_is_printed_as_text_and_as_json() -> None:
    command = [sys.executable, "-m", "pipelines", "list-datasets"]
    printed = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    shown = {dataset["name"]: dataset for dataset in json.loads(printed)}
    assert set(shown) == set(dataset_names())
    assert {"name", "source", "licence", "split", "grouping", "reader"} <= shown["esc50"].keys()
    text = to_text(list(shown.values()))
    assert "demo (built in)" in text and "make fetch-data DATASET=esc50" in text and shown["gtzan"]["split"] in text
