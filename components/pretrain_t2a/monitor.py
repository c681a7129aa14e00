"""Monitoring of the training: clips generated at intervals, kept to listen to and scored by CLAP."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from common.audio.mel import png, spectrogram
from common.audio.signal import to_mono, write_flac
from common.clap.figures import frechet_distance, kernel_distance
from common.clap.scorer import ClapScorer
from common.config.t2a import MonitorConfig
from common.corpus.shards import Corpus, CorpusLatent
from common.diffusion.backend import T2ABackend
from common.diffusion.sampling import sample_each
from common.log import event, get_logger
from common.runtime.seeding import derive_seed
from common.storage import ObjectStore, unless_away, write_bytes, write_json

DISTANCE = "clap_kernel"
"""Curve figure behind `keep_best_by: clap_distance`."""
FOLDER = "monitor"
KEPT = 4
"""Number of monitored steps whose clips are kept, the newest ones."""

log = get_logger("pretrain_t2a")


@dataclass(frozen=True)
class Judge:
    """Scores generated clips with CLAP, by its embeddings of held-out clips `(N, E)` and of captions `(M, E)`."""

    scorer: ClapScorer
    real: NDArray[np.float32]
    texts: NDArray[np.float32]

    def figures(self, clips: Sequence[NDArray[np.float32]], sample_rate_hz: int) -> dict[str, float]:
        """CLAP distances of generated to real clips (T,), and the CLAP score of clips and captions."""
        made = self.scorer.embed_audio(clips, sample_rate_hz)
        return {
            "clap_frechet": frechet_distance(self.real, made),
            DISTANCE: kernel_distance(self.real, made),
            "clap_score": float((made * self.texts).sum(1).mean()),
        }


def make_judge(clap_path: Path, corpus: Corpus, backend: T2ABackend, held_out: Sequence[CorpusLatent]) -> Judge | None:
    """Judge from held-out clips: the corpus's audio, or decoded latents where it has none; None for fewer than two."""
    if len(held_out) < 2:
        return None
    scorer = ClapScorer.load(clap_path, device=str(backend.device))
    has_audio = any(shard.kind == "audio" and shard.split == "heldout" for shard in corpus.shards)
    if has_audio:
        clips = islice(corpus.audio("heldout"), len(held_out))
        real = np.concatenate([scorer.embed_audio([to_mono(c.audio)], c.sample_rate_hz) for c in clips])
    else:
        decoded = (backend.decode_mono(torch.from_numpy(clip.latent), clip.duration_s) for clip in held_out)
        real = scorer.embed_audio(decoded, backend.sample_rate_hz)
    return Judge(scorer, real, scorer.embed_text([clip.caption.lower() for clip in held_out]))


class Monitor:
    """Generates clips for fixed prompts, which are kept, and for held-out captions, which are scored.

    All processes generate, since weights may be sharded over them; only the first one scores and stores.

    Args:
        judge: None except in the first process with a CLAP.
        store: receives clips and spectrograms; None except in the first process.
        steps: last step of the training, which is monitored too.
    """

    def __init__(
        self,
        backend: T2ABackend,
        config: MonitorConfig,
        held_out: Sequence[CorpusLatent],
        *,
        judge: Judge | None,
        store: ObjectStore | None,
        seed: int,
        steps: int,
    ) -> None:
        self._backend, self._config, self._judge, self._store = backend, config, judge, store
        self._seed, self._steps = seed, steps
        self._captions = [clip.caption for clip in held_out[: config.clips]]
        self._durations = [clip.duration_s for clip in held_out[: config.clips]]
        different = dict.fromkeys(clip.caption for clip in held_out)
        self.prompts = list(config.prompts) or list(different)[: config.prompt_count]

    def __call__(self, step: int) -> dict[str, float]:
        """Generate and score clips after `step` steps; empty at steps that are not monitored."""
        if step % self._config.every and step < self._steps:
            return {}
        window = [self._backend.window_s] * len(self.prompts)
        heard = self._generate(self.prompts, window, "prompt")
        if self._store is not None:
            with unless_away(log, f"the clips to listen to of step {step}"):
                self._keep(step, heard)
        measured = self._generate(self._captions, self._durations, "held out")
        if self._judge is None or len(measured) < 2:
            return {}
        figures = self._judge.figures(measured, self._backend.sample_rate_hz)
        event(log, "monitor", step=step, clips=len(measured), **figures)
        return figures

    def _generate(self, captions: Sequence[str], durations_s: Sequence[float], name: str) -> list[NDArray[np.float32]]:
        seeds = [derive_seed(self._seed, "monitor", name, row) for row in range(len(captions))]
        made = dict(sample_each(self._backend, captions, durations_s, seeds, self._config.sampler))
        return [self._backend.decode_mono(made[row], duration_s) for row, duration_s in enumerate(durations_s)]

    def _keep(self, step: int, clips: Sequence[NDArray[np.float32]]) -> None:
        store, rate = self._store, self._backend.sample_rate_hz
        if store is None or not clips:
            return
        with TemporaryDirectory(prefix="monitor-") as temporary:
            folder = Path(temporary)
            for number, clip in enumerate(clips):
                write_flac(folder / f"{number:02d}.flac", clip, rate)
                write_bytes(folder / f"{number:02d}.png", png(spectrogram(clip, rate)))
            write_json(folder / "prompts.json", self.prompts)
            for file in sorted(folder.iterdir()):
                store.upload(f"step-{step}/{file.name}", file)
        keys: dict[int, list[str]] = {}
        for key in store.list():
            keys.setdefault(int(key.split("/")[0].removeprefix("step-")), []).append(key)
        for old in sorted(keys)[:-KEPT]:
            for key in keys[old]:
                store.delete(key)


def collect(store: ObjectStore, target: Path) -> None:
    """Copy the stored clips and spectrograms to `target/monitor`."""
    for key in store.list():
        store.download(key, target / FOLDER / key)


def discard(store: ObjectStore) -> None:
    """Delete the stored clips and spectrograms."""
    for key in list(store.list()):
        store.delete(key)
