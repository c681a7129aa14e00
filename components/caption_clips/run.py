"""Reads gold training clips, captions them in batches, writes one caption per clip."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common.config.captions import CaptionClipsConfig, CaptionClipsPlan
from common.log import Progress, get_logger
from common.records.audio_folder import clips_hash
from common.records.clips import Caption, GoldClip, read_records, write_records
from common.records.gold import GoldSet
from common.runtime.seeding import derive_seed
from common.runtime.stage import Figures, stage
from common.runtime.timing import model_time
from common.storage.items import ItemStore
from components.caption_clips.acoustics import Recording
from components.caption_clips.captioning import Refusal, checked_captions, open_captioner, refuse_too_many

NAME = "caption_clips"
CAPTIONS, REFUSED = "captions.jsonl", "refused.jsonl"

log = get_logger(NAME)


def run(gold_path: str, captions_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str) -> Figures:
    """Caption the training clips of all replicates, never validation or test clips; without replicates there are none.

    Raises DataError: a larger share of captions than `max_replaced_share` failed the checks.
    """
    plan = CaptionClipsPlan.model_validate(config)
    with stage(NAME, config, metrics_path, {"captions": captions_path}, {"gold": gold_path}) as running:
        gold = GoldSet(gold_path)
        clips = sorted({clip.clip_id: clip for replicate in plan.replicates for clip in gold.train(replicate)}.items())
        captions, refusals = _caption(
            gold, [clip for _, clip in clips], plan.settings, ItemStore(NAME, code_version, scope=plan.scope)
        )
        reasons = Counter(refusal.reason for refusal in refusals)
        refuse_too_many(reasons, len(captions), plan.settings)
        write_records(Path(captions_path) / CAPTIONS, captions)
        running.record(
            {
                "captions": len(captions),
                "distinct_captions": len({caption.caption for caption in captions}),
                "words_mean": sum(len(caption.caption.split()) for caption in captions) / max(1, len(captions)),
                "replaced": len(refusals),
                **{f"replaced_{reason}": count for reason, count in sorted(reasons.items())},
            }
        )
    return running.figures


def _caption(
    gold: GoldSet, clips: Sequence[GoldClip], settings: CaptionClipsConfig, store: ItemStore
) -> tuple[list[Caption], list[Refusal]]:
    if not clips:
        return [], []
    captioner = open_captioner(settings)
    progress = Progress(log, "captions", len(clips))
    captions: list[Caption] = []
    refusals: list[Refusal] = []

    def make(batch: Sequence[GoldClip], folder: Path) -> None:
        recordings = [Recording(clip, gold.load(clip, captioner.sample_rate_hz)) for clip in batch]
        # The seed depends on the clip alone, so a clip's caption is the same in every replicate.
        seeds = [derive_seed(0, NAME, clip.clip_id) for clip in batch]
        with model_time():
            made, refused = checked_captions(recordings, seeds, captioner, settings)
        write_records(folder / CAPTIONS, made)
        write_records(folder / REFUSED, refused)

    for start in range(0, len(clips), captioner.batch_size):
        batch = clips[start : start + captioner.batch_size]
        item = store.get_or_make(
            partial(make, batch),
            clips=clips_hash(gold.path, batch),
            settings=settings.model_dump(mode="json", exclude={"max_replaced_share"}),
        )
        captions += read_records(item / CAPTIONS, Caption)
        refusals += read_records(item / REFUSED, Refusal)
        progress.advance(len(batch))
    return captions, refusals
