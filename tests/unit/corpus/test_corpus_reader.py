"""Reading shards where they lie: beside the manifest, in a store of files, on S3."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.corpus.shards import Corpus, open_cached
from common.errors import DataError
from common.storage import open_store, write_json
from common.storage.hashing import hash_file
from tests.kit.corpus import write_shard

Parts = tuple[str, dict[str, bytes]]


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def sample(index: int, dtype: str = "float32") -> Parts:
    facts = {"caption": f"sound {index}", "label": None, "duration_s": 1.0}
    latent = np.full((4, 8), index / 3, dtype)
    return f"{index:09d}", {
        "json": json.dumps(facts).encode(),
        "latent.npy": npy(latent),
        "tokens.npy": npy(np.array([index, 1])),
    }


def write_corpus(folder: Path, place: Callable[[Path], str], **changes: Any) -> Corpus:
    """Three latent shards of two clips; `place(file)` gives the address of each."""
    shards = []
    for number in range(3):
        file = folder / "made" / f"shard-{number}.tar"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_shard(file, iter([sample(2 * number), sample(2 * number + 1)]))
        entry = {"kind": "latents", "split": "heldout" if number == 2 else "train", "clips": 2}
        entry |= {"bytes": file.stat().st_size, "sha256": hash_file(file)}
        shards.append({"uri": place(file), **entry})
    write_json(folder / "manifest.json", {"version": 2, "shards": shards, "labels": [], **changes})
    return Corpus(folder)


def keys(corpus: Corpus) -> list[str]:
    return [clip.key for clip in corpus.latents("train")]


EXPECTED = [f"{index:009d}" for index in range(4)]


def test_shards_are_read_beside_the_manifest_and_by_address(tmp_path: Path) -> None:
    beside = write_corpus(tmp_path / "a", lambda file: f"made/{file.name}")
    elsewhere = write_corpus(tmp_path / "b", lambda file: file.as_uri())
    assert keys(beside) == keys(elsewhere) == EXPECTED
    (tmp_path / "a").rename(tmp_path / "c")
    assert keys(Corpus(tmp_path / "c")) == EXPECTED


@pytest.mark.parametrize("version", [1, 3])
def test_a_manifest_of_another_version_says_what_to_do(tmp_path: Path, version: int) -> None:
    with pytest.raises(DataError, match=rf"version {version}.*run prepare_corpus again"):
        write_corpus(tmp_path, lambda file: file.name, version=version)


def test_a_shard_is_one_list_of_latents_in_float32(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, lambda file: f"made/{file.name}")
    (heldout,) = corpus.shards_of("latents", "heldout")
    rows = list(corpus.read_latent_shard(heldout))
    assert [row.caption for row in rows] == ["sound 4", "sound 5"]
    assert rows[1].latent.dtype == np.float32 and rows[1].tokens.tolist() == [5, 1]


def test_latents_in_float16_differ_by_their_rounding_alone(tmp_path: Path) -> None:
    file = tmp_path / "half.tar"
    write_shard(file, iter([sample(1, "float16")]))
    entry = {"uri": file.name, "kind": "latents", "split": "train", "clips": 1}
    entry |= {"bytes": file.stat().st_size, "sha256": hash_file(file)}
    write_json(tmp_path / "manifest.json", {"version": 2, "shards": [entry], "labels": []})
    (row,) = Corpus(tmp_path).latents("train")
    assert row.latent.dtype == np.float32
    assert np.all(np.abs(row.latent - 1 / 3) <= 2**-11 / 3)


def test_a_manifest_with_a_wrong_hash_is_an_error_that_names_what_recovers(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, lambda file: f"made/{file.name}")
    rows = [{**row, "sha256": "0" * 64} for row in corpus.manifest["shards"]]
    write_json(tmp_path / "manifest.json", {**corpus.manifest, "shards": rows})
    with pytest.raises(DataError, match=rf"shard-0\.tar is missing or differs.*rm -rf '{tmp_path}'"):
        keys(Corpus(tmp_path))


def test_shards_that_are_gone_from_the_store_are_found_before_the_first_is_read(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, lambda file: file.as_uri())
    (tmp_path / "made" / "shard-1.tar").unlink()
    with pytest.raises(DataError, match=r"shard-1\.tar is missing"):
        next(corpus.latents("train"))


def put(bucket: str) -> Callable[[Path], str]:
    def place(file: Path) -> str:
        open_store(bucket).upload(file.name, file)
        return f"{bucket}/{file.name}"

    return place


def test_shards_on_s3_are_read_through_a_cache(tmp_path: Path, bucket: str) -> None:
    corpus = write_corpus(tmp_path, put(bucket))
    assert keys(corpus) == EXPECTED
    for number in range(3):
        open_store(bucket).delete(f"shard-{number}.tar")
    assert keys(Corpus(tmp_path)) == EXPECTED


def test_a_damaged_copy_in_the_cache_is_fetched_again(tmp_path: Path, bucket: str) -> None:
    corpus = write_corpus(tmp_path, put(bucket))
    assert keys(corpus) == EXPECTED
    (copy,) = (tmp_path / "cache").rglob(f"{corpus.shards[0].sha256}.tar")
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    assert keys(Corpus(tmp_path)) == EXPECTED
    assert hash_file(copy) == corpus.shards[0].sha256


@pytest.mark.parametrize("damage", ["gone", "another"])
def test_a_bad_shard_on_s3_is_an_error_that_names_it_and_what_recovers(
    tmp_path: Path, bucket: str, damage: str
) -> None:
    corpus = write_corpus(tmp_path, put(bucket))
    store = open_store(bucket)
    if damage == "gone":
        store.delete("shard-0.tar")
    else:
        store.write_bytes("shard-0.tar", bytes(corpus.shards[0].bytes))
    with pytest.raises(DataError, match=rf"{bucket}/shard-0\.tar is missing or differs.*rm -rf '{tmp_path}'"):
        keys(corpus)


def test_the_cache_keeps_within_its_bound_and_what_was_used_last(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path, put(bucket))
    size = corpus.shards[0].bytes
    monkeypatch.setenv("SYNTHIO_CACHE", str(tmp_path / "c"))
    monkeypatch.setattr("common.corpus.shards.MAX_CACHE_BYTES", 2 * size)
    copies = tmp_path / "c" / "corpus_shards"
    for time, shard in enumerate([*corpus.shards[:2], corpus.shards[0]]):
        with open_cached(shard.uri, shard.sha256, shard.bytes):
            os.utime(copies / f"{shard.sha256}.tar", (time, time))
    with open_cached(corpus.shards[2].uri, corpus.shards[2].sha256, size):
        held = {path.stem for path in copies.glob("*.tar")}
    assert held == {corpus.shards[0].sha256, corpus.shards[2].sha256}


def test_a_shard_that_is_being_read_outlives_its_copy(tmp_path: Path, bucket: str) -> None:
    corpus = write_corpus(tmp_path, put(bucket))
    latents = corpus.latents("train")
    first = next(latents)
    for copy in (tmp_path / "cache").rglob("*.tar"):
        copy.unlink()
    assert [first.key, *(row.key for row in latents)] == EXPECTED
