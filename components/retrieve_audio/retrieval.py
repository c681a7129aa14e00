"""The idea of the stage: find clips of the pretraining corpus that could stand in for generated ones.

A generator has to beat them, since it learned from the same corpus. Read next: nearest.py (the clips that CLAP finds
nearest), by_label.py (the clips that are called alike), copies.py (recordings that are gold clips too), found.py (what
was found, and its record), run.py (nothing to do without a method that takes them).
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean

from common.audio.signal import loudest_window, resample, to_mono, write_flac
from common.config.clap import RetrieveAudioPlan
from common.config.recipes import OF_LABEL, RETRIEVED
from common.contracts.base import write
from common.contracts.evaluation import COPIES
from common.corpus.shards import Corpus, CorpusClip, Shard, read_audio_shard, recording_of
from common.errors import DataError
from common.log import get_logger
from common.records.audio_folder import copy_audio_folder
from common.records.clips import SyntheticClip
from common.records.gold import GoldSet
from components.retrieve_audio.by_label import find_of_label
from components.retrieve_audio.copies import Copies
from components.retrieve_audio.found import Found
from components.retrieve_audio.nearest import find_nearest

log = get_logger("retrieve_audio")


def retrieve(
    plan: RetrieveAudioPlan, corpus_dir: Path, gold_dir: Path, clap: Path, target: Path, code_version: str
) -> dict[str, float]:
    """Write the corpus clips of each of the plan's recipes, for every replicate's training clips, to `target`.

    Of a clip that is longer than every training clip the loudest part of that length stands for it. Recordings that
    are training or validation clips too are left out, and named in `copies.json`.

    Returns `clips` written and `corpus_clips` searched; `mean_cosine` of the nearest ones with their gold clips; where
    the label decides `labels_without_clips`; the recordings in `copies_left_out`, if there are any.
    Raises DataError: the corpus has no audio.
    """
    gold, corpus = GoldSet(gold_dir), Corpus(corpus_dir)
    shards = corpus.shards_of("audio", "train")
    if not shards:
        raise DataError(
            f"{corpus_dir} has no audio to retrieve clips from; leave out the methods `retrieval` and `corpus_label`, "
            "or run prepare_corpus on a corpus with keep_audio: true"
        )
    train = {replicate: gold.train(replicate) for replicate in plan.replicates}
    longest_s = max(clip.duration_s for clips in train.values() for clip in clips)
    copies, figures, without = Copies(plan, gold, clap), dict[str, float](), set[int]()
    rate = next(iter(gold.clips.values())).sample_rate_hz
    while True:
        found: list[Found] = []
        if RETRIEVED in plan.recipes:
            found += find_nearest(plan, corpus_dir, shards, gold, train, clap, code_version, without)
            figures["mean_cosine"] = fmean([one.judged["nearest_similarity"] for one in found] or [0.0])
        if OF_LABEL in plan.recipes:
            found += find_of_label(corpus, shards, gold.labels, train, plan.clips_per_gold, without)
        records = _write(target, found, corpus, shards, rate, longest_s)
        # The built-in generator makes no copies. Of recordings, what takes the place of a copy may be one too.
        if corpus.manifest.get("source") == "procedural" or not copies.among(target, (record for _, record in records)):
            break
        keys = ((place, str(record.sampler["corpus_clip"])) for place, record in records)
        without.update(place for place, key in keys if recording_of(key) in copies.left_out)
    if OF_LABEL in plan.recipes:
        served = {label for one in found if one.recipe == OF_LABEL for label in one.source.labels}
        if lacking := sorted({label for clips in train.values() for clip in clips for label in clip.labels} - served):
            log.warning("labels_without_clips hint='they are trained on gold alone' labels=%s", lacking)
        figures["labels_without_clips"] = len(lacking)
    if copies.left_out:
        told = copies.told()
        write(target / COPIES, told)
        log.warning(
            "copies_left_out hint='recordings of the corpus that are training or validation clips; list the ids of "
            "such clips, or take them out of the corpus' recordings=%d validation=%d first=%s",
            told.recordings,
            told.validation,
            [(pair.clip, pair.source) for pair in told.pairs[:3]],
        )
        figures["copies_left_out"] = told.recordings
    return {"clips": len(found), "corpus_clips": sum(shard.clips for shard in shards), **figures}


def _write(
    target: Path, found: Sequence[Found], corpus: Corpus, shards: Sequence[Shard], rate: int, longest_s: float
) -> list[tuple[int, SyntheticClip]]:
    """Write what was found to `target`, at most `longest_s` of each; returns places and records, by clip id."""
    wanted: dict[int, list[Found]] = {}
    for one in found:
        wanted.setdefault(one.place, []).append(one)
    records, files = list[tuple[int, SyntheticClip]](), dict[str, Path]()
    with tempfile.TemporaryDirectory(prefix=".clips-", dir=target) as folder:
        for place, clip in _clips(corpus, shards, wanted):
            audio = resample(to_mono(clip.audio), clip.sample_rate_hz, rate)
            file = Path(folder) / f"{place}.flac"
            write_flac(file, loudest_window(audio, round(longest_s * rate)), rate)
            for one in wanted[place]:
                record = one.record(clip, min(clip.duration_s, longest_s), rate)
                records.append((place, record))
                files[record.clip_id] = file
        records.sort(key=lambda placed: placed[1].clip_id)
        copy_audio_folder(target, (record for _, record in records), files)
    return records


def _clips(corpus: Corpus, shards: Sequence[Shard], wanted: Mapping[int, object]) -> Iterator[tuple[int, CorpusClip]]:
    """The wanted clips and their places; shards without any are not opened."""
    for shard, start in zip(shards, accumulate((shard.clips for shard in shards), initial=0), strict=False):
        if any(place in wanted for place in range(start, start + shard.clips)):
            with corpus.open_shard(shard) as file:
                yield from (
                    (place, clip) for place, clip in enumerate(read_audio_shard(file), start) if place in wanted
                )
