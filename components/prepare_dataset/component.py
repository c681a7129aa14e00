from kfp.dsl import Dataset, Metrics, Output

from components.catalogue import component


@component("Prepare your dataset", "base")
def prepare_dataset(
    config: dict, code_version: str, gold: Output[Dataset], test: Output[Dataset], metrics: Output[Metrics]
) -> None:
    """Read the small labelled dataset, check every clip, and split the clips into training, validation and test.

    Args:
        gold: training and validation clips, with the split of each replicate.
        test: test clips, for evaluate_classifier only.
    """
    from components.prepare_dataset.run import run

    metrics.metadata |= run(gold.path, test.path, metrics.path, config=config, code_version=code_version)
