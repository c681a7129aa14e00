"""Recordings in folders and tar shards, here and on S3; killed runs; shards that are too many for the artifact."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from common.audio.file import AudioError
from common.config.corpus import PrepareCorpusConfig
from common.corpus.shards import Corpus
from common.errors import DataError
from common.storage import open_store
from common.storage.items import ItemStore
from components.prepare_corpus import recordings
from components.prepare_corpus.run import run
from components.prepare_corpus.sources import Dropped
from components.prepare_corpus.store import ShardFacts, ShardStore
from tests.kit.hashing import hash_dir
from tests.kit.s3_server import BUCKET, s3_server

RATE_HZ, CLIPS = 16000, 24
SETTINGS: dict[str, Any] = {
    "durations_s": [0.512],
    "sample_rate_hz": RATE_HZ,
    "channels": 1,
    "clips_per_shard": 8,
    "heldout_fraction": 0.3,
    "vae": "spectral",
    "codec": {"n_mels": 32, "latent_channels": 4},
    "tokenizer": "embedded",
    "max_tokens": 64,
}


def build(folder: Path, *, excluded: tuple[str, ...] = (), **settings: Any) -> Corpus:
    config = {"settings": {**SETTINGS, **settings}, "seed": 3, "excluded_ids_files": excluded}
    run(str(folder), str(folder) + ".json", config=config, code_version="test")
    return Corpus(folder)


def latents(corpus: Corpus) -> list[tuple[str, str, float]]:
    splits = ("train", "heldout")
    return [(row.key, row.caption, float(row.latent.sum())) for split in splits for row in corpus.latents(split)]  # type: ignore[arg-type]


def clip_id(index: int) -> str:
    return f"abcdefg_{index:03d}"


def flac(index: int) -> bytes:
    rng = np.random.default_rng(index)
    tone = np.sin(np.arange(RATE_HZ * 0.6) * (0.05 + 0.01 * index)) * 0.3 + rng.normal(0, 0.01, int(RATE_HZ * 0.6))
    file = io.BytesIO()
    soundfile.write(file, tone, RATE_HZ, format="FLAC")
    return file.getvalue()


def write_captions(root: Path) -> Path:
    """In the form of AudioCaps."""
    rows = [f"{index},{clip_id(index)},30,Tone number {index}" for index in range(CLIPS)]
    (root / "captions.csv").write_text("audiocap_id,youtube_id,start_time,caption\n" + "\n".join(rows) + "\n")
    return root / "captions.csv"


@pytest.fixture()
def folder(tmp_path: Path) -> dict[str, Any]:
    """Files of a folder, joined with captions by YouTube id."""
    root = tmp_path / "audio"
    for index in range(CLIPS):
        file = root / str(index % 3) / f"Y{clip_id(index)}.flac"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(flac(index))
    return {"source": "folder", "audio_dir": str(root), "captions_file": str(write_captions(tmp_path))}


@pytest.fixture()
def tars(tmp_path: Path) -> dict[str, Any]:
    """Three tar shards of the same clips, one of them compressed."""
    root = tmp_path / "tars"
    root.mkdir()
    for shard in range(3):
        path = root / (f"{shard}.tar" if shard else f"{shard}.tar.gz")
        with tarfile.open(path, "w" if shard else "w:gz") as archive:
            for index in range(shard, CLIPS, 3):
                for name, data in ((f"{clip_id(index)}.json", b"{}"), (f"{clip_id(index)}.flac", flac(index))):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return {"source": "tar", "audio_dir": str(root), "captions_file": str(write_captions(tmp_path))}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture()
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("SYNTHIO_CACHE", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/{tmp_path.name}"


def on_s3(bucket: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The same source, with its files on S3."""
    root, captions = Path(settings["audio_dir"]), Path(settings["captions_file"])
    store = open_store(bucket)
    for path in (path for path in root.rglob("*") if path.is_file()):
        store.upload(f"audio/{path.relative_to(root)}", path)
    store.upload(captions.name, captions)
    return {**settings, "audio_dir": f"{bucket}/audio", "captions_file": f"{bucket}/{captions.name}"}


def test_tar_shards_hold_the_same_clips_as_a_folder(
    tmp_path: Path, folder: dict[str, Any], tars: dict[str, Any]
) -> None:
    captions = {f"tone number {index}" for index in range(CLIPS)}
    for name, source in (("folder", folder), ("tar", tars)):
        corpus = build(tmp_path / name, **source)
        assert {row[1] for row in latents(corpus)} == captions
        assert corpus.manifest["clips"] == CLIPS and corpus.manifest["dropped"] == {}
    assert [shard.clips for shard in corpus.shards_of("latents", "train")] == [8, 8]


