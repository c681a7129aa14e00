from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.audio.signal import write_flac
from common.corpus.shards import Corpus
from common.errors import ConfigError, DataError
from common.procedural.clips import render_clip
from components.prepare_corpus.run import run
from tests.kit.hashing import hash_dir

SETTINGS: dict[str, Any] = {
    "source": "procedural",
    "clips": 42,
    "durations_s": [0.512, 1.024],
    "sample_rate_hz": 16000,
    "channels": 1,
    "clips_per_shard": 14,
    "heldout_fraction": 0.3,
    "vae": "spectral",
    "tokenizer": "embedded",
    "max_tokens": 64,
}


def build(folder: Path, **changes: Any) -> Corpus:
    config = {"settings": {**SETTINGS, **changes}, "seed": 3}
    run(str(folder), str(folder) + ".json", config=config, code_version="test")
    return Corpus(folder)


def test_every_clip_is_in_one_shard_with_latents_tokens_and_audio(tmp_path: Path) -> None:
    corpus = build(tmp_path / "c")
    latents = [row for split in ("train", "heldout") for row in corpus.latents(split)]  # type: ignore[arg-type]
    audio = [row for split in ("train", "heldout") for row in corpus.audio(split)]  # type: ignore[arg-type]
    assert len({row.key for row in latents}) == 42
    assert [row.key for row in latents] == [row.key for row in audio]
    for latent, clip in zip(latents, audio, strict=True):
        assert latent.latent.shape == (48, round(clip.duration_s * 16000) // corpus.manifest["hop_length"])
        assert latent.tokens[-1] == 1
        assert clip.audio.shape == (1, round(clip.duration_s * 16000))
    scale = float(np.sqrt(np.mean([np.square(row.latent).mean() for row in latents])))
    assert 0.8 < scale < 1.2


def test_a_corpus_that_nothing_takes_clips_of_stays_empty(tmp_path: Path, run_store: Path) -> None:
    config = {"settings": SETTINGS, "seed": 3, "wanted": False}
    run(str(tmp_path / "c"), str(tmp_path / "metrics.json"), config=config, code_version="test")
    assert Corpus(tmp_path / "c").manifest["clips"] == 0
    assert not (run_store / "prepare_corpus").exists()


def test_where_nothing_trains_on_latents_the_corpus_is_audio_alone(tmp_path: Path) -> None:
    whole = build(tmp_path / "whole")
    config = {"settings": SETTINGS, "seed": 3, "latents": False}
    run(str(tmp_path / "c"), str(tmp_path / "metrics.json"), config=config, code_version="test")
    corpus = Corpus(tmp_path / "c")
    assert {shard.kind for shard in corpus.shards} == {"audio"} and not (tmp_path / "c" / "vae").exists()
    for split in ("train", "heldout"):
        found, expected = ([clip.key for clip in each.audio(split)] for each in (corpus, whole))  # type: ignore[arg-type]
        assert found == expected


@pytest.mark.e2e
def test_a_rerun_gives_equal_bytes_and_remakes_only_a_missing_shard(tmp_path: Path, run_store: Path) -> None:
    build(tmp_path / "a")
    made = sorted((run_store / "prepare_corpus").glob("*/*/*.tar"))
    assert len(made) == 6
    times = {path: path.stat().st_mtime_ns for path in made[2:]}
    made[0].unlink()
    # A new file, for the artifact holds a link to the old one.
    made[1].rename(made[1].with_suffix(".old"))
    made[1].write_bytes(made[1].with_suffix(".old").read_bytes()[:-1] + b"x")
    build(tmp_path / "b")
    assert hash_dir(tmp_path / "a") == hash_dir(tmp_path / "b")
    assert {path: path.stat().st_mtime_ns for path in made[2:]} == times


@pytest.mark.e2e
def test_the_artifact_is_the_same_whatever_the_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workers in (1, 3):
        monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda workers=workers: workers)
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / f"store{workers}"))
        build(tmp_path / str(workers))
    assert hash_dir(tmp_path / "1") == hash_dir(tmp_path / "3")


@pytest.mark.parametrize(("share", "heldout"), [(0.05, 3), (0.1, 5), (0.3, 14), (0.45, 21)])
def test_a_corpus_smaller_than_a_shard_holds_out_the_share_that_is_set(
    share: float, heldout: int, tmp_path: Path
) -> None:
    corpus = build(tmp_path / "c", clips_per_shard=500, heldout_fraction=share)
    counts = {split: len(list(corpus.audio(split))) for split in ("train", "heldout")}  # type: ignore[arg-type]
    assert counts == {"train": 42 - heldout, "heldout": heldout}


