from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Evaluate on the test split", "torch")
def evaluate_classifier(
    classifiers: Input[Model],
    gold: Input[Dataset],
    test: Input[Dataset],
    vanilla: Input[Dataset],
    accepted: Input[Dataset],
    retrieved: Input[Dataset],
    clap: Input[Model],
    config: dict,
    code_version: str,
    evaluation: Output[Dataset],
    classifier: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Evaluate every classifier on the test split, with intervals and the leak guard.

    Args:
        classifiers: all models, from train_classifier.
        gold: training and validation clips, from prepare_dataset.
        test: test clips, from prepare_dataset; no other stage receives them.
        vanilla: generated clips of the unaligned model, from synthesize_audio.
        accepted: accepted synthetic clips of all recipes, from filter_audio.
        retrieved: clips of the pretraining corpus, from retrieve_audio.
        clap: pretrained CLAP, from pretrain_clap; its embeddings find near-duplicates.
        evaluation: evaluation.json (with the health of the test split) and predictions.npz.
        classifier: the delivered classifier, with a model card.
    """
    from components.evaluate_classifier.run import run

    metrics.metadata |= run(
        classifiers.path,
        gold.path,
        test.path,
        vanilla.path,
        accepted.path,
        retrieved.path,
        clap.path,
        evaluation.path,
        classifier.path,
        metrics.path,
        config=config,
        code_version=code_version,
    )