def test_tar_shards_may_have_any_name_and_equal_ones_in_several_folders(tmp_path: Path, tars: dict[str, Any]) -> None:
    root = Path(tars["audio_dir"])
    for number, path in enumerate(sorted(root.iterdir())):
        (root / str(number)).mkdir()
        path.rename(root / str(number) / ("part #1 %41 ä.tar.gz" if path.suffix == ".gz" else "part #1 %41 ä.tar"))
    corpora = [latents(build(tmp_path / str(run), **tars)) for run in range(2)]
    assert len(corpora[0]) == CLIPS and corpora[0] == corpora[1]


def rewrite(path: Path, *further: str) -> None:
    """Put members of these names before those of a tar."""
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member)) for member in archive]
        members = [(member, content.read()) for member, content in members if content]  # type: ignore[misc]
    with tarfile.open(path, "w") as archive:
        for name in further:
            members.insert(0, (tarfile.TarInfo(name), b""))  # type: ignore[arg-type]
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))  # type: ignore[arg-type]


def test_what_a_tar_holds_beside_audio_is_passed_over(tmp_path: Path, tars: dict[str, Any]) -> None:
    expected = latents(build(tmp_path / "once", **tars))
    # As the tar of macOS leaves them.
    rewrite(Path(tars["audio_dir"]) / "1.tar", "README.md", "._x.flac", ".DS_Store", f"{clip_id(1)}.npy")
    assert latents(build(tmp_path / "again", **tars)) == expected


def test_a_tar_of_a_format_that_cannot_be_read_is_named_with_a_remedy(tmp_path: Path, tars: dict[str, Any]) -> None:
    rewrite(Path(tars["audio_dir"]) / "1.tar", "x/a.m4a")
    with pytest.raises(DataError, match=r"1\.tar, member 'x/a\.m4a': M4A cannot be read; convert it"):
        build(tmp_path / "c", **tars)


def test_a_list_of_tar_shards_is_a_source(tmp_path: Path, tars: dict[str, Any]) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"{tars['audio_dir']}/{name}" for name in ("0.tar.gz", "1.tar")))
    corpus = build(tmp_path / "c", **{**tars, "audio_dir": str(tmp_path / "list.txt"), "max_bad_fraction": 0.5})
    assert corpus.manifest["clips"] == 16
    assert corpus.manifest["dropped"] == {"absent_audio": 8}


def test_captions_of_absent_audio_stop_the_stage_when_they_are_too_many(
    tmp_path: Path, folder: dict[str, Any], tars: dict[str, Any]
) -> None:
    (Path(tars["audio_dir"]) / "2.tar").unlink()
    with pytest.raises(DataError, match=r"8 of 24 corpus clips are unusable \(absent_audio 8\).*max_bad_fraction"):
        build(tmp_path / "t", **tars)
    for path in Path(folder["audio_dir"]).glob("2/*"):
        path.unlink()
    with pytest.raises(DataError, match=r"8 of 24 corpus clips are unusable.*there is no audio for"):
        build(tmp_path / "f", **folder)


def test_a_tar_that_is_cut_in_the_middle_is_named(tmp_path: Path, tars: dict[str, Any]) -> None:
    path = Path(tars["audio_dir"]) / "1.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"1\.tar.*(cut|missing)"):
        build(tmp_path / "c", **tars)


def test_clips_that_datasets_declare_as_theirs_are_left_out_and_counted(tmp_path: Path, tars: dict[str, Any]) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text(f"{clip_id(5)},30.000,40.000\nY{clip_id(6)}_30.000_40.000.wav,0,1\n")
    corpus = build(tmp_path / "c", excluded=(str(ids),), **tars)
    assert corpus.manifest["excluded"] == 2 and corpus.manifest["clips"] == CLIPS - 2
    assert not {"tone number 5", "tone number 6"} & {row[1] for row in latents(corpus)}
    assert corpus.manifest["dropped"] == {}


