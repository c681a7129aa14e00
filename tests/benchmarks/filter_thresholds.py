"""What each kind of threshold lets through and loses: gold clips with right and with planted labels.

Trains the preset's CLAP and fine-tunes it on each draw of the demo's gold set, as a run does. Every
threshold is calibrated on the draw's validation clips and tried on labelled clips that the draw
neither trains on nor validates with: each claims its own label, and every other label in turn.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.clap.scorer import ClapScorer
from common.config.clap import ThresholdConfig
from common.gold import GoldSet
from common.records import GoldClip
from common.storage import STORE_VARIABLE
from common.text import template_caption
from components.filter_audio.calibration import planted_trial
from components.filter_audio.thresholds import calibrate, claim_scores
from components.finetune_clap.run import run as finetune_clap
from components.plan.resolve import PLANS
from components.plan.run import run as plan
from components.prepare_corpus.run import run as prepare_corpus
from components.prepare_dataset.run import run as prepare_dataset
from components.pretrain_clap.run import run as pretrain_clap
from pipelines.code_version import code_version
from tests.benchmarks.figures import FOLDER, machine

FIGURES = ("recall", "wrong_kept", "precision")

CANDIDATES = (
    *(ThresholdConfig(kind="fixed", min_score=score) for score in (0.1, 0.3, 0.5, 0.7)),
    *(ThresholdConfig(kind="percentile", percentile=percentile) for percentile in (5.0, 10.0, 25.0, 50.0)),
    ThresholdConfig(kind="margin", percentile=None),
    *(ThresholdConfig(kind="margin", percentile=percentile) for percentile in (5.0, 10.0, 25.0, 50.0)),
)


def prepare(folder: Path, preset: str, dataset: str, n: int, draws: int) -> None:
    """Corpus, pretrained CLAP, gold draws and fine-tuned CLAPs below `folder`, as the stages of a run make them."""
    os.environ[STORE_VARIABLE] = str(folder / "store")
    plans = dict(zip(PLANS, plan(dataset, preset, n, "gold,synthio", draws, "", ""), strict=True))
    path = {name: str(folder / name) for name in ("corpus", "clap", "gold", "test", "finetuned", "metrics")}
    steps: tuple[tuple[Callable[..., Any], tuple[str, ...]], ...] = (
        (prepare_corpus, ("corpus",)),
        (pretrain_clap, ("corpus", "clap")),
        (prepare_dataset, ("gold", "test")),
        (finetune_clap, ("clap", "gold", "finetuned")),
    )
    for run, names in steps:
        stage = run.__module__.split(".")[1]
        run(*(path[name] for name in names), path["metrics"], config=plans[stage], code_version=code_version(stage))


def measure(folder: Path) -> list[dict[str, float | str]]:
    """One row a threshold: its settings, and mean and standard deviation over the draws of its figures."""
    gold = GoldSet(folder / "gold")
    trials: list[list[dict[str, float]]] = [[] for _ in CANDIDATES]
    for seed in gold.seeds:
        scorer = ClapScorer.load(folder / "finetuned" / str(seed))
        prompts = scorer.embed_text([template_caption(label) for label in gold.labels])

        def heard(
            clips: Sequence[GoldClip], scorer: ClapScorer = scorer, prompts: np.ndarray = prompts
        ) -> tuple[np.ndarray, list[tuple[int, ...]]]:
            rate = scorer.sample_rate_hz
            embedded = scorer.embed_audio((gold.load(clip, rate) for clip in clips), rate)
            return embedded @ prompts.T, [gold.label_ids(clip) for clip in clips]

        seen = {clip.clip_id for clip in (*gold.train(seed), *gold.val(seed))}
        scores, margins = claim_scores(*heard(gold.val(seed)))
        held_out = heard([clip for clip in gold.oracle() if clip.clip_id not in seen])
        for config, found in zip(CANDIDATES, trials, strict=True):
            threshold = calibrate(config, scores, margins)
            bound = threshold.min_margin if threshold.min_score is None else threshold.min_score
            found.append(
                {"bound": float(bound or 0.0), "clips": len(held_out[1]), **planted_trial(threshold, *held_out)}
            )
    return [_row(config, found) for config, found in zip(CANDIDATES, trials, strict=True)]


def _row(config: ThresholdConfig, found: Sequence[dict[str, float]]) -> dict[str, float | str]:
    setting = "own label wins" if config.percentile is None else f"percentile {config.percentile:g}"
    row: dict[str, float | str] = {
        "kind": config.kind,
        "setting": f"score {config.min_score:g}" if config.kind == "fixed" else setting,
        "draws": len(found),
        "clips": float(np.mean([one["clips"] for one in found])),
        "bound": float(np.mean([one["bound"] for one in found])),
    }
    for name in FIGURES:
        values = [one[name] for one in found]
        row |= {name: float(np.mean(values)), f"{name}_sd": float(np.std(values, ddof=min(1, len(values) - 1)))}
    return row


def table(rows: Sequence[dict[str, float | str]]) -> str:
    """The rows as a Markdown table, in percent."""
    lines = [
        "| kind | setting | bound | right kept | wrong kept | precision |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [f"{100 * float(row[name]):.0f} ± {100 * float(row[name + '_sd']):.0f}" for name in FIGURES]
        lines.append(f"| {row['kind']} | {row['setting']} | {float(row['bound']):.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write `build/bench/filter_thresholds.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--n", type=int, default=0, help="training clips of a draw; 0 = the dataset's default")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--folder", type=Path, default=FOLDER / "filter", help="finished work is kept here")
    asked = parser.parse_args()
    prepare(asked.folder.resolve(), asked.preset, asked.dataset, asked.n, asked.draws)
    rows = measure(asked.folder)
    where = machine()
    target = FOLDER / "filter_thresholds.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"machine": where, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(
        f"{rows[0]['draws']} draws, {rows[0]['clips']:.0f} held-out clips each, on {where}\n\n{table(rows)}\n\n{target}"
    )


if __name__ == "__main__":
    main()
