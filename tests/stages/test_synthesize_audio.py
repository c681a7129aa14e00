from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import components.synthesize_audio.production as production
from common.audio import read_audio, rms_dbfs
from common.audio_folder import read_clips
from common.config.t2a import SynthesizeAudioPlan
from common.errors import DataError
from common.methods import METHODS
from common.records import Prompt, SyntheticClip, write_records
from components.synthesize_audio.run import run
from tests.tiny_t2a import LABELS, build_model, write_gold

SYNTHIO = METHODS["synthio"].recipe
assert SYNTHIO is not None
CONFIG = SynthesizeAudioPlan.model_validate(
    {
        "settings": {"sampler": {"steps": 2, "guidance_scale": 2.0, "batch_size": 4, "bucket_frames": 4}},
        "seeds": [0, 1],
        "recipes": [SYNTHIO],
        "template_clips_per_gold": 2,
    }
).model_dump(mode="json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    build_model(0).save(root / "t2a")
    for seed in (0, 1):
        build_model(seed + 1).save(root / "aligned" / str(seed) / "dpo")
    write_gold(root / "gold")
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
            prompt_id=f"{SYNTHIO.name}.s{seed}.{label}-0.{index}.r1",
            recipe=SYNTHIO.name,
            seed=seed,
            source_clip_id=f"{label}-0",
            label=label,
            label_id=LABELS.index(label),
            index=index,
            round=1,
            caption=f"{label} in the rain, take {index}",
            writer="test",
            prompt_hash="abc",
            parents=(f"{label}-1",),
            history=({"caption": "before", "score": 0.1, "reason": "clap"},),
        )
        for seed in (0, 1)
        for label in LABELS[:2]
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
        audio, rate = read_audio(folder / "clips" / clip.file_name)
        assert rate == clip.sample_rate_hz and audio.shape[-1] == round(clip.duration_s * rate)
    assert {round(clip.duration_s, 3) for clip in clips} == {0.5, 0.51}


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


def test_clips_are_bit_equal_whatever_the_order_workers_or_resume_point(
    synthesize: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prompts = aligned_prompts()
    expected = files(synthesize("one", prompts))
    monkeypatch.setattr(production, "run_items", lambda work, items, workers: real(work, items, workers=3))
    real = __import__("common.parallel", fromlist=["run_items"]).run_items
    assert files(synthesize("workers", list(reversed(prompts)))) == expected
    monkeypatch.undo()

    killed = iter([False, True])
    generate = production.generate

    def dying(*arguments: Any) -> Any:
        if next(killed, True):
            raise KeyboardInterrupt
        return generate(*arguments)

    monkeypatch.setattr(production, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        synthesize("killed", prompts)
    done = list((tmp_path / "killed" / "synthesize_audio").glob("??/*"))
    assert 0 < len(done) < len(prompts)
    done[0].joinpath("clip.flac").unlink()
    done[0].joinpath("made.json").unlink()
    done[0].rmdir()
    again: list[int] = []
    monkeypatch.setattr(production, "generate", lambda b, requests, s: again.append(1) or generate(b, requests, s))
    assert files(synthesize("killed", prompts)) == expected
    again.clear()
    assert files(synthesize("killed", prompts)) == expected and not again


def test_a_clip_can_be_made_again_from_its_record_alone(synthesize: Callable[..., Path]) -> None:
    prompts = aligned_prompts()
    expected = files(synthesize("one", prompts))
    name = f"{prompts[4].prompt_id}.flac"
    assert files(synthesize("alone", [prompts[4]]))[name] == expected[name]


def test_records_hold_the_provenance(synthesize: Callable[..., Path], inputs: Path) -> None:
    prompts = aligned_prompts(1)
    clips = {clip.clip_id: clip for clip in read_clips(synthesize("p", prompts), SyntheticClip)}
    assert clips.keys() == {prompt.prompt_id for prompt in prompts}
    from common.diffusion.backend import model_hash

    for prompt in prompts:
        clip = clips[prompt.prompt_id]
        shared = set(Prompt.model_fields) & set(SyntheticClip.model_fields)
        assert {"caption", "parents", "history", "writer", "prompt_hash", "round", "index"} <= shared
        assert all(getattr(clip, name) == getattr(prompt, name) for name in shared)
        assert clip.model_hash == model_hash(inputs / "aligned" / str(prompt.seed) / "dpo")
        assert clip.sampler == {"steps": 2, "guidance_scale": 2.0, "batch_size": 4, "bucket_frames": 4, "frames": 16}
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


def test_the_stage_runs_in_a_process_of_its_own(inputs: Path, tmp_path: Path, synthesize: Callable[..., Path]) -> None:
    write_records(tmp_path / "prompts" / "prompts.jsonl", aligned_prompts(1)[:1])
    code = (
        "from components.synthesize_audio.run import run; "
        f"run({str(inputs / 't2a')!r}, {str(inputs / 'gold')!r}, {str(tmp_path / 'out')!r}, "
        f"{str(tmp_path / 'm.json')!r}, config={CONFIG!r}, code_version='1', "
        f"aligned_path={str(inputs / 'aligned')!r}, prompts_path={str(tmp_path / 'prompts')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert files(tmp_path / "out") == files(synthesize("here", aligned_prompts(1)[:1]))


def test_prompts_of_an_absent_model_are_refused_by_name(synthesize: Callable[..., Path]) -> None:
    stranger = aligned_prompts(1)[0].model_copy(update={"seed": 7})
    with pytest.raises(DataError, match="alignment 'dpo', seed 7"):
        synthesize("x", [stranger])
