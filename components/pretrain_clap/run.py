"""Reads the corpus, trains or verifies a CLAP, writes its directory."""

from pathlib import Path
from typing import Any

from common.config.clap import PretrainClapPlan
from common.corpus.pretraining import Pretraining
from common.models.registry import locate
from common.runtime.stage import Figures, stage
from common.storage import read_json
from common.storage.items import ItemStore


def run(corpus_path: str, clap_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str) -> Figures:
    """Pretrain a CLAP or verify a published one; `component.py` describes the arguments.

    Returns figures on held-out clips: AUC, retrieval accuracy, and ranks of captions and clips.
    """
    plan = PretrainClapPlan.model_validate(config)
    with stage("pretrain_clap", config, metrics_path, {"clap": clap_path}, {"corpus": corpus_path}) as running:
        # Imported here, since it imports transformers.
        from components.pretrain_clap.pretraining import FILES, pretrain

        settings, store = plan.settings, ItemStore("pretrain_clap", code_version, scope=plan.scope)
        start = locate(settings.checkpoint, settings.revision, FILES) if settings.checkpoint else None
        Pretraining.of(plan, store, corpus=Path(corpus_path), start=start).write(pretrain, Path(clap_path))
        heldout = read_json(Path(clap_path) / "training.json")["heldout"]
        running.record({f"heldout_{name}": value for name, value in heldout.items()})
    return running.figures
