"""Artifacts of a small finished run, as the stages before the report write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import to_jsonable_python

from common.config.evaluation import EvaluateClassifierConfig
from common.config.methods import DEFAULT_METHODS, METHODS
from common.config.run import load_preset
from common.contracts.evaluation import Evaluation
from common.contracts.generation import Price, Tally, Usage
from common.records.clips import Caption, GoldClip, SyntheticClip, write_records
from common.storage import write_json
from components.evaluate_classifier.comparison import Predictions, compare
from tests.kit.clips import gold_clip, synthetic_clip
from tests.kit.figures import HEALTH, TEST_HEALTH
from tests.kit.gold import write_gold, write_synthetic

HOSTILE = '<script>alert("x")</script> & "bell" ünïcode 猫'
LABELS = ["bell", "dog bark", "כלב", "<b>rain</b>", "siren é", "猫"]
REPLICATES = (0, 1, 2)
RATE = 16000
RECIPE = "dpo-mixcap-filtered"
GAINS = {"gold": 0.0, "noise": 0.5, "specaugment": 0.3, "vanilla": 0.1, "synthio": 1.6, "synthio_classic": 1.9}


def tone(index: int, duration_s: float = 0.6) -> np.ndarray:
    """A decaying tone in a little noise."""
    rng = np.random.default_rng(index)
    t = np.arange(round(duration_s * RATE)) / RATE
    sweep = 1 + 0.5 * rng.random() * t
    wave = 0.4 * np.sin(2 * np.pi * (200 + 150 * (index % 13)) * t * sweep) * np.exp(-3 * t)
    return (wave + 0.02 * rng.normal(size=len(t))).astype(np.float32)


def tones(clips: Sequence[GoldClip] | Sequence[SyntheticClip]) -> dict[str, np.ndarray]:
    """One tone per clip."""
    return {clip.clip_id: tone(index) for index, clip in enumerate(clips)}


def write_folder(folder: Path, clips: list[SyntheticClip]) -> None:
    """A set of generated clips, one tone each."""
    write_synthetic(folder, clips, tones(clips))


def gold_clips(per_class: int = 3, labels: list[str] | None = None) -> list[GoldClip]:
    """Real clips, some for training and some for validation."""
    return [
        gold_clip(f"g{k}{i}", label, k, source=f"{label}/{i}.wav", duration_s=0.6)
        for k, label in enumerate(labels or LABELS)
        for i in range(per_class)
    ]


def synthetic_clips(recipe: str, *, accepted: bool, per_class: int = 3, number: int = 0) -> list[SyntheticClip]:
    """Generated clips of every class and replicate 0."""
    clips = []
    for k, label in enumerate(LABELS):
        for i in range(per_class):
            name = f"{recipe}.s{i % 3}.g{k}0.{i}.r{number}.{'a' if accepted else 'r'}"
            rng = np.random.default_rng(100 * k + i)
            score = (0.55 if accepted else 0.2) + 0.1 * float(rng.normal())
            clips.append(
                synthetic_clip(
                    name,
                    label,
                    k,
                    caption=HOSTILE if i == 0 else f"a soft {label} with wind in the distance, take {i}",
                    recipe=recipe,
                    replicate=i % 3,
                    source_clip_id=f"g{k}0",
                    index=i,
                    round=number,
                    duration_s=0.6,
                    writer="grammar/1",
                    model_hash="m" * 64,
                    sampler={"steps": 12, "guidance_scale": 2.0},
                    clap_score=score,
                    clap_margin=score - 0.4,
                    reason=None if accepted else "low_margin",
                    nearest_clip_id=f"g{k}1",
                    nearest_similarity=0.71,
                    history=({"caption": "an earlier try", "score": 0.1, "reason": "low_score"},) if i == 2 else (),
                )
            )
    return clips


def make_evaluation(
    gains: dict[str, float] | None = None,
    replicates: tuple[int, ...] = REPLICATES,
    per_class: int = 20,
    resamples: int = 500,
) -> dict[str, Any]:
    """The content of evaluation.json, with simulated predictions; `gains` in logits."""
    gains = GAINS if gains is None else gains
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(len(LABELS)), per_class)
    difficulty = rng.normal(0.4, 1.5, len(truth))
    predictions: Predictions = {}
    for method, gain in gains.items():
        predictions[method] = {}
        for replicate in replicates:
            right = difficulty + rng.normal(0, 0.8, len(truth)) + gain + rng.normal(0, 0.1) > 0
            guess = np.where(right, truth, (truth + rng.integers(1, len(LABELS), len(truth))) % len(LABELS))
            predictions[method][replicate] = 0.7 * np.eye(len(LABELS))[guess] + 0.3 / len(LABELS)
    classics = {replicate: "noise" if replicate else "specaugment" for replicate in replicates}
    settings = EvaluateClassifierConfig(resamples=resamples)
    first = next(iter(next(iter(predictions.values())).values()))
    comparison, scores = compare(
        predictions,
        first,
        first,
        truth,
        [None] * len(truth),
        LABELS,
        {name: METHODS[name] for name in gains},
        {replicate: name for replicate, name in classics.items() if name in gains},
        {},
        {},
        settings,
        0,
    )
    told = {"learner": "ast", "method": next(iter(gains)), "members": ["ast"], "clips": 60, "threshold": 0.5}
    per_class_counts = {label: per_class for label in LABELS}
    leaks = {name: {"clips": 18, "exact": 0, "near": 0, "checked": 2} for name in ("gold", "vanilla", "accepted")}
    evaluation = Evaluation.model_validate(
        {
            "labels": LABELS,
            "confidence": 0.95,
            "n_train": 12,
            **dict(comparison),
            "delivered": {**told, **dict(scores)},
            "test": {"clips": len(truth), "groups": 0, "per_class": per_class_counts},
            "oracle": {
                "test_accuracy": 0.86,
                "trained_on": 60,
                "sets": {
                    "vanilla": {"clips": 18, "accuracy": 0.27, "per_class": {}},
                    f"{RECIPE}, accepted": {"clips": 18, "accuracy": 0.58, "per_class": {}},
                },
            },
            "distances": {
                "gold_clips": 18,
                "clips": 18,
                "held_out": {"clips": 6, "kernel": 0.02},
                "sets": {
                    "vanilla": {"frechet": 1.21, "kernel": 8.3},
                    f"{RECIPE}, accepted": {"frechet": 0.52, "kernel": 2.9},
                },
            },
            "leaks": {
                **{"sets": leaks, "pairs": [], "test_clips": 0, "test": len(truth), "shared_groups": []},
                "corpus_copies": {
                    **{"recordings": 2, "validation": 1},
                    "pairs": [
                        {"clip": "000000004", "source": "<i>copy.wav", "validation": True, "correlation": 0.99},
                        {"clip": "000000007", "source": "bell/0.wav", "validation": False, "correlation": 0.95},
                    ],
                },
            },
            "failures": [],
            "test_health": TEST_HEALTH,
            "heard": [],
        }
    )
    made: dict[str, Any] = to_jsonable_python(evaluation.rounded())
    return made


def make_selection() -> dict[str, Any]:
    """The content of selection.json."""
    best = {"0": "specaugment", "1": "noise", "2": "noise"}
    selection: dict[str, Any] = {"best_classic": best, "select_by": "accuracy"}
    strengths = {"noise": (20.0, 10.0, 0.0), "specaugment": (0.1, 0.2, 0.4), "synthio_classic": (10.0,)}
    for place, method in enumerate(DEFAULT_METHODS):
        for replicate in REPLICATES:
            tried = [
                {"strength": value, "factor": None, "val_accuracy": 0.4 + 0.02 * i, "classic": method}
                for i, value in enumerate(strengths.get(method, (None,)))
            ]
            synthetic = METHODS[method].recipe is not None
            selection[f"{method}/{replicate}"] = {
                "steps": 200,
                "examples": 4800,
                "classic": METHODS[method].classic,
                "strength": tried[-1]["strength"],
                "gold_clips": 18,
                "synthetic_clips": 18 if synthetic else 0,
                "val_loss": 1.0,
                "val_accuracy": 0.4 + 0.05 * place,
                "slot": {"synthetic": 2400 * synthetic, "gold": 2400 * (not synthetic)},
                "gold_stands_in_for": [],
                "factor": None,
                "curve": [],
                "tried": tried,
            }
    return selection


def make_align() -> dict[str, Any]:
    """The content of align.json."""
    accounts: dict[str, Any] = {"failures": {}}
    for replicate in REPLICATES:
        steps = np.arange(25, 151, 25)
        curve = [
            {
                "step": float(s),
                "loss": float(np.exp(-s / 60)) + 0.05 * replicate,
                "grad_norm": 1.0,
                "winner_error": 0.8 - 0.001 * float(s),
                "loser_error": 0.9,
                "d_winner": -0.0008 * float(s),
                "d_loser": 0.001 * float(s),
                "implicit_accuracy": 1 - 0.5 * float(np.exp(-s / 40)),
            }
            for s in steps
        ]
        bands = np.arange(64)
        accounts[f"{replicate}/dpo"] = {
            "curve": curve,
            "during": [
                {"step": s, "held_out_error": 0.9 + (s - 80) ** 2 / 1e5, "spectrum_db": 14.2 + replicate - s / 24}
                for s in (0.0, 50.0, 100.0, 150.0)
            ],
            "best_step": 100 * replicate,
            "keep_best_by": "spectrum_db",
            "stopped_by": "held_out_error" if replicate else "",
            "before": {"held_out_error": 0.964, "spectrum_db": 14.2 + replicate, "latent_frechet": 31.0},
            "after": {"held_out_error": 0.904, "spectrum_db": 8.1 + replicate, "latent_frechet": 12.4},
            "loss": "crpo",
            "beta": 100.0,
            "adapter": "lora",
            "note": "",
            "pairs": 18,
            "silent_losers": 0,
            "silent_winners": [],
            "probes": 12,
            "held_out_clips": 6,
            "spectra_db": {
                "gold": (-40 - 0.3 * bands).tolist(),
                "before": (-35 - 0.5 * bands).tolist(),
                "after": (-39 - 0.34 * bands).tolist(),
            },
        }
    return accounts


def make_filter() -> dict[str, Any]:
    """The content of filter.json."""
    rng = np.random.default_rng(0)
    candidates = []
    for number, count in enumerate((24, 10, 5)):
        for label in LABELS:
            for i in range(count):
                margin = float(rng.normal(0.02 * number, 0.12))
                candidates.append(
                    {
                        "clip_id": f"c{number}{label}{i}",
                        "round": number,
                        "seed": i % 3,
                        "recipe": RECIPE,
                        "label": label,
                        "caption": f"a {label}",
                        "score": 0.4 + margin,
                        "margin": margin,
                        "nearest_similarity": 0.6 + 0.3 * i / count,
                        "reason": None if margin > -0.02 else "low_margin",
                    }
                )
    rounds = []
    for number in range(3):
        own = [c for c in candidates if c["round"] == number]
        good = sum(c["reason"] is None for c in own)
        counts = {"accepted": good, "rejected": len(own) - good}
        reasons = {"low_margin": len(own) - good}
        judged = {"clips": len(own), "clap": 3, "second": 2, "both": len(own) - good - 3}
        told = {"by_recipe": {RECIPE: counts}, "reasons": reasons, "judged": judged}
        rounds.append({"round": number, **counts, **told})
    threshold = {"kind": "margin", "min_score": None}
    planted = {"recall": 0.94, "wrong_kept": 0.08, "precision": 0.92}
    return {
        "rounds": rounds,
        "candidates": candidates,
        "empty_classes": [],
        "thresholds": {
            str(replicate): {
                "threshold": {**threshold, "min_margin": -0.02 + 0.01 * replicate},
                "planted": planted,
                "second_planted": {**planted, "recall": 0.9},
                "gold_scores": [0.5, 0.6],
                "gold_margins": [0.1, 0.2],
                "kernel_distance": {},
            }
            for replicate in REPLICATES
        },
    }


def make_writing() -> dict[str, Any]:
    """The content of captions.json after two rounds."""

    def how(pieces: int, replaced: int, number: int) -> dict[str, Any]:
        each = Price(input_tokens=100, output_tokens=20, cost=0.001)
        replies = {f"{number}-{index}": each for index in range(pieces)}
        usage = Usage(requests=pieces, paid=sum(replies.values(), start=Price()), replies=replies)
        reasons = {"no_label": replaced, "http_429": 1}
        return Tally(pieces=pieces, repaired=3, replaced=replaced, reasons=reasons, usage=usage).model_dump(mode="json")

    figures = {"captions": 36, "distinct_1": 0.3, "distinct_2": 0.6, "self_bleu": 0.5, "word_spread": 0.7}
    row = {**figures, "unique_share": 1.0, "label_recall": 1.0}
    return {
        "writer": "endpoint:stub",
        "sources": {
            name: {**row, "by_label": {label: row for label in LABELS}, "in_run": in_run, "how": how(36, 2, 0)}
            for name, in_run in (("mixcap", True), ("template", False), ("label_only", False))
        },
        "rounds": [{"round": number, "prompts": 36, "how": how(40, number, number)} for number in range(2)],
    }


PATHS = (
    "evaluation",
    "gold",
    "corpus",
    "t2a",
    "aligned",
    "clap",
    "classifiers",
    "captions",
    "prompts",
    "vanilla",
    "accepted",
    "rejected",
)


def make_run(root: Path, evaluation: dict[str, Any] | None = None) -> dict[str, Path]:
    """All input folders of the report below `root`."""
    paths = {name: root / name for name in PATHS}
    write_json(paths["evaluation"] / "evaluation.json", evaluation or make_evaluation())
    clips = gold_clips()
    train, val = [c.clip_id for c in clips if c.clip_id[-1] != "2"], [c.clip_id for c in clips if c.clip_id[-1] == "2"]
    write_gold(
        paths["gold"],
        clips,
        tones(clips),
        {replicate: {"train": train, "val": val} for replicate in REPLICATES},
        oracle=train,
        health=HEALTH,
    )
    write_json(paths["corpus"] / "manifest.json", {"name": "procedural", "clips": 100})
    write_json(paths["t2a"] / "model_index.json", {"_class_name": "StableAudioPipeline", "vae": ["x", "SpectralCodec"]})
    write_json(paths["aligned"] / "align.json", make_align())
    write_json(paths["clap"] / "finetune.json", {})
    write_json(paths["prompts"] / "captions.json", make_writing())
    write_json(paths["classifiers"] / "selection.json", make_selection())
    write_json(paths["classifiers"] / "seconds.json", {"ast": {"gold": 12.5}, "stats": {"gold": 0.2}})
    write_json(paths["classifiers"] / "failures.json", [])
    write_records(
        paths["captions"] / "captions.jsonl",
        [
            Caption(
                clip_id=c.clip_id, label=c.label, label_id=c.label_id, caption=f"a {c.label}", captioner="acoustics/1"
            )
            for c in clips
        ],
    )
    write_folder(paths["vanilla"], synthetic_clips("none-template-all", accepted=True))
    write_folder(paths["accepted"], synthetic_clips(RECIPE, accepted=True))
    write_json(paths["accepted"] / "filter.json", make_filter())
    write_folder(paths["rejected"], synthetic_clips(RECIPE, accepted=False, per_class=2, number=2))
    return paths


def make_plan(**changes: Any) -> dict[str, Any]:
    """The report's `config`."""
    return {
        "preset": "tiny",
        "dataset": {"name": "fixture"},
        "n": 32,
        "replicates": list(REPLICATES),
        "methods": {name: METHODS[name].model_dump(mode="json") for name in DEFAULT_METHODS},
        "command": "make run-pipeline DATASET=fixture PRESET=tiny",
        "run_config": load_preset("tiny").model_dump(mode="json", exclude_defaults=True),
        **changes,
    }
