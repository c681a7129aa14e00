from __future__ import annotations

import io
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from common.audio.signal import loudest_window
from common.clap.scorer import ClapScorer
from common.config.recipes import OF_LABEL, RETRIEVED, Recipe
from common.contracts.base import read as read_copies
from common.contracts.evaluation import COPIES, CorpusCopies
from common.corpus.shards import Corpus, read_shard
from common.errors import DataError
from common.records.audio_folder import load_clip, read_clips
from common.records.clips import SyntheticClip
from common.records.gold import GoldSet
from common.storage import read_json, write_json
from common.storage.hashing import hash_file
from components.retrieve_audio.nearest import assign, nearest
from components.retrieve_audio.run import run
from tests.kit.corpus import write_corpus, write_shard
from tests.kit.gold import clap_gold
from tests.kit.hashing import hash_dir
from tests.kit.models import write_clap
from tests.kit.sounds import CLAP_RATE

CODE = "test"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return write_corpus(folder / "corpus", train=17), clap_gold(folder / "gold"), write_clap(folder / "clap")


def retrieve(
    inputs: tuple[Path, Path, Path], out: Path, *recipes: Recipe, clips_per_gold: int = 2, code: str = CODE
) -> dict[str, Any]:
    config = {
        "settings": {"batch_size": 4},
        "replicates": [0, 1],
        "recipes": [recipe.model_dump() for recipe in recipes],
        "clips_per_gold": clips_per_gold,
        "near_duplicate_cosine": 0.98,
        "near_duplicate_correlation": 0.9,
        "neighbours_checked": 10,
    }
    return dict(run(*map(str, inputs), str(out), str(out) + ".json", config=config, code_version=code))


