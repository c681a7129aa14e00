"""Work of one cell, from its settings: counts of clips and trainings, and what the models compute on a kind of GPU.

Seconds are operations / (peak of the GPU x `SHARE_OF_PEAK`). Answers of language models are bounded by memory
instead: each token reads all weights once per batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common.config.base import Frozen, OptimConfig
from common.config.methods import LOSERS, Method, resolve_recipes
from common.config.run import RunConfig
from common.config.t2a import SamplerConfig
from common.errors import unknown_name

SHARE_OF_PEAK = 0.35
"""Assumed; training and sampling of transformers reach 0.3 to 0.5 on these GPUs."""
SHARE_OF_BANDWIDTH = 0.5
FP32 = 1 / 16
"""Speed of fp32 against bf16."""
REJECTED = 0.5
"""Assumed share of clips that the filter rejects in each round."""
ENDPOINT_S = 0.25
"""Assumed seconds of an answer of a hosted language model, several at a time."""

TRANSFORMER, AUTOENCODER, CLASSIFIER, CLAP = 0.461e12, 1.089e12, 0.261e12, 0.0118e12
"""Operations of one forward pass for 10 s: Stable Audio's transformer, encoder or decoder; AST; CLAP's audio side."""
AUDIO_LLM, CHAT_MODEL = 8.4e9, 7.6e9
"""Parameters of Qwen2-Audio-7B and Qwen2.5-7B."""
HEARD, READ, WRITTEN = 850, 450, 60
"""Tokens: of a clip with its question; of a request for captions; of an answer, times five where it is of captions."""
PER_ANSWER = 5
"""Captions in one answer of the chat model."""
WINDOW_S = 10.24
"""Longest window of AST."""


class GPU(Frozen):
    """A kind of GPU.

    Attributes:
        tflops: dense bf16 TFLOP/s.
        price: assumed US dollars an hour.
    """

    tflops: float
    memory_gb: int
    gb_s: float
    price: float

    def compute_s(self, operations: float, precision: str = "bf16") -> float:
        """Seconds of operations."""
        return operations / (1e12 * self.tflops * SHARE_OF_PEAK * (1.0 if precision == "bf16" else FP32))

    def answers_s(self, count: float, parameters: float, read: int, written: int, batch_size: int) -> float:
        """Seconds of `count` answers of a language model in bf16; `read` and `written` are tokens of each."""
        each_token = 2 * parameters / (1e9 * self.gb_s * SHARE_OF_BANDWIDTH)
        return count * (self.compute_s(2 * parameters * read) + written * each_token / batch_size)


@cache
def table() -> dict[str, Any]:
    """Content of `costs.yaml`."""
    rows: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "costs.yaml").read_text(encoding="utf-8"))
    return rows


@cache
def gpu_table() -> dict[str, GPU]:
    """Kinds of GPUs by name; the first is that of estimates which name none."""
    return {name: GPU.model_validate(row) for name, row in table()["gpus"].items()}


def find_gpu(name: str) -> tuple[str, GPU]:
    """Name and figures of a GPU in the table, whatever the case; "" = the first.

    Raises ConfigError: the table has no such GPU.
    """
    known = gpu_table()
    for each, gpu in known.items():
        if each.lower() == (name or next(iter(known))).lower():
            return each, gpu
    raise unknown_name("GPU", name, known)


@dataclass(frozen=True)
class Counts:
    """What one cell makes.

    Attributes:
        at_most: clips to generate if the filter rejects all.
        expected: clips to generate if it rejects `REJECTED` of each round.
        losers: of them, those of the unaligned model.
        captioned: new captions, at first.
        revised: captions of rejected clips to write again.
        trained: classifiers to train, without the oracle.
    """

    at_most: int
    expected: float
    losers: int
    captioned: int
    revised: float
    alignments: int
    trained: int


def count_work(config: RunConfig, methods: Mapping[str, Method], n: int, replicates: int) -> Counts:
    """Count the work of one cell of `n` training clips."""
    recipes, factors = resolve_recipes(dict(methods)), config.augmentation_factors
    vanilla = any(method.recipe == LOSERS for method in methods.values())
    surplus = config.filter_audio.surplus
    each = [n * replicates * math.ceil(max(factors) * (surplus if recipe.filter else 1)) for recipe in recipes]
    rounds = [config.rounds if recipe.rounds is None else min(recipe.rounds, config.rounds) for recipe in recipes]
    written = [recipe.captions != "template" for recipe in recipes]
    again = [sum(REJECTED**number for number in range(1, r + 1)) if recipe.filter else 0.0
             for recipe, r in zip(recipes, rounds, strict=True)]  # fmt: skip
    alignments = {recipe.alignment for recipe in recipes} - {"none"}
    losers = n * replicates * max(config.losers_per_clip if alignments else 0, max(factors) if vanilla else 0)
    trained = sum(
        (1 if method.classic in ("none", "best") else 3) * (len(factors) if method.recipe else 1)
        for method in methods.values()
    )
    return Counts(
        at_most=losers + sum(clips * (1 + r) for clips, r in zip(each, rounds, strict=True)),
        expected=losers + sum(clips * (1 + more) for clips, more in zip(each, again, strict=True)),
        losers=losers,
        captioned=sum(clips for clips, new in zip(each, written, strict=True) if new),
        revised=sum(clips * more for clips, more in zip(each, again, strict=True)),
        alignments=replicates * len(alignments),
        trained=trained * replicates,
    )


def shared_seconds(config: RunConfig, gpu: GPU) -> dict[str, float]:
    """Seconds of pretraining on one GPU, which all cells share; by stage."""
    t2a, clap, classifier = config.pretrain_t2a, config.pretrain_clap, config.pretrain_classifier
    made = dict[str, float]()
    if t2a.optim is not None and t2a.reuse is None:
        passes = 4 if t2a.gradient_checkpointing else 3
        made["pretrain_t2a"] = training_s(gpu, t2a.optim, t2a.transformer.window_s / 10 * TRANSFORMER, passes)
    if clap.optim is not None:
        made["pretrain_clap"] = training_s(gpu, clap.optim, CLAP)
    if classifier.optim is not None:
        made["pretrain_classifier"] = training_s(gpu, classifier.optim, CLASSIFIER)
    return made


def cell_seconds(
    config: RunConfig, methods: Mapping[str, Method], n: int, replicates: int, gpu: GPU, clip_s: float = 10.0
) -> dict[str, float]:
    """Seconds that the models of one cell compute on one GPU, by stage.

    Args:
        clip_s: usual duration of the clips in seconds.
    """
    counts, tenths = count_work(config, methods, n, replicates), clip_s / 10
    drawn = tenths * TRANSFORMER
    synthesis, training = config.synthesize_audio, config.train_classifier
    precision = "fp32" if synthesis.precision == "fp32" else "bf16"
    windows = max(1.0, tenths)
    seen = min(1.0, (1.28 * math.ceil(clip_s / 1.28) if training.window == "clips" else WINDOW_S) / WINDOW_S)
    chat = config.augment_captions.writer
    return {
        "finetune_clap": replicates * training_s(gpu, config.finetune_clap.optim, windows * CLAP)
        if config.finetune_clap.enabled
        else 0.0,
        "synthesize_audio": counts.expected
        * (
            gpu.compute_s(passes(synthesis.sampler) * drawn, precision)
            # The autoencoder decodes in fp32; its convolutions take TF32, half of bf16's speed.
            + 2 * gpu.compute_s(tenths * AUTOENCODER)
        ),
        "align_t2a": counts.alignments * _alignment_s(config, gpu, drawn, windows),
        "filter_audio": gpu.compute_s(counts.expected * windows * CLAP, "fp32"),
        "caption_clips": gpu.answers_s(
            n * replicates, AUDIO_LLM, HEARD, WRITTEN, config.caption_clips.audio_llm.batch_size
        )
        if counts.captioned and config.caption_clips.backend == "audio_llm"
        else 0.0,
        "augment_captions": _writing_s(gpu, chat, counts.captioned),
        "revise_captions": _writing_s(gpu, config.revise_captions.writer, counts.revised),
        "train_classifier": counts.trained * _classifier_s(config, gpu, n, training.optim.steps, seen)
        + _classifier_s(config, gpu, n, training.oracle_steps, seen),
    }


def passes(sampler: SamplerConfig) -> int:
    """Forward passes of the transformer for one clip."""
    return sampler.steps * (2 if sampler.guidance_scale > 1 else 1)


def training_s(gpu: GPU, optim: OptimConfig, forward: float, times: float = 3) -> float:
    """Seconds of a training, whose step takes `times` forward passes of each clip: backward is two."""
    return gpu.compute_s(optim.steps * optim.batch_size * times * forward, optim.precision)


def _alignment_s(config: RunConfig, gpu: GPU, drawn: float, windows: float) -> float:
    settings = config.align_t2a
    # The reference's pass is one more; with LoRA the backward pass has no gradients of the frozen weights.
    times = 2 * (3 if settings.adapter == "lora" else 4)
    looks = settings.optim.steps // settings.probe_every + 2
    probe = settings.distance_clips * (passes(settings.sampler) * drawn + 2 * windows * AUTOENCODER)
    probe += settings.held_out_clips * settings.held_out_draws * drawn
    steps = training_s(gpu, settings.optim, drawn, times)
    return steps + gpu.compute_s(looks * probe, settings.optim.precision)


def _writing_s(gpu: GPU, writer: Any, captions: float) -> float:
    answers = captions / PER_ANSWER
    if writer.backend == "endpoint":
        return answers * ENDPOINT_S
    if writer.backend == "chat_model":
        return gpu.answers_s(answers, CHAT_MODEL, READ, PER_ANSWER * WRITTEN, writer.chat_model.batch_size)
    return 0.0


def _classifier_s(config: RunConfig, gpu: GPU, n: int, steps: int, seen: float) -> float:
    settings = config.train_classifier
    optim = settings.optim_for(n * (1 + max(config.augmentation_factors)), steps)
    looks = optim.steps // optim.evaluate_every
    # Evaluations during a training take TF32, half of bf16's speed.
    return training_s(gpu, optim, seen * CLASSIFIER) + gpu.compute_s(2 * looks * n * seen * CLASSIFIER, optim.precision)
