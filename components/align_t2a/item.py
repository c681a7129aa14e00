"""Alignment of one replicate as a piece of work, kept in the item store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from common.audio_folder import clip_path, load_clip, read_clips
from common.config.t2a import AlignT2AConfig, AlignT2APlan
from common.diffusion.backend import T2ABackend, load_backend, model_hash
from common.gold import GoldSet
from common.hashing import hash_file, hash_json
from common.items import ItemStore
from common.records import SyntheticClip
from common.seeding import derive_seed
from common.storage import read_json, write_json
from components.align_t2a.adapter import make_policy
from components.align_t2a.distance import Spectrum
from components.align_t2a.encoding import EncodedPairs, encode_pairs
from components.align_t2a.held_out import HeldOut, encode_held_out
from components.align_t2a.pairs import LoadedGroup, groups
from components.align_t2a.probes import Probes, choose_probes
from components.align_t2a.selection import criterion
from components.align_t2a.training import Aligned, align

MODEL, ACCOUNT, BEFORE = "model", "account.json", "before.json"

MEASURED_WITH = (
    "sampler",
    "distance_clips_per_class",
    "distance_clips",
    "held_out_clips",
    "held_out_draws",
    "peak_limit_dbfs",
)
"""Settings that the figures of an unaligned model depend on."""


@dataclass(frozen=True)
class Alignment:
    """One model to align: a replicate and a loss.

    Attributes:
        t2a: folder of the model to start from.
        gold: folder of the gold set.
        losers: folder of the generated clips.
        seed: the replicate.
        alignment: `dpo` or `erm`.
        settings: of the stage.
        losers_per_clip: generated clips that each gold clip wins against.
        store: where the aligned model is kept.
        key: of the item in the store.
    """

    t2a: Path
    gold: Path
    losers: Path
    seed: int
    alignment: Literal["dpo", "erm"]
    settings: AlignT2AConfig
    losers_per_clip: int
    store: ItemStore
    key: dict[str, Any]

    @property
    def name(self) -> str:
        """`<seed>/<alignment>`: the folder of the aligned model, and its entry in `align.json`."""
        return f"{self.seed}/{self.alignment}"


def plan_items(plan: AlignT2APlan, t2a: Path, gold: Path, losers: Path, store: ItemStore) -> list[Alignment]:
    """One item per replicate and alignment, with the content of all that it is made from in its key.

    Args:
        plan: replicates, alignments and settings.
        t2a: folder of the model to start from.
        gold: folder of the gold set.
        losers: folder of the generated clips.
        store: where aligned models are kept.
    """
    model, clips, gold_set = model_hash(t2a), read_clips(losers, SyntheticClip), GoldSet(gold)
    items = []
    for seed in plan.seeds:
        winners, held_out = gold_set.train(seed), gold_set.val(seed)
        own = [clip for group in groups(winners, clips, seed, plan.losers_per_clip) for clip in group.losers]
        content = {
            "gold": [[clip.model_dump(), hash_file(clip_path(gold, clip))] for clip in winners],
            "held_out": [[clip.model_dump(), hash_file(clip_path(gold, clip))] for clip in held_out],
            "losers": [[clip.clip_id, hash_file(clip_path(losers, clip))] for clip in own],
        }
        for alignment in plan.alignments:
            key = {
                "t2a": model,
                "content": hash_json(content),
                "seed": seed,
                "alignment": alignment,
                "settings": plan.settings.model_dump(mode="json"),
                "losers_per_clip": plan.losers_per_clip,
            }
            items.append(Alignment(t2a, gold, losers, seed, alignment, plan.settings, plan.losers_per_clip, store, key))
    return items


def device() -> str:
    """Where models are trained."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def align_item(item: Alignment) -> None:
    """Align one model unless the store has it; unfinished training goes on from its last checkpoint."""
    # Sums come out differently with other numbers of threads; a worker of several has one.
    torch.set_num_threads(1)
    item.store.get_or_make(lambda folder: _make(item, folder), **item.key)
    item.store.checkpoints(**item.key).clear()