def test_without_captions_they_are_worded_from_the_ontology(tmp_path: Path, folder: dict[str, Any]) -> None:
    root = tmp_path / "audioset"
    root.mkdir()
    segments = [f'{clip_id(index)}, 30.000, 40.000, "/m/0{index % 2}"' for index in range(CLIPS)]
    (root / "segments.csv").write_text("# YTID, start_seconds, end_seconds, positive_labels\n" + "\n".join(segments))
    (root / "class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/00,"Bell"\n1,/m/01,"Rain"\n')
    nodes = [
        {"id": f"/m/0{index}", "name": name, "child_ids": [], "restrictions": []}
        for index, name in enumerate(("Bell", "Rain"))
    ]
    (root / "ontology.json").write_text(json.dumps(nodes))
    corpus = build(tmp_path / "c", **{**folder, "captions_file": str(root / "segments.csv")})
    captions = {row[1] for row in latents(corpus)}
    assert all("bell" in caption or "rain" in caption for caption in captions) and len(captions) > 4
    assert corpus.labels == ["Bell", "Rain"]


@pytest.mark.e2e
def test_on_s3_the_corpus_is_the_same_and_the_store_has_no_object_per_clip(
    tmp_path: Path, folder: dict[str, Any], tars: dict[str, Any], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source in (("folder", folder), ("tar", tars)):
        here = latents(build(tmp_path / f"here-{name}", **source))
        monkeypatch.setenv("SYNTHIO_STORE", f"{bucket}/store-{name}")
        corpus = build(tmp_path / f"there-{name}", **on_s3(f"{bucket}/{name}", source))
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "store"))
        assert latents(corpus) == here
        assert all(shard.uri.startswith(f"{bucket}/store-{name}/prepare_corpus/") for shard in corpus.shards)
        assert not list(corpus.path.rglob("*.tar"))
        # Of three shards, latents and audio, each with its facts.
        assert len(list(open_store(f"{bucket}/store-{name}").list())) == 12


def test_a_large_corpus_stays_in_the_store_and_has_the_same_clips(
    tmp_path: Path, folder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = build(tmp_path / "small", **folder)
    monkeypatch.setattr("components.prepare_corpus.manifest.LINKED_BYTES", 1000)
    large = build(tmp_path / "large", **folder)
    assert all(shard.uri.startswith("file://") for shard in large.shards)
    assert latents(large) == latents(small) and not list(large.path.rglob("*.tar"))


def test_float16_latents_take_half_the_space_and_differ_by_their_rounding(
    tmp_path: Path, folder: dict[str, Any]
) -> None:
    folder = {**folder, "keep_audio": False}
    single, half = build(tmp_path / "a", **folder), build(tmp_path / "b", latent_dtype="float16", **folder)
    for one, other in zip(single.latents("train"), half.latents("train"), strict=True):
        assert one.latent.dtype == other.latent.dtype == np.float32
        np.testing.assert_allclose(one.latent, other.latent, rtol=2**-10, atol=1e-6)
    assert (single.manifest["latent_dtype"], half.manifest["latent_dtype"]) == ("float32", "float16")
    with half.open_shard(half.shards[0]) as file, tarfile.open(fileobj=file) as archive:
        members = [member for member in archive if member.name.endswith(".latent.npy")]
        data = archive.extractfile(members[0]).read()  # type: ignore[union-attr]
        assert np.load(io.BytesIO(data)).dtype == np.float16


@pytest.mark.e2e
def test_several_clips_at_once_make_the_corpus_that_one_by_one_makes(
    tmp_path: Path, folder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    single = build(tmp_path / "a", **folder)
    monkeypatch.setattr("components.prepare_corpus.encoding.Encoder.on_gpu", True)
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "other"))
    batched = build(tmp_path / "b", encode_batch=5, **folder)
    for one, other in zip(single.latents("train"), batched.latents("train"), strict=True):
        assert (one.key, one.caption) == (other.key, other.caption)
        np.testing.assert_allclose(one.latent, other.latent, atol=1e-5)


def test_another_tokenizer_begins_from_the_audio_and_counts_what_does_not_fit_once(
    tmp_path: Path, folder: dict[str, Any]
) -> None:
    captions = Path(folder["captions_file"])
    captions.write_text(captions.read_text().replace("Tone number 7\n", "鐘" * 40 + "\n"))
    for name, tokens in (("a", 64), ("b", 65)):
        corpus = build(tmp_path / name, max_tokens=tokens, **folder)
        assert corpus.manifest["dropped"] == {"too_many_tokens": 1} and corpus.manifest["clips"] == CLIPS - 1


