"""Synthesis and CLAP scoring beside the stock pipelines: same weights, same steps, same run.

On the CPU ratios are of CPU time of one thread, the two sides in turn, so that other load on the
machine does not count. Weights are random: they have no influence on time. The quality of the
few-step mode needs trained ones: name a run's folders with `--t2a`, `--clap` and `--gold`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import ClapProcessor

from common.audio.signal import read_audio, to_mono, write_flac
from common.clap.figures import kernel_distance
from common.clap.scorer import ClapScorer
from common.config.recipes import LOSERS
from common.config.t2a import SamplerConfig, SynthesizeAudioConfig
from common.diffusion.backend import T2ABackend, load_backend
from common.diffusion.sampling import TextCache, sample
from common.procedural.clips import CLASSES
from common.records.clips import GoldClip, template_prompts
from common.records.gold import GoldSet
from common.records.text import template_caption
from components.synthesize_audio.generate import compile_blocks, decode, sample_batch
from components.synthesize_audio.requests import Request
from tests.benchmarks.figures import Figure, publish
from tests.benchmarks.synthesis_models import TINY_RATE_HZ, clips, full_size_model, tiny_clap, tiny_model
from tests.benchmarks.synthesis_stage import stage_figures
from tests.kit.clips import gold_clip

NO_GPU = "no GPU on this machine; a test runs the same code at toy size"
FEW_STEP: dict[str, Any] = {"steps": 8, "spacing": "karras"}
NOT_TRAINED = "needs trained weights: --t2a, --clap and --gold of a run"


@dataclass(frozen=True)
class Comparison:
    """Seconds per clip of both sides, from prompt to FLAC file."""

    ours_s: float
    stock_s: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.stock_s / self.ours_s


def compare(
    backend: T2ABackend,
    durations_s: Sequence[float],
    settings: SynthesizeAudioConfig,
    stock: Any,
    *,
    rounds: int,
    stock_calls: int,
    clock: Callable[[], float] = time.process_time,
) -> Comparison:
    """Time both sides in turn; the best round of each counts, as other work on the machine only ever adds.

    Args:
        backend: on its device, in its precision.
        durations_s: of the clips of one batch.
        settings: sampler.
        stock: a `StableAudioPipeline` of the same weights.
        rounds: each is one batch of ours and `stock_calls` calls of the stock pipeline, one prompt a call.
        stock_calls: in a round; they take the durations in turn.
        clock: CPU time, or wall time where another device computes.
    """
    texts = TextCache(backend, settings.sampler.batch_size)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            start = clock()
            _ours(backend, durations_s, settings, texts, Path(folder))
            middle = clock()
            for call in range(stock_calls):
                which = (number * stock_calls + call) % len(durations_s)
                _stock(stock, which, durations_s[which], settings.sampler, Path(folder))
            # The first round warms up caches and kernels.
            if number:
                ours.append((middle - start) / len(durations_s))
                theirs.append((clock() - middle) / stock_calls)
    return Comparison(min(ours), min(theirs))


def _ours(
    backend: T2ABackend, durations_s: Sequence[float], settings: SynthesizeAudioConfig, texts: TextCache, folder: Path
) -> None:
    width = settings.sampler.bucket_frames
    groups: dict[int, list[Request]] = {}
    for index, duration_s in enumerate(durations_s):
        prompt = template_prompts([_gold_clip(index, duration_s)], 0, 1, LOSERS.name)[0]
        frames = backend.frames(duration_s, width)
        groups.setdefault(frames, []).append(Request(prompt, "", "", index, duration_s, frames, -20.0))
    for requests in groups.values():
        sampler = settings.sampler.model_copy(update={"batch_size": len(requests)})
        made = sample_batch(backend, requests, settings.model_copy(update={"sampler": sampler}), texts)
        for request, latent in zip(requests, made, strict=True):
            clip = decode(backend, latent, request, settings)
            write_flac(folder / f"{request.prompt.prompt_id}.flac", clip.audio, clip.sample_rate_hz)


def _gold_clip(index: int, duration_s: float) -> GoldClip:
    label_id = index % len(CLASSES)
    return gold_clip(str(index), CLASSES[label_id], label_id, duration_s=duration_s)


def _stock(pipeline: Any, which: int, duration_s: float, sampler: SamplerConfig, folder: Path) -> None:
    audio = pipeline(
        template_caption(CLASSES[which % len(CLASSES)]),
        audio_end_in_s=duration_s,
        num_inference_steps=sampler.steps,
        guidance_scale=sampler.guidance_scale,
        generator=torch.Generator().manual_seed(which),
    ).audios[0]
    samples = audio.T.float().cpu().numpy()
    soundfile.write(folder / f"stock-{which}.flac", samples, pipeline.vae.config.sampling_rate)


def cpu_figures() -> list[Figure]:
    """The tiny model against the stock pipeline, at full length and at the lengths of its corpus."""
    backend = tiny_model()
    lengths = {"the whole window, as stock denoises": (1.024,), "0.512, 0.768 and 1.024 s": (0.512, 0.768, 1.024)}
    figures = []
    for name, durations in lengths.items():
        sampler = SamplerConfig(guidance_scale=1.5, batch_size=16, bucket_frames=4)
        settings = SynthesizeAudioConfig(sampler=sampler)
        batch = [durations[i % len(durations)] for i in range(sampler.batch_size * len(durations))]
        result = compare(backend, batch, settings, backend.pipeline, rounds=5, stock_calls=len(durations))
        figures.append(
            Figure(
                f"synthesis against stock, tiny model, CPU, clips of {name}",
                result.ratio,
                ">=",
                4.0,
                "x",
                ours=f"{1 / result.ours_s:.2f} clips/s a core, batches of {sampler.batch_size}",
                peer=f"StableAudioPipeline, one prompt a call: {1 / result.stock_s:.2f} clips/s a core",
                reason=f"{sampler.steps} steps, guidance, decoding and FLAC on both sides; CPU time of one thread, best of 5 rounds",
            )
        )
    return figures


def gpu_figures(
    model: Callable[[], T2ABackend] = full_size_model,
    device: str = "cuda",
    steps: int = 100,
    compiler: str = "inductor",
) -> list[Figure]:
    """Stable Audio Open's sizes: 10 s clips, guidance, bf16, decoding and FLAC; eager and with compiled blocks."""
    names = ("synthesis against stock, SAO sizes, GPU", "synthesis, SAO sizes, GPU")
    if device == "cuda" and not torch.cuda.is_available():
        return [
            Figure(names[0], None, ">=", 5.0, "x", reason=NO_GPU),
            Figure(names[1], None, ">=", 3.0, "clips/s", reason=NO_GPU),
        ]
    backend = model()
    # A second one by the same seed: an autoencoder with weight norm cannot be copied.
    stock = model().pipeline.to(device, torch.bfloat16)
    backend.pipeline.to(device)
    backend.to_bf16()
    duration_s = round(backend.window_s, 3)
    figures = []
    for compiled in (False, True):
        if compiled:
            compile_blocks(backend.transformer, compiler)
        settings = SynthesizeAudioConfig(sampler=SamplerConfig(steps=steps, batch_size=16))
        result = compare(backend, [duration_s] * 16, settings, stock, rounds=1, stock_calls=1, clock=_synchronized)
        how = f"{'compiled blocks' if compiled else 'eager'}, batch 16, bf16, {steps} steps, {duration_s:g} s clips"
        ours, peer = f"{1 / result.ours_s:.2f} clips/s, {how}", f"one prompt a call: {1 / result.stock_s:.2f} clips/s"
        figures += [
            Figure(names[0], result.ratio, ">=", 5.0, "x", ours, peer, reason="wall time"),
            Figure(names[1], 1 / result.ours_s, ">=", 3.0, "clips/s", ours, peer, reason="wall time"),
        ]
    return figures


