from kfp.dsl import Dataset, Input, Metrics, Output

from components.catalogue import component


@component("Write new captions", "torch")
def augment_captions(
    gold: Input[Dataset],
    captions: Input[Dataset],
    config: dict,
    code_version: str,
    prompts: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Write diverse captions for the clips to be generated (MixCap).

    Args:
        gold: training clips of each replicate, from prepare_dataset.
        captions: one caption per training clip, from caption_clips.
        prompts: prompts.jsonl, the captions to generate from; captions.json, their diversity and origin.
    """
    from components.augment_captions.run import run

    metrics.metadata |= run(
        gold.path, captions.path, prompts.path, metrics.path, config=config, code_version=code_version
    )
