from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Train classifiers", "augmentation")
def train_classifier(
    classifier: Input[Model],
    gold: Input[Dataset],
    vanilla: Input[Dataset],
    accepted: Input[Dataset],
    retrieved: Input[Dataset],
    corpus: Input[Dataset],
    clap: Input[Model],
    config: dict,
    code_version: str,
    classifiers: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Train the classifier with every method in every replicate; choose on validation.

    Args:
        classifier: pretrained classifier, from pretrain_classifier.
        gold: real clips, from prepare_dataset.
        vanilla: clips of the unaligned model, from synthesize_audio.
        accepted: accepted synthetic clips of all recipes, from filter_audio.
        retrieved: retrieved corpus clips, from retrieve_audio.
        corpus: pretraining corpus, from prepare_corpus; provides background noise.
        clap: pretrained CLAP, from pretrain_clap; two learners hear through it.
        classifiers: a model for each learner, method and replicate, the oracle, the delivered model, and how they were
            chosen.
    """
    from components.train_classifier.run import run

    metrics.metadata |= run(
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
        clap_path=clap.path,
    )
