"""Cost of a study by estimate: items, hours, storage, money; from its settings and the table `costs.yaml`.

The models' work on a GPU is counted in operations; seconds are operations / (peak of the GPU x `SHARE_OF_PEAK`).
Answers of language models are bounded by memory instead: each token reads all weights once per batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.config.base import OptimConfig
from common.config.methods import Method, resolve_recipes
from common.config.recipes import LOSERS
from common.config.run import RunConfig, load_preset
from common.config.t2a import SamplerConfig
from common.contracts.study import Estimate
from common.errors import ConfigError
from common.study.cost_table import GPU, costs, find_gpu

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


def estimate(
    clips: Sequence[int],
    preset: str,
    methods: Mapping[str, Method],
    replicates: int,
    price: float = 0.0,
    *,
    clip_s: Sequence[float] = (),
    config: RunConfig | None = None,
    gpu: str = "",
) -> Estimate:
    """Estimate the cost of a study with an empty store, at a price in US dollars an hour; 0 = the table's.

    On a GPU the usual seconds of a clip of each cell, `clip_s`, count; default: 10.

    Raises ConfigError: the table has no such preset or GPU.
    """
    presets = costs().presets
    if preset not in presets:
        raise ConfigError(f"no costs are known for preset {preset}; they are for {', '.join(presets)}")
    table = presets[preset]
    kind, chosen = find_gpu(gpu)
    settings, total = config or load_preset(preset), sum(clips)
    counts = [count_work(settings, methods, n, replicates) for n in clips]
    stages = {
        name: cost.once
        + len(clips) * (cost.cell + replicates * cost.replicate)
        + replicates * total * cost.clip
        + sum(
            cost.alignment * each.alignments + cost.generated * each.at_most + cost.trained * (each.trained + 1)
            for each in counts
        )
        for name, cost in table.stages.items()
    }
    if table.unit == "gpu":
        cells = zip(clips, clip_s or [10.0] * len(clips), strict=True)
        each = [cell_seconds(settings, methods, n, replicates, chosen, seconds) for n, seconds in cells]
        for part in (shared_seconds(settings, chosen), *each):
            for name, seconds in part.items():
                stages[name] += seconds
    on_gpu = table.unit == "gpu"
    price = price or (chosen.price if on_gpu else table.price_per_hour)
    hours = sum(stages.values()) / 3600
    return Estimate(
        cells=len(clips),
        items=len(clips) * len(methods) * replicates,
        hours=round(hours, 4),
        cpu_hours=0.0 if on_gpu else round(hours, 4),
        gpu_hours=round(hours, 4) if on_gpu else 0.0,
        storage_gb=round(table.gb_once + replicates * total * table.mb_clip / 1000, 3),
        price_per_hour=price,
        money=round(hours * price, 4),
        stages={name: round(seconds, 1) for name, seconds in stages.items()},
        source=table.source,
        gpu=kind if on_gpu else "",
    )


def check_budget(cost: Estimate, budget: float) -> None:
    """Refuse work that costs more than `budget` (US dollars; 0 = no limit).

    Raises ConfigError: the estimate exceeds the budget.
    """
    if budget and cost.money > budget:
        raise ConfigError(
            f"the work is estimated at {cost.money:.2f} US dollars ({cost.hours:.1f} h at "
            f"{cost.price_per_hour:.2f} an hour), above the budget of {budget:.2f}: raise the budget, or take fewer "
            "datasets, clips, methods or replicates"
        )


@dataclass(frozen=True)
class Counts:
    """What one cell makes."""

    at_most: int
    """Clips to generate if the filter rejects all."""
    expected: float
    """Clips to generate if it rejects `REJECTED` of each round."""
    losers: int
    """Of them, those of the unaligned model."""
    captioned: int
    """New captions, at first."""
    revised: float
    """Captions of rejected clips to write again."""
    alignments: int
    trained: int
    """Classifiers to train, without the oracle."""


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
    """Seconds that the models of one cell, whose clips usually last `clip_s`, compute on one GPU, by stage."""
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
