from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

from components.catalogue import component


@component("Report", "torch")
def report(
    evaluation: Input[Dataset],
    gold: Input[Dataset],
    corpus: Input[Dataset],
    t2a: Input[Model],
    aligned: Input[Model],
    clap: Input[Model],
    classifiers: Input[Model],
    captions: Input[Dataset],
    prompts: Input[Dataset],
    vanilla: Input[Dataset],
    accepted: Input[Dataset],
    rejected: Input[Dataset],
    config: dict,
    code_version: str,
    results: Output[Dataset],
    html: Output[HTML],
    markdown: Output[Markdown],
    confusion: Output[ClassificationMetrics],
    metrics: Output[Metrics],
) -> None:
    """Write the report: verdict, tables, players, curves, data health, provenance.

    Args:
        evaluation: test figures, from evaluate_classifier.
        gold: real clips, from prepare_dataset.
        corpus: pretraining corpus, from prepare_corpus.
        t2a: text-to-audio model, from pretrain_t2a.
        aligned: aligned models, from align_t2a.
        clap: fine-tuned CLAP, from finetune_clap.
        classifiers: trained classifiers and their selection, from train_classifier.
        captions: captions of the gold clips, from caption_clips.
        prompts: prompts of the last round; hold the captions' account of all rounds.
        vanilla: clips of the unaligned model, from synthesize_audio.
        accepted: accepted synthetic clips of all rounds, from the last filter_audio.
        rejected: clips that the first round rejected; later rounds may reject none.
        results: report.json and report.html.
        html: the report, shown on the run's page.
        markdown: verdict and table of methods, shown on the run's page.
        confusion: confusion matrix of the delivered classifier; empty where clips have several labels.
    """
    from components.report.run import run

    inputs = {
        "evaluation": evaluation,
        "gold": gold,
        "corpus": corpus,
        "t2a": t2a,
        "aligned": aligned,
        "clap": clap,
        "classifiers": classifiers,
        "captions": captions,
        "prompts": prompts,
        "vanilla": vanilla,
        "accepted": accepted,
        "rejected": rejected,
    }
    figures, labels, matrix = run(
        {name: artifact.path for name, artifact in inputs.items()},
        results.path,
        html.path,
        markdown.path,
        confusion.path,
        metrics.path,
        config=config,
    )
    metrics.metadata |= figures
    if matrix is not None:
        confusion.log_confusion_matrix(labels, matrix)
