"""Reads the corpus, makes or verifies a CLAP, writes its directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common.config.clap import PretrainClapPlan
from common.corpus import Corpus
from common.hashing import hash_file
from common.items import ItemStore
from common.stage import model_time, stage
from common.storage import read_json, write_json


def run(
    corpus_path: str, clap_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> dict[str, float | int | str]:
    """Pretrain or verify; see `component.py` for the arguments.

    Returns:
        Held-out AUC and retrieval accuracy.
    """
    plan = PretrainClapPlan.model_validate(config)
    with stage("pretrain_clap", config, metrics_path, {"clap": clap_path}) as running:
        store = ItemStore("pretrain_clap", code_version)
        # The manifest holds the hashes of all shards.
        sources = [hash_file(Path(corpus_path) / name) for name in ("manifest.json", "vocabulary.json")]
        key = {"corpus": sources, "settings": plan.settings.model_dump(), "seed": plan.seed}

        def make(folder: Path) -> None:
            _make(plan, Path(corpus_path), folder, store.work_dir(**key))

        with model_time():
            item = store.get_or_make(make, **key)
        shutil.copytree(item, clap_path, dirs_exist_ok=True)
        heldout = read_json(item / "training.json")["heldout"]
        running.record({f"heldout_{name}": value for name, value in heldout.items()})
    return running.figures


def _make(plan: PretrainClapPlan, corpus_dir: Path, folder: Path, work_dir: Path) -> None:
    from components.pretrain_clap.pretraining import judge, pretrain, starting_point

    corpus, settings = Corpus(corpus_dir), plan.settings
    scorer = starting_point(settings, corpus.vocabulary(), plan.seed)
    curve: list[dict[str, float]] = []
    if settings.optim is not None:
        curve = pretrain(scorer, corpus.audio("train"), settings, seed=plan.seed, checkpoint_dir=work_dir)
    has_audio = any(shard.kind == "audio" and shard.split == "heldout" for shard in corpus.shards)
    heldout = judge(scorer, corpus.audio("heldout"), settings.max_heldout_clips) if has_audio else {}
    scorer.save(folder)
    account = {"checkpoint": settings.checkpoint, "revision": settings.revision, "curve": curve, "heldout": heldout}
    write_json(folder / "training.json", account)
