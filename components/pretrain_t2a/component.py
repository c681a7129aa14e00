from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Pretrain text-to-audio", "nano")
def pretrain_t2a(
    corpus: Input[Dataset],
    clap: Input[Model],
    config: dict,
    code_version: str,
    t2a: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Pretrain the text-to-audio model on the corpus, or verify and pass through a finished one.

    Args:
        corpus: pretraining corpus with latents, from prepare_corpus.
        clap: from pretrain_clap; scores clips that the model generates during training.
        t2a: a diffusers pipeline directory with `training.json`.
    """
    from components.pretrain_t2a.run import run

    metrics.metadata |= run(
        corpus.path, t2a.path, metrics.path, clap_path=clap.path, config=config, code_version=code_version
    )