def _make(item: Alignment, folder: Path) -> None:
    settings, seed = item.settings, derive_seed(item.seed, "align_t2a", item.alignment)
    gold = GoldSet(item.gold)
    backend = load_backend(item.t2a, device())
    pairs = encode_pairs(
        backend, _load(item, gold, backend.sample_rate_hz), settings.sampler.bucket_frames, settings.peak_limit_dbfs
    )
    heard = [clip for clip in gold.train(item.seed) if clip.label in pairs.spectra]
    clips = choose_probes(heard, settings.distance_clips_per_class, settings.distance_clips)
    probes = Probes(clips, pairs, _held_out(item, gold, backend), settings, item.seed)
    before, spectrum_before = _before(item, probes, backend)
    result = align(
        make_policy(backend, settings.adapter, settings.lora_rank, seed, settings.gradient_checkpointing),
        pairs,
        settings,
        item.alignment,
        before,
        lambda: probes.measure(backend)[0],
        seed=seed,
        name=f"align {item.name}",
        checkpoints=item.store.checkpoints(**item.key),
    )
    after, spectrum_after = probes.measure(backend)
    backend.save(folder / MODEL)
    spectra = {"gold": _mean_spectrum(pairs), "before": spectrum_before, "after": spectrum_after}
    write_json(
        folder / ACCOUNT,
        {
            "before": before,
            "after": after,
            **_account(item, pairs, result),
            "spectra_db": {name: [round(float(band), 3) for band in spectrum] for name, spectrum in spectra.items()},
            "probes": len(clips),
            "held_out_clips": sum(len(batch.clip_ids) for batch in probes.held_out),
        },
    )


def _account(item: Alignment, pairs: EncodedPairs, result: Aligned) -> dict[str, Any]:
    settings = item.settings
    return {
        "curve": result.curve,
        "during": result.during,
        "best_step": result.best_step,
        "keep_best_by": criterion(result.during, settings),
        "stopped_by": result.stopped,
        "pairs": pairs.pairs,
        "silent_losers": pairs.silent_losers,
        "silent_winners": list(pairs.silent_winners),
        "loss": settings.preference_loss if item.alignment == "dpo" else "erm",
        "beta": settings.beta,
        "adapter": settings.adapter,
    }


def _before(item: Alignment, probes: Probes, backend: T2ABackend) -> tuple[dict[str, float], Spectrum]:
    """Figures and mean spectrum of the unaligned model; kept, because all alignments of a replicate start there.

    A resumed alignment must compare with the very figures that it began with.
    """
    settings = item.settings.model_dump(mode="json")
    key: dict[str, Any] = {name: item.key[name] for name in ("t2a", "content", "seed", "losers_per_clip")}
    key["settings"] = {name: settings[name] for name in MEASURED_WITH} | {"precision": item.settings.optim.precision}

    def measure(folder: Path) -> None:
        figures, spectrum = probes.measure(backend)
        write_json(folder / BEFORE, {"figures": figures, "spectrum": spectrum.tolist()})

    found = read_json(item.store.get_or_make(measure, kind="before", **key) / BEFORE)
    return found["figures"], np.array(found["spectrum"])


def _held_out(item: Alignment, gold: GoldSet, backend: T2ABackend) -> HeldOut:
    settings = item.settings
    clips = choose_probes(gold.val(item.seed), settings.held_out_clips, settings.held_out_clips)
    loaded = ((clip, gold.load(clip, backend.sample_rate_hz)) for clip in clips)
    return encode_held_out(backend, loaded, settings.sampler.bucket_frames, settings.peak_limit_dbfs)


def _load(item: Alignment, gold: GoldSet, rate: int) -> Iterator[LoadedGroup]:
    clips = read_clips(item.losers, SyntheticClip)
    for group in groups(gold.train(item.seed), clips, item.seed, item.losers_per_clip):
        yield group, gold.load(group.winner, rate), [load_clip(item.losers, clip, rate) for clip in group.losers]


def _mean_spectrum(pairs: EncodedPairs) -> Spectrum:
    every = [spectrum for spectra in pairs.spectra.values() for spectrum in spectra]
    return sum(every[1:], start=every[0]) / len(every)
