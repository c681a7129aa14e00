from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import local_image


@dsl.component(base_image=local_image("retrieve_audio"), install_kfp_package=False)
def retrieve_audio(
    corpus: Input[Dataset],
    gold: Input[Dataset],
    clap: Input[Model],
    config: dict,
    code_version: str,
    retrieved: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Find the clips of the corpus that are nearest to the gold training clips.

    Args:
        corpus: from prepare_corpus.
        gold: from prepare_dataset.
        clap: from pretrain_clap.
        config: settings of this stage, resolved by plan.
        code_version: hash of this stage's source, part of the cache key.
        retrieved: the found clips, labelled as the gold clips; empty where no method asks for them.
        metrics: figures for the run's page.
    """
    from components.retrieve_audio.run import run

    figures = run(
        corpus.path, gold.path, clap.path, retrieved.path, metrics.path, config=config, code_version=code_version
    )
    for name, value in figures.items():
        metrics.log_metric(name, value)
