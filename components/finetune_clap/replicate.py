"""Fine-tuning of one replicate, from and to files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.clap.scorer import ClapScorer
from common.config.clap import FinetuneClapConfig
from common.gold import GoldSet
from common.items import ItemStore
from common.storage import write_json
from components.finetune_clap.tuning import label_figures, tune


@dataclass(frozen=True)
class Replicate:
    """One item of the stage."""

    seed: int
    settings: FinetuneClapConfig
    clap_dir: Path
    gold_dir: Path
    store: ItemStore
    key: dict[str, Any]


def finetune_replicate(job: Replicate) -> Path:
    """Make the replicate's item, or find it: `clap/` and `figures.json`."""
    made = job.store.get_or_make(lambda folder: _make(job, folder), **job.key)
    job.store.checkpoints(**job.key).clear()
    return made


def _make(job: Replicate, folder: Path) -> None:
    scorer, gold = ClapScorer.load(job.clap_dir), GoldSet(job.gold_dir)
    rate = scorer.sample_rate_hz
    train, validation = gold.train(job.seed), gold.val(job.seed)

    def judge(judged: ClapScorer) -> dict[str, float]:
        clips = (gold.load(clip, rate) for clip in validation)
        return label_figures(judged, clips, [clip.label_id for clip in validation], gold.labels, rate)

    tuned, curve, before, after = tune(
        scorer,
        [gold.load(clip, rate) for clip in train],
        [clip.label for clip in train],
        rate,
        job.settings.optim,
        seed=job.seed,
        judge=judge,
        equalizer_db=job.settings.equalizer_db,
        checkpoints=job.store.checkpoints(**job.key),
    )
    tuned.save(folder / "clap")
    kept = "finetuned" if curve.best_step else "pretrained"
    figures = {"before": before, "after": after, "kept": kept, "best_step": curve.best_step, "curve": curve}
    write_json(folder / "figures.json", figures)
