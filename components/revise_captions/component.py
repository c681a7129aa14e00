from kfp.dsl import Dataset, Input, Metrics, Output

from components.catalogue import component


@component("Revise captions of rejected clips", "torch")
def revise_captions(
    gold: Input[Dataset],
    captions: Input[Dataset],
    previous: Input[Dataset],
    accepted: Input[Dataset],
    rejected: Input[Dataset],
    config: dict,
    round: int,
    code_version: str,
    prompts: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Revise the captions of rejected clips (self-reflection).

    Args:
        gold: real clips, from prepare_dataset.
        captions: captions of the gold clips, from caption_clips.
        previous: prompts of the previous round; this round extends their account of captions.
        accepted: clips accepted so far, from filter_audio.
        rejected: clips rejected in the previous round, from filter_audio.
        round: number of this round, from 1.
        prompts: prompts.jsonl of this round, and captions.json with the account of all rounds.
    """
    from components.revise_captions.run import run

    metrics.metadata |= run(
        gold.path,
        captions.path,
        previous.path,
        accepted.path,
        rejected.path,
        prompts.path,
        metrics.path,
        config=config,
        round=int(round),
        code_version=code_version,
    )
