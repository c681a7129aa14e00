"""The estimate of a run on a GPU, against operations that PyTorch counts on networks of the published sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import ASTConfig, ASTForAudioClassification, ClapConfig, ClapModel, Qwen2Config, Qwen2ForCausalLM

from common.config.methods import resolve_methods
from common.config.run import RunConfig, load_preset
from common.config.t2a import PretrainT2AConfig, TransformerConfig
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError
from common.study.cost_table import SHARE_OF_PEAK, costs, find_gpu
from common.study.costs import cell_seconds, count_work, estimate, shared_seconds
from components.align_t2a.memory import predict_error
from tests.benchmarks.alignment_memory import make_peer, random_bucket, real_size

SIX = resolve_methods("")
N, REPLICATES = 100, 3
GPU = costs().gpus["H200"]


def operations(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def both_ways(model: nn.Module, forward: Callable[[], Tensor]) -> float:
    model.train().requires_grad_(True)
    return operations(lambda: torch.autograd.backward(forward().sum()))


@cache
def classifier_operations() -> float:
    with torch.device("meta"):
        ast = ASTForAudioClassification(ASTConfig())
        return both_ways(ast, lambda: ast(torch.empty(1, 1024, 128)).logits)


@cache
def counted() -> dict[str, float]:
    """Operations for one clip of 10 s."""
    found = {"classifier": classifier_operations()}
    # Two of twenty-four blocks, which are alike and take nearly all of the work.
    backend = real_size(PretrainT2AConfig(transformer=TransformerConfig(num_layers=2)), "meta")
    bucket = random_bucket(backend, 1, backend.max_frames, 130)
    z = bucket.losers.to("meta")
    with torch.no_grad():
        found["pass"] = 12 * operations(lambda: predict_error(backend, z, bucket.condition))
        found["decode"] = operations(lambda: backend.vae.decode(z))
    found["pretraining"] = 12 * both_ways(backend.transformer, lambda: predict_error(backend, z, bucket.condition))
    backend.transformer.requires_grad_(False)
    policy = make_peer("lora", backend, 16)
    policy.trained.train()
    aligned = 12 * operations(lambda: torch.autograd.backward(predict_error(backend, z, bucket.condition)))
    found["pair"] = 2 * (aligned + found["pass"])
    with torch.device("meta"):
        # Four of 28 layers, without the output layer, which sees the last token only.
        chat = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=4,
                num_attention_heads=28, num_key_value_heads=4,
            )
        )  # fmt: skip
        with torch.no_grad():
            found["request"] = 7 * operations(lambda: chat.model(torch.ones(1, 400, dtype=torch.long)))
    clap = ClapModel(ClapConfig())
    features, longer = torch.zeros(1, 1, 1001, 64), torch.zeros(1, 1, dtype=torch.bool)
    found["clap"] = both_ways(
        clap, lambda: clap.get_audio_features(input_features=features, is_longer=longer).pooler_output
    )
    return found


def seconds(work: float, slower: float = 1.0) -> float:
    return work * slower / (989e12 * SHARE_OF_PEAK)


def independent(config: RunConfig) -> dict[str, float]:
    """Seconds of the models of a run of 100 clips, three replicates and the six methods, counted by hand."""
    counts = counted()
    synthesis, alignment, classifier = config.synthesize_audio, config.align_t2a, config.train_classifier
    # Losers, and Synthio's two per clip in a first round and three more, each of half as many.
    clips = 300 * (2 + 2 * (1 + 1 / 2 + 1 / 4 + 1 / 8))
    clip = synthesis.sampler.steps * 2 * counts["pass"] + counts["decode"]
    probes = (alignment.optim.steps / 100 + 2) * (
        32 * (alignment.sampler.steps * 2 * counts["pass"] + counts["decode"]) + 64 * 8 * counts["pass"]
    )
    # Gold, vanilla, Synthio, Synthio with the best classic one; noise and SpecAugment at three strengths each.
    optim = classifier.optim_for(N * 3, classifier.optim.steps)
    oracle = classifier.optim_for(N * 3, classifier.oracle_steps)
    steps = 3 * 10 * optim.steps + min(oracle.steps, classifier.oracle_steps)
    made = {
        "synthesize_audio": seconds(clips * clip),
        "align_t2a": 3 * seconds(alignment.optim.steps * alignment.optim.batch_size * counts["pair"] + probes),
        "train_classifier": seconds(steps * optim.batch_size * counts["classifier"]),
        "finetune_clap": 3 * seconds(100 * 32 * counts["clap"], 16),
        "filter_audio": seconds(clips * counts["clap"] / 3, 16),
        # 7.6 billion weights of two bytes at half of 4.8 TB/s for each token of sixteen answers at a time.
        "caption_clips": 300 * (2 * 8.4e9 * 850 / (989e12 * SHARE_OF_PEAK) + 60 * 2 * 8.4e9 / 2.4e12 / 8),
    }
    if config.augment_captions.writer.backend == "chat_model":
        answer = seconds(counts["request"]) + 300 * 2 * 7.6e9 / 2.4e12 / 16
        made["augment_captions"] = 300 * 2 / 5 * answer
        made["revise_captions"] = 300 * 2 * (1 / 2 + 1 / 4 + 1 / 8) / 5 * answer
    if config.pretrain_t2a.optim:
        made["pretrain_t2a"] = seconds(660_000 * 64 * counts["pretraining"])
    return made


@pytest.mark.e2e
@pytest.mark.parametrize("preset", ["small", "paper"])
def test_every_stage_is_estimated_within_a_factor_of_two_of_an_independent_count(preset: str) -> None:
    config = load_preset(preset)
    estimated = shared_seconds(config, GPU) | cell_seconds(config, SIX, N, REPLICATES, GPU)
    expected = independent(config)
    assert len(expected) == 8 if preset == "small" else expected.keys() >= {"pretrain_t2a", "train_classifier"}
    ratios = {name: estimated[name] / value for name, value in expected.items()}
    assert all(0.5 < ratio < 2 for ratio in ratios.values()), ratios


def test_the_classifier_of_small_takes_48_thousand_steps_or_nine_tenths_of_an_exaflop() -> None:
    work = cell_seconds(load_preset("small"), SIX, N, REPLICATES, GPU)["train_classifier"] * 989e12 * SHARE_OF_PEAK
    assert work == pytest.approx(902e15, rel=0.1)
    assert 48_000 * 24 * classifier_operations() == pytest.approx(902e15, rel=0.05)
    # Steps are fixed: five times the clips change the evaluations only.
    more = cell_seconds(load_preset("small"), SIX, 5 * N, REPLICATES, GPU)["train_classifier"] * 989e12 * SHARE_OF_PEAK
    assert more < 1.3 * work


def test_the_estimate_follows_settings_methods_replicates_and_the_gpu() -> None:
    base = estimate([N], "small", SIX, REPLICATES)
    half = load_preset("small", "train_classifier.optim.steps=750 train_classifier.oracle_steps=1500")
    fewer = estimate([N], "small", SIX, REPLICATES, config=half)
    assert fewer.stages["train_classifier"] < 0.6 * base.stages["train_classifier"]
    assert estimate([N], "small", resolve_methods("gold"), 1).gpu_hours < 0.4 * base.gpu_hours
    slow = estimate([N], "small", SIX, REPLICATES, gpu="a100")
    assert slow.gpu == "A100" and base.gpu == "H200"
    assert slow.stages["train_classifier"] == pytest.approx(base.stages["train_classifier"] * 989 / 312, rel=0.05)
    full = load_preset("small", "train_classifier.optim.precision=fp32")
    assert estimate([N], "small", SIX, REPLICATES, config=full).hours > 5 * base.hours
    assert base.money == pytest.approx(base.hours * 3.0, abs=0.01)
    assert estimate([N], "small", SIX, REPLICATES, price=7.0).money == pytest.approx(base.hours * 7.0, abs=0.01)


def test_shorter_clips_take_less_of_everything_that_hears_or_makes_them() -> None:
    config = load_preset("small")
    long, short = (cell_seconds(config, SIX, N, REPLICATES, GPU, clip_s) for clip_s in (10.0, 5.0))
    for stage in ("synthesize_audio", "align_t2a", "train_classifier"):
        assert short[stage] == pytest.approx(long[stage] / 2, rel=0.1)
    thirty = cell_seconds(config, SIX, N, REPLICATES, GPU, 30.0)
    assert thirty["train_classifier"] == long["train_classifier"], "the classifier hears a window of them"


def test_the_estimate_takes_each_cell_with_the_seconds_of_its_clips() -> None:
    """Of GTZAN's 30 s and ESC-50's 5 s."""
    both = estimate(
        [N, N], "small", SIX, REPLICATES, clip_s=[resolve_dataset(name).clip_s for name in ("gtzan", "esc50")]
    )
    alone = [
        cell_seconds(load_preset("small"), SIX, N, REPLICATES, GPU, clip_s)["synthesize_audio"]
        for clip_s in (30.0, 5.0)
    ]
    fixed = costs().presets["small"].stages["synthesize_audio"]
    beside = 2 * (fixed.cell + REPLICATES * N * fixed.clip)
    assert both.stages["synthesize_audio"] == pytest.approx(sum(alone) + beside, abs=0.1)
    assert estimate([N], "tiny", SIX, REPLICATES, clip_s=[30.0]) == estimate([N], "tiny", SIX, REPLICATES)


def test_counts_are_those_of_the_methods() -> None:
    counts = count_work(load_preset("small"), SIX, N, REPLICATES)
    assert (counts.trained, counts.alignments, counts.losers) == (30, 3, 600)
    assert (counts.at_most, counts.expected) == (600 + 600 * 4, 600 + 600 * 1.875)
    more = count_work(load_preset("small", "filter_audio.surplus=1.5"), SIX, N, REPLICATES)
    assert (more.at_most, more.losers, more.captioned) == (600 + 900 * 4, 600, 900)
    alone = count_work(load_preset("small"), resolve_methods("gold"), N, REPLICATES)
    assert (alone.trained, alone.alignments, alone.captioned, alone.revised) == (3, 0, 0, 0)


def test_an_unknown_gpu_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"T4000.*H200"):
        find_gpu("T4000")
    assert find_gpu("")[0] == "H200"
