from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Pretrain the classifier", "nano")
def pretrain_classifier(
    corpus: Input[Dataset], config: dict, code_version: str, classifier: Output[Model], metrics: Output[Metrics]
) -> None:
    """Pretrain the audio classifier on the corpus, or verify and pass through a published one.

    Args:
        corpus: pretraining corpus, from prepare_corpus.
        classifier: a classifier directory (AST when trained here) with `training.json`.
    """
    from components.pretrain_classifier.run import run

    metrics.metadata |= run(corpus.path, classifier.path, metrics.path, config=config, code_version=code_version)