def test_a_damaged_shard_is_refused_before_use(tmp_path: Path) -> None:
    corpus = build(tmp_path / "c")
    shard = corpus.path / corpus.shards[0].uri
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="differs from its manifest"):
        list(corpus.latents("train"))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    root = tmp_path / "rec"
    root.mkdir()
    for index in range(30):
        audio = render_clip("bell", np.random.default_rng(index), 1.5, 22050).audio
        write_flac(root / f"{index}.flac", audio, 22050)
    rows = "".join(f'{index}.flac,"A Bell, rung",bell\n' for index in range(30))
    (root / "captions.csv").write_text("file,caption,label\n" + rows)
    return root


def folder_settings(root: Path) -> dict[str, Any]:
    return {
        "source": "folder",
        "audio_dir": str(root),
        "captions_file": str(root / "captions.csv"),
        "durations_s": [1.024],
        "codec": {"n_mels": 32, "latent_channels": 8},
    }


def test_own_recordings_are_resampled_cut_and_captioned(tmp_path: Path, recordings: Path) -> None:
    corpus = build(tmp_path / "c", **folder_settings(recordings))
    clips = list(corpus.audio("train"))
    assert {clip.audio.shape for clip in clips} == {(1, 16384)}
    assert {clip.caption for clip in clips} == {"a bell, rung"}
    assert corpus.labels == ["bell"]


def test_captions_sorted_by_label_are_shuffled_before_some_are_held_out(tmp_path: Path, recordings: Path) -> None:
    rows = "".join(f"{index}.flac,a sound,label {index // 10}\n" for index in range(30))
    (recordings / "captions.csv").write_text("file,caption,label\n" + rows)
    corpus = build(tmp_path / "c", **{**folder_settings(recordings), "clips_per_shard": 10})
    assert len({clip.label for clip in corpus.audio("heldout")}) > 1
    assert len({clip.label for clip in corpus.audio("train")}) == 3


def test_a_caption_that_does_not_fit_is_dropped_and_named(tmp_path: Path, recordings: Path) -> None:
    text = (recordings / "captions.csv").read_text().replace('"A Bell, rung"', "鐘" * 40, 1)
    (recordings / "captions.csv").write_text(text)
    corpus = build(tmp_path / "c", **folder_settings(recordings))
    latents = [row for split in ("train", "heldout") for row in corpus.latents(split)]  # type: ignore[arg-type]
    assert len(latents) == 29
    assert corpus.manifest["dropped"] == {"too_many_tokens": 1}
    assert "64 fit" in corpus.manifest["dropped_examples"][0]
    audio = [row for split in ("train", "heldout") for row in corpus.audio(split)]  # type: ignore[arg-type]
    assert len(audio) == 30


def test_a_bad_recording_is_dropped_and_named_and_too_many_stop_the_stage(tmp_path: Path, recordings: Path) -> None:
    (recordings / "0.flac").write_bytes(b"")
    corpus = build(tmp_path / "c", **folder_settings(recordings))
    assert corpus.manifest["clips"] == 29
    assert "0.flac" in corpus.manifest["dropped_examples"][0]
    for index in range(5):
        (recordings / f"{index}.flac").write_bytes(b"")
    with pytest.raises(DataError, match="5 of 30"):
        build(tmp_path / "d", **folder_settings(recordings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,text\na,b\n", "a CSV with the columns `file` and `caption`"),
        ("file,caption\na.flac,\n", "record 1"),
        ("file,caption\n", "holds no captions"),
        ('file,caption\n"a.flac,b\n', "cannot read captions"),
        ("file,caption\na.flac," + "x" * 600 + "\n", "1 to 500 characters"),
    ],
)
def test_a_bad_caption_file_is_refused_with_its_record(
    tmp_path: Path, recordings: Path, text: str, message: str
) -> None:
    (recordings / "captions.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        build(tmp_path / "c", **folder_settings(recordings))


def test_a_caption_file_cannot_reach_outside_its_root(tmp_path: Path, recordings: Path) -> None:
    rows = "".join("../../etc/passwd,x\n" for _ in range(3))
    (recordings / "captions.csv").write_text("file,caption\n" + rows)
    with pytest.raises(DataError, match="lies outside"):
        build(tmp_path / "c", **folder_settings(recordings))


def test_the_folder_source_without_paths_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="audio_dir"):
        build(tmp_path / "c", source="folder")
