"""Reads gold clips and their captions, drafts new captions per source and replicate, writes prompts and figures."""

from functools import partial
from pathlib import Path
from typing import Any

from common.captions.asking import Desk
from common.captions.writers import Written, open_desk, write_once
from common.config.captions import AugmentCaptionsPlan, WriterConfig
from common.config.recipes import LOSERS, CaptionSource
from common.contracts.base import write
from common.contracts.generation import CaptionAccount, Tally, WritingRound
from common.records.clips import Caption, read_records, write_records
from common.records.gold import GoldSet
from common.runtime.stage import Figures, stage
from common.storage.items import ItemStore
from components.augment_captions.augmentation import flat_figures, source_account, write_drafts

NAME = "augment_captions"
REFERENCES: tuple[CaptionSource, ...] = ("template", "label_only")
"""Caption sources measured for comparison; the embedded grammar writes those that the run does not use."""


def run(
    gold_path: str,
    captions_path: str,
    prompts_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
) -> Figures:
    """Write the prompts of round 0 for every recipe, replicate and training clip; without recipes there are none.

    `synthesize_audio` makes the template prompts of the unaligned model (`LOSERS`) itself.
    """
    plan = AugmentCaptionsPlan.model_validate(config)
    recipes = [recipe for recipe in plan.recipes if recipe.name != LOSERS.name]
    artifacts = {"gold": gold_path, "captions": captions_path}
    with stage(NAME, config, metrics_path, {"prompts": prompts_path}, artifacts) as running:
        captions = {each.clip_id: each for each in read_records(Path(captions_path) / "captions.jsonl", Caption)}
        gold, store, settings = GoldSet(gold_path), ItemStore(NAME, code_version, scope=plan.scope), plan.settings

        def drafts_of(source: CaptionSource, replicate: int, desk: Desk) -> Written:
            clips = gold.train(replicate)
            size: dict[str, Any] = {"factor": plan.captions_per_clip, "domain": plan.domain, "replicate": replicate}
            return write_once(
                store,
                settings.writer,
                partial(write_drafts, source, clips, captions, desk, settings, **size),
                source=source,
                writer=desk.writer_name,
                clips=[[clip.clip_id, clip.label_id, clip.labels] for clip in clips],
                captions=[known.caption if (known := captions.get(clip.clip_id)) else "" for clip in clips],
                captions_per_call=settings.captions_per_call,
                pool_share=settings.pool_share,
                **size,
            )

        sources = sorted({recipe.captions for recipe in recipes})
        with open_desk(plan.settings.writer, scope=plan.scope) as desk:
            drafts = {
                source: [drafts_of(source, replicate, desk) for replicate in plan.replicates] for source in sources
            }
        prompts = [
            draft.model_copy(update={"recipe": recipe.name})
            for recipe in recipes
            for written in drafts[recipe.captions]
            for draft in written.prompts
            if recipe.filter or draft.index < plan.augmentation_factor
        ]
        write_records(Path(prompts_path) / "prompts.jsonl", prompts)
        with open_desk(WriterConfig(backend="grammar", grammar=plan.settings.writer.grammar)) as grammar:
            references = {
                source: [drafts_of(source, replicate, grammar) for replicate in plan.replicates]
                for source in REFERENCES
                if recipes and source not in drafts
            }
        every = drafts | references
        report = {source: source_account(found, in_run=source in drafts) for source, found in every.items()}
        how = sum((written.tally for found in drafts.values() for written in found), start=Tally())
        now = sum((written.now for found in every.values() for written in found), start=Tally())
        rounds = [WritingRound(round=0, prompts=len(prompts), how=how)]
        account = CaptionAccount(writer=desk.writer_name, sources=report, rounds=rounds)
        write(Path(prompts_path) / "captions.json", account)
        running.record({"prompts": len(prompts), "writer": desk.writer_name, **flat_figures(report, how, now)})
    return running.figures
