from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import local_image


@dsl.component(base_image=local_image("train_classifier"), install_kfp_package=False)
def train_classifier(
    classifier: Input[Model],
    gold: Input[Dataset],
    vanilla: Input[Dataset],
    accepted: Input[Dataset],
    retrieved: Input[Dataset],
    corpus: Input[Dataset],
    config: dict,
    code_version: str,
    classifiers: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Train the classifier by every method and replicate; choose on validation.

    Args:
        classifier: from pretrain_classifier.
        gold: from prepare_dataset.
        vanilla: clips of the unaligned model.
        accepted: accepted synthetic clips of all recipes.
        retrieved: from retrieve_audio.
        corpus: from prepare_corpus, for background noise.
        config: settings of this stage, resolved by plan.
        code_version: hash of this stage's source, part of the cache key.
        classifiers: one model directory per method and replicate.
        metrics: figures for the run's page.
    """
    from components.train_classifier.run import run

    figures = run(
        classifier.path,
        gold.path,
        vanilla.path,
        accepted.path,
        classifiers.path,
        metrics.path,
        config=config,
        code_version=code_version,
        retrieved_path=retrieved.path,
        corpus_path=corpus.path,
    )
    for name, value in figures.items():
        metrics.log_metric(name, value)
