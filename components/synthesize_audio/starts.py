"""What clips start from in place of noise: the gold clip that they augment, or a corpus clip of its label."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from common.config.recipes import LOSERS, OF_LABEL
from common.config.t2a import SynthesizeAudioPlan
from common.records.audio_folder import clip_path, read_clips
from common.records.clips import Prompt, SyntheticClip
from common.records.gold import GoldSet
from common.storage.artifacts import file_hash
from components.synthesize_audio.requests import Source, recipe_of

_Class = tuple[int, frozenset[str]]
"""A replicate and the labels of a clip."""


def find_starts(
    prompts: Sequence[Prompt], plan: SynthesizeAudioPlan, gold: GoldSet, retrieved: Path | None
) -> tuple[dict[str, Source], set[str]]:
    """Find the clips whose noised latents prompts start from (SDEdit, arXiv 2108.01073).

    The prompts of a class take the corpus clips of its label in turn. A class that the corpus does not know starts from
    noise. Losers always do.

    Args:
        retrieved: artifact of `retrieve_audio`; None = no corpus clips.

    Returns sources by prompt id, where clips do not start from noise; and ids of prompts that were to start from corpus
    clips, in replicates for which the corpus holds no clip of any label.
    """
    level = plan.settings.noise_level
    sources: dict[str, Source] = {}
    waiting: dict[_Class, list[Prompt]] = {}
    for prompt in sorted(prompts, key=lambda prompt: prompt.prompt_id):
        if recipe_of(prompt, plan.recipes).start == "corpus":
            waiting.setdefault((prompt.replicate, frozenset(prompt.labels)), []).append(prompt)
        elif plan.settings.start == "source" and prompt.recipe != LOSERS.name:
            clip = gold.clips[prompt.source_clip_id]
            path = clip_path(gold.path, clip)
            sources[prompt.prompt_id] = Source(str(path), file_hash(path), level, clip.duration_s)
    held: dict[_Class, list[SyntheticClip]] = {}
    if waiting and retrieved:
        for found in read_clips(retrieved, SyntheticClip):
            if found.recipe == OF_LABEL.name:
                held.setdefault((found.replicate, frozenset(found.labels)), []).append(found)
        for kind, own in waiting.items():
            for prompt, found in zip(own, cycle(held.get(kind, [])), strict=False):
                path = clip_path(retrieved, found)
                key = str(found.sampler["corpus_clip"])
                sources[prompt.prompt_id] = Source(str(path), file_hash(path), level, found.duration_s, key)
    known = {replicate for replicate, _ in held}
    lost = {prompt.prompt_id for (replicate, _), own in waiting.items() if replicate not in known for prompt in own}
    return sources, lost
