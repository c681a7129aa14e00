"""Clips that start from corpus clips of their label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.audio.signal import read_audio
from common.config.methods import METHODS
from common.config.recipes import OF_LABEL
from common.config.t2a import SynthesizeAudioPlan
from common.errors import DataError
from common.records.audio_folder import read_clips
from common.records.clips import SyntheticClip, template_prompts, write_records
from common.records.gold import GoldSet
from common.records.provenance import read_provenance
from components.synthesize_audio.remake import remake
from components.synthesize_audio.run import run
from tests.kit.clips import write_audio_folder
from tests.kit.gold import tones_gold
from tests.kit.models import write_generators
from tests.kit.sounds import TONES

RECIPE = METHODS["synthio_corpus"].recipe
assert RECIPE is not None
CONFIG: dict[str, Any] = SynthesizeAudioPlan.model_validate(
    {
        "settings": {
            "sampler": {"steps": 4, "guidance_scale": 1.0, "batch_size": 4, "bucket_frames": 4},
            "noise_level": 0.1,
        },
        "replicates": [0, 1],
        "recipes": [RECIPE],
        "template_clips_per_gold": 1,
    }
).model_dump(mode="json")
RATE, KNOWN = 8000, TONES[:2]
"""Rate of the corpus clips, and the labels that the corpus holds."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    write_generators(root)
    tones_gold(root / "gold")
    return root


def corpus_clips(
    gold: GoldSet, folder: Path, labels: tuple[str, ...], replicates: tuple[int, ...] = (0, 1), duration_s: float = 0.3
) -> Path:
    """An artifact of `retrieve_audio`: two tones a label and replicate, each of its own pitch."""
    clips, waves = [], {}
    time_s = np.arange(round(duration_s * RATE)) / RATE
    for replicate in replicates:
        for clip in gold.train(replicate):
            if clip.label in labels:
                name = f"{OF_LABEL.name}.s{replicate}.{clip.clip_id}.0"
                pitch = 200 * 1.35 ** len(clips)
                waves[name] = (0.3 * np.sin(2 * np.pi * pitch * time_s)).astype(np.float32)
                clips.append(
                    SyntheticClip.of(
                        clip,
                        file_name=f"{name}.flac",
                        clip_id=name,
                        caption=f"a {clip.label} in the corpus",
                        recipe=OF_LABEL.name,
                        replicate=replicate,
                        index=0,
                        duration_s=duration_s,
                        sample_rate_hz=RATE,
                        writer="corpus",
                        model_hash="",
                        sampling_seed=0,
                        sampler={"corpus_clip": f"key-{len(clips)}"},
                        gain_db=0.0,
                    )
                )
    write_audio_folder(folder, sorted(clips, key=lambda clip: clip.clip_id), waves, RATE)
    return folder


@pytest.fixture
def synthesize(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "store"))
    gold = GoldSet(inputs / "gold")
    prompts = [
        prompt for replicate in (0, 1) for prompt in template_prompts(gold.train(replicate), replicate, 2, RECIPE.name)
    ]
    write_records(tmp_path / "prompts" / "prompts.jsonl", prompts)

    def call(retrieved: Path | None) -> Path:
        out = tmp_path / f"out-{retrieved.name if retrieved else 'none'}"
        run(
            str(inputs / "t2a"),
            str(inputs / "gold"),
            str(out),
            str(out) + ".json",
            config=CONFIG,
            code_version="1",
            aligned_path=str(inputs / "aligned"),
            prompts_path=str(tmp_path / "prompts"),
            retrieved_path=str(retrieved) if retrieved else None,
        )
        return out

    return call


def spectrum(path: Path) -> np.ndarray:
    """Level of 40 bands up to half of `RATE`, in log10, without the mean."""
    audio, info = read_audio(path)
    power = np.square(np.abs(np.fft.rfft(audio[0])))
    bands = np.linspace(0, RATE / 2, 41) * len(audio[0]) / info.sample_rate_hz
    levels = np.log10(np.add.reduceat(power, bands[:-1].astype(int)) + 1e-6)
    return np.asarray(levels - levels.mean())


