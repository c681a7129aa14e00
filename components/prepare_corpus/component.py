from kfp.dsl import Dataset, Metrics, Output

from components.catalogue import component


@component("Prepare the pretraining corpus", "diffusion")
def prepare_corpus(config: dict, code_version: str, corpus: Output[Dataset], metrics: Output[Metrics]) -> None:
    """Build or encode the captioned pretraining corpus as shards with a manifest.

    Args:
        corpus: manifest.json, the autoencoder and tokenizer that encoded the clips, and the shards of a small corpus.
    """
    from components.prepare_corpus.run import run

    metrics.metadata |= run(corpus.path, metrics.path, config=config, code_version=code_version)
