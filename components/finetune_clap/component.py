from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Fit CLAP to your dataset", "torch")
def finetune_clap(
    clap: Input[Model],
    gold: Input[Dataset],
    config: dict,
    code_version: str,
    finetuned: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Fine-tune CLAP on the gold clips of each replicate.

    Args:
        clap: pretrained CLAP, from pretrain_clap.
        gold: training and validation clips of each replicate, from prepare_dataset.
        finetuned: one ClapModel directory per replicate.
    """
    from components.finetune_clap.run import run

    metrics.metadata |= run(
        clap.path, gold.path, finetuned.path, metrics.path, config=config, code_version=code_version
    )
