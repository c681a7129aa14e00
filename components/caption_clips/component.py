from kfp.dsl import Dataset, Input, Metrics, Output

from components.catalogue import component


@component("Caption your clips", "torch")
def caption_clips(
    gold: Input[Dataset], config: dict, code_version: str, captions: Output[Dataset], metrics: Output[Metrics]
) -> None:
    """Caption every gold training clip.

    Args:
        gold: training clips of each replicate, from prepare_dataset.
        config: settings of this stage, resolved by plan.
        code_version: hash of this stage's source, part of the cache key.
        captions: captions.jsonl, one caption per training clip.
        metrics: figures for the run's page.
    """
    from components.caption_clips.run import run

    metrics.metadata |= run(gold.path, captions.path, metrics.path, config=config, code_version=code_version)
