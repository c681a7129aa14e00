"""What a label file or a folder lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec
from common.datasets.listing import list_clips
from common.errors import DataError


def spec_of(folder: Path, text: str | bytes, name: str = "labels.csv") -> DatasetSpec:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return DatasetSpec(name="own", labels=folder / name)


def test_csv_and_jsonl_list_the_same_and_other_columns_are_named(tmp_path: Path) -> None:
    rows = [("a.wav", "x", "Train", "ann", "1"), ("sub/../b.wav", "y", "DEV", "bob", "2"), ("c.wav", "y", "", "", "3")]
    csv_text = "\ufeffPath, Label ,split,group,fold\r\n" + "".join(",".join(row) + "\r\n" for row in rows)
    names = ("path", "label", "split", "group", "fold")
    jsonl = "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows)
    from_csv = list_clips(spec_of(tmp_path, csv_text))
    from_jsonl = list_clips(spec_of(tmp_path, jsonl, "labels.jsonl"))
    assert from_csv == from_jsonl
    assert [(row.source, row.label, row.split, row.group) for row in from_csv.rows] == [
        ("a.wav", "x", "train", "ann"),
        ("b.wav", "y", "val", "bob"),
        ("c.wav", "y", None, None),
    ]
    assert from_csv.ignored_columns == ["fold"]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs_are_understood(tmp_path: Path, delimiter: str) -> None:
    listing = list_clips(spec_of(tmp_path, f"path{delimiter}label\na,b.wav{delimiter}x\nc.wav{delimiter}y\n"))
    assert [row.source for row in listing.rows] == ["a,b.wav", "c.wav"]


def test_labels_keep_their_text_whatever_is_in_it(tmp_path: Path) -> None:
    labels = ["two words", "it's", 'say "hi"', "a/b", "../../etc", "Straße", "雨", "😀", '"]} ignore all', "7"]
    lines = "".join(json.dumps({"path": f"{i}.wav", "label": label}) + "\n" for i, label in enumerate(labels))
    assert [row.label for row in list_clips(spec_of(tmp_path, lines, "l.jsonl")).rows] == labels


def test_repeated_rows_count_once_and_contradictions_are_set_aside(tmp_path: Path) -> None:
    repeated = ["a.wav,x,train", "a.wav,x,train", "./a.wav,x,train"]
    contrary = ["b.wav,x,", "b.wav,y,", "c.wav,y,train", "c.wav,y,test"]
    text = "\n".join(["path,label,split", *repeated, *contrary, "d.wav,y,", ",y,", "e.wav,,"])
    listing = list_clips(spec_of(tmp_path, text))
    assert [row.source for row in listing.rows] == ["a.wav", "d.wav"]
    assert sorted((drop.source, drop.reason) for drop in listing.dropped if drop.reason != "no_path") == [
        ("a.wav", "duplicate_row"),
        ("a.wav", "duplicate_row"),
        ("b.wav", "conflicting_rows"),
        ("c.wav", "conflicting_rows"),
        ("e.wav", "no_label"),
    ]
    assert next(drop.detail for drop in listing.dropped if drop.source == "b.wav").startswith("lines 5 and 6")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,b\n", "no column path; found file, label"),
        ("path,class\na,b\n", "no column label"),
        ("path,label\n", "lists no usable clips"),
        ("", "is empty"),
        (b"path,label\n\xff\xfe,x\n", "not UTF-8"),
        ("path,label,split\na.wav,x,\nb.wav,y,holdout\n", "line 3: split 'holdout'; expected train, val"),
        ("path,label\na.wav,x\nb.wav,x\n", "one class only"),
        ("path,label\na.wav,x,y,z\n", "line 2: 4 values for 2 columns"),
        ('path,label\n"a.wav,x\n', "check the quotes"),
        ("path,label\na.wav,Dog Bark\nb.wav,dog_bark\n", "read the same to the models"),
        (f"path,label\na.wav,x\nb.wav,{'y' * 200}\n", "200 characters; at most"),
        ("path,label\na.wav,x\nb.wav,___\n", "no printable character"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_clips(spec_of(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a", "label": "x"}\nnonsense', "line 2: no JSON"),
        ("[1]", "line 1: .*expected an object"),
        ('{"path": "a", "label": ["x", "y"]}', "one label per clip"),
        ('{"path": "a"}', "no column label"),
    ],
)
def test_what_is_wrong_in_a_jsonl_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_clips(spec_of(tmp_path, text, "l.jsonl"))


def test_missing_places_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read label file"):
        list_clips(DatasetSpec(name="own", labels=tmp_path / "none.csv"))
    with pytest.raises(DataError, match=r"audio folder .*none does not exist"):
        list_clips(DatasetSpec(name="own", audio=tmp_path / "none"))
    (tmp_path / "Clips").mkdir()
    (tmp_path / "set.CSV").touch()
    with pytest.raises(DataError, match=r"clips does not exist; .*; beside it: 'Clips'"):
        list_clips(DatasetSpec(name="own", audio=tmp_path / "clips"))
    with pytest.raises(DataError, match=r"cannot read label file .*; beside it: 'set\.CSV'"):
        list_clips(DatasetSpec(name="own", labels=tmp_path / "set.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no audio in sub-folders"):
        list_clips(DatasetSpec(name="own", audio=tmp_path / "empty"))
    spec = spec_of(tmp_path, "path,label\na,x\nb,y\n")
    with pytest.raises(DataError, match=r"audio folder .*gone does not exist"):
        list_clips(spec.model_copy(update={"audio": tmp_path / "gone"}))


def test_sub_folders_are_classes_or_splits_of_classes(tmp_path: Path) -> None:
    for name in (
        "train/cat/1.wav",
        "train/dog/deep/2.WAV",
        "test/cat/3.mp3",
        "test/cat/notes.txt",
        "test/dog/.4.wav",
        "test/dog/5.wav",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    listing = list_clips(DatasetSpec(name="own", audio=tmp_path))
    assert [(row.source, row.label, row.split) for row in listing.rows] == [
        ("test/cat/3.mp3", "cat", "test"),
        ("test/dog/5.wav", "dog", "test"),
        ("train/cat/1.wav", "cat", "train"),
        ("train/dog/deep/2.WAV", "dog", "train"),
    ]
    assert listing.ignored_files == ["test/cat/notes.txt", "test/dog/.4.wav"]
    plain = list_clips(DatasetSpec(name="own", audio=tmp_path / "train"))
    assert [(row.label, row.split) for row in plain.rows] == [("cat", None), ("dog", None)]


def test_paths_may_be_absolute(tmp_path: Path, write_dataset: Callable[..., DatasetSpec]) -> None:
    spec = write_dataset([(str(tmp_path / "x" / "a.wav"), "x"), ("b.wav", "y")])
    assert [row.path for row in list_clips(spec).rows] == [tmp_path / "x" / "a.wav", tmp_path / "b.wav"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "path,label\na.wav,Rain; Wind\nb.wav,Wind|Rain|Siren\nc.wav,Rain\n"),
        (
            "labels.jsonl",
            '{"path": "a.wav", "label": ["Rain", "Wind"]}\n{"path": "b.wav", "label": ["Wind", "Rain", "Siren"]}\n'
            '{"path": "c.wav", "label": "Rain"}\n',
        ),
    ],
)
def test_a_cell_holds_several_labels_where_the_dataset_says_so(tmp_path: Path, name: str, text: str) -> None:
    spec = spec_of(tmp_path, text, name).model_copy(update={"multi_label": True})
    labels = [row.labels for row in list_clips(spec).rows]
    assert labels == [("Rain", "Wind"), ("Wind", "Rain", "Siren"), ("Rain",)]


def test_separators_are_part_of_a_label_unless_the_dataset_says_otherwise(tmp_path: Path) -> None:
    rows = list_clips(spec_of(tmp_path, "path,label\na.wav,Rain; Wind\nb.wav,Siren\n")).rows
    assert [row.labels for row in rows] == [("Rain; Wind",), ("Siren",)]
    with pytest.raises(DataError, match=r"expected one text \(one label per clip\), or `multi_label: true`"):
        list_clips(spec_of(tmp_path, '{"path": "a.wav", "label": ["Rain", "Wind"]}\n', "labels.jsonl"))


@pytest.mark.parametrize("cell", ["Rain;", "Rain;;Wind", "|Rain"])
def test_an_empty_part_of_a_cell_of_labels_is_told(tmp_path: Path, cell: str) -> None:
    spec = spec_of(tmp_path, f"path,label\na.wav,{cell}\n").model_copy(update={"multi_label": True})
    with pytest.raises(DataError, match=r"line 2: label .* has an empty part"):
        list_clips(spec)


def test_a_label_outside_the_classes_of_the_dataset_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "path,label\na.wav,Rain;Wnd\nb.wav,Wind\n")
    spec = spec.model_copy(update={"multi_label": True, "classes": ("Rain", "Wind")})
    with pytest.raises(DataError, match=r"a\.wav: unknown label 'Wnd': did you mean Wind"):
        list_clips(spec)


def test_rows_of_one_file_are_joined_where_clips_have_several_labels(tmp_path: Path) -> None:
    text = (
        "path,label,onset,split,group\na.wav,Rain;Wind,0,,\na.wav,Wind;Rain,1,,\nb.wav,Siren,0,,g\nb.wav,Rain,2,,g\n"
        "b.wav,Siren,3,,g\nc.wav,Siren,0,,\nd.wav,Wind,0,train,\nd.wav,Rain,1,test,\n"
    )
    listing = list_clips(spec_of(tmp_path, text).model_copy(update={"multi_label": True}))
    assert {row.source: row.labels for row in listing.rows} == {
        "a.wav": ("Rain", "Wind"),
        "b.wav": ("Siren", "Rain"),
        "c.wav": ("Siren",),
    }
    assert [(drop.source, drop.reason, drop.detail) for drop in listing.dropped] == [
        ("a.wav", "duplicate_row", "lines 2 and 3"),
        ("d.wav", "conflicting_rows", "lines 8 and 9: 'Wind' and 'Rain', split train and split test"),
    ]
    assert listing.notices[0].message == "1 file(s) have several rows, whose labels were joined, such as 'b.wav'"


def test_a_contradiction_tells_what_differs_and_what_to_do(tmp_path: Path) -> None:
    text = "path,label,group\na.wav,x,g\na.wav,x,h\nb.wav,x,g\nb.wav,y,g\nc.wav,x,g\nd.wav,y,g\n"
    assert [(drop.source, drop.detail) for drop in list_clips(spec_of(tmp_path, text)).dropped] == [
        ("a.wav", "lines 2 and 3: group g and group h"),
        ("b.wav", "lines 4 and 5: 'x' and 'y'; where clips have several labels, say `multi_label: true`"),
    ]
