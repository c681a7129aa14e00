"""Reads rejected and accepted clips, revises captions, writes the round's prompts."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from common.config.captions import ReviseCaptionsPlan
from common.config.recipes import Recipe
from common.contracts.base import read, write
from common.contracts.generation import CaptionAccount, Tally, WritingRound
from common.errors import DataError
from common.records.audio_folder import read_clips
from common.records.clips import Caption, Prompt, SyntheticClip, read_records, write_records
from common.records.gold import GoldSet
from common.runtime.stage import Figures, stage
from common.storage.items import ItemStore

NAME = "revise_captions"


def run(
    gold_path: str,
    captions_path: str,
    previous_path: str,
    accepted_path: str,
    rejected_path: str,
    prompts_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    round: int,
    code_version: str,
) -> Figures:
    """Write prompts for the rejected clips that have another round; `component.py` describes the arguments.

    Without such clips this takes a second and writes no prompts.

    Raises DataError: the clips belong to another run.
    """
    plan = ReviseCaptionsPlan.model_validate(config)
    artifacts = {"previous": previous_path, "rejected": rejected_path}
    with stage(NAME, config, metrics_path, {"prompts": prompts_path}, artifacts) as running:
        rejected = read_clips(Path(rejected_path), SyntheticClip)
        clips = [clip for clip in _due(rejected, plan.recipes, plan.rounds, round) if clip.replicate in plan.replicates]
        prompts: list[Prompt] = []
        how = now = Tally()
        if clips:
            running.verify({"gold": gold_path, "captions": captions_path, "accepted": accepted_path})
            captions = {c.clip_id: c for c in read_records(Path(captions_path) / "captions.jsonl", Caption)}
            accepted = read_clips(Path(accepted_path), SyntheticClip)
            prompts, how, now = _revise(plan, clips, accepted, GoldSet(gold_path), captions, round, code_version)
        write_records(Path(prompts_path) / "prompts.jsonl", prompts)
        account = read(CaptionAccount, Path(previous_path) / "captions.json")
        rounds = [*account.rounds, WritingRound(round=round, prompts=len(prompts), how=how)]
        write(Path(prompts_path) / "captions.json", account.model_copy(update={"rounds": rounds}))
        running.record({"rejected": len(rejected), "prompts": len(prompts), **how.figures(now)})
    return running.figures


def _due(rejected: Sequence[SyntheticClip], recipes: Sequence[Recipe], rounds: int, number: int) -> list[SyntheticClip]:
    """Select the clips for round `number`: rejected in the previous round, of recipes that have this round.

    Args:
        number: number of this round, from 1.

    Raises DataError: a clip has no recipe of the run.
    """
    allowed = {recipe.name: rounds if recipe.rounds is None else recipe.rounds for recipe in recipes}
    found = []
    for clip in rejected:
        if clip.recipe not in allowed:
            raise DataError(
                f"the rejected clip {clip.clip_id!r} has the recipe {clip.recipe!r}; expected one of "
                f"{', '.join(sorted(allowed)) or 'none'}; clips and settings must come from the same run"
            )
        if clip.round == number - 1 and number <= allowed[clip.recipe]:
            found.append(clip)
    return sorted(found, key=lambda clip: clip.clip_id)


def _revise(
    plan: ReviseCaptionsPlan,
    rejected: list[SyntheticClip],
    accepted: list[SyntheticClip],
    gold: GoldSet,
    captions: dict[str, Caption],
    number: int,
    code_version: str,
) -> tuple[list[Prompt], Tally, Tally]:
    """Revise captions by recipe and replicate; return prompts, their whole tally, and the tally of this execution."""
    # Imported here, so that a round without work takes only a second.
    from common.captions.writers import open_desk, write_once
    from components.revise_captions.revision import revise

    store = ItemStore(NAME, code_version, scope=plan.scope)
    prompts: list[Prompt] = []
    tally = now = Tally()

    def cell(clip: SyntheticClip) -> tuple[str, int]:
        return clip.recipe, clip.replicate

    with open_desk(plan.settings.writer, scope=plan.scope) as desk:
        for (recipe, replicate), group in groupby(sorted(rejected, key=cell), key=cell):
            due_clips = list(group)
            taken = [clip for clip in accepted if cell(clip) == (recipe, replicate)]
            train = gold.train(replicate)
            where: dict[str, Any] = {"domain": plan.domain, "number": number}
            written = write_once(
                store,
                plan.settings.writer,
                partial(revise, due_clips, taken, train, captions, desk, plan.settings, **where),
                recipe=recipe,
                replicate=replicate,
                pool_share=plan.settings.pool_share,
                rejected=[clip.model_dump(mode="json") for clip in due_clips],
                accepted=[[clip.clip_id, clip.labels, clip.caption] for clip in taken],
                captions=[captions[clip.clip_id].caption for clip in train if clip.clip_id in captions],
                **where,
            )
            prompts += written.prompts
            tally += written.tally
            now += written.now
    return prompts, tally, now
