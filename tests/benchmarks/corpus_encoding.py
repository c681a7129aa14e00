"""Encoding of a corpus of recordings: CPU time of two processes, and cost and memory per clip as the corpus grows.

Each measurement is a process of its own that runs the whole stage: caption index, reading, FLAC and latent shards,
manifest. The many clips are names of few files, so that nothing but the number of clips grows.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.benchmarks.figures import Figure, publish

RATE_HZ = 8000
SIZES = (100, 1000, 10_000, 100_000)
LONG_CLIPS, LONG_S, SHORT_S = 192, 2.0, 0.064
_FILES_PER_FOLDER = 1000
_ORIGINALS = 64


@dataclass(frozen=True)
class Job:
    """One run of the stage.

    Attributes:
        folder: with `audio/` and `captions.csv`; everything else is written there as well.
        clips_per_shard: of the corpus.
        duration_s: of a clip.
        workers: processes.
        vae: `spectral`, or the folder of a pipeline.
    """

    folder: str
    clips_per_shard: int
    duration_s: float
    workers: int
    vae: str = "spectral"


class Cost(NamedTuple):
    """Of one run, without imports.

    Attributes:
        cpu_s: of all its processes.
        peak_bytes: most memory that its first process held, with one worker the only one.
        grown_bytes: of those, what came after the imports.
    """

    cpu_s: float
    peak_bytes: float
    grown_bytes: float


def figures(sizes: tuple[int, ...] = SIZES, long_clips: int = LONG_CLIPS) -> list[Figure]:
    """The figures of corpus encoding.

    Args:
        sizes: numbers of short clips, at least two, smallest first.
        long_clips: how many to encode with one process and with two.
    """
    with tempfile.TemporaryDirectory(prefix="synthio-corpus-") as scratch:
        two = _two_processes(Path(scratch) / "long", long_clips)
        costs = {clips: _short(Path(scratch) / str(clips), clips) for clips in sizes}
    first, last = sizes[0], sizes[-1]
    # Tests measure fewer.
    most = max((clips for clips in sizes if clips <= 10_000), default=last)
    told = ", ".join(f"{1e3 * costs[clips].cpu_s / clips:.2f} ms at {clips}" for clips in sizes)
    grown = ", ".join(f"{costs[clips].grown_bytes / 1e6:.0f} MB at {clips}" for clips in sizes)
    return [
        two,
        Figure(
            f"corpus encoding: memory with {most} clips against {first}",
            costs[most].peak_bytes / costs[first].peak_bytes, "<=", 1.1, "x",
            f"{costs[most].peak_bytes / 1e6:.0f} MB", f"{costs[first].peak_bytes / 1e6:.0f} MB",
            f"one process; beyond what it holds after its imports: {grown}",
        ),
        Figure(
            f"corpus encoding: CPU time per clip with {last} clips against {sizes[1]}",
            costs[last].cpu_s / last / (costs[sizes[1]].cpu_s / sizes[1]), "<=", 1.15, "x",
            f"{1e3 * costs[last].cpu_s / last:.2f} ms", f"{1e3 * costs[sizes[1]].cpu_s / sizes[1]:.2f} ms",
            f"clips of {SHORT_S * 1000:.0f} ms; fixed costs included: {told}",
        ),
    ]  # fmt: skip


def _two_processes(folder: Path, clips: int) -> Figure:
    _write_clips(folder, clips, LONG_S, _ORIGINALS)
    _write_autoencoder(folder)
    jobs = {
        workers: Job(str(folder), max(1, clips // 8), LONG_S, workers, str(folder / "published")) for workers in (1, 2)
    }
    # In turn, so that another load on the machine meets both.
    costs = [{workers: _measure(job).cpu_s for workers, job in jobs.items()} for _ in range(2)]
    one, two = (min(cost[workers] for cost in costs) for workers in (1, 2))
    return Figure(
        "corpus encoding: CPU-seconds of two processes against one",
        two / one, "<=", 1.15, "x", f"{two:.1f} s", f"{one:.1f} s",
        f"{clips} clips of {LONG_S:.0f} s, learned autoencoder, eight shards",
    )  # fmt: skip


def _short(folder: Path, clips: int) -> Cost:
    _write_clips(folder, clips, SHORT_S, _ORIGINALS)
    return _measure(Job(str(folder), min(500, clips // 2), SHORT_S, 1))


def _write_clips(folder: Path, clips: int, duration_s: float, originals: int) -> None:
    """`audio/` with links to a few files in turn (a file system bounds the links to one), and a caption for each."""
    import soundfile

    rng = np.random.default_rng(0)
    samples = round(duration_s * RATE_HZ)
    (folder / "originals").mkdir(parents=True)
    files = [folder / "originals" / f"{index}.flac" for index in range(max(originals, clips // 10_000))]
    for index, file in enumerate(files):
        tone = 0.3 * np.sin(np.arange(samples) * (0.05 + 0.01 * index)) + rng.normal(0, 0.02, samples)
        soundfile.write(file, tone, RATE_HZ)
    with (folder / "captions.csv").open("w", encoding="utf-8") as captions:
        captions.write("file,caption\n")
        for index in range(clips):
            name = f"{index // _FILES_PER_FOLDER:04d}/{index:07d}.flac"
            (folder / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(files[index % len(files)], folder / "audio" / name)
            captions.write(f"{name},tone {index % 97} with noise {index % 89}\n")


def _write_autoencoder(folder: Path) -> None:
    from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

    vae = AutoencoderOobleck(
        encoder_hidden_size=16,
        downsampling_ratios=[4, 8, 16],
        channel_multiples=[1, 2, 4],
        decoder_channels=4,
        decoder_input_channels=8,
        audio_channels=1,
        sampling_rate=RATE_HZ,
    )
    vae.save_pretrained(folder / "published" / "vae")


def _measure(job: Job) -> Cost:
    """The cost of a job in a fresh process with an empty store."""
    with tempfile.TemporaryDirectory(dir=job.folder) as store:
        environment = {**os.environ, "SYNTHIO_STORE": store, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.benchmarks.corpus_encoding", "--job", json.dumps(asdict(job))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"measuring {job} failed:\n{done.stderr[-2000:]}")
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def _run(job: Job) -> Cost:
    import common.runtime.parallel
    from common.config.corpus import PrepareCorpusConfig, SpectralCodecConfig
    from components.prepare_corpus import encoding, recordings
    from components.prepare_corpus.run import run

    # Imported for what they import: the start is not what grows.
    del encoding, recordings
    common.runtime.parallel.cpu_count = lambda: job.workers
    settings = PrepareCorpusConfig(
        source="folder",
        audio_dir=f"{job.folder}/audio",
        captions_file=f"{job.folder}/captions.csv",
        durations_s=(job.duration_s,),
        sample_rate_hz=RATE_HZ,
        channels=1,
        clips_per_shard=job.clips_per_shard,
        vae=job.vae,
        tokenizer="embedded",
        codec=SpectralCodecConfig(sampling_rate=RATE_HZ, n_fft=256, frame_hop=64, n_mels=16, latent_channels=8),
        codec_fit_clips=100,
    )
    config: dict[str, Any] = {"settings": settings.model_dump(mode="json"), "seed": 0}
    before, base = _cpu_s(), peak_bytes()
    with tempfile.TemporaryDirectory(dir=job.folder) as target:
        run(f"{target}/corpus", f"{target}/metrics", config=config, code_version="bench")
    return Cost(_cpu_s() - before, peak_bytes(), peak_bytes() - base)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak_bytes() -> float:
    """The most memory that this process has held; not `ru_maxrss`, which begins with that of the parent process."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024.0 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main() -> None:
    """Measure all and write `build/bench/corpus_encoding.json`; with `--job` one run, for the measurement itself."""
    if sys.argv[1:2] == ["--job"]:
        print(json.dumps(_run(Job(**json.loads(sys.argv[2])))))
        return
    publish("corpus_encoding", figures())


if __name__ == "__main__":
    main()
