"""Alignment of one replicate as a piece of work, kept in the item store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from common.audio_folder import clip_path, load_clip, read_clips
from common.config.t2a import AlignT2AConfig, AlignT2APlan
from common.diffusion.backend import StableAudio, model_hash
from common.gold import GoldSet
from common.hashing import hash_file, hash_json
from common.items import ItemStore
from common.records import SyntheticClip
from common.seeding import derive_seed
from common.storage import write_json
from components.align_t2a.adapter import make_policy
from components.align_t2a.distance import Spectrum
from components.align_t2a.encoding import EncodedPairs, encode_pairs
from components.align_t2a.pairs import LoadedGroup, groups
from components.align_t2a.probes import choose_probes, measure
from components.align_t2a.training import align

MODEL, ACCOUNT = "model", "account.json"


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
        winners = gold_set.train(seed)
        own = [clip for group in groups(winners, clips, seed, plan.losers_per_clip) for clip in group.losers]
        content = {
            "gold": [[clip.model_dump(), hash_file(clip_path(gold, clip))] for clip in winners],
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
    shutil.rmtree(item.store.work_dir(**item.key))


def _make(item: Alignment, folder: Path) -> None:
    settings, seed = item.settings, derive_seed(item.seed, "align_t2a", item.alignment)
    gold = GoldSet(item.gold)
    backend = StableAudio.load(item.t2a, device())
    pairs = encode_pairs(
        backend, _load(item, gold, backend.sample_rate_hz), settings.sampler.bucket_frames, settings.peak_limit_dbfs
    )
    probes = choose_probes(gold.train(item.seed), settings.distance_clips_per_class, settings.distance_clips)
    before, spectrum_before = measure(backend, probes, pairs, settings, item.seed)
    curve = align(
        make_policy(backend, settings.adapter, settings.lora_rank, seed),
        pairs,
        settings,
        item.alignment,
        seed=seed,
        name=f"align {item.name}",
        checkpoint_dir=item.store.work_dir(**item.key),
    )
    after, spectrum_after = measure(backend, probes, pairs, settings, item.seed)
    backend.save(folder / MODEL)
    spectra = {"gold": _mean_spectrum(pairs), "before": spectrum_before, "after": spectrum_after}
    write_json(
        folder / ACCOUNT,
        {
            "curve": curve,
            "before": before,
            "after": after,
            "spectra_db": {name: [round(float(band), 3) for band in spectrum] for name, spectrum in spectra.items()},
            "pairs": pairs.pairs,
            "silent_losers": pairs.silent_losers,
            "silent_winners": list(pairs.silent_winners),
            "probes": len(probes),
            "loss": settings.preference_loss if item.alignment == "dpo" else "erm",
            "beta": settings.beta,
            "adapter": settings.adapter,
        },
    )


def _load(item: Alignment, gold: GoldSet, rate: int) -> Iterator[LoadedGroup]:
    clips = read_clips(item.losers, SyntheticClip)
    for group in groups(gold.train(item.seed), clips, item.seed, item.losers_per_clip):
        yield group, gold.load(group.winner, rate), [load_clip(item.losers, clip, rate) for clip in group.losers]


def _mean_spectrum(pairs: EncodedPairs) -> Spectrum:
    every = [spectrum for spectra in pairs.spectra.values() for spectrum in spectra]
    return sum(every[1:], start=every[0]) / len(every)
