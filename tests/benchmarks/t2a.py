"""Pretraining and alignment of the text-to-audio model (`make bench-t2a`).

The learned autoencoder of this benchmark is small, and of such a size that encoding a clip costs as many times the
transformer's forward pass as at Stable Audio's sizes, so that the ratio means something without a GPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer

from common.config.base import OptimConfig
from common.config.corpus import PrepareCorpusConfig
from common.config.run import load_preset
from common.config.t2a import PretrainT2AConfig
from common.corpus.shards import Corpus, CorpusClip, CorpusLatent
from common.diffusion.backend import T2ABackend
from common.training import Curve, Part, fit
from components.prepare_corpus.run import run as prepare_corpus
from components.pretrain_t2a.architecture import build_pipeline
from components.pretrain_t2a.batches import Clips, LatentStream, stack
from components.pretrain_t2a.pretraining import loss_function
from contrib.nano.training import load_settings
from tests.benchmarks.alignment_memory import alignment_figures
from tests.benchmarks.corpus_encoding import figures as corpus_figures
from tests.benchmarks.figures import Figure, publish

CLIPS, STEPS, BATCH = 256, 24, 32
REAL_COST_RATIO = 1.09 / 0.461
"""TFLOP of encoding a 10 s clip with Stable Audio's autoencoder, and of its transformer's forward pass."""

NO_GPU = "no GPU on this machine"


class EncodingStream:
    """Batches as `LatentStream` gives them, but decoded and encoded when they are asked for."""

    def __init__(self, corpus: Corpus, backend: T2ABackend, tokenizer: Any) -> None:
        self._clips = list(corpus.audio("train"))
        self._backend, self._tokenizer = backend, tokenizer

    def batch(self, step: int, part: Part) -> tuple[Clips, int]:
        """The clips of a step, in turn."""
        with part.waiting.running():
            chosen = [self._clips[(step * BATCH + i) % len(self._clips)] for i in range(BATCH)]
            rows = part.rows(BATCH)
            return stack([self._encoded(clip) for clip in chosen[rows]], self._tokenizer), BATCH

    def _encoded(self, clip: CorpusClip) -> CorpusLatent:
        latent = self._backend.encode(torch.from_numpy(clip.audio)[None])[0].numpy()
        tokens = self._tokenizer(clip.caption)["input_ids"]
        return CorpusLatent(clip.key, latent, tokens, clip.caption, clip.label, clip.duration_s)


def pretraining_figures(folder: Path) -> Iterator[Figure]:
    """Training from latent shards beside encoding on the fly, and what a GPU would do."""
    backend, corpus = _small_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(str(corpus.tokenizer_dir))
    settings = PretrainT2AConfig(
        optim=OptimConfig(steps=STEPS, batch_size=BATCH, learning_rate=1e-3, schedule="constant")
    )
    stream = LatentStream(corpus, tokenizer, batch_size=BATCH, seed=0, buffer_clips=CLIPS // 2, steps=STEPS)
    encoding = EncodingStream(corpus, backend, tokenizer)
    # The first one warms up; then they take turns, so that another load on the machine meets both.
    _train(backend, stream, settings)
    ours, peer = [], []
    for _ in range(2):
        ours.append(_train(backend, stream, settings).speed)
        peer.append(_train(backend, encoding, settings).speed)
    stream.close()
    rate = max(speed["clips_per_s"] for speed in ours)
    slow = max(speed["clips_per_s"] for speed in peer)
    note = f"encoding costs {_cost_ratio(backend):.1f} forward passes of the transformer; {REAL_COST_RATIO:.1f} at real sizes"
    yield Figure(
        "pretraining from latent shards against encoding on the fly, same trainer", rate / slow, ">=", 2.5, "x",
        f"{rate:.0f} clips/s", f"{slow:.0f} clips/s", note,
    )  # fmt: skip
    wait = min(speed["wait_share"] for speed in ours)
    yield Figure("pretraining: share of step time waiting for data", 100 * wait, "<=", 2.0, "%", "shards, read ahead")
    yield _on_gpu()


def _train(backend: T2ABackend, stream: Any, settings: PretrainT2AConfig) -> Curve:
    model = nn.ModuleDict({"transformer": backend.transformer, "projection": backend.projection})
    optim = settings.optim
    if optim is None:
        raise ValueError("the benchmark needs steps")
    return fit(model, loss_function(backend, stream, settings), optim, seed=0, name="bench_pretraining")


def _small_model(folder: Path) -> tuple[T2ABackend, Corpus]:
    vae = AutoencoderOobleck(
        encoder_hidden_size=12,
        downsampling_ratios=[4, 8, 16],
        channel_multiples=[1, 2, 4],
        decoder_channels=12,
        decoder_input_channels=6,
        audio_channels=1,
        sampling_rate=16000,
    )
    (folder / "published").mkdir()
    vae.save_pretrained(folder / "published" / "vae")
    settings = PrepareCorpusConfig(
        source="procedural", clips=CLIPS, durations_s=(1.024,), sample_rate_hz=16000, channels=1, clips_per_shard=32,
        vae=str(folder / "published"), tokenizer="embedded",
    )  # fmt: skip
    target = folder / "corpus"
    prepare_corpus(
        str(target),
        str(folder / "metrics"),
        config={"settings": settings.model_dump(mode="json"), "seed": 0},
        code_version="bench",
    )
    corpus = Corpus(target)
    loaded = AutoencoderOobleck.from_pretrained(folder / "published", subfolder="vae").eval()
    tokenizer = AutoTokenizer.from_pretrained(str(corpus.tokenizer_dir))
    return build_pipeline(load_settings().pretrain_t2a, loaded, tokenizer, 0), corpus


def _cost_ratio(backend: T2ABackend) -> float:
    audio = torch.zeros(1, backend.channels, backend.max_frames * backend.hop_length)
    with FlopCounterMode(display=False) as encoding:
        latents = backend.encode(audio)
    condition = backend.condition(["a"], [1.0])
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        backend.predict(latents, torch.tensor([0.5]), condition)
    return encoding.get_total_flops() / forward.get_total_flops()


def _on_gpu() -> Figure:
    name, unit = "pretraining, real transformer, 10 s clips, bf16, one H200", "clips/s"
    if not torch.cuda.is_available():
        return Figure(name, None, ">=", 200, unit, reason=NO_GPU)
    preset = load_preset("paper").pretrain_t2a
    from tests.benchmarks.alignment_memory import real_size

    backend = real_size(preset, "cuda")
    optim = OptimConfig(steps=30, batch_size=64, learning_rate=1e-5, schedule="constant", precision="bf16")
    settings = preset.model_copy(update={"optim": optim})
    frames, channels = backend.max_frames, backend.latent_channels
    size = optim.batch_size
    ids = torch.ones(size, 128, dtype=torch.long)
    clips = Clips(torch.randn(size, channels, frames), ids, torch.ones_like(ids), torch.full((size,), 10.0))

    class Ready:
        def batch(self, step: int, part: Part) -> tuple[Clips, int]:
            return clips.rows(torch.arange(size)[part.rows(size)]), size

    backend.text_encoder.requires_grad_(False)
    speed = _train(backend, Ready(), settings).speed
    return Figure(name, speed["clips_per_s"], ">=", 200, unit, "random weights, latents in memory")


def main() -> None:
    """Measure all and write `build/bench/t2a.json`."""
    with tempfile.TemporaryDirectory() as scratch:
        import os

        os.environ["SYNTHIO_STORE"] = f"{scratch}/store"
        figures = list(pretraining_figures(Path(scratch)))
    publish("t2a", [*figures, *alignment_figures(), *corpus_figures()])


if __name__ == "__main__":
    main()
