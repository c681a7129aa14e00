from kfp.dsl import Dataset, Metrics, Output

from components.catalogue import component


@component("Prepare the pretraining corpus", "diffusion")
def prepare_corpus(config: dict, code_version: str, corpus: Output[Dataset], metrics: Output[Metrics]) -> None:
    """Build or encode the captioned pretraining corpus as shards with a manifest.

    Args:
        config: settings of this stage, resolved by plan.
        code_version: hash of this stage's source, part of the cache key.
        corpus: manifest.json, the autoencoder and tokenizer that encoded the clips, and the shards of a small corpus.
        metrics: figures for the run's page.
    """
    from components.prepare_corpus.run import run

    metrics.metadata |= run(corpus.path, metrics.path, config=config, code_version=code_version)