def unit_rows(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.standard_normal((count, 6)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_streamed_neighbours_equal_brute_force_however_the_corpus_is_cut() -> None:
    rng = np.random.default_rng(0)
    queries, corpus = unit_rows(rng, 5), unit_rows(rng, 60)
    order = np.argsort(-(queries @ corpus.T), axis=1, kind="stable")[:, :7]
    for step in (1, 9, 60):
        parts = ((corpus[start : start + step], np.arange(60)[start : start + step]) for start in range(0, 60, step))
        cosines, places = nearest(queries, parts, 7)
        np.testing.assert_array_equal(places, order)
        np.testing.assert_allclose(cosines, np.take_along_axis(queries @ corpus.T, order, axis=1), atol=1e-6)


def test_a_corpus_clip_goes_to_its_nearest_gold_clip_only_and_none_runs_short() -> None:
    rng = np.random.default_rng(1)
    queries, corpus = unit_rows(rng, 4), unit_rows(rng, 40)
    found = assign(*nearest(np.concatenate([queries, queries[:1]]), [(corpus, np.arange(40))], 3 * 5), 3)
    assert len({match.place for match in found}) == len(found) == 3 * 5
    cosines = {query: [match.cosine for match in found if match.query == query] for query in range(5)}
    assert all(rows == sorted(rows, reverse=True) and len(rows) == 3 for rows in cosines.values())
    assert {match.rank for match in found} == {0, 1, 2}
    best = np.unravel_index(np.argmax(queries @ corpus.T), (4, 40))
    assert (found[0].query, found[0].place) == best


def test_retrieved_clips_are_corpus_clips_under_the_labels_of_their_gold_clips(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    figures = retrieve(inputs, tmp_path / "out", RETRIEVED)
    clips, gold = read_clips(tmp_path / "out", SyntheticClip), GoldSet(inputs[1])
    assert figures["clips"] == len(clips) == 2 * 6 * 2 and figures["corpus_clips"] == 17
    corpus = {clip.key: clip for clip in Corpus(inputs[0]).audio("train")}
    scorer = ClapScorer.load(inputs[2], batch_size=4)
    for clip in clips:
        source, found = gold.clips[clip.source_clip_id], corpus[clip.sampler["corpus_clip"]]
        assert source in gold.train(clip.replicate) and (clip.label, clip.label_id) == (source.label, source.label_id)
        audio = load_clip(tmp_path / "out", clip, CLAP_RATE)
        np.testing.assert_allclose(audio, found.audio[0], atol=1e-4)
        pair = scorer.embed_audio([audio, gold.load(source, CLAP_RATE)], CLAP_RATE)
        assert clip.nearest_similarity == pytest.approx(float(pair[0] @ pair[1]), abs=1e-3)
        assert clip.caption == found.caption
    for replicate in (0, 1):
        assert len({clip.sampler["corpus_clip"] for clip in clips if clip.replicate == replicate}) == 12


def test_clips_of_the_label_are_drawn_for_every_gold_clip(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    corpus, gold = Corpus(inputs[0]), GoldSet(inputs[1])
    figures = retrieve(inputs, tmp_path / "out", OF_LABEL)
    clips = read_clips(tmp_path / "out", SyntheticClip)
    known = {clip.key: clip for clip in corpus.audio("train")}
    assert figures == {"clips": len(clips), "corpus_clips": 17, "labels_without_clips": 0}
    for replicate in (0, 1):
        own = [clip for clip in clips if clip.replicate == replicate]
        assert len({clip.sampler["corpus_clip"] for clip in own}) == len(own) == 2 * len(gold.train(replicate))
        assert {(clip.source_clip_id, clip.index) for clip in own} == {
            (clip.clip_id, index) for clip in gold.train(replicate) for index in (0, 1)
        }
    assert all(clip.label == known[clip.sampler["corpus_clip"]].label for clip in clips)
    clip = clips[0]
    audio = load_clip(tmp_path / "out", clip, CLAP_RATE)
    np.testing.assert_allclose(audio, known[clip.sampler["corpus_clip"]].audio[0], atol=1e-4)
    drawn = {
        replicate: {clip.sampler["corpus_clip"] for clip in clips if clip.replicate == replicate}
        for replicate in (0, 1)
    }
    assert drawn[0] != drawn[1]


def test_of_a_corpus_clip_longer_than_every_gold_clip_the_loudest_part_is_taken(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, gold, clap = inputs
    longest_s = max(clip.duration_s for clip in GoldSet(gold).train(0))
    long = write_corpus(tmp_path / "corpus", train=17, duration_s=2 * longest_s)
    retrieve((long, gold, clap), tmp_path / "out", OF_LABEL)
    known = {clip.key: clip.audio[0] for clip in Corpus(long).audio("train")}
    clips = read_clips(tmp_path / "out", SyntheticClip)
    assert clips
    for clip in clips:
        audio, whole = load_clip(tmp_path / "out", clip, CLAP_RATE), known[clip.sampler["corpus_clip"]]
        assert clip.duration_s == longest_s and len(audio) == round(longest_s * CLAP_RATE) < len(whole)
        np.testing.assert_allclose(audio, loudest_window(whole, len(audio)), atol=1e-4)


def test_a_recording_with_several_captions_is_one_clip(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, gold, clap = inputs
    again = write_corpus(tmp_path / "corpus", train=17, captions=3)
    retrieve(inputs, tmp_path / "once", RETRIEVED, OF_LABEL, clips_per_gold=3)
    figures = retrieve((again, gold, clap), tmp_path / "out", RETRIEVED, OF_LABEL, clips_per_gold=3)
    once, clips = (read_clips(tmp_path / name, SyntheticClip) for name in ("once", "out"))
    assert figures["corpus_clips"] == 51 and clips == once
    for clip in clips:
        audio, expected = (load_clip(tmp_path / name, clip, CLAP_RATE) for name in ("out", "once"))
        np.testing.assert_array_equal(audio, expected)


def plant(corpus: Path, copies: dict[str, np.ndarray]) -> None:
    """Put audio in place of that of corpus clips, by their keys."""
    file = corpus / "audio" / "train.tar"
    clips = [(key, dict(parts)) for key, parts in read_shard(file)]
    for key, parts in clips:
        if key in copies:
            flac = io.BytesIO()
            soundfile.write(flac, copies[key], CLAP_RATE, format="FLAC")
            parts["flac"] = flac.getvalue()
    write_shard(file, clips)
    manifest = read_json(corpus / "manifest.json")
    (shard,) = (shard for shard in manifest["shards"] if shard["split"] == "train")
    shard |= {"bytes": file.stat().st_size, "sha256": hash_file(file)}
    write_json(corpus / "manifest.json", manifest)


@pytest.mark.parametrize("recipes", [(RETRIEVED,), (OF_LABEL,), (RETRIEVED, OF_LABEL)])
def test_copies_of_training_and_validation_clips_are_left_out_and_named(
    recipes: tuple[Recipe, ...], inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, gold, clap = inputs
    corpus, read = write_corpus(tmp_path / "corpus", train=17, captions=2), GoldSet(gold)
    (train, other), (held, *_) = read.train(0)[:2], read.val(0)
    planted = {"train000": train, "train004": held}
    # One is much quieter, so that 16 bits add noise.
    made = {"train000": read.load(train, CLAP_RATE), "train004": 0.02 * read.load(held, CLAP_RATE)}
    plant(corpus, {f"{key}{again}": audio for key, audio in made.items() for again in ("", "-1")})
    figures = retrieve((corpus, gold, clap), tmp_path / "out", *recipes, clips_per_gold=8)
    taken = {clip.sampler["corpus_clip"] for clip in read_clips(tmp_path / "out", SyntheticClip)}
    assert len(taken) == 15 and not taken & made.keys()
    told = read_copies(CorpusCopies, tmp_path / "out" / COPIES)
    assert (figures["copies_left_out"], told.recordings, told.validation) == (2, 2, 1)
    assert {(pair.clip, pair.source, pair.validation) for pair in told.pairs} == {
        (key, clip.source, clip is held) for key, clip in planted.items()
    }
    assert other.source not in {pair.source for pair in told.pairs}


def test_a_corpus_of_nothing_but_copies_gives_no_clips(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, gold, clap = inputs
    corpus, read = write_corpus(tmp_path / "corpus", train=3), GoldSet(gold)
    plant(corpus, {f"train{row:03d}": read.load(clip, CLAP_RATE) for row, clip in enumerate(read.val(1)[:3])})
    figures = retrieve((corpus, gold, clap), tmp_path / "out", RETRIEVED, OF_LABEL)
    assert (figures["clips"], figures["copies_left_out"], figures["mean_cosine"]) == (0, 3, 0)


def test_nothing_is_told_of_copies_where_there_are_none(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert "copies_left_out" not in retrieve(inputs, tmp_path / "out", RETRIEVED, OF_LABEL)
    assert not (tmp_path / "out" / COPIES).exists()


def test_a_label_that_the_corpus_lacks_is_counted_and_the_others_are_served(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(inputs[1], tmp_path / "gold")
    gold = tmp_path / "gold"
    labels = read_json(gold / "labels.json")
    write_json(gold / "labels.json", [f"no {label}" if label == labels[0] else label for label in labels])
    metadata = gold / "clips" / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace(f'"{labels[0]}"', f'"no {labels[0]}"'))
    figures = retrieve((inputs[0], gold, inputs[2]), tmp_path / "out", OF_LABEL, clips_per_gold=8)
    assert figures["labels_without_clips"] == 1
    clips = read_clips(tmp_path / "out", SyntheticClip)
    assert {clip.label for clip in clips} == set(labels[1:])
    assert figures["clips"] == len(clips) == 2 * len({clip.sampler["corpus_clip"] for clip in clips})


def test_retrieval_repeats_bit_for_bit(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    retrieve(inputs, tmp_path / "a", RETRIEVED, OF_LABEL)
    retrieve(inputs, tmp_path / "b", RETRIEVED, OF_LABEL, code="other version, so nothing is taken from the store")
    assert hash_dir(tmp_path / "a") == hash_dir(tmp_path / "b")


def test_a_small_corpus_gives_each_of_its_clips_once(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert retrieve(inputs, tmp_path / "out", RETRIEVED, clips_per_gold=8)["clips"] == 2 * 17


def test_a_corpus_of_more_shards_than_a_process_may_have_files_open(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_json(inputs[0] / "manifest.json")
    (row,) = (shard for shard in manifest["shards"] if shard["split"] == "train")
    rows = []
    for number, (key, parts) in enumerate(read_shard(inputs[0] / row["uri"])):
        path = tmp_path / "corpus" / f"{number:02d}.tar"
        path.parent.mkdir(exist_ok=True)
        write_shard(path, [(key, parts)])
        own = {"uri": path.name, "clips": 1, "bytes": path.stat().st_size, "sha256": hash_file(path)}
        rows.append(row | own)
    write_json(tmp_path / "corpus" / "manifest.json", manifest | {"shards": rows})
    once = retrieve(inputs, tmp_path / "once", RETRIEVED, OF_LABEL)
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + len(rows) // 2, hard))
    try:
        figures = retrieve((tmp_path / "corpus", *inputs[1:]), tmp_path / "out", RETRIEVED, OF_LABEL)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert figures == pytest.approx(once)
    found, expected = (
        {(clip.clip_id, clip.sampler["corpus_clip"]) for clip in read_clips(tmp_path / name, SyntheticClip)}
        for name in ("out", "once")
    )
    assert found == expected


def test_no_clips_where_no_method_asks(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert retrieve(inputs, tmp_path / "out") == {"clips": 0}
    assert read_clips(tmp_path / "out", SyntheticClip) == []


def test_a_corpus_without_audio_is_refused(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    write_json(tmp_path / "corpus" / "manifest.json", {**read_json(inputs[0] / "manifest.json"), "shards": []})
    with pytest.raises(DataError, match="no audio to retrieve clips from"):
        retrieve((tmp_path / "corpus", *inputs[1:]), tmp_path / "out", RETRIEVED)
