"""The stages `synthesize_audio` and `filter_audio` as they run: memory over many clips, and what a kill costs."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.config.clap import FilterAudioConfig, FilterAudioPlan
from common.config.recipes import LOSERS, Recipe
from common.config.t2a import SynthesizeAudioPlan
from common.records.clips import Prompt, write_records
from tests.benchmarks.figures import Figure
from tests.benchmarks.synthesis_models import tiny_clap
from tests.kit.gold import tones_gold
from tests.kit.models import build_t2a
from tests.kit.sounds import TONES

RECIPE = Recipe(captions="label_only", filter=True, rounds=0)
# The peak of the resident set is read from /proc: that of getrusage begins with the parent's.
SAMPLER = {"steps": 10, "guidance_scale": 1.5, "batch_size": 16, "bucket_frames": 4}
CLIP_S = 0.25

_SYNTHESIZE = """
import json, sys
import numpy as np, torch
import components.synthesize_audio.synthesis as production
from components.synthesize_audio.run import run
asked = json.loads(sys.argv[1])
production.devices = lambda: ("cpu",)
sample_batch = production.sample_batch
def logged(backend, requests, *rest):
    if asked["cheap"]:
        made = torch.zeros(len(requests), backend.latent_channels, requests[0].frames)
    else:
        made = sample_batch(backend, requests, *rest)
    with open(asked["log"], "a") as file:
        file.write(json.dumps([request.prompt.prompt_id for request in requests]) + "\\n")
    return made
production.sample_batch = logged
if asked["cheap"]:
    from common.diffusion.backend import T2ABackend
    noise = np.random.default_rng(0)
    T2ABackend.decode = lambda self, latents: torch.from_numpy(
        0.1 * noise.standard_normal((len(latents), 1, latents.shape[2] * self.hop_length)).astype(np.float32))
run(asked["t2a"], asked["gold"], asked["out"], asked["out"] + ".json", config=asked["config"], code_version="bench",
    prompts_path=asked["prompts"])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
_FILTER = """
import json, sys
from components.filter_audio.run import run
asked = json.loads(sys.argv[1])
run(asked["synthetic"], asked["gold"], asked["clap"], asked["out"] + "/accepted", asked["out"] + "/rejected",
    asked["out"] + ".json", config=asked["config"], code_version="bench")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def stage_figures(many: int = 10_000, kills: int = 3) -> list[Figure]:
    """Memory of 100 and of `many` clips; the cost of `kills` kills."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build_t2a(0).save(root / "t2a")
        tones_gold(root / "gold", per_label=4, replicates=(0,), duration_s=CLIP_S, val_per_label=1)
        tiny_clap().save(root / "clap" / "0")
        return [*_memory(root, many), _killed(root, kills)]


def write_prompts(folder: Path, count: int) -> str:
    """`count` prompts, spread over the gold clips, with captions that all differ."""
    prompts = []
    for number in range(count):
        label = TONES[number % len(TONES)]
        source, index = f"{label}-{number // len(TONES) % 4}", number // (4 * len(TONES))
        prompts.append(
            Prompt(
                recipe=RECIPE.name,
                replicate=0,
                source_clip_id=source,
                label=label,
                label_id=TONES.index(label),
                index=index,
                round=0,
                caption=f"{label} number {number} in the distance",
                writer="bench",
                parents=(source,),
            )
        )
    write_records(folder / "prompts.jsonl", prompts)
    return str(folder)


def _memory(root: Path, many: int) -> list[Figure]:
    peaks: dict[str, list[float]] = {"synthesis": [], "filtering": []}
    for count in (100, many):
        out = root / f"memory-{count}"
        asked = _synthesis(root, out, write_prompts(root / f"prompts-{count}", count), cheap=True)
        peaks["synthesis"].append(_run(_SYNTHESIZE, asked, out / "store"))
        plan = FilterAudioPlan(settings=FilterAudioConfig(), replicates=(0,), recipes=(LOSERS, RECIPE)).model_dump(
            mode="json"
        )
        asked = {"synthetic": asked["out"], "gold": str(root / "gold"), "clap": str(root / "clap"), "config": plan}
        peaks["filtering"].append(_run(_FILTER, {**asked, "out": str(out / "filtered")}, out / "store"))
        shutil.rmtree(out)
    cheap = {"synthesis": "noise in place of sampling and decoding, all else as it runs", "filtering": "the tiny CLAP"}
    return [
        Figure(
            f"memory of {stage}, {many} clips against 100",
            100 * (large / small - 1),
            "<=",
            10.0,
            "%",
            ours=f"{large / 1024:.0f} MB at the peak",
            peer=f"100 clips: {small / 1024:.0f} MB",
            reason=f"clips of {CLIP_S:g} s; {cheap[stage]}; resident set of the process",
        )
        for stage, (small, large) in peaks.items()
    ]


def _synthesis(root: Path, out: Path, prompts: str, cheap: bool) -> dict[str, Any]:
    config = SynthesizeAudioPlan.model_validate(
        {"settings": {"sampler": SAMPLER}, "replicates": [0], "recipes": [RECIPE], "template_clips_per_gold": 1}
    )
    out.mkdir(parents=True, exist_ok=True)
    return {
        "t2a": str(root / "t2a"),
        "gold": str(root / "gold"),
        "out": str(out / "synthetic"),
        "log": str(out / "sampled.jsonl"),
        "prompts": prompts,
        "cheap": cheap,
        "config": config.model_dump(mode="json"),
    }


def _run(code: str, asked: dict[str, Any], store: Path) -> float:
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(asked)],
        env={**os.environ, "SYNTHIO_STORE": str(store)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return float(result.stdout.split()[-1])


def _killed(root: Path, kills: int) -> Figure:
    """SIGKILL at random moments, then a run to the end; against a run without."""
    prompts, rng = write_prompts(root / "prompts-killed", 160), random.Random(0)
    whole, out = root / "whole", root / "killed"
    _run(_SYNTHESIZE, _synthesis(root, whole, prompts, cheap=False), whole / "store")
    asked = _synthesis(root, out, prompts, cheap=False)
    twice = [0]
    for _ in range(kills):
        _kill(asked, out, until=len(_sampled(out)) + 2, after_s=rng.uniform(0, 0.3))
        twice.append(len(_sampled(out)) - len(set(_sampled(out))))
    _run(_SYNTHESIZE, asked, out / "store")
    batches = _sampled(out)
    twice.append(len(batches) - len(set(batches)))
    if _digests(whole / "synthetic") != _digests(out / "synthetic"):
        raise RuntimeError("a killed and resumed synthesis made other clips than one that ran through")
    return Figure(
        "killed and resumed synthesis: batches sampled twice for one kill",
        float(max(after - before for before, after in pairwise(twice))),
        "<=",
        1.0,
        "batches",
        ours=f"{kills} kills: {len(set(batches))} batches, {twice[-1]} of them sampled twice in all",
        peer="a run without kills: the same bytes",
        reason="SIGKILL at random moments of sampling, decoding and writing; one process",
    )


def _kill(asked: dict[str, Any], out: Path, until: int, after_s: float) -> None:
    """Start the stage and kill it some time after `until` batches are sampled."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SYNTHESIZE, json.dumps(asked)],
        env={**os.environ, "SYNTHIO_STORE": str(out / "store")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(_sampled(out)) < until:
        time.sleep(0.005)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _sampled(out: Path) -> list[str]:
    path = out / "sampled.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
