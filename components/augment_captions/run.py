"""Reads gold clips and their captions, drafts new captions per source and replicate, writes prompts and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.captions.asking import Desk
from common.captions.writers import content_settings, open_desk
from common.config.captions import AugmentCaptionsPlan, WriterConfig
from common.config.recipes import LOSERS, CaptionSource
from common.contracts.base import read, write
from common.contracts.generation import CaptionAccount, Tally, WritingRound
from common.records.clips import Caption, Prompt, read_records, write_records
from common.records.gold import GoldSet
from common.runtime.stage import stage
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
) -> dict[str, float | int | str]:
    """Write the prompts of round 0 for every recipe, replicate and training clip; without recipes there are none.

    `synthesize_audio` makes the template prompts of the unaligned model (`LOSERS`) itself.
    """
    plan = AugmentCaptionsPlan.model_validate(config)
    recipes = [recipe for recipe in plan.recipes if recipe.name != LOSERS.name]
    artifacts = {"gold": gold_path, "captions": captions_path}
    with stage(NAME, config, metrics_path, {"prompts": prompts_path}, artifacts) as running:
        work = _Work(plan, gold_path, captions_path, ItemStore(NAME, code_version, scope=plan.scope))
        sources = sorted({recipe.captions for recipe in recipes})
        with open_desk(plan.settings.writer, scope=plan.scope) as desk:
            drafts = {source: [work.drafts(source, seed, desk) for seed in plan.seeds] for source in sources}
        prompts = [
            draft.model_copy(update={"recipe": recipe.name})
            for recipe in recipes
            for found, _ in drafts[recipe.captions]
            for draft in found
            if recipe.filter or draft.index < plan.augmentation_factor
        ]
        write_records(Path(prompts_path) / "prompts.jsonl", prompts)
        with open_desk(WriterConfig(backend="grammar", grammar=plan.settings.writer.grammar)) as grammar:
            references = {
                source: [work.drafts(source, seed, grammar) for seed in plan.seeds]
                for source in REFERENCES
                if recipes and source not in drafts
            }
        report = {
            source: source_account(found, in_run=source in drafts) for source, found in (drafts | references).items()
        }
        how = sum((tally for found in drafts.values() for _, tally in found), start=Tally())
        rounds = [WritingRound(round=0, prompts=len(prompts), how=how)]
        account = CaptionAccount(writer=desk.writer_name, sources=report, rounds=rounds)
        write(Path(prompts_path) / "captions.json", account)
        running.record({"prompts": len(prompts), "writer": desk.writer_name, **flat_figures(report, how, work.now)})
    return running.figures


class _Work:
    """Inputs of the stage, and the drafts of one source and replicate, found in the store or made."""

    def __init__(self, plan: AugmentCaptionsPlan, gold_path: str, captions_path: str, store: ItemStore) -> None:
        self._plan, self._store, self._gold = plan, store, GoldSet(gold_path)
        captions = read_records(Path(captions_path) / "captions.jsonl", Caption)
        self._captions = {caption.clip_id: caption for caption in captions}
        self.now = Tally()
        """Tally of the captions made in this execution, not found in the store."""

    def drafts(self, source: CaptionSource, seed: int, desk: Desk) -> tuple[list[Prompt], Tally]:
        plan = self._plan
        clips = self._gold.train(seed)

        def make(folder: Path) -> None:
            drafts, tally = write_drafts(
                source,
                clips,
                self._gold.label_ids,
                self._captions,
                desk,
                plan.settings,
                factor=plan.captions_per_clip,
                domain=plan.domain,
                seed=seed,
            )
            write_records(folder / "drafts.jsonl", drafts)
            write(folder / "tally.json", tally)
            self.now += tally

        captions = [self._captions.get(clip.clip_id) for clip in clips]
        item = self._store.get_or_make(
            make,
            source=source,
            seed=seed,
            writer=desk.writer_name,
            settings=content_settings(plan.settings.writer),
            clips=[[clip.clip_id, clip.labels, self._gold.label_ids(clip)] for clip in clips],
            captions=[caption.caption if caption else "" for caption in captions],
            factor=plan.captions_per_clip,
            domain=plan.domain,
            captions_per_call=plan.settings.captions_per_call,
            pool_share=plan.settings.pool_share,
        )
        return read_records(item / "drafts.jsonl", Prompt), read(Tally, item / "tally.json")
