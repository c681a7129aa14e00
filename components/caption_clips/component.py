from kfp.dsl import Dataset, Input, Metrics, Output

from components.catalogue import component


@component("Caption your clips", "torch")
def caption_clips(
    gold: Input[Dataset], config: dict, code_version: str, captions: Output[Dataset], metrics: Output[Metrics]
) -> None:
    """Caption every gold training clip.

    Args:
        gold: training clips of each replicate, from prepare_dataset.
        captions: captions.jsonl, one caption per training clip.
    """
    from components.caption_clips.run import run

    metrics.metadata |= run(gold.path, captions.path, metrics.path, config=config, code_version=code_version)
