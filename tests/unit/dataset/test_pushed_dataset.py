"""Datasets in an object store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec
from common.datasets.listing import list_clips
from common.datasets.pushed import fetch_dataset, push_dataset
from common.datasets.registry import corpus_id_files, fingerprint, resolve_dataset
from common.errors import ConfigError, DataError, StorageError
from common.storage import ObjectStore, open_store
from components.prepare_corpus.excluded import ExcludedIds
from pipelines.commands import main
from tests.kit.s3_server import BUCKET, s3_server

ROWS = [("a/1.wav", "dog", "train", "g1"), ("a/2.wav", "cat", "test", "g2"), ("b/1.wav", "cat", "train", "g3")]
COLUMNS = "path,label,split,group"


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    if request.param == "file":
        yield open_store(tmp_path / "store")
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with s3_server() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        yield open_store(f"s3://{BUCKET}/datasets")


def test_a_pushed_dataset_lists_the_same_clips_elsewhere(
    store: ObjectStore, write_dataset: Callable[..., DatasetSpec], tmp_path: Path
) -> None:
    spec = write_dataset(ROWS, COLUMNS, domain="animals")
    pushed = resolve_dataset(push_dataset(spec, store))
    assert (pushed.name, pushed.domain, pushed.labels) == (spec.name, "animals", None)
    there = fetch_dataset(pushed, tmp_path / "elsewhere")
    before, after = list_clips(spec).rows, list_clips(there).rows
    assert [(row.source, row.label, row.split, row.group) for row in before] == [
        (row.source, row.label, row.split, row.group) for row in after
    ]
    assert all(a.path.read_bytes() == b.path.read_bytes() for a, b in zip(before, after, strict=True))


def test_what_is_not_pushed_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("bell/1.wav", "rain/1.wav", "rain/2.m4a", os.fsdecode(b"rain/caf\xe9.wav")):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    (tmp_path / "set" / "bell" / "gone.wav").symlink_to("nowhere")
    assert main(["push-data", f"--dataset={tmp_path / 'set'}", f"--store={tmp_path / 'store'}"]) == 0
    printed = capfd.readouterr()
    told = [line.split(": ")[1:3] for line in printed.err.splitlines() if line.startswith("left out: ")]
    assert [source for source, _ in told] == ["bell/gone.wav", "rain/2.m4a", "rain/caf\\xe9.wav"]
    pushed = resolve_dataset(printed.out.strip().removeprefix("DATASET="))
    assert [row.source for row in list_clips(fetch_dataset(pushed, tmp_path / "there")).rows] == [
        "bell/1.wav",
        "rain/1.wav",
    ]


def test_names_are_pushed_as_their_files_are_called(tmp_path: Path) -> None:
    for name in ("fe\u0302te.wav", "sub/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "l.csv").write_text("path,label\nf\u00eate.WAV,x\nSub\\b.wav,y\n", encoding="utf-8")
    spec = DatasetSpec(name="own", labels=tmp_path / "l.csv")
    there = fetch_dataset(resolve_dataset(push_dataset(spec, open_store(tmp_path / "store"))), tmp_path / "there")
    rows = list_clips(there).rows
    assert [row.path.read_bytes().decode() for row in rows] == ["fe\u0302te.wav", "sub/b.wav"]


def test_several_labels_of_a_clip_are_pushed(write_dataset: Callable[..., DatasetSpec], tmp_path: Path) -> None:
    rows = [("a.wav", "dog|cat"), ("b.wav", "cat"), ("c.wav", "bird")]
    spec = write_dataset(rows, multi_label=True)
    pushed = resolve_dataset(push_dataset(spec, open_store(tmp_path / "store")))
    there = list_clips(fetch_dataset(pushed, tmp_path / "there")).rows
    assert [row.labels for row in there] == [("dog", "cat"), ("cat",), ("bird",)]


def test_the_ids_that_stay_out_of_the_corpus_are_pushed_along_and_read_from_there(
    store: ObjectStore, write_dataset: Callable[..., DatasetSpec], tmp_path: Path
) -> None:
    (tmp_path / "ids.csv").write_text("fname,labels\n64760,Rain\n")
    spec = write_dataset(ROWS, COLUMNS, corpus_ids=[str(tmp_path / "ids.csv")])
    pushed = resolve_dataset(push_dataset(spec, store))
    (tmp_path / "ids.csv").unlink()
    places = corpus_id_files(pushed)
    assert places == pushed.corpus_ids and places[0].startswith(f"{store.uri}/ids/")
    excluded = ExcludedIds.read(places)
    assert "64760.wav" in excluded and len(excluded.ids) == 1
    with pytest.raises(DataError, match="does not exist; restore it, then push again"):
        push_dataset(spec, store)


def test_of_a_large_pushed_dataset_the_chosen_files_alone_are_fetched(
    write_dataset: Callable[..., DatasetSpec], tmp_path: Path
) -> None:
    pushed = resolve_dataset(push_dataset(write_dataset(ROWS, COLUMNS), open_store(tmp_path / "store")))
    fetch_dataset(pushed, tmp_path / "there", lambda rows: [row for row in rows if row.split == "test"])
    found = (tmp_path / "there" / "audio").rglob("*.wav")
    assert [path.relative_to(tmp_path / "there" / "audio").as_posix() for path in found] == ["a/2.wav"]
    assert len(list_clips(fetch_dataset(pushed, tmp_path / "there")).rows) == 3


def test_pushing_again_uploads_nothing_and_a_changed_file_changes_the_fingerprint(
    store: ObjectStore, write_dataset: Callable[..., DatasetSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, uploaded = write_dataset(ROWS, COLUMNS), list[str]()
    first = fingerprint(resolve_dataset(push_dataset(spec, store)))
    upload = type(store).upload
    monkeypatch.setattr(type(store), "upload", lambda s, key, path: (uploaded.append(key), upload(s, key, path))[1])
    assert fingerprint(resolve_dataset(push_dataset(spec, store))) == first and not uploaded
    path = list_clips(spec).rows[0].path
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x02")
    assert fingerprint(resolve_dataset(push_dataset(spec, store))) != first and len(uploaded) == 1


def test_fetching_goes_on_where_it_stopped_and_refuses_a_changed_file(
    write_dataset: Callable[..., DatasetSpec], tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store")
    pushed = resolve_dataset(push_dataset(write_dataset(ROWS, COLUMNS), store))
    fetch_dataset(pushed, tmp_path / "there")
    (tmp_path / "there" / "audio" / "a" / "1.wav").unlink()
    for key in list(store.list("files/")):
        store.write_bytes(key, b"damaged")
    with pytest.raises(StorageError, match="differs"):
        fetch_dataset(pushed, tmp_path / "there")
    assert (tmp_path / "there" / "audio" / "a" / "2.wav").is_file()


def test_a_clip_outside_the_audio_root_is_refused(write_dataset: Callable[..., DatasetSpec], tmp_path: Path) -> None:
    spec = write_dataset([*ROWS, ("../outside.wav", "dog", "train", "g4")], COLUMNS)
    with pytest.raises(DataError, match="outside the audio root"):
        push_dataset(spec, open_store(tmp_path / "store"))
    (tmp_path.parent / "outside.wav").unlink()


def test_a_pushed_dataset_names_nothing_else(tmp_path: Path) -> None:
    uri = f"s3://bucket/datasets/lists/{'0' * 64}.json"
    with pytest.raises(ConfigError, match="alone"):
        resolve_dataset(f"name: x\nlabels: /x.csv\npushed: {uri}\n")
    with pytest.raises(ConfigError, match="pushed"):
        resolve_dataset("name: x\npushed: http://example.com/list.json\n")


def test_an_address_that_holds_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.yaml"):
        resolve_dataset((tmp_path / "none.yaml").as_uri())


def test_a_list_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    data = b'{"version": 9, "files": {}, "clips": []}'
    place = tmp_path / "lists" / f"{hashlib.sha256(data).hexdigest()}.json"
    place.parent.mkdir()
    place.write_bytes(data)
    spec = DatasetSpec(name="own", pushed=place.as_uri())
    with pytest.raises(DataError, match=r"is of version 9, expected 1; push the dataset again"):
        fetch_dataset(spec, tmp_path / "here")
    place.write_bytes(data + b" ")
    with pytest.raises(DataError, match="differs from the hash in its name"):
        fetch_dataset(spec, tmp_path / "here")