def build_until(shard: int, target: Path, settings: dict[str, Any]) -> int:
    """Build in a process that kills itself between latent shard number `shard` and its facts; the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        made = []
        put = ShardStore.put

        def put_or_die(store: ShardStore, name: str, path: Path, facts: dict[str, Any]) -> None:
            made.append(name)
            if [name.partition("/")[0] for name in made].count("latents") == shard:
                store._objects.upload(f"{name}.tar", path)
                os.kill(os.getpid(), signal.SIGKILL)
            put(store, name, path, facts)

        ShardStore.put = put_or_die  # type: ignore[method-assign]
        build(target, **settings)
    finally:
        os._exit(1)


@pytest.mark.e2e
def test_a_killed_run_goes_on_with_the_first_missing_shard(
    tmp_path: Path, folder: dict[str, Any], run_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    assert build_until(3, tmp_path / "killed", folder) == -signal.SIGKILL
    whole = sorted((run_store / "prepare_corpus" / "latents").rglob("*.json"))
    assert len(whole) == 2 and not (tmp_path / "killed" / "manifest.json").exists()
    times = {path: path.with_suffix(".tar").stat().st_mtime_ns for path in whole}
    build(tmp_path / "again", **folder)
    assert {path: path.with_suffix(".tar").stat().st_mtime_ns for path in whole} == times
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "other"))
    build(tmp_path / "unbroken", **folder)
    assert hash_dir(tmp_path / "again") == hash_dir(tmp_path / "unbroken")


def test_a_file_that_fails_in_an_unexpected_way_is_counted_as_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.flac").write_bytes(flac(1))
    settings = PrepareCorpusConfig(durations_s=[0.512], sample_rate_hz=RATE_HZ, channels=1)
    assert isinstance(recordings._read(settings, tmp_path / "a.flac", "a"), np.ndarray)
    for place in ("read_audio", "check_signal", "loudest_window"):
        with monkeypatch.context() as patch:
            patch.setattr(recordings, place, lambda *_: 1 // 0)
            found = recordings._read(settings, tmp_path / "a.flac", "s3://x/a.flac")
        assert isinstance(found, AudioError) and found.reason == "unreadable"
        assert "s3://x/a.flac: integer division" in str(found)


def test_audio_may_be_kept_longer_than_the_clips_that_are_encoded(tmp_path: Path, folder: dict[str, Any]) -> None:
    short, long = build(tmp_path / "short", **folder), build(tmp_path / "long", audio_s=10, **folder)
    for corpus, kept_s in ((short, 0.512), (long, 0.6)):
        clips, rows = list(corpus.audio("train")), list(corpus.latents("train"))
        assert {(clip.audio.shape[1], clip.duration_s) for clip in clips} == {(round(kept_s * RATE_HZ), kept_s)}
        assert {(row.latent.shape[1], row.duration_s) for row in rows} == {(16, 0.512)}
        assert [row.key for row in rows] == [clip.key for clip in clips]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path, folder: dict[str, Any]) -> None:
    secret = tmp_path / "secret.flac"
    secret.write_bytes(flac(99))
    place = next(Path(folder["audio_dir"]).rglob(f"Y{clip_id(4)}.flac"))
    place.unlink()
    place.symlink_to(secret)
    corpus = build(tmp_path / "c", **folder)
    assert corpus.manifest["dropped"] == {"outside": 1} and corpus.manifest["clips"] == CLIPS - 1


def test_a_changed_file_is_encoded_anew_and_the_shards_without_it_are_kept(
    tmp_path: Path, folder: dict[str, Any], run_store: Path
) -> None:
    build(tmp_path / "a", **folder)
    before = set((run_store / "prepare_corpus" / "audio").rglob("*.tar"))
    place = next(Path(folder["audio_dir"]).rglob(f"Y{clip_id(4)}.flac"))
    place.write_bytes(flac(77))
    build(tmp_path / "b", **folder)
    after = set((run_store / "prepare_corpus" / "audio").rglob("*.tar"))
    assert len(after - before) == 1 and before < after


def test_generated_clips_join_recordings_in_training_and_among_the_held_out(
    tmp_path: Path, folder: dict[str, Any], tars: dict[str, Any]
) -> None:
    for name, source in (("folder", folder), ("tar", tars)):
        corpus = build(tmp_path / name, **{**source, "clips_per_shard": 4}, procedural_clips=16)
        assert corpus.manifest["clips"] == CLIPS + 16 and corpus.manifest["dropped"] == {}
        for split in ("train", "heldout"):
            generated = {row.key.startswith("procedural-") for row in corpus.latents(split)}  # type: ignore[arg-type]
            assert generated == {True, False}


@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_a_shard_that_another_run_put_meanwhile_stays(
    tmp_path: Path, scheme: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue("bucket") if scheme == "s3" else str(tmp_path / "store")
    facts = ShardFacts(
        clips=1,
        captions=[],
        labels=[],
        seconds=1.0,
        durations_s=(1.0, 1.0),
        lengths=None,
        latent_channels=0,
        dropped=Dropped(),
    )
    shards = ShardStore(ItemStore("prepare_corpus", "v1", root), "v1")
    name = shards.name("audio", {"number": 1})
    for text in (b"first", b"second"):
        (tmp_path / "shard.tar").write_bytes(text)
        shards.put(name, tmp_path / "shard.tar", facts)
    with shards.open(name) as file:
        assert file.read() == b"first"
    assert shards.has(name)