def _synchronized() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def scoring_figure(count: int = 96) -> Figure:
    """CLAP scores of files, decoding included, against one file a call through the stock processor."""
    scorer = tiny_clap()
    processor = ClapProcessor(scorer.extractor, scorer.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.flac" for index in range(count)]
        for path, audio in zip(paths, clips(count, 1.024), strict=True):
            write_flac(path, audio, TINY_RATE_HZ)
        texts = scorer.embed_text([template_caption(label) for label in CLASSES])
        ours, stock = [], []
        for number in range(8):
            start = time.process_time()
            embedded = scorer.embed_audio((to_mono(read_audio(path)[0]) for path in paths), TINY_RATE_HZ)
            scores = embedded @ texts.T
            middle = time.process_time()
            some = paths[number::8]
            peers = [_stock_score(scorer, processor, path) @ texts.T for path in some]
            if number:
                ours.append((middle - start) / count)
                stock.append((time.process_time() - middle) / len(some))
            difference = float(np.abs(scores[number::8] - np.stack(peers)).max())
    ours_s, stock_s = min(ours), min(stock)
    return Figure(
        "CLAP scores of files, decoding included, tiny model, CPU",
        stock_s / ours_s,
        ">=",
        5.0,
        "x",
        ours=f"{1 / ours_s:.0f} clips/s a core",
        peer=f"ClapProcessor and ClapModel, one file a call: {1 / stock_s:.0f} clips/s a core",
        reason=f"clips of 1.024 s at 16 kHz; scores differ by at most {difference:.1g}; CPU time of one thread",
    )


@torch.no_grad()
def _stock_score(scorer: ClapScorer, processor: Any, path: Path) -> np.ndarray:
    audio, rate = soundfile.read(path, dtype="float32")
    inputs = processor(audio=audio, sampling_rate=rate, return_tensors="pt")
    row: np.ndarray = scorer.model.get_audio_features(**inputs).pooler_output[0].numpy()
    return row


def quality_figures(t2a: Path | None, clap: Path | None, gold: Path | None, count: int = 288) -> list[Figure]:
    """The few-step mode against 100 steps on the same seeds: positive = worse, in percent."""
    names = ("few-step mode: loss of CLAP score", "few-step mode: rise of kernel distance to gold")
    if t2a is None or clap is None or gold is None:
        return [Figure(name, None, "<=", 2.0, "%", reason=NOT_TRAINED) for name in names]
    backend, scorer, clips_of = load_backend(t2a), ClapScorer.load(clap, device="cpu"), GoldSet(gold)
    rate = backend.sample_rate_hz
    reference = scorer.embed_audio((clips_of.load(clip, rate) for clip in clips_of.oracle()), rate)
    labels = [clips_of.labels[i % len(clips_of.labels)] for i in range(count)]
    captions = [template_caption(label) for label in labels]
    texts = scorer.embed_text(captions)

    def measure(**changes: Any) -> tuple[float, float, float]:
        # The Brownian tree gives both step counts the same path of noise: without it two draws would be compared.
        sampler = SamplerConfig(guidance_scale=1.5, batch_size=32, noise="brownian", **changes)
        start = time.process_time()
        generators = [torch.Generator().manual_seed(index) for index in range(count)]
        window = [backend.window_s] * count
        latents = sample(backend, captions, window, generators, sampler, backend.max_frames)
        taken = time.process_time() - start
        embedded = scorer.embed_audio(backend.decode(latents).mean(1).numpy(), rate)
        return float((embedded * texts).sum(1).mean()), kernel_distance(reference, embedded), taken

    full, few = measure(), measure(**FEW_STEP)
    how = f"{FEW_STEP['steps']} steps, {FEW_STEP['spacing']}: {full[2] / few[2]:.1f} x as many latents a second"
    losses = (100 * (1 - few[0] / full[0]), 100 * (few[1] / full[1] - 1))
    return [
        Figure(
            name, loss, "<=", 2.0, "%", f"{few[i]:.3f}, {how}", f"{full[i]:.3f}, 100 steps",
            reason=f"{count} clips, template captions, same seeds and Brownian paths; negative = better",
        )
        for i, (name, loss) in enumerate(zip(names, losses, strict=True))
    ]  # fmt: skip


def main() -> None:
    """Measure everything; write `build/bench/synthesis.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("t2a", "clap", "gold"):
        parser.add_argument(f"--{name}", type=Path, help="folder of a run, for the quality of the few-step mode")
    parser.add_argument("--clips", type=int, default=10_000, help="of the larger run that memory is measured on")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Should have t")
    publish(
        "synthesis",
        [
            *cpu_figures(),
            *gpu_figures(),
            scoring_figure(),
            *stage_figures(asked.clips),
            *quality_figures(asked.t2a, asked.clap, asked.gold),
        ],
    )


if __name__ == "__main__":
    main()
