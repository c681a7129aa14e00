"""Reads corpus, gold set and CLAP, retrieves nearest clips, writes an AudioFolder."""

from pathlib import Path
from typing import Any

from common.config.clap import RetrieveAudioPlan
from common.records.audio_folder import copy_audio_folder
from common.runtime.stage import Figures, stage


def run(
    corpus_path: str,
    gold_path: str,
    clap_path: str,
    retrieved_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
) -> Figures:
    """Retrieve clips for every replicate; `component.py` describes the arguments.

    Returns figures of `retrieve`, or no clips. Raises DataError: the corpus has no audio.
    """
    plan = RetrieveAudioPlan.model_validate(config)
    artifacts = {"corpus": corpus_path, "gold": gold_path, "clap": clap_path}
    with stage("retrieve_audio", config, metrics_path, {"retrieved": retrieved_path}, artifacts) as running:
        if plan.recipes:
            from components.retrieve_audio.retrieval import retrieve

            places = (Path(corpus_path), Path(gold_path), Path(clap_path))
            running.record(retrieve(plan, *places, Path(retrieved_path), code_version))
        else:
            copy_audio_folder(Path(retrieved_path), (), {})
            running.record({"clips": 0})
    return running.figures
