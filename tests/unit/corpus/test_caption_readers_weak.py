"""Captions written from AudioSet's classes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from common.errors import DataError
from components.prepare_corpus.captions import clean_caption, read_captions
from components.prepare_corpus.formats.ontology import MAX_EVENTS, Ontology, write_weak_caption

NODES = [
    ("/m/sounds", "Animal sounds", ["/m/animal"], ["abstract"]),
    ("/m/animal", "Animal", ["/m/pet", "/m/wild"], []),
    ("/m/pet", "Domestic animals, pets", ["/m/dog"], []),
    ("/m/wild", "Wild animals", ["/m/dog"], []),
    ("/m/dog", "Dog", ["/m/bark"], []),
    ("/m/bark", "Bark", [], []),
    ("/m/dub", "Dub", [], ["blacklist"]),
    ("/m/rain", "Rain", [], []),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys = ("id", "name", "child_ids", "restrictions")
    (tmp_path / "ontology.json").write_text(json.dumps([dict(zip(keys, node, strict=True)) for node in NODES]))
    rows = [f'{n},{mid},"{name}"' for n, (mid, name, _, _) in enumerate(NODES)]
    (tmp_path / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *rows]))
    return tmp_path


@pytest.mark.parametrize(
    ("mids", "names"),
    [
        (["/m/animal", "/m/dog", "/m/bark"], ["Bark"]),
        (["/m/bark", "/m/rain", "/m/pet"], ["Bark", "Rain"]),
        (["/m/rain", "/m/pet"], ["Domestic animals, pets", "Rain"]),
        (["/m/wild", "/m/pet", "/m/wild"], ["Wild animals", "Domestic animals, pets"]),
        (["/m/sounds", "/m/dub", "/m/unknown"], []),
        (["/m/dub", "/m/rain"], ["Rain"]),
    ],
)
def test_the_most_specific_classes_are_kept_and_those_that_name_no_sound_are_not(
    folder: Path, mids: list[str], names: list[str]
) -> None:
    assert Ontology.load(folder).names(mids) == names


def test_a_loop_in_the_ontology_does_no_harm(folder: Path) -> None:
    nodes = json.loads((folder / "ontology.json").read_text())
    nodes[5]["child_ids"] = ["/m/animal", "/m/bark"]
    (folder / "ontology.json").write_text(json.dumps(nodes))
    assert Ontology.load(folder).names(["/m/rain", "/m/bark"]) == ["Rain"]


@pytest.mark.parametrize("file", ["ontology.json", "class_labels_indices.csv"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"[" * 99_999, b"index,mid\n1,/m/a\n", b"\xff" * 9])
def test_a_missing_or_strange_ontology_is_a_data_error_that_names_it(folder: Path, file: str, content: bytes) -> None:
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    (folder / "segments.csv").write_text('00000000001, 0, 10, "/m/rain"\n')
    with pytest.raises(DataError, match=file):
        list(read_captions(folder / "segments.csv", "ontology", lambda where, reason: None))


def test_the_wording_depends_on_the_clip_and_the_seed_alone(folder: Path) -> None:
    ids = [f"{number:011d}" for number in range(50)]
    rows = [f'{one}, 30.000, 40.000, "/m/rain,/m/bark"' for one in ids]
    (folder / "a.csv").write_text("\n".join(["# YTID, start_seconds, end_seconds, positive_labels", *rows]))
    (folder / "b.csv").write_text("\n".join(["YTID,start_seconds,end_seconds,positive_labels", *rows[::-1]]))

    def captions(name: str, seed: int) -> dict[str, str]:
        return {row.clip_id: row.caption for row in read_captions(folder / name, "ontology", pytest.fail, seed)}

    first = captions("a.csv", 0)
    assert first == captions("b.csv", 0) and len(set(first.values())) > 10
    assert next(iter(first)) == "00000000000_30000"
    assert all("rain" in caption and "bark" in caption for caption in first.values())
    assert sum(first[one] != other for one, other in captions("a.csv", 1).items()) > 30


def test_no_wording_is_common_and_every_class_can_be_named() -> None:
    captions = [write_weak_caption(["Rain", "Dog"], f"clip {number}", 0) for number in range(2000)]
    assert Counter(captions).most_common(1)[0][1] < 200
    one = {write_weak_caption(["Chicken, rooster"], f"clip {number}", 0) for number in range(200)}
    assert {"chicken", "rooster"} <= {word for caption in one for word in caption.split()}
    assert not any("," in caption for caption in one)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["Chopping (food)"], {"food chopping"}),
        (["Police car (siren)"], {"police car siren"}),
        (["Light engine (high frequency)"], {"high frequency light engine"}),
        (["Roaring cats (lions, tigers)"], {"roaring big cats", "a roaring lion", "a roaring tiger"}),
        (["Bee, wasp, etc."], {"a bee", "a wasp"}),
        (["Male_speech,_man_speaking"], {"male speech", "man speaking"}),
    ],
)
def test_brackets_and_synonyms_become_words(labels: list[str], words: set[str]) -> None:
    captions = [write_weak_caption(labels, f"clip {number}", 0) for number in range(60)]
    assert all(any(word in caption for word in words) for caption in captions)
    assert all(any(word in caption for caption in captions) for word in words)
    assert not any(set("()_") & set(caption) or "etc" in caption for caption in captions)


def test_places_end_the_sentence_and_alone_make_one() -> None:
    for number in range(100):
        caption = write_weak_caption(["Inside, small room", "Dog"], f"clip {number}", 0)
        assert "dog" in caption and caption.endswith("small room")
        alone = write_weak_caption(["Echo"], f"clip {number}", 0)
        assert alone in ("a recording with an echo", "a recording echoing")


def test_a_clip_with_many_classes_gets_a_caption_that_is_valid() -> None:
    labels = [f"Sound number {letter}" for letter in "abcdefghij"] + ["Echo"]
    for number in range(100):
        caption = write_weak_caption(labels, f"clip {number}", 0)
        assert clean_caption(caption) == caption and caption.count("sound number") == MAX_EVENTS


def test_a_caption_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one label"):
        write_weak_caption([], "clip", 0)
