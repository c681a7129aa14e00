from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import components.synthesize_audio.synthesis as production
from common.audio.signal import read_audio, rms_dbfs
from common.config.methods import METHODS
from common.config.t2a import SynthesizeAudioPlan
from common.errors import DataError
from common.records.audio_folder import read_clips
from common.records.clips import Prompt, SyntheticClip, write_records
from common.records.provenance import read_provenance
from common.storage.hashing import hash_file
from components.synthesize_audio.generate import _load
from components.synthesize_audio.remake import remake
from components.synthesize_audio.run import run
from tests.kit.gold import tones_gold
from tests.kit.models import write_generators
from tests.kit.sounds import TONES

SYNTHIO = METHODS["synthio"].recipe
assert SYNTHIO is not None
CONFIG = SynthesizeAudioPlan.model_validate(
    {
        "settings": {"sampler": {"steps": 2, "guidance_scale": 2.0, "batch_size": 4, "bucket_frames": 4}},
        "replicates": [0, 1],
        "recipes": [SYNTHIO],
        "template_clips_per_gold": 2,
    }
).model_dump(mode="json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    write_generators(root)
    tones_gold(root / "gold")
    return root


@pytest.fixture
def synthesize(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    calls = iter(range(100))

    def call(store: str = "store", prompts: list[Prompt] | None = None, **changes: Any) -> Path:
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / store))
        out = tmp_path / f"out{next(calls)}"
        prompts_path = None
        if prompts is not None:
            write_records(out / "prompts" / "prompts.jsonl", prompts)
            prompts_path = str(out / "prompts")
        run(
            str(inputs / "t2a"),
            str(inputs / "gold"),
            str(out / "synthetic"),
            str(out / "metrics.json"),
            config=CONFIG | changes,
            code_version="1",
            aligned_path=str(inputs / "aligned"),
            prompts_path=prompts_path,
        )
        return out / "synthetic"

    return call


def aligned_prompts(count: int = 3) -> list[Prompt]:
    return [
        Prompt(
            recipe=SYNTHIO.name,
            replicate=replicate,
            source_clip_id=f"{label}-0",
            label=label,
            label_id=TONES.index(label),
            index=index,
            round=1,
            caption=f"{label} in the rain, take {index}",
            writer="test",
            prompt_hash="abc",
            parents=(f"{label}-1",),
            history=({"caption": "before", "score": 0.1, "reason": "clap"},),
        )
        for replicate in (0, 1)
        for label in TONES[:2]
        for index in range(count)
    ]


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "clips").iterdir())}


def test_without_prompts_every_training_clip_gets_its_template_clips(synthesize: Callable[..., Path]) -> None:
    folder = synthesize()
    clips = read_clips(folder, SyntheticClip)
    assert len(clips) == len({clip.clip_id for clip in clips}) == 2 * 6 * 2
    assert {clip.caption for clip in clips} == {"sound of a bus", "sound of a dog bark", "sound of a jazz"}
    for clip in clips:
        audio, info = read_audio(folder / "clips" / clip.file_name)
        assert info.sample_rate_hz == clip.sample_rate_hz
        assert audio.shape[-1] == round(clip.duration_s * clip.sample_rate_hz)
    assert {round(clip.duration_s, 3) for clip in clips} == {0.5, 0.51}


def test_a_run_that_asks_for_no_template_clips_gets_none(synthesize: Callable[..., Path]) -> None:
    assert read_clips(synthesize(template_clips_per_gold=0), SyntheticClip) == []


def test_loudness_is_that_of_the_source_clip_or_limited_by_the_peak(
    synthesize: Callable[..., Path], inputs: Path
) -> None:
    folder = synthesize()
    for clip in read_clips(folder, SyntheticClip):
        audio, _ = read_audio(folder / "clips" / clip.file_name)
        gold, _ = read_audio(inputs / "gold" / "clips" / f"{clip.source_clip_id}.flac")
        peak_dbfs = 20 * np.log10(np.abs(audio).max())
        at_source_level = abs(rms_dbfs(audio[0]) - rms_dbfs(gold[0])) < 0.05
        limited = abs(peak_dbfs + 1.0) < 0.05 and rms_dbfs(audio[0]) < rms_dbfs(gold[0])
        assert at_source_level or limited
        assert peak_dbfs <= -0.95


