"""Corpus recordings that are training or validation clips of the dataset too: no method may take them.

A validation clip among them would flatter what is chosen on validation, and a training clip what splits of the training
clips choose. Copies of test clips are not known here: `evaluate_classifier` tells them.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from common.clap.copies import COMPARE_RATE_HZ, Limits, Sounds, heard_alike, near_copies
from common.clap.scorer import ClapScorer
from common.config.clap import RetrieveAudioPlan
from common.contracts.evaluation import CorpusCopies, CorpusCopy
from common.corpus.shards import recording_of
from common.records.audio_folder import load_clip
from common.records.clips import SyntheticClip
from common.records.gold import GoldSet
from common.runtime.timing import model_time

MAX_LISTED = 50
"""Number of pairs listed; all are counted."""


class Copies:
    """Copies of the gold clips that any replicate trains or validates on, among corpus clips that were found.

    `left_out` holds what was seen so far, by the key of the recording.
    """

    def __init__(self, plan: RetrieveAudioPlan, gold: GoldSet, clap: Path) -> None:
        self.left_out: dict[str, CorpusCopy] = {}
        self._gold, self._clap, self._batch_size = gold, clap, plan.settings.batch_size
        self._limits = Limits(plan.near_duplicate_cosine, plan.near_duplicate_correlation, plan.neighbours_checked)
        self._validation = {clip.clip_id for replicate in plan.replicates for clip in gold.val(replicate)}
        used = self._validation | {clip.clip_id for replicate in plan.replicates for clip in gold.train(replicate)}
        self._clips = [gold.clips[clip_id] for clip_id in sorted(used)]
        self._seen: set[str] = set()

    def among(self, folder: Path, records: Iterable[SyntheticClip]) -> bool:
        """Add to `left_out` the copies among clips of an AudioFolder that were not seen before; returns if any are."""
        new: dict[str, SyntheticClip] = {}
        for record in records:
            new.setdefault(recording_of(str(record.sampler["corpus_clip"])), record)
        fresh = [(key, record) for key, record in new.items() if key not in self._seen]
        self._seen.update(key for key, _ in fresh)
        if not fresh:
            return False

        def load(index: int, rate: int = COMPARE_RATE_HZ) -> np.ndarray:
            return load_clip(folder, fresh[index][1], rate)

        rate = self._scorer.sample_rate_hz
        found = Sounds(self._embedded([partial(load, index, rate) for index in range(len(fresh))]), load)
        pairs, _ = near_copies(found, self._own, self._limits)
        for pair in sorted(pairs, key=lambda pair: pair.correlation):
            key, clip = fresh[pair.clip][0], self._clips[pair.other]
            held = key in self.left_out and self.left_out[key].validation
            self.left_out[key] = CorpusCopy(
                clip=key,
                source=clip.source,
                validation=held or clip.clip_id in self._validation,
                correlation=round(pair.correlation, 4),
            )
        return bool(pairs)

    def told(self) -> CorpusCopies:
        """Counts, and the first copies by key."""
        pairs = [copy for _, copy in sorted(self.left_out.items())]
        held = sum(copy.validation for copy in pairs)
        return CorpusCopies(recordings=len(pairs), validation=held, pairs=pairs[:MAX_LISTED])

    @cached_property
    def _scorer(self) -> ClapScorer:
        return ClapScorer.load(self._clap, batch_size=self._batch_size)

    @cached_property
    def _own(self) -> Sounds:
        rate = self._scorer.sample_rate_hz
        made = self._embedded([partial(self._gold.load, clip, rate) for clip in self._clips])
        return Sounds(made, lambda index: self._gold.load(self._clips[index], COMPARE_RATE_HZ))

    def _embedded(self, loads: "Sequence[partial[np.ndarray]]") -> np.ndarray:
        """(N, D) embeddings at one level and over one noise floor."""
        with model_time():
            return self._scorer.embed_audio((heard_alike(load()) for load in loads), self._scorer.sample_rate_hz)
