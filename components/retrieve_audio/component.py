from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Retrieve similar clips", "torch")
def retrieve_audio(
    corpus: Input[Dataset],
    gold: Input[Dataset],
    clap: Input[Model],
    config: dict,
    code_version: str,
    retrieved: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Retrieve the corpus clips that are nearest to the gold training clips.

    Args:
        corpus: pretraining corpus with audio, from prepare_corpus.
        gold: real clips, from prepare_dataset.
        clap: CLAP for the embeddings, from pretrain_clap.
        retrieved: the retrieved clips with the labels of their gold clips; empty where no method needs them.
    """
    from components.retrieve_audio.run import run

    metrics.metadata |= run(
        corpus.path, gold.path, clap.path, retrieved.path, metrics.path, config=config, code_version=code_version
    )
