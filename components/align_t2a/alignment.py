"""The idea of the stage: train the text-to-audio model to prefer real clips (winners) over its own clips (losers).

One item of the store is one aligned model: a replicate and an alignment, `dpo` (preference loss) or `erm` (plain
fine-tuning); of several preference losses each is an item. Read next: `pairs.py` (winners matched with losers, equal
in level and length), `encoding.py` (their latents and conditions), `step.py` and `loss.py` (a step, diffusion-DPO and
its kin), `adapter.py` (full weights or LoRA, and the reference model), `memory.py` (pairs at a time), `probes.py`
(figures of a model, also from `distance.py`), `selection.py` (best step and early stop).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from common.config.t2a import AlignT2AConfig, AlignT2APlan
from common.contracts import generation
from common.contracts.base import write
from common.diffusion.backend import T2ABackend, load_backend
from common.log import event, get_logger
from common.records.audio_folder import clips_hash, load_clip, read_clips
from common.records.clips import SyntheticClip
from common.records.gold import GoldSet
from common.runtime.devices import device
from common.runtime.seeding import derive_seed
from common.storage import read_json, write_json
from common.storage.artifacts import artifact_hash
from common.storage.checkpoints import Checkpoints
from common.storage.items import ItemStore
from common.training import Curve, fit
from components.align_t2a.adapter import Policy, make_policy
from components.align_t2a.distance import Spectrum
from components.align_t2a.encoding import EncodedPairs, encode_pairs
from components.align_t2a.memory import fit_memory
from components.align_t2a.pairs import LoadedGroup, groups
from components.align_t2a.probes import HeldOut, HeldOutLearner, Probes, choose_probes, encode_held_out
from components.align_t2a.selection import best_step, criterion, stop_reason
from components.align_t2a.step import Figures, step_loss

log = get_logger("align_t2a")

MODEL, ACCOUNT, BEFORE = "model", "account.json", "before.json"

UNALIGNED = "alignment did not help: the unaligned model is used"
"""`note` in the account of an alignment whose every step was worse than none."""

MEASURED_WITH = (
    "sampler",
    "distance_clips_per_class",
    "distance_clips",
    "keep_best_by",
    "learner_clips_per_class",
    "held_out_clips",
    "held_out_draws",
    "peak_limit_dbfs",
)
"""Settings that determine the figures of the unaligned model."""


@dataclass(frozen=True)
class Alignment:
    """One model to align: a replicate, an alignment and a loss."""

    t2a: Path
    gold: Path
    losers: Path
    replicate: int
    alignment: Literal["dpo", "erm"]
    settings: AlignT2AConfig
    losers_per_clip: int
    store: ItemStore
    content: dict[str, str]

    @property
    def name(self) -> str:
        """`<replicate>/<alignment>`: the folder of the aligned model, and its entry in `align.json`."""
        return f"{self.replicate}/{self.alignment}"

    @property
    def key(self) -> dict[str, object]:
        """Content and settings that identify the item in the store."""
        return {**self.shared_key, "alignment": self.alignment, "settings": self.settings.model_dump(mode="json")}

    @property
    def shared_key(self) -> dict[str, object]:
        """What all alignments of a replicate share."""
        return {**self.content, "replicate": self.replicate, "losers_per_clip": self.losers_per_clip}

    def make(self, folder: Path) -> None:
        """Align the model; unfinished training resumes from its last checkpoint."""
        # Sums depend on the number of threads; each of several workers has one thread, so a single one must too.
        torch.set_num_threads(1)
        settings, seed = self.settings, derive_seed(self.replicate, "align_t2a", self.alignment)
        gold = GoldSet(self.gold)
        backend = load_backend(self.t2a, device())
        pairs = encode_pairs(
            backend, _load(self, gold, backend.sample_rate_hz), settings.sampler.bucket_frames, settings.peak_limit_dbfs
        )
        heard = [clip for clip in gold.train(self.replicate) if clip.label in pairs.spectra]
        if settings.keep_best_by == "learner_gain":
            learner = HeldOutLearner.of(gold, self.replicate)
            clips = choose_probes(heard, settings.learner_clips_per_class)
        else:
            learner, clips = None, choose_probes(heard, settings.distance_clips_per_class, settings.distance_clips)
        probes = Probes(clips, pairs, _held_out(self, gold, backend), settings, self.replicate, learner)
        before, spectrum_before = _before(self, probes, backend)
        policy = make_policy(backend, settings.adapter, settings.lora_rank, seed, settings.gradient_checkpointing)
        curve = align(
            policy,
            pairs,
            fit_memory(policy, pairs, settings),
            self.alignment,
            before,
            lambda: probes.measure(backend)[0],
            seed=seed,
            name=f"align {self.name}",
            checkpoints=self.store.checkpoints(**self.key),
        )
        during = probed(before, curve)
        after, spectrum_after = probes.measure(backend)
        backend.save(folder / MODEL)
        write(
            folder / ACCOUNT,
            generation.Alignment(
                before=dict(before),
                after=after,
                curve=curve,
                during=during,
                best_step=curve.best_step,
                keep_best_by=criterion(during, settings),
                stopped_by=stop_reason(during, settings),
                note="" if curve.best_step else UNALIGNED,
                pairs=pairs.pairs,
                silent_losers=pairs.silent_losers,
                silent_winners=list(pairs.silent_winners),
                loss=settings.preference_loss if self.alignment == "dpo" else "erm",
                beta=settings.beta,
                adapter=settings.adapter,
                spectra_db=generation.Spectra(
                    gold=_rounded(np.mean([one for spectra in pairs.spectra.values() for one in spectra], axis=0)),
                    before=_rounded(spectrum_before),
                    after=_rounded(spectrum_after),
                ),
                probes=len(clips),
                held_out_clips=sum(len(batch.clip_ids) for batch in probes.held_out),
                learner_loss_of_gold=learner.loss() if learner else None,
            ),
        )


def _rounded(spectrum: Spectrum) -> list[float]:
    return [round(float(band), 3) for band in spectrum]


def plan_items(plan: AlignT2APlan, t2a: Path, gold: Path, losers: Path, store: ItemStore) -> list[Alignment]:
    """Items of the run, one per replicate, alignment and loss; each key hashes the content of all inputs."""
    model, clips, gold_set = artifact_hash(t2a), read_clips(losers, SyntheticClip), GoldSet(gold)
    items = []
    for replicate in plan.replicates:
        winners, held_out = gold_set.train(replicate), gold_set.val(replicate)
        own = [clip for group in groups(winners, clips, replicate, plan.losers_per_clip) for clip in group.losers]
        hashes = {
            "t2a": model,
            "gold": clips_hash(gold, winners),
            "held_out": clips_hash(gold, held_out),
            "losers": clips_hash(losers, own),
        }
        for alignment, settings in _variants(plan):
            items.append(
                Alignment(t2a, gold, losers, replicate, alignment, settings, plan.losers_per_clip, store, hashes)
            )
    return items


def _variants(plan: AlignT2APlan) -> Iterator[tuple[Literal["dpo", "erm"], AlignT2AConfig]]:
    """Each alignment with its settings; `dpo` once for each loss, `erm`, which has none, once."""
    losses = plan.settings.preference_losses
    for alignment in plan.alignments:
        for loss in losses if alignment == "dpo" else losses[:1]:
            yield alignment, plan.settings.model_copy(update={"preference_loss": loss})


def _before(item: Alignment, probes: Probes, backend: T2ABackend) -> tuple[dict[str, float], Spectrum]:
    """Figures and mean spectrum of the unaligned model; stored, since all alignments of a replicate share them.

    A resumed alignment must compare with the same figures that it started from.
    """
    settings = item.settings.model_dump(mode="json")
    measured_with = {name: settings[name] for name in MEASURED_WITH} | {"precision": item.settings.optim.precision}

    def measure(folder: Path) -> None:
        figures, spectrum = probes.measure(backend)
        write_json(folder / BEFORE, {"figures": figures, "spectrum": spectrum.tolist()})

    found = read_json(
        item.store.get_or_make(measure, kind="before", settings=measured_with, **item.shared_key) / BEFORE
    )
    return found["figures"], np.array(found["spectrum"])


def _held_out(item: Alignment, gold: GoldSet, backend: T2ABackend) -> HeldOut:
    settings = item.settings
    clips = choose_probes(gold.val(item.replicate), settings.held_out_clips, settings.held_out_clips)
    loaded = ((clip, gold.load(clip, backend.sample_rate_hz)) for clip in clips)
    return encode_held_out(backend, loaded, settings.sampler.bucket_frames, settings.peak_limit_dbfs)


def _load(item: Alignment, gold: GoldSet, rate: int) -> Iterator[LoadedGroup]:
    clips = read_clips(item.losers, SyntheticClip)
    for group in groups(gold.train(item.replicate), clips, item.replicate, item.losers_per_clip):
        yield group, gold.load(group.winner, rate), [load_clip(item.losers, clip, rate) for clip in group.losers]


def probed(before: Mapping[str, float], curve: Sequence[Mapping[str, float]]) -> list[Figures]:
    """Figures of all probes with their `step`, from the rows of a curve; the first is the unaligned model at step 0."""
    first = {"step": 0.0, **before}
    return [first, *({key: row[key] for key in first} for row in curve if first.keys() <= row.keys())]


def align(
    policy: Policy,
    pairs: EncodedPairs,
    settings: AlignT2AConfig,
    alignment: Literal["dpo", "erm"],
    before: Mapping[str, float],
    probe: Callable[[], Mapping[str, float]],
    *,
    seed: int,
    name: str,
    checkpoints: Checkpoints | None = None,
) -> Curve:
    """Train `policy` on the pairs, restore its best state, and merge its adapters.

    Args:
        alignment: `dpo` uses the preference loss of `settings`; `erm` is plain fine-tuning on the
            winners' error alone, for the same number of steps.
        probe: measures the current policy; called every `probe_every` steps.

    Returns rows of `step`, `loss`, `winner_error` and `d_winner` (difference from the reference); with `dpo` also
    `loser_error`, `d_loser` and `implicit_accuracy`; at probes their figures too.
    """
    curve = fit(
        policy.trained,
        step_loss(policy, pairs, settings, alignment),
        settings.optim.model_copy(update={"evaluate_every": settings.probe_every}),
        seed=seed,
        name=name,
        checkpoints=checkpoints,
        evaluate=lambda done: probe(),
        best=lambda curve: best_step(probed(before, curve), settings),
        stop=lambda curve: bool(stop_reason(probed(before, curve), settings)),
    )
    policy.merge()
    last, stopped = int(curve[-1]["step"]), stop_reason(probed(before, curve), settings)
    event(log, "aligned_state", name=name, kept_step=curve.best_step, last_step=last, stopped_by=stopped or "-")
    if not curve.best_step:
        event(log, "unaligned_kept", name=name, note=UNALIGNED)
    return curve
