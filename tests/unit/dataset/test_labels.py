"""Labels that only look different, and labels that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.datasets.labels import canonical
from common.datasets.listing import list_clips
from common.datasets.rows import Listing
from common.errors import DataError
from components.prepare_dataset.doctor import examine


def from_csv(folder: Path, *labels: str, header: str = "path,label", **fields: object) -> Listing:
    lines = [header, *(f'{number}.wav,"{label}"' for number, label in enumerate(labels))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list_clips(DatasetSpec.model_validate({"name": "own", "labels": folder / "labels.csv", **fields}))


def from_jsonl(folder: Path, *lines: str) -> Listing:
    (folder / "labels.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list_clips(DatasetSpec(name="own", labels=folder / "labels.jsonl"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(("True", "true"), ("Dog", "dog"), ("dog bark", "dog_bark"), ("dog bark", "dog  bark"), ("a/b", "a b")),
        *(("dog-bark", "dog bark"), ("dog\u00a0bark", "dog bark"), ("dog\u2009bark", "dog bark")),
        *(("dogbark", "dog\u200bbark"), ("dogbark", "dog\u00adbark"), ("dog\u2060 bark", "dog bark")),
        *(("\uff24\uff4f\uff47", "dog"), ("\ufb01re", "fire"), ("m\u00b2", "m2")),
        *(("d\u043eg", "dog"), ("\u0421at", "cat"), ("\u039f", "O"), ("\u0456d", "id")),
        *(("dog\u2019s", "dog's"), ("dog\u2010bark", "dog-bark"), ("rock \u201cn\u201d roll", 'rock ""n"" roll')),
        *(("1", "1.0"), ("1", "01"), ("7", "7.00"), ("10", "1e1"), ("+3", "3"), ("1,5", "1.5"), ("\uff11", "1")),
        *((".5", "0.5"), ("1.", "1"), ("\u0661", "1")),
    ],
)
def test_labels_that_look_the_same_are_refused_with_their_places(tmp_path: Path, first: str, second: str) -> None:
    with pytest.raises(DataError, match="read the same") as refusal:
        from_csv(tmp_path, "rain", first, second, first)
    message = str(refusal.value)
    assert "labels.csv: labels" in message and "(first in line 3)" in message and "(first in line 4)" in message
    for label in (first, second):
        assert label.isascii() or ascii(label)[1:-1] in message


@pytest.mark.parametrize(
    "labels",
    [
        *(["1", "2", "10", "-1", "1.5"], ["1-2", "12"], ["A", "A-", "A+"], ["C", "C#"], ["Masse", "Maße"]),
        *(
            ["12345678901234567890", "12345678901234567891"],
            ["1e5", "1e6"],
            ["\u0441\u043e\u043d", "\u0434\u043e\u043c"],
        ),
        *(["dog", "dogs"], ["é", "e"], ["雨", "風"], ["v1", "v1.0"], ["\U0001f600", "\U0001f601"]),
    ],
)
def test_labels_that_differ_are_kept_apart(tmp_path: Path, labels: list[str]) -> None:
    listing = from_csv(tmp_path, *labels)
    assert [row.label for row in listing.rows] == labels and not listing.notices


@pytest.mark.parametrize(
    "spelling",
    ["fe\u0302te", " f\u00eate", "f\u00eate\u00a0", "\ufefff\u00eate", "f\u00eate\u200b", "f\u00eate\u200f\t"],
)
def test_spellings_that_are_taken_as_one_label_are_told(tmp_path: Path, spelling: str) -> None:
    listing = from_csv(tmp_path, "f\u00eate", "rain", spelling)
    assert [row.label for row in listing.rows] == ["f\u00eate", "rain", "f\u00eate"]
    ((code, message, _),) = listing.notices
    assert code == "spellings_merged" and "f\\xeate" in message
    assert "in line 2" in message and "in line 4" in message


def test_class_folders_of_one_name_in_two_unicode_forms_are_told(tmp_path: Path) -> None:
    for name in ("f\u00eate", "fe\u0302te", "rain"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.wav").write_bytes(b"x")
    listing = list_clips(DatasetSpec(name="own", audio=tmp_path))
    assert sorted(row.label for row in listing.rows) == ["f\u00eate", "f\u00eate", "rain"]
    assert [notice.code for notice in listing.notices] == ["spellings_merged"]


@pytest.mark.parametrize("label", ["nan", "None", "NULL", "n/a", "NA", "-", "?", "NaN", "undefined", "nil"])
def test_labels_that_may_stand_for_no_value_are_kept_and_told_with_their_rows(tmp_path: Path, label: str) -> None:
    listing = from_csv(tmp_path, "rain", label, label)
    assert [row.label for row in listing.rows] == ["rain", label, label]
    ((code, message, _),) = listing.notices
    assert code == "perhaps_no_value" and f"label {label!r} (2 times, in line 3, line 4)" in message
    assert from_csv(tmp_path, "rain", label, classes=("rain", label)).notices == []


def test_a_class_of_which_no_clip_is_listed_is_told(tmp_path: Path) -> None:
    ((code, message, _),) = from_csv(tmp_path, "rain", "dog", classes=("dog", "rain", "wind")).notices
    assert code == "classes_without_clips" and "'wind', of which no clip is listed" in message


@pytest.mark.parametrize(("label", "several"), [("dog;rain", False), ("thunder| dog", False), ("dog, rain", True)])
def test_labels_that_read_like_several_are_told(tmp_path: Path, label: str, several: bool) -> None:
    listing = from_csv(tmp_path, "dog", "rain", label, multi_label=several)
    ((code, message, _),) = listing.notices
    assert code == "perhaps_several" and f"label {label!r} (first in line 4)" in message
    assert from_csv(tmp_path, "dog", label, classes=("dog", label)).notices == []
    assert from_csv(tmp_path, "dog", "wind, strong").notices == []
    ((_, message, _),) = from_csv(tmp_path, "dog", "rain", label, "rain, dog", "dog,rain", multi_label=several).notices
    assert f"label {label!r} (first in line 4) (and 2 more like it) is one class" in message


def test_columns_of_times_are_told_since_files_are_taken_whole(tmp_path: Path) -> None:
    listing = from_csv(tmp_path, *("dog", "rain"), header="path,label,onset,END,note")
    ((code, message, _),) = listing.notices
    assert code == "whole_files" and message.startswith("onset, end of ")


@pytest.mark.parametrize(
    "label", ["", " ", "\u00a0", "\ufeff", "\u200b", "#N/A", "<NA>", "#REF!", "\\N", "#DIV/0!", "1.#QNAN"]
)
def test_labels_that_can_only_stand_for_no_value_are_put_aside(tmp_path: Path, label: str) -> None:
    listing = from_csv(tmp_path, "rain", "wind", label)
    assert [row.label for row in listing.rows] == ["rain", "wind"]
    assert [(drop.source, drop.reason) for drop in listing.dropped] == [("2.wav", "no_label")]
    assert "line 4" in listing.dropped[0].detail


@pytest.mark.parametrize("value", ["null", "NaN", "Infinity", "-Infinity", '""', '"  "', '"#N/A"'])
def test_values_of_json_that_are_no_label_are_put_aside(tmp_path: Path, value: str) -> None:
    good = [json.dumps({"path": f"{label}.wav", "label": label}) for label in ("rain", "wind")]
    listing = from_jsonl(tmp_path, *good, f'{{"path": "x.wav", "label": {value}}}')
    assert [(drop.source, drop.reason) for drop in listing.dropped] == [("x.wav", "no_label")]
    assert len(listing.rows) == 2


@pytest.mark.parametrize("value", ["[]", "[null]", '["#N/A"]', '[" "]', "null", '""'])
def test_a_list_without_a_label_is_put_aside(tmp_path: Path, value: str) -> None:
    lines = ['{"path": "a.wav", "label": ["x"]}', '{"path": "b.wav", "label": "x;y"}']
    (tmp_path / "l.jsonl").write_text("\n".join([*lines, f'{{"path": "c.wav", "label": {value}}}']))
    listing = list_clips(DatasetSpec(name="own", labels=tmp_path / "l.jsonl", multi_label=True))
    assert [row.labels for row in listing.rows] == [("x",), ("x", "y")]
    assert [(drop.source, drop.reason) for drop in listing.dropped] == [("c.wav", "no_label")]


def test_numbers_and_truth_values_of_json_are_labels(tmp_path: Path) -> None:
    values = ["1", '"1"', "2.5", "true", "false"]
    listing = from_jsonl(tmp_path, *(f'{{"path": "{n}.wav", "label": {value}}}' for n, value in enumerate(values)))
    assert [row.label for row in listing.rows] == ["1", "1", "2.5", "True", "False"]
    with pytest.raises(DataError, match="read the same"):
        from_jsonl(tmp_path, '{"path": "a.wav", "label": 1}', '{"path": "b.wav", "label": 1.0}')


@pytest.mark.parametrize("field", ["label", "group", "split"])
def test_half_characters_are_refused_with_their_line(tmp_path: Path, field: str) -> None:
    row = {"path": "a.wav", "label": "x", field: "\ud83d"}
    with pytest.raises(DataError, match=rf"line 1: {field} '\\ud83d' is no Unicode text") as refusal:
        from_jsonl(tmp_path, json.dumps(row))
    assert str(refusal.value).isascii()


def test_a_listed_name_that_is_no_unicode_is_put_aside(tmp_path: Path) -> None:
    rows = [{"path": "a.wav", "label": "x"}, {"path": "b.wav", "label": "y"}]
    odd = [{"path": "caf\udce9.wav", "label": "y"}, {"path": "\ud83d.wav", "label": "y"}]
    listing = from_jsonl(tmp_path, *map(json.dumps, [*rows, *odd]))
    assert [row.source for row in listing.rows] == ["a.wav", "b.wav"]
    assert [(drop.source, drop.reason) for drop in listing.dropped] == [
        ("caf\\xe9.wav", "bad_name"),
        ("\\ud83d.wav", "bad_name"),
    ]


def test_groups_that_look_alike_or_stand_for_no_value_are_told(tmp_path: Path) -> None:
    groups = ["Ann", "ann ", "bob", "nan", "nan"]
    lines = [f"{n}.wav,{'x' if n % 2 else 'y'},{group}" for n, group in enumerate(groups)]
    (tmp_path / "l.csv").write_text("\n".join(["path,label,group", *lines]))
    notices = list_clips(DatasetSpec(name="own", labels=tmp_path / "l.csv")).notices
    assert {notice.code for notice in notices} == {"perhaps_no_value", "groups_alike"}
    assert any("groups 'Ann' (first in " in message and "line 3)" in message for _, message, _ in notices)
    assert any("group 'nan' (2 times" in message for _, message, _ in notices)


def test_a_class_that_occurs_in_contradictory_rows_alone_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,label\na.wav,x\nb.wav,y\nc.wav,z\nc.wav,x\n")
    with pytest.raises(DataError, match=r"every row of class 'z' contradicts another one \(c\.wav: lines 4 and 5"):
        list_clips(DatasetSpec(name="own", labels=tmp_path / "l.csv"))


def test_notices_reach_the_doctor_and_health(write_dataset: Callable[..., DatasetSpec]) -> None:
    rows = [(f"{label}{n}.wav", label) for label in ("None", "rain") for n in range(6)]
    found = examine(write_dataset(rows), PrepareDatasetConfig(storage_sample_rate_hz=8000), None)
    assert found.ok and found.health.warning_codes[0] == "perhaps_no_value"
    assert "warning    label 'None' (6 times" in found.to_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,Label\na.wav,x,y\n", "column label occurs twice"),
        ("path,label,path\na.wav,x,b.wav\n", "column path occurs twice"),
    ],
)
def test_a_column_that_occurs_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        list_clips(DatasetSpec(name="own", labels=tmp_path / "l.csv"))
    with pytest.raises(DataError, match=r"line 1: no JSON \(a name occurs twice"):
        from_jsonl(tmp_path, '{"path": "a.wav", "label": "x", "Label": "y"}')


def test_empty_cells_at_the_end_of_rows_and_spaces_before_quotes_are_the_form_of_a_file(tmp_path: Path) -> None:
    text = 'path, label,,\na.wav, "dog, wet",,\nb.wav,"rain",,,,\nc.wav, "say ""hi""", \n'
    (tmp_path / "l.csv").write_text(text)
    listing = list_clips(DatasetSpec(name="own", labels=tmp_path / "l.csv"))
    assert [row.label for row in listing.rows] == ["dog, wet", "rain", 'say "hi"']
    assert listing.ignored_columns == []
    (tmp_path / "l.csv").write_text("path;label;;\na.wav;dog;;\nb.wav;rain;;x\n")
    with pytest.raises(DataError, match="line 3: 4 values for 2 columns"):
        list_clips(DatasetSpec(name="own", labels=tmp_path / "l.csv"))


@pytest.mark.parametrize(
    "flag", ["\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "👩\u200d🚒", "می\u200cخواهم"]
)
def test_invisible_characters_inside_a_label_are_kept(flag: str) -> None:
    assert canonical(f" {flag}\u200b") == flag


def test_a_label_with_a_control_character_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"label 'ra\\nin' \(first in line 4\) holds a control character; check the quo"
    ):
        from_csv(tmp_path, "dog", "ra\nin")
