"""Everything that trains or generates, on a GPU, in minutes (`make check-gpu`).

Random weights of the published sizes: weights have no influence on time and memory, and nothing is downloaded. Each
part runs the code of its stage, and beside it a plain peer in the same run. Writes `build/bench/gpu.json` and the
table in docs/BENCHMARKS.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import ClapProcessor

from common.clap.scorer import ClapScorer
from common.clap.training import build_clap, train_contrastive
from common.classifier.model import build_classifier
from common.config.base import OptimConfig
from common.config.clap import ClapArchitecture
from common.config.classifier import ASTArchitecture
from common.config.t2a import AlignT2AConfig, PretrainT2AConfig, SamplerConfig, SynthesizeAudioConfig
from common.diffusion.backend import T2ABackend
from common.runtime.devices import device
from common.training import Curve, Part, fit, is_main, launch
from components.align_t2a.memory import predict_error
from components.pretrain_t2a.batches import Clips
from components.pretrain_t2a.pretraining import loss_function
from components.train_classifier.budget import make_budget
from components.train_classifier.training import Examples, train
from tests.benchmarks.alignment_memory import make_peer, random_bucket, run_steps
from tests.benchmarks.figures import FOLDER, Figure, publish, table
from tests.benchmarks.rates import compared, measured, operations, seconds, wait
from tests.benchmarks.synthesis import compare
from tests.benchmarks.synthesis_models import full_size_model, vocabulary
from tests.kit.models import build_t2a

DOCS = Path("docs/BENCHMARKS.md")
BEGIN, END = "<!-- table of make check-gpu -->", "<!-- end of the table -->"
NO_GPU = "error: make check-gpu needs a CUDA GPU, and torch {version} sees none; on a machine with one, `make setup` installs a CUDA build"
LAST_START_S = 400.0
"""No part begins later, so that the whole ends within eight minutes."""
LABELS = [f"class {index}" for index in range(10)]


@dataclass(frozen=True)
class Sizes:
    """Shapes and amounts of the measurement.

    Attributes:
        name: what the rows say of the sizes.
        t2a: builds the text-to-audio model on the CPU; the same weights at each call.
        clap: shapes of CLAP.
        ast: shapes of the classifier.
        batch: clips of a pretraining step.
        pairs: pairs of an alignment step.
        prompts: clips of a batch of synthesis.
        sampler_steps: of both sides of synthesis.
        windows: windows of a CLAP step, and clips to score.
        examples: clips of a classifier step.
        steps: measured steps of each training.
    """

    name: Literal["real", "toy"]
    t2a: Callable[[], T2ABackend]
    clap: ClapArchitecture
    ast: ASTArchitecture
    batch: int
    pairs: int
    prompts: int
    sampler_steps: int
    windows: int
    examples: int
    steps: int


REAL = Sizes("real", full_size_model, ClapArchitecture(), ASTArchitecture(), 32, 8, 16, 50, 32, 24, 12)
TOY = Sizes(
    "toy",
    build_t2a,
    ClapArchitecture(
        sample_rate_hz=16000, window_s=2, hop_length=128, frequency_max_hz=8000, spec_size=128, patch_size=16,
        patch_width=32, depths=(1, 1), audio_heads=(2, 4), attention_window=4, text_width=64, text_layers=1, text_heads=4,
        text_ff_width=128, max_tokens=128, projection_dim=64,
    ),
    ASTArchitecture(
        hidden_size=16, layers=1, heads=2, intermediate_size=32, patch_size=8, frequency_stride=8, time_stride=8,
        max_length=24, num_mel_bins=16,
    ),
    2, 2, 2, 2, 2, 2, 2,
)  # fmt: skip
SIZES = {sizes.name: sizes for sizes in (REAL, TOY)}


def pass_operations(backend: T2ABackend) -> float:
    """FLOPs of the transformer's forward pass on the longest clip."""
    bucket = random_bucket(backend, 1, backend.max_frames, 130)
    return operations(lambda: predict_error(backend, bucket.losers.to(backend.device), bucket.condition))


