from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Pretrain CLAP", "nano")
def pretrain_clap(
    corpus: Input[Dataset], config: dict, code_version: str, clap: Output[Model], metrics: Output[Metrics]
) -> None:
    """Pretrain CLAP on the corpus, or verify and pass through a published one.

    Args:
        corpus: pretraining corpus, from prepare_corpus.
        clap: a ClapModel directory with `training.json`.
    """
    from components.pretrain_clap.run import run

    metrics.metadata |= run(corpus.path, clap.path, metrics.path, config=config, code_version=code_version)
