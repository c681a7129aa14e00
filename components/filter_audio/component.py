from typing import Optional

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Filter clips", "torch")
def filter_audio(
    synthetic: Input[Dataset],
    gold: Input[Dataset],
    clap: Input[Model],
    config: dict,
    code_version: str,
    accepted: Output[Dataset],
    rejected: Output[Dataset],
    metrics: Output[Metrics],
    previous: Optional[Input[Dataset]] = None,
) -> None:
    """Score generated clips with CLAP, keep those that fit their label, list the rest with reasons.

    Args:
        synthetic: generated clips of this round, from synthesize_audio.
        gold: gold clips, from prepare_dataset; the validation clips calibrate the threshold.
        clap: one CLAP model per replicate, from finetune_clap.
        accepted: accepted clips of this round and all earlier ones.
        rejected: rejected clips of this round, with scores and reasons.
        previous: accepted clips up to the previous round; none in round 0.
    """
    from components.filter_audio.run import run

    metrics.metadata |= run(
        synthetic.path,
        gold.path,
        clap.path,
        accepted.path,
        rejected.path,
        metrics.path,
        config=config,
        code_version=code_version,
        previous_path=previous.path if previous else None,
    )