class Ready:
    """A stream of pretraining batches; latents are at hand, or encoded from audio at each step (the peer)."""

    def __init__(self, backend: T2ABackend, size: int, on_the_fly: bool) -> None:
        self._backend, self._size, self._on_the_fly = backend, size, on_the_fly
        ids = torch.ones(size, 64, dtype=torch.long)
        latents = torch.randn(size, backend.latent_channels, backend.max_frames)
        self._clips = Clips(latents, ids, torch.ones_like(ids), torch.full((size,), backend.window_s))

    def batch(self, step: int, part: Part) -> tuple[Clips, int]:
        """The same clips at each step."""
        own = self._clips.rows(torch.arange(self._size)[part.rows(self._size)])
        if self._on_the_fly:
            samples = self._backend.max_frames * self._backend.hop_length
            audio = torch.zeros(len(own), self._backend.channels, samples)
            own = replace(own, latents=self._backend.encode(audio).cpu())
        return own, self._size


def pretrain(backend: T2ABackend, sizes: Sizes, on_the_fly: bool) -> Curve:
    """Pretraining as the stage does it, on the device of the backend."""
    backend.text_encoder.requires_grad_(False)
    model = nn.ModuleDict({"transformer": backend.transformer, "projection": backend.projection})
    settings = PretrainT2AConfig()

    def run(steps: int) -> Curve:
        optim = optimiser(steps, sizes.batch)
        loss = loss_function(backend, Ready(backend, sizes.batch, on_the_fly), settings)  # type: ignore[arg-type]
        return fit(model, loss, optim, seed=0, name="check_gpu")

    run(2)
    return run(3 if on_the_fly else sizes.steps)


def optimiser(steps: int, batch_size: int, precision: Literal["fp32", "bf16"] = "bf16") -> OptimConfig:
    """Settings of a short training."""
    return OptimConfig(
        steps=steps, batch_size=batch_size, learning_rate=1e-6, schedule="constant", precision=precision,
        record_every=steps, checkpoint_every_s=1e6,
    )  # fmt: skip


def pretraining(sizes: Sizes) -> Iterator[Figure]:
    """From latents, beside the same trainer that encodes audio at each step."""
    backend = on_device(sizes.t2a())
    work = 3 * pass_operations(backend)
    ours, peer = (
        measured(lambda fly=fly: pretrain(backend, sizes, fly).speed["clips_per_s"], work) for fly in (False, True)
    )
    yield compared(
        "pretraining of the transformer", "clips", ours, peer, "audio encoded in each step", 2.5,
        f"bf16, {sizes.batch} clips of {backend.window_s:.3g} s a step",
    )  # fmt: skip


def alignment(sizes: Sizes) -> Iterator[Figure]:
    """DPO with LoRA, beside full fine-tuning against a deep-copied reference."""
    settings = AlignT2AConfig()
    rates = {}
    for peer in ("lora", "full"):
        backend = on_device(sizes.t2a())
        work = pass_operations(backend)
        policy = make_peer(peer, backend, settings.lora_rank)  # type: ignore[arg-type]

        def run(policy: Any = policy) -> float:
            seconds = run_steps(policy, settings, sizes.pairs, sizes.steps + 2, autocast=True)
            return sizes.steps * sizes.pairs / seconds

        # Two clips a pair, each with a pass of the reference; without gradients of weights the backward pass is one more.
        rates[peer] = measured(run, 2 * work * (3 if peer == "lora" else 4))
        del policy, backend
    yield compared(
        "alignment (DPO)", "pairs", rates["lora"], rates["full"], "full fine-tuning, copied reference", 1.0,
        f"LoRA, bf16, {sizes.pairs} pairs a step",
    )  # fmt: skip
    if rates["full"].gib:
        yield Figure(
            "alignment (DPO): peak memory against full fine-tuning", rates["lora"].gib / rates["full"].gib, "<=", 0.6, "x",
            f"{rates['lora'].gib:.1f} GiB", f"{rates['full'].gib:.1f} GiB",
        )  # fmt: skip


