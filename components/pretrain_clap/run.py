"""Reads the corpus, trains or verifies a CLAP, writes its directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common.config.clap import PretrainClapPlan
from common.runtime.stage import stage
from common.runtime.timing import model_time
from common.storage import read_json
from common.storage.hashing import hash_file
from common.storage.items import ItemStore


def run(
    corpus_path: str, clap_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> dict[str, float | int | str]:
    """Pretrain a CLAP or verify a published one; `component.py` describes the arguments.

    Returns:
        Figures on held-out clips: AUC, retrieval accuracy, and ranks of captions and clips.
    """
    plan = PretrainClapPlan.model_validate(config)
    with stage("pretrain_clap", config, metrics_path, {"clap": clap_path}, {"corpus": corpus_path}) as running:
        store = ItemStore("pretrain_clap", code_version)
        # The manifest holds the hashes of all shards.
        sources = [hash_file(Path(corpus_path) / name) for name in ("manifest.json", "vocabulary.json")]
        key = {"corpus": sources, "settings": plan.settings.model_dump(), "seed": plan.seed}

        def make(folder: Path) -> None:
            from components.pretrain_clap.pretraining import Job, pretrain

            pretrain(Job(plan, Path(corpus_path), store, key, folder))

        with model_time():
            item = store.get_or_make(make, **key)
        store.checkpoints(**key).clear()
        shutil.rmtree(store.scratch_dir(**key), ignore_errors=True)
        shutil.copytree(item, clap_path, dirs_exist_ok=True)
        heldout = read_json(item / "training.json")["heldout"]
        running.record({f"heldout_{name}": value for name, value in heldout.items()})
    return running.figures
