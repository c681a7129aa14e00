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
from typing import Any, NamedTuple

import numpy as np

from common.clap.scorer import ClapScorer
from common.config.clap import ThresholdConfig
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from common.records.text import template_caption
from common.storage import STORE_VARIABLE
from components.filter_audio.thresholds import calibrate, claim_scores, planted_claims, planted_trial
from components.finetune_clap.run import run as finetune_clap
from components.plan.planning import PLANS
from components.plan.run import run as plan
from components.prepare_corpus.run import run as prepare_corpus
from components.prepare_dataset.run import run as prepare_dataset
from components.pretrain_clap.run import run as pretrain_clap
from pipelines.sources import code_version
from tests.benchmarks.figures import FOLDER, machine

Row = dict[str, float | str]

CANDIDATES = (
    *(ThresholdConfig(kind="fixed", min_score=score) for score in (0.1, 0.3, 0.5, 0.7)),
    *(ThresholdConfig(kind="percentile", percentile=percentile) for percentile in (5.0, 10.0, 25.0, 50.0)),
    ThresholdConfig(kind="margin", percentile=None),
    *(ThresholdConfig(kind="margin", percentile=percentile) for percentile in (5.0, 10.0, 25.0, 50.0)),
)


def prepare(folder: Path, preset: str, dataset: str, n: int, draws: int) -> None:
    """Corpus, pretrained CLAP, gold draws and fine-tuned CLAPs below `folder`, as the stages of a run make them."""
    os.environ[STORE_VARIABLE] = str(folder / "store")
    plans = dict(
        zip(
            PLANS,
            plan(dataset, preset, n, "gold,synthio", draws, overrides="", data_version="", reuse_t2a_from=""),
            strict=True,
        )
    )
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


class Trial(NamedTuple):
    """Similarities (N, K) of clips and label prompts, the clips' labels (N, K), and the ids of their main ones."""

    similarity: np.ndarray
    claims: np.ndarray
    mains: list[int]


def hear(gold: GoldSet, scorer: ClapScorer, clips: Sequence[GoldClip]) -> Trial:
    """What a CLAP hears of clips."""
    prompts = scorer.embed_text([template_caption(label) for label in gold.labels])
    rate = scorer.sample_rate_hz
    embedded = scorer.embed_audio((gold.load(clip, rate) for clip in clips), rate)
    return Trial(embedded @ prompts.T, gold.targets(clips), [clip.label_id for clip in clips])


def measure(folder: Path) -> tuple[list[Row], list[Row]]:
    """Rows of thresholds, and of what they are on: mean and standard deviation over the draws of their figures."""
    gold = GoldSet(folder / "gold")
    trials: list[list[dict[str, float]]] = [[] for _ in CANDIDATES]
    apart: dict[tuple[str, str], list[dict[str, float]]] = {}
    for replicate in gold.replicates:
        seen = {clip.clip_id for clip in (*gold.train(replicate), *gold.val(replicate))}
        others = [clip for clip in gold.oracle() if clip.clip_id not in seen]
        scorers = {"pretrained": folder / "clap", "fine-tuned": folder / "finetuned" / str(replicate)}
        held_out = {name: hear(gold, ClapScorer.load(path), others) for name, path in scorers.items()}
        for name, trial in held_out.items():
            for on, figures in separation(trial).items():
                apart.setdefault((name, on), []).append(figures)
        heard = hear(gold, ClapScorer.load(scorers["fine-tuned"]), gold.val(replicate))
        validation = claim_scores(heard.similarity, heard.claims)
        for config, found in zip(CANDIDATES, trials, strict=True):
            threshold = calibrate(config, *validation)
            bound = threshold.min_margin if threshold.min_score is None else threshold.min_score
            figures = planted_trial(threshold.passes, *held_out["fine-tuned"])
            found.append({"bound": float(bound or 0.0), "clips": len(others), **figures})
    return (
        [{**_setting(config), **_summary(found)} for config, found in zip(CANDIDATES, trials, strict=True)],
        [{"clap": name, "on": on, **_summary(found)} for (name, on), found in apart.items()],
    )


def separation(trial: Trial) -> dict[str, dict[str, float]]:
    """How well score and margin tell right claims from planted ones, whatever the threshold.

    Returns:
        By `score` and `margin`: `auc`, and `wrong_kept_75`, `wrong_kept_90`: the share of wrong claims that pass a
        bound which keeps 75 or 90 % of these right ones.
    """
    rows, planted = planted_claims(trial.claims, trial.mains)
    right, wrong = claim_scores(trial.similarity, trial.claims), claim_scores(trial.similarity[rows], planted)
    found = {}
    for place, name in enumerate(("score", "margin")):
        good, bad = right[place], wrong[place]
        kept = {f"wrong_kept_{share}": float((bad >= np.percentile(good, 100 - share)).mean()) for share in (75, 90)}
        found[name] = {"auc": float((good[:, None] > bad[None]).mean()), **kept}
    return found


def _setting(config: ThresholdConfig) -> Row:
    setting = "own label wins" if config.percentile is None else f"percentile {config.percentile:g}"
    return {"kind": config.kind, "setting": f"score {config.min_score:g}" if config.kind == "fixed" else setting}


def _summary(found: Sequence[dict[str, float]]) -> Row:
    row: Row = {"draws": len(found)}
    for name in found[0]:
        values = [one[name] for one in found]
        row |= {name: float(np.mean(values)), f"{name}_sd": float(np.std(values, ddof=min(1, len(values) - 1)))}
    return row


def table(rows: Sequence[Row], names: dict[str, str], figures: dict[str, str]) -> str:
    """The rows as a Markdown table: names as they are, figures in percent."""
    lines = [f"| {' | '.join((*names.values(), *figures.values()))} |", "| --- " * (len(names) + len(figures)) + "|"]
    for row in rows:
        cells = [f"{row[name]:.2f}" if isinstance(row[name], float) else str(row[name]) for name in names]
        cells += [f"{100 * float(row[name]):.1f} ± {100 * float(row[name + '_sd']):.1f}" for name in figures]
        lines.append(f"| {' | '.join(cells)} |")
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
    rows, apart = measure(asked.folder)
    where = machine()
    target = FOLDER / "filter_thresholds.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": where, "thresholds": rows, "separation": apart}
    target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"{rows[0]['draws']} draws, {rows[0]['clips']:.0f} held-out clips each, on {where}\n")
    settings = {"kind": "kind", "setting": "setting", "bound": "bound"}
    print(table(rows, settings, {"recall": "right kept", "wrong_kept": "wrong kept", "precision": "precision"}))
    kept = {"auc": "AUC", "wrong_kept_75": "wrong kept at 75 % right", "wrong_kept_90": "wrong kept at 90 % right"}
    print(f"\n{table(apart, {'clap': 'CLAP', 'on': 'on'}, kept)}\n\n{target}")


if __name__ == "__main__":
    main()
