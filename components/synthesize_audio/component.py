from typing import Optional

from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.catalogue import component


@component("Generate clips", "diffusion")
def synthesize_audio(
    t2a: Input[Model],
    gold: Input[Dataset],
    config: dict,
    code_version: str,
    synthetic: Output[Dataset],
    metrics: Output[Metrics],
    aligned: Optional[Input[Model]] = None,
    prompts: Optional[Input[Dataset]] = None,
    retrieved: Optional[Input[Dataset]] = None,
) -> None:
    """Generate audio for prompts; without prompts, for the template captions of every gold training clip.

    Args:
        t2a: unaligned text-to-audio model, from pretrain_t2a.
        gold: real clips, from prepare_dataset; give durations and loudness.
        synthetic: generated clips as an AudioFolder, with their provenance.
        aligned: aligned models, from align_t2a; needed by prompts of aligned recipes.
        prompts: captions to generate, from augment_captions or revise_captions.
        retrieved: corpus clips to start from, from retrieve_audio; needed by recipes that start from them.
    """
    from components.synthesize_audio.run import run

    metrics.metadata |= run(
        t2a.path,
        gold.path,
        synthetic.path,
        metrics.path,
        config=config,
        code_version=code_version,
        aligned_path=aligned.path if aligned else None,
        prompts_path=prompts.path if prompts else None,
        retrieved_path=retrieved.path if retrieved else None,
    )
