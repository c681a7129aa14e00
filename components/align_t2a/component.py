from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Align text-to-audio", "diffusion")
def align_t2a(
    t2a: Input[Model],
    gold: Input[Dataset],
    losers: Input[Dataset],
    config: dict,
    code_version: str,
    aligned: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Align the text-to-audio model with the gold clips by diffusion-DPO, per replicate.

    Args:
        t2a: pretrained text-to-audio model, from pretrain_t2a.
        gold: training and validation clips, from prepare_dataset.
        losers: generated clips of the unaligned model, from synthesize_audio.
        aligned: one plain diffusers directory per replicate and alignment.
    """
    from components.align_t2a.run import run

    metrics.metadata |= run(
        t2a.path, gold.path, losers.path, aligned.path, metrics.path, config=config, code_version=code_version
    )