@pytest.mark.parametrize(("duration_s", "windows"), [(0.3, 1), (2.5, 3)], ids=["short", "longer than the model"])
def test_clips_sound_like_the_corpus_clip_of_their_label_that_they_start_from_and_last_as_long(
    synthesize: Callable[..., Path], inputs: Path, tmp_path: Path, duration_s: float, windows: int
) -> None:
    retrieved = corpus_clips(GoldSet(inputs / "gold"), tmp_path / "retrieved", KNOWN, duration_s=duration_s)
    known = {str(clip.sampler["corpus_clip"]): clip for clip in read_clips(retrieved, SyntheticClip)}
    made = synthesize(retrieved)
    own, others = [], []
    for clip in read_clips(made, SyntheticClip):
        account = read_provenance(made, clip.clip_id)
        if clip.label not in KNOWN:
            assert (account.start, account.start_clip_id, account.noise_level) == ("noise", None, None)
            continue
        assert account.start == "corpus" and account.noise_level == 0.1 and account.start_clip_id is not None
        start = known[account.start_clip_id]
        assert (start.label, start.replicate) == (clip.label, clip.replicate)
        assert clip.duration_s == pytest.approx(duration_s, abs=1e-3) and account.windows == windows
        heard = spectrum(made / "clips" / clip.file_name)
        for each in known.values():
            likeness = np.corrcoef(heard, spectrum(retrieved / "clips" / each.file_name))[0, 1]
            (own if each == start else others).append(likeness)
    assert np.mean(own) > np.mean(others) + 0.2


def test_corpus_clips_are_taken_in_turn(synthesize: Callable[..., Path], inputs: Path, tmp_path: Path) -> None:
    made = synthesize(corpus_clips(GoldSet(inputs / "gold"), tmp_path / "retrieved", KNOWN))
    for replicate in (0, 1):
        for label in KNOWN:
            own = [
                clip for clip in read_clips(made, SyntheticClip) if (clip.replicate, clip.label) == (replicate, label)
            ]
            taken = [read_provenance(made, clip.clip_id).start_clip_id for clip in own]
            assert len(own) == 4 and sorted(map(taken.count, set(taken))) == [2, 2]


def test_a_replicate_whose_labels_the_corpus_does_not_hold_gets_no_clips(
    synthesize: Callable[..., Path], inputs: Path, tmp_path: Path
) -> None:
    made = synthesize(corpus_clips(GoldSet(inputs / "gold"), tmp_path / "one", KNOWN, replicates=(1,)))
    assert {clip.replicate for clip in read_clips(made, SyntheticClip)} == {1}
    assert read_clips(synthesize(None), SyntheticClip) == []


@pytest.mark.parametrize("duration_s", [0.3, 2.5], ids=["short", "longer than the model"])
def test_the_corpus_clip_and_the_model_make_a_clip_again_byte_for_byte(
    synthesize: Callable[..., Path], inputs: Path, tmp_path: Path, duration_s: float
) -> None:
    retrieved = corpus_clips(GoldSet(inputs / "gold"), tmp_path / "retrieved", KNOWN, duration_s=duration_s)
    made = synthesize(retrieved)
    files = {str(clip.sampler["corpus_clip"]): clip.file_name for clip in read_clips(retrieved, SyntheticClip)}
    clip = next(clip for clip in read_clips(made, SyntheticClip) if clip.label in KNOWN)
    account = read_provenance(made, clip.clip_id)
    model, again = inputs / "aligned" / str(clip.replicate) / "dpo", tmp_path / "again.flac"
    remake(account, model, again, retrieved / "clips" / files[str(account.start_clip_id)])
    assert again.read_bytes() == (made / "clips" / clip.file_name).read_bytes()
    with pytest.raises(DataError, match=f"started from corpus clip '{account.start_clip_id}'"):
        remake(account, model, again, inputs / "gold" / "clips" / f"{clip.source_clip_id}.flac")