@pytest.mark.e2e
def test_clips_are_bit_equal_whatever_the_order_shares_processes_or_how_they_start(
    synthesize: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = aligned_prompts()
    monkeypatch.setattr(production, "devices", lambda: ("cpu",))
    expected = files(synthesize("one", prompts))
    monkeypatch.setattr(production, "devices", lambda: ("cpu", "cpu", "cpu"))
    assert files(synthesize("forked", list(reversed(prompts)))) == expected
    monkeypatch.setattr(production, "devices", lambda: ("cpu", "cpu"))
    real = production.run_all
    monkeypatch.setattr(production, "run_all", lambda work, items, workers, start: real(work, items, workers, "spawn"))
    assert files(synthesize("spawned", prompts)) == expected


def test_a_broken_off_synthesis_goes_on_from_its_latents_and_clips(
    synthesize: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prompts = aligned_prompts()
    monkeypatch.setattr(production, "devices", lambda: ("cpu",))
    expected = files(synthesize("one", prompts))
    decode, sample_batch = production.decode, production.sample_batch
    decoded, sampled = iter(range(100)), []

    def dying(*arguments: Any) -> Any:
        if next(decoded) == 2:
            raise DataError("broken off")
        return decode(*arguments)

    def counted(backend: Any, requests: Any, *rest: Any) -> Any:
        sampled.append({request.prompt.prompt_id for request in requests})
        return sample_batch(backend, requests, *rest)

    monkeypatch.setattr(production, "decode", dying)
    monkeypatch.setattr(production, "sample_batch", counted)
    with pytest.raises(DataError, match="broken off"):
        synthesize("broken", prompts)
    assert not (tmp_path / "out1" / "synthetic" / "clips").exists()
    monkeypatch.setattr(production, "decode", decode)
    assert files(synthesize("broken", prompts)) == expected
    assert len(sampled) - len(set(map(frozenset, sampled))) <= 1, "more than one batch was sampled twice"
    sampled.clear()
    assert files(synthesize("broken", prompts)) == expected and not sampled


@pytest.mark.e2e
def test_after_sigkill_at_most_one_batch_is_sampled_again_and_the_clips_are_identical(
    inputs: Path, tmp_path: Path, synthesize: Callable[..., Path]
) -> None:
    prompts = aligned_prompts()
    write_records(tmp_path / "prompts" / "prompts.jsonl", prompts)
    code = f"""
import os, signal, sys
import components.synthesize_audio.synthesis as production
from components.synthesize_audio.run import run
production.devices = lambda: ("cpu",)
sample_batch = production.sample_batch
def counted(backend, requests, *rest):
    made = sample_batch(backend, requests, *rest)
    with open({str(tmp_path / "sampled")!r}, "a") as file:
        file.write(requests[0].prompt.prompt_id + "\\n")
    if len(open({str(tmp_path / "sampled")!r}).readlines()) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return made
production.sample_batch = counted
run({str(inputs / "t2a")!r}, {str(inputs / "gold")!r}, {str(tmp_path / "out")!r}, {str(tmp_path / "m.json")!r},
    config={CONFIG!r}, code_version="1", aligned_path={str(inputs / "aligned")!r},
    prompts_path={str(tmp_path / "prompts")!r})
"""
    killed = subprocess.run([sys.executable, "-c", code, "3"], check=False)
    assert killed.returncode == -9 and not (tmp_path / "out" / "clips").exists()
    subprocess.run([sys.executable, "-c", code, "0"], check=True)
    sampled = (tmp_path / "sampled").read_text().split()
    assert len(sampled) - len(set(sampled)) <= 1
    assert files(tmp_path / "out") == files(synthesize("here", prompts))


@pytest.mark.parametrize("start", ["noise", "source"])
def test_provenance_and_the_model_folder_make_any_clip_again_byte_for_byte(
    synthesize: Callable[..., Path], inputs: Path, tmp_path: Path, start: str
) -> None:
    prompts = aligned_prompts(1)
    settings = CONFIG["settings"] | {"start": start, "noise_level": 0.8, "sample_rate_hz": 8000}
    folder = synthesize("one", prompts, settings=settings)
    for prompt in (prompts[0], prompts[-1]):
        account = read_provenance(folder, prompt.prompt_id)
        assert (account.start, account.caption, account.parents) == (start, prompt.caption, prompt.parents)
        model = tmp_path / "moved" / prompt.prompt_id
        shutil.copytree(inputs / "aligned" / str(prompt.replicate) / "dpo", model)
        source = tmp_path / f"{prompt.prompt_id}-source.flac"
        shutil.copy(inputs / "gold" / "clips" / f"{prompt.source_clip_id}.flac", source)
        again = tmp_path / f"{prompt.prompt_id}.flac"
        remake(account, model, again, source)
        assert again.read_bytes() == (folder / "clips" / f"{prompt.prompt_id}.flac").read_bytes()
        assert hash_file(again) == account.sha256
    with pytest.raises(DataError, match="name the folder of that model"):
        remake(account, inputs / "t2a", again, source)
    if start == "source":
        with pytest.raises(DataError, match="name that file, found None"):
            remake(account, model, again)


def test_matched_clips_have_one_filter_per_replicate_and_model_and_losers_have_none(
    synthesize: Callable[..., Path], inputs: Path, tmp_path: Path
) -> None:
    control = METHODS["vanilla_matched"].recipe
    assert control is not None
    recipes = CONFIG["recipes"] + [control.model_dump(mode="json")]
    prompts = aligned_prompts(1)
    name = f"{control.name}.s0.bus-0.0.r0"
    prompts.append(prompts[0].model_copy(update={"recipe": control.name, "round": 0}))

    def recordings(**changes: Any) -> tuple[Path, dict[str, Any]]:
        folder = synthesize("one", prompts, recipes=recipes, settings=CONFIG["settings"] | changes)
        return folder, {prompt.prompt_id: read_provenance(folder, prompt.prompt_id).recording for prompt in prompts}

    plain, alone = recordings()
    matched, every = recordings(match_recording="gold")
    assert [key for key, value in alone.items() if value] == [name]
    assert all(every.values()) and every[name] == alone[name]
    # Two replicates, each with its aligned model, and the unaligned model of one.
    assert len({json.dumps(value) for value in every.values()}) == 3
    assert {file for file, digest in files(plain).items() if digest == files(matched)[file]} == {f"{name}.flac"}
    again = tmp_path / "again.flac"
    remake(read_provenance(matched, name), inputs / "t2a", again)
    assert again.read_bytes() == (matched / "clips" / f"{name}.flac").read_bytes()
    assert files(synthesize("one")) == files(
        synthesize("one", settings=CONFIG["settings"] | {"match_recording": "gold"})
    )


def test_provenance_names_weights_licences_versions_and_every_setting(
    synthesize: Callable[..., Path], inputs: Path
) -> None:
    prompts = aligned_prompts(1)
    account = read_provenance(synthesize("one", prompts), prompts[0].prompt_id)
    assert account.model == {"alignment": "dpo"} and account.gold_licence == "CC0-1.0"
    assert account.settings == CONFIG["settings"] and account.code_version == "1"
    assert account.environment["precision"] == "fp32" and account.environment["versions"]["torch"]
    assert account.environment["device"].startswith("cpu")
    with pytest.raises(DataError, match="has no clip 'other'"):
        read_provenance(inputs, "other")


def test_augmentations_that_start_from_the_source_resemble_it_less_the_higher_the_level(
    synthesize: Callable[..., Path], inputs: Path
) -> None:
    prompts = aligned_prompts(2)
    sampler = CONFIG["settings"]["sampler"] | {"steps": 12, "guidance_scale": 1.0}
    likeness = []
    for level in (0.1, 0.4, 0.7, 1.0):
        settings = CONFIG["settings"] | {"start": "source", "noise_level": level, "sampler": sampler}
        folder = synthesize(f"level{level}", prompts, settings=settings)
        likeness.append(
            np.mean(
                [
                    np.corrcoef(
                        log_spectrum(folder / "clips" / clip.file_name),
                        log_spectrum(inputs / "gold" / "clips" / f"{clip.source_clip_id}.flac"),
                    )[0, 1]
                    for clip in read_clips(folder, SyntheticClip)
                ]
            )
        )
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[0] > 0.8 and likeness[0] > likeness[-1] + 0.3


def test_losers_start_from_noise_whatever_augmentations_start_from(synthesize: Callable[..., Path]) -> None:
    settings = CONFIG["settings"] | {"start": "source"}
    assert files(synthesize("source", settings=settings)) == files(synthesize("noise"))


def log_spectrum(path: Path) -> np.ndarray:
    audio, _ = read_audio(path)
    frames = np.lib.stride_tricks.sliding_window_view(audio[0], 512)[::256] * np.hanning(512)
    bands = np.square(np.abs(np.fft.rfft(frames))).reshape(len(frames), -1)[:, :256].reshape(len(frames), 32, 8)
    return np.log10(bands.mean(2) + 1e-9).ravel()


def test_distinct_captions_are_encoded_once_in_each_process(
    synthesize: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(production, "devices", lambda: ("cpu",))
    # With one core, tests before this one have encoded captions in this process.
    _load.cache_clear()
    folder = synthesize()
    figures = json.loads((folder.parent / "metrics.json").read_text())
    assert figures["new_clips"] == figures["sampled_clips"] == 24
    assert figures["texts"] == len({clip.caption for clip in read_clips(folder, SyntheticClip)}) == 3


def test_two_prompts_of_one_name_are_refused_before_anything_is_generated(
    synthesize: Callable[..., Path], tmp_path: Path
) -> None:
    prompts = aligned_prompts(1)
    with pytest.raises(DataError, match="two prompts have the id"):
        synthesize("x", [*prompts, prompts[0]])
    assert not (tmp_path / "x").exists()


def test_records_hold_the_provenance(synthesize: Callable[..., Path], inputs: Path) -> None:
    prompts = aligned_prompts(1)
    clips = {clip.clip_id: clip for clip in read_clips(synthesize("p", prompts), SyntheticClip)}
    assert clips.keys() == {prompt.prompt_id for prompt in prompts}
    from common.storage.artifacts import artifact_hash

    for prompt in prompts:
        clip = clips[prompt.prompt_id]
        shared = set(Prompt.model_fields) & set(SyntheticClip.model_fields)
        assert {"caption", "parents", "history", "writer", "prompt_hash", "round", "index"} <= shared
        assert all(getattr(clip, name) == getattr(prompt, name) for name in shared)
        assert clip.model_hash == artifact_hash(inputs / "aligned" / str(prompt.replicate) / "dpo")
        assert clip.sampler == CONFIG["settings"]["sampler"] | {"frames": 16}
        assert clip.signal and clip.sampling_seed > 0


def test_an_empty_list_of_prompts_takes_under_a_second_and_imports_no_torch(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "prompts.jsonl").touch()
    code = (
        "import sys, time; start = time.monotonic(); from components.synthesize_audio.run import run; "
        f"run({str(inputs / 't2a')!r}, {str(inputs / 'gold')!r}, {str(tmp_path / 'out')!r}, "
        f"{str(tmp_path / 'm.json')!r}, config={CONFIG!r}, code_version='1', "
        f"aligned_path=None, prompts_path={str(tmp_path / 'prompts')!r}); "
        "assert not {'torch', 'diffusers'} & set(sys.modules), 'heavy import'; print(time.monotonic() - start)"
    )
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 3.0, f"{result.stdout} {time.monotonic() - start}"
    assert read_clips(tmp_path / "out", SyntheticClip) == []


def test_prompts_of_an_absent_model_are_refused_by_name(synthesize: Callable[..., Path]) -> None:
    stranger = aligned_prompts(1)[0].model_copy(update={"replicate": 7})
    with pytest.raises(DataError, match="alignment 'dpo', replicate 7"):
        synthesize("x", [stranger])
