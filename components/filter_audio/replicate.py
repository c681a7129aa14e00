"""The filter on one replicate: read and embed its clips, calibrate the threshold, decide."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.clap.figures import kernel_distance
from common.clap.scorer import ClapScorer
from common.config.clap import FilterAudioPlan
from common.contracts.base import write
from common.contracts.generation import FilterFigures
from common.learners.front_ends import front_end, with_copies
from common.log import Progress, get_logger
from common.records.audio_folder import load_clip
from common.records.clips import GoldClip, SyntheticClip, write_records
from common.records.gold import GoldSet
from common.records.text import template_caption
from common.runtime.seeding import derive_seed
from common.storage.items import ItemStore
from components.filter_audio.filtering import Embedded, Opinion, decide
from components.filter_audio.folders import DECIDED, read_embeddings
from components.filter_audio.recordings import Fingerprints
from components.filter_audio.second_judge import FRONT_END, fit_second_judge
from components.filter_audio.thresholds import Threshold, calibrate, claim_scores, planted_trial

log = get_logger("filter_audio")


@dataclass(frozen=True)
class Replicate:
    """One item of the stage: the clips of a replicate, sorted by clip id, and the inputs of the filter."""

    replicate: int
    plan: FilterAudioPlan
    clips: tuple[SyntheticClip, ...]
    previous: tuple[SyntheticClip, ...]
    synthetic_dir: Path
    gold_dir: Path
    clap_dir: Path
    previous_dir: Path | None
    store: ItemStore
    key: dict[str, object]

    def make(self, folder: Path) -> None:
        """Write `decided.jsonl` (one line per clip), `embeddings.npy` (one row per clip) and `replicate.json`."""
        scorer = ClapScorer.load(self.clap_dir, batch_size=self.plan.settings.batch_size)
        rate = scorer.sample_rate_hz
        gold = GoldSet(self.gold_dir)
        prompts = scorer.embed_text([template_caption(label) for label in gold.labels])
        train = gold.train(self.replicate)
        threshold, figures = _calibrated(self, scorer, gold, prompts)
        opinions, trial = _opinions(self, gold)
        load = _loader(self, gold, rate)
        with closing(Fingerprints(lambda clip_id: scorer.features.spectrogram(load(clip_id)))) as marks:
            references = Embedded(
                tuple(clip.clip_id for clip in train),
                scorer.embed_audio(
                    (gold.load(clip, rate) for clip in train), rate, lambda i, heard: marks.put(train[i].clip_id, heard)
                ),
            )
            embeddings = _embed(self, scorer, load, marks)
            decided = decide(
                self.clips,
                gold.targets(self.clips),
                embeddings,
                prompts,
                references,
                _accepted_before(self),
                marks.get,
                threshold,
                self.plan.settings,
                {recipe.name: recipe.filter for recipe in self.plan.recipes},
                opinions,
            )
        write_records(folder / DECIDED, decided)
        np.save(folder / "embeddings.npy", embeddings)
        distances = _distances(decided, embeddings, references.embeddings)
        told = figures.model_copy(update={"second_planted": trial, "kernel_distance": distances})
        write(folder / "replicate.json", told)


def _calibrated(
    job: Replicate, scorer: ClapScorer, gold: GoldSet, prompts: np.ndarray
) -> tuple[Threshold, FilterFigures]:
    """Threshold from the gold validation clips, and its figures."""
    rate = scorer.sample_rate_hz
    validation = gold.val(job.replicate)
    claims, mains = gold.targets(validation), [clip.label_id for clip in validation]
    similarity = scorer.embed_audio((gold.load(clip, rate) for clip in validation), rate) @ prompts.T
    scores, margins = claim_scores(similarity, claims)
    threshold = calibrate(job.plan.settings.threshold, scores, margins)
    return threshold, FilterFigures(
        threshold=threshold,
        gold_scores=scores.tolist(),
        gold_margins=margins.tolist(),
        planted=planted_trial(threshold.passes, similarity, claims, mains) if validation else {},
        second_planted={},
        kernel_distance={},
    )


def _opinions(job: Replicate, gold: GoldSet) -> tuple[dict[str, Opinion], dict[str, float]]:
    """Opinions of the second judge by clip id, and its trial on gold training clips; empty if there is none."""
    config, filtered = job.plan.settings.second_judge, {recipe.name for recipe in job.plan.recipes if recipe.filter}
    asked = [clip for clip in job.clips if clip.signal == "ok" and clip.recipe in filtered]
    if config.kind == "none" or not asked:
        return {}, {}
    hears, train = front_end(FRONT_END), gold.train(job.replicate)
    rate = hears.sample_rate_hz
    load = _loader(job, gold, rate)
    features = [with_copies(hears, load(clip.clip_id), clip.clip_id) for clip in train]
    claims, seed = gold.targets(train), derive_seed(job.replicate, "second judge")
    judge = fit_second_judge(features, train, claims, gold.multi_label, config, seed)
    if judge is None:
        log.warning(
            "no_second_judge replicate=%d hint='it needs two groups of gold clips, and a class of two clips'",
            job.replicate,
        )
        return {}, {}
    heard = judge.hear([hears([load(clip.clip_id)])[0] for clip in asked], [clip.source_clip_id for clip in asked])
    opinions = judge.opinions(heard, gold.targets(asked))
    own = judge.hear([rows[0] for rows in features], [clip.clip_id for clip in train])
    trial = planted_trial(judge.passes, own, claims, [clip.label_id for clip in train])
    return {clip.clip_id: opinion for clip, opinion in zip(asked, opinions, strict=True)}, trial


def _embed(job: Replicate, scorer: ClapScorer, load: Callable[[str], np.ndarray], marks: Fingerprints) -> np.ndarray:
    """Embeddings (N, D) of all clips, zero where the signal checks failed; also stores the fingerprints."""
    sound = [row for row, clip in enumerate(job.clips) if clip.signal == "ok"]
    progress = Progress(log, "clips_scored", len(sound))

    def heard(index: int, spectrogram: np.ndarray) -> None:
        marks.put(job.clips[sound[index]].clip_id, spectrogram)
        progress.advance()

    embeddings = np.zeros((len(job.clips), scorer.dim), np.float32)
    embeddings[sound] = scorer.embed_audio(
        (load(job.clips[row].clip_id) for row in sound), scorer.sample_rate_hz, heard
    )
    return embeddings


def _loader(job: Replicate, gold: GoldSet, rate: int) -> Callable[[str], np.ndarray]:
    """Loads any clip of the replicate by its clip id, mono `(T,)` float32 at `rate`."""
    places: dict[str, tuple[Path, GoldClip | SyntheticClip]] = {
        clip.clip_id: (folder, clip)
        for folder, clips in (
            (gold.path, gold.train(job.replicate)),
            (job.synthetic_dir, job.clips),
            (job.previous_dir, job.previous),
        )
        if folder is not None
        for clip in clips
    }
    return lambda clip_id: load_clip(*places[clip_id], rate)


def _accepted_before(job: Replicate) -> Mapping[tuple[str, tuple[str, ...]], Embedded]:
    """Accepted clips of earlier rounds, by recipe and labels."""
    if job.previous_dir is None or not job.previous:
        return {}
    embeddings = read_embeddings(job.previous_dir, job.replicate)
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for row, clip in enumerate(job.previous):
        groups.setdefault((clip.recipe, clip.labels), []).append(row)
    ids = [clip.clip_id for clip in job.previous]
    return {key: Embedded(tuple(ids[row] for row in rows), embeddings[rows]) for key, rows in groups.items()}


def _distances(
    decided: Sequence[SyntheticClip], embeddings: np.ndarray, gold: np.ndarray
) -> dict[str, dict[str, float]]:
    """Kernel distance to the gold training clips by recipe, of all candidates and of accepted clips."""
    result: dict[str, dict[str, float]] = {}
    for recipe in sorted({clip.recipe for clip in decided}):
        sound = [row for row, clip in enumerate(decided) if clip.recipe == recipe and clip.signal == "ok"]
        accepted = [row for row in sound if decided[row].reason is None]
        sets = {"candidates": sound, "accepted": accepted}
        if len(gold) > 1:
            result[recipe] = {
                name: kernel_distance(gold, embeddings[rows]) for name, rows in sets.items() if len(rows) > 1
            }
    return result