def synthesis(sizes: Sizes) -> Iterator[Figure]:
    """From prompt to FLAC, beside diffusers' pipeline with one prompt a call."""
    backend = on_device(sizes.t2a())
    stock = sizes.t2a().pipeline.to(device(), torch.bfloat16 if device() == "cuda" else torch.float32)
    work = 2 * sizes.sampler_steps * pass_operations(backend)
    backend.to_bf16()
    settings = SynthesizeAudioConfig(sampler=SamplerConfig(steps=sizes.sampler_steps, batch_size=sizes.prompts))
    durations = [round(backend.window_s, 3)] * sizes.prompts

    def clock() -> float:
        wait()
        return time.perf_counter()

    found = []
    ours = measured(
        lambda: (
            found.append(compare(backend, durations, settings, stock, rounds=1, stock_calls=1, clock=clock))
            or 1 / found[0].ours_s
        ),
        work,
    )
    yield compared(
        "synthesis, prompt to FLAC", "clips", ours, replace(ours, clips_per_s=1 / found[0].stock_s),
        "StableAudioPipeline, one prompt a call", 5.0, f"bf16, guidance, {sizes.sampler_steps} steps on both sides; memory of both together",
    )  # fmt: skip


def clap(sizes: Sizes) -> Iterator[Figure]:
    """Scores in batches, beside the stock processor and model with one clip a call; and fine-tuning."""
    scorer = build_clap(sizes.clap, vocabulary(), seed=0)
    scorer.model.to(device())
    rate, count = scorer.sample_rate_hz, sizes.windows
    heard = [
        np.random.default_rng(i).normal(0, 0.1, sizes.clap.window_s * rate).astype(np.float32) for i in range(count)
    ]
    one = scorer.features(torch.from_numpy(scorer.features.windows(heard[0]))).to(device())
    longer = torch.zeros(1, 1, dtype=torch.bool, device=device())
    work = operations(lambda: scorer.model.get_audio_features(input_features=one, is_longer=longer))
    processor = ClapProcessor(scorer.extractor, scorer.tokenizer)

    def ours() -> float:
        scorer.embed_audio(heard[:1], rate)
        return count / seconds(lambda: scorer.embed_audio(heard, rate))

    def stock() -> float:
        some = heard[: max(1, count // 8)]

        def each() -> None:
            for clip in some:
                made = processor(audio=clip, sampling_rate=rate, return_tensors="pt").to(device())
                scorer.model.get_audio_features(**made)

        with torch.inference_mode():
            return len(some) / seconds(each)

    yield compared(
        "CLAP scores, waveform to embedding", "clips", measured(ours, work), measured(stock, work),
        "ClapProcessor and ClapModel, one clip a call", 5.0, f"fp32, {sizes.clap.window_s} s",
    )  # fmt: skip
    yield tuning(scorer, sizes, one, work)


def tuning(scorer: ClapScorer, sizes: Sizes, one: torch.Tensor, work: float) -> Figure:
    """Fine-tuning of CLAP; a figure of memory, as one process must fit 24 GB."""
    count = sizes.windows
    features = one.cpu().expand(count, -1, -1, -1)
    captions = [f"sound of a {LABELS[i % len(LABELS)]}" for i in range(count)]

    def run() -> float:
        optim, told = optimiser(sizes.steps, count, "fp32"), [([text], text) for text in captions]
        curve = train_contrastive(
            scorer, count, features.__getitem__, told.__getitem__, optim, seed=0, name="check_gpu"
        )
        return curve.speed["clips_per_s"]

    made = measured(run, 3 * work)
    return Figure("fine-tuning of CLAP: peak memory", made.gib, "<=", 24.0, "GiB", made.words("windows"))


def classifier(sizes: Sizes) -> Iterator[Figure]:
    """Training of the classifier in bf16, beside the same in fp32."""

    def run(precision: Literal["fp32", "bf16"]) -> tuple[float, float]:
        model = build_classifier(sizes.ast, LABELS, -4.27, 4.57, seed=0)
        model.model.to(device())
        count, shape = 4 * sizes.examples, (sizes.ast.max_length, sizes.ast.num_mel_bins)
        labels = np.arange(count) % len(LABELS)
        data = Examples([[torch.randn(shape)] for _ in range(count)], labels)
        work = operations(lambda: model.logits(torch.zeros(1, *shape)))
        speed = 0.0
        for steps in (2, sizes.steps):
            budget = make_budget(
                labels, np.array([], dtype=np.int64), steps=steps, batch_size=sizes.examples, synthetic_fraction=0.5,
                seed=0,
            )  # fmt: skip
            made = train(
                model, data, None, budget, optimiser(steps, sizes.examples, precision),
                select_by="accuracy", specaugment=None, seed=0,
            )  # fmt: skip
            speed = made["curve"].speed["clips_per_s"]
        return speed, 3 * work

    rates = []
    for precision in ("bf16", "fp32"):
        found: list[tuple[float, float]] = []
        rate = measured(lambda p=precision, into=found: into.append(run(p)) or into[0][0], 0.0)  # type: ignore[misc]
        rates.append(replace(rate, operations=found[0][1]))
    yield compared(
        "training of the classifier (AST)", "clips", *rates, "fp32", 2.0,  # type: ignore[misc]
        f"{sizes.examples} clips of {sizes.ast.max_length} frames a step",
    )  # fmt: skip


@dataclass(frozen=True)
class Together:
    """One of several processes that pretrain together; picklable."""

    sizes: str
    result: Path


def train_together(job: Together) -> None:
    """Pretrain in one process of `together`; rank 0 writes the speed."""
    from accelerate import PartialState

    sizes = SIZES[job.sizes]  # type: ignore[index]
    backend = sizes.t2a()
    backend.pipeline.to(PartialState(cpu=device() == "cpu").device)
    speed = pretrain(backend, sizes, on_the_fly=False).speed
    if is_main():
        job.result.write_text(json.dumps(speed), encoding="utf-8")


def together(sizes: Sizes, processes: int | None = None) -> Iterator[Figure]:
    """Two GPUs (DDP, NCCL) beside one."""
    count = torch.cuda.device_count() if processes is None else processes
    what = "pretraining on two GPUs (DDP) against one"
    if count < 2:
        yield Figure(what, None, ">=", 1.7, "x", reason="one GPU on this machine")
        return
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        for number in (2, 1):
            result = Path(folder) / f"{number}.json"
            launch(train_together, Together(sizes.name, result), number)
            rates.append(float(json.loads(result.read_text(encoding="utf-8"))["clips_per_s"]))
    yield Figure(what, rates[0] / rates[1], ">=", 1.7, "x", f"{rates[0]:.3g} clips/s", f"{rates[1]:.3g} clips/s")


PARTS: dict[str, Callable[[Sizes], Iterator[Figure]]] = {
    "synthesis": synthesis,
    "alignment": alignment,
    "pretraining": pretraining,
    "clap": clap,
    "classifier": classifier,
    "together": together,
}


def check(
    sizes: Sizes, parts: Sequence[str] = tuple(PARTS), last_start_s: float = LAST_START_S
) -> tuple[list[Figure], list[str]]:
    """Measure all parts; one that fails or would begin too late gets a row with the reason.

    Returns:
        The rows, and the names of failed parts.
    """
    start, figures, failed = time.monotonic(), list[Figure](), list[str]()
    for name in parts:
        passed = time.monotonic() - start
        if passed > last_start_s:
            figures.append(Figure(name, None, ">=", 1.0, "x", reason=f"left out: {passed:.0f} s had passed"))
            continue
        try:
            figures += PARTS[name](sizes)
        except Exception as error:  # A part must not lose the others' figures.
            failed.append(name)
            figures.append(
                Figure(name, None, ">=", 1.0, "x", reason=f"failed: {type(error).__name__}: {str(error)[:200]}")
            )
        if device() == "cuda":
            torch.cuda.empty_cache()
    return figures, failed


def write_rows(figures: Sequence[Figure], machine: str, docs: Path) -> None:
    """Put the table in the place of the one between the marks in `docs`."""
    text = docs.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    docs.write_text(f"{before}{BEGIN}\n\n{machine}:\n\n{table(figures)}\n\n{END}{after}", encoding="utf-8")


def on_device(backend: T2ABackend) -> T2ABackend:
    """`backend` on the GPU, or where it is without one; frozen."""
    backend.pipeline.to(device())
    for part in (backend.vae, backend.text_encoder, backend.projection, backend.transformer):
        part.requires_grad_(False)
    backend.transformer.requires_grad_(True)
    backend.projection.requires_grad_(True)
    return backend


def main(sizes: Sizes = REAL, folder: Path = FOLDER, docs: Path = DOCS) -> int:
    """Measure and write; status 2 = no GPU, 1 = a part failed."""
    if not torch.cuda.is_available():
        print(NO_GPU.format(version=torch.__version__), file=sys.stderr)
        return 2
    figures, failed = check(sizes)
    path = publish("gpu", figures, folder)
    write_rows(figures, json.loads(path.read_text(encoding="utf-8"))[0]["machine"], docs)
    if failed:
        print(f"error: {', '.join(failed)} failed; the reason is in the table", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
