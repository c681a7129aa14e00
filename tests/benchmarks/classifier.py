"""Ingest, log-mel features and training of the classifier (`make bench-classifier`).

Times are CPU time of one thread. Ours and the peer take turns, and the best round of each counts, so that
another load on the machine meets both.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import ASTFeatureExtractor, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from common.audio.signal import resample
from common.classifier.features import LogMel
from common.classifier.model import Classifier, build_classifier, save_classifier, with_fresh_head
from common.config.base import OptimConfig
from common.config.classifier import ASTArchitecture
from common.config.dataset import PrepareDatasetConfig
from common.config.train_classifier import TrainClassifierConfig
from common.datasets.rows import Row
from common.records.audio_folder import clip_path
from common.records.clips import GoldClip
from common.runtime.work import obtain
from common.storage.items import ItemStore
from components.prepare_dataset.clips import Clip, read_row
from components.train_classifier.ast_training import training
from components.train_classifier.budget import make_budget
from components.train_classifier.clips import ClipSet, clip_set
from components.train_classifier.job import AstJob, Pretrained
from components.train_classifier.training import Examples, train
from contrib.nano.training import load_settings
from tests.benchmarks.figures import Figure, publish
from tests.kit.clips import gold_clip, write_audio_folder
from tests.kit.hashing import hash_dir

RATE = 16000
FILES, FILE_RATE_HZ, FILE_S = 48, 44100, 10
CLIPS, EPOCHS, BATCH = 600, 10, 24
STEPS = CLIPS * EPOCHS // BATCH
LABELS = [f"class {index}" for index in range(10)]
ROUNDS = 3
NO_GPU = "no GPU on this machine; a test runs the same code at toy size"


def best_of(*tasks: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """CPU seconds of each task: its best round; tasks take turns."""
    best = [float("inf")] * len(tasks)
    for _ in range(rounds):
        for place, task in enumerate(tasks):
            start = time.process_time()
            task()
            best[place] = min(best[place], time.process_time() - start)
    return best


def log_mel_figure() -> Figure:
    """Features of ten-second clips, beside transformers' extractor."""
    extractor = ASTFeatureExtractor()
    log_mel = LogMel(extractor)
    rng = np.random.default_rng(0)
    clips = [(0.1 * rng.standard_normal(10 * RATE)).astype(np.float32) for _ in range(24)]
    ours, peer = best_of(
        lambda: log_mel(clips),
        lambda: [extractor(clip, sampling_rate=RATE, return_tensors="pt") for clip in clips],
        rounds=5,
    )
    return Figure(
        "log-mel features, 10 s clips, 128 mel bins, per core", peer / ours, ">=", 5, "x",
        f"{len(clips) / ours:.0f} clips/s", f"ASTFeatureExtractor, NumPy (no torchaudio): {len(clips) / peer:.0f} clips/s",
        "equal to 1e-5 (a test)",
    )  # fmt: skip


def ingest_figures(folder: Path) -> Iterator[Figure]:
    """Files to checked, resampled, hashed clips: what `prepare_dataset` does with a row, but for storing it."""
    rng = np.random.default_rng(0)
    moment = np.arange(FILE_S * FILE_RATE_HZ) / FILE_RATE_HZ
    settings = PrepareDatasetConfig(storage_sample_rate_hz=RATE)
    for suffix in ("wav", "flac"):
        rows = []
        for index in range(FILES):
            tone = 0.3 * np.sin(2 * np.pi * (200 + 50 * index) * moment) * np.exp(-moment % 1)
            path = folder / f"{index}.{suffix}"
            soundfile.write(path, tone + 0.01 * rng.standard_normal(len(tone)), FILE_RATE_HZ, subtype="PCM_16")
            rows.append(Row(path=path, source=path.name, label="a"))
        made = [read_row(row, settings, None) for row in rows]
        if not all(isinstance(clip, Clip) for clip in made):
            raise RuntimeError(f"the benchmark's {suffix} files were refused")
        (seconds,) = best_of(lambda rows=rows: [read_row(row, settings, None) for row in rows])
        yield Figure(
            f"ingest of {suffix.upper()} files, 10 s, 44.1 kHz mono to 16 kHz, per core",
            FILES / seconds, ">=", 100, "clips/s", "decode, check, resample, hash", "", "",
        )  # fmt: skip


def write_clips(folder: Path, seconds: float, rate: int) -> list[GoldClip]:
    """600 labelled clips as an AudioFolder."""
    rng = np.random.default_rng(0)
    records, audio = [], {}
    for index in range(CLIPS):
        label_id = index % len(LABELS)
        clip_id = f"clip{index:04d}"
        records.append(gold_clip(clip_id, LABELS[label_id], label_id, duration_s=seconds, sample_rate_hz=rate))
        tone = 0.3 * np.sin(2 * np.pi * 150 * (1 + label_id) * np.arange(round(seconds * rate)) / rate)
        audio[clip_id] = (tone + 0.05 * rng.standard_normal(len(tone))).astype(np.float32)
    write_audio_folder(folder, records, audio, rate)
    return records


class OnTheFly(torch.utils.data.Dataset[dict[str, Any]]):
    """Each item is decoded, resampled, cut at random and transformed when it is asked for.

    As in transformers' example `run_audio_classification.py`.
    """

    def __init__(self, folder: Path, records: list[GoldClip], extractor: ASTFeatureExtractor) -> None:
        self._paths = [clip_path(folder, record) for record in records]
        self._labels, self._extractor = [record.label_id for record in records], extractor
        self._samples = 160 * extractor.max_length + 240
        self._rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        audio, rate = soundfile.read(self._paths[index], dtype="float32")
        audio = resample(audio, rate, RATE)
        start = int(self._rng.integers(0, max(1, len(audio) - self._samples + 1)))
        cut = audio[start : start + self._samples]
        values = self._extractor(cut, sampling_rate=RATE, return_tensors="pt")["input_values"][0]
        return {"input_values": values, "labels": self._labels[index]}


def training_figure(folder: Path, seconds: float, rate: int, rounds: int) -> Figure:
    """A whole training from files, beside the stock Trainer."""
    gold = folder / f"gold-{seconds:g}"
    records = write_clips(gold, seconds, rate)
    base = build_classifier(load_settings().pretrain_classifier.architecture, LABELS, -6.0, 3.0, seed=0)
    save_classifier(base, folder / "base")
    optim = OptimConfig(steps=STEPS, batch_size=BATCH, learning_rate=1e-3, checkpoint_every_s=1e6)
    settings = TrainClassifierConfig(optim=optim)
    run = 0

    def ours() -> None:
        nonlocal run
        run += 1
        job = AstJob(
            name="bench", seed=0, pretrained=Pretrained(folder / "base", hash_dir(folder / "base"), None),
            labels=tuple(LABELS), multi_label=False, gold=clip_set(gold, records, lambda clip: (clip.label_id,)), synthetic=ClipSet((), gold, ()), validation=None,
            classic="none", strength=None, optim=optim, settings=settings,
            store=ItemStore("bench", "", gold / f"store-{run}"),
        )  # fmt: skip
        forget_features()
        obtain(training(job))

    ours_s, stock_s = best_of(ours, lambda: train_stock(gold, base, records), rounds=rounds)
    return Figure(
        f"AST training from files, tiny model, CPU: {CLIPS} clips of {seconds:g} s, {rate / 1000:g} kHz, {EPOCHS} epochs",
        stock_s / ours_s, ">=", 3, "x",
        f"{ours_s:.1f} s", f"transformers' Trainer, features on the fly: {stock_s:.1f} s",
        f"{STEPS} steps of {BATCH} on both sides; decoding and transforming each clip once is included in ours",
    )  # fmt: skip


def forget_features() -> None:
    """Make the next training compute its features again."""
    from components.train_classifier import ast_training

    ast_training._features.cache_clear()


def train_stock(gold: Path, base: Classifier, records: list[GoldClip]) -> None:
    """The same steps by transformers' Trainer."""
    arguments = TrainingArguments(
        output_dir=str(gold / "stock"), max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=1e-3,
        lr_scheduler_type="cosine", logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
        use_cpu=True, seed=0,
    )  # fmt: skip
    model = with_fresh_head(base, LABELS, seed=0).model
    trainer = Trainer(model=model, args=arguments, train_dataset=OnTheFly(gold, records, base.extractor))
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def real_training_s(architecture: ASTArchitecture, clips: int, epochs: int, steps: int, device: str) -> float:
    """Seconds that `epochs` over `clips` take on `device`, by the rate of `steps` steps; random weights and features."""
    model = build_classifier(architecture, LABELS, -4.27, 4.57, seed=0)
    model.model.to(device)
    labels = np.arange(clips) % len(LABELS)
    shape = (architecture.max_length, architecture.num_mel_bins)
    data = Examples([[torch.randn(shape)] for _ in range(clips)], labels)
    optim = OptimConfig(
        steps=steps, batch_size=BATCH, learning_rate=1e-5, precision="bf16", record_every=1, checkpoint_every_s=1e6
    )
    budget = make_budget(
        labels, np.array([], dtype=np.int64), steps=steps, batch_size=BATCH, synthetic_fraction=0.5,
        seed=0,
    )  # fmt: skip
    result = train(model, data, None, budget, optim, select_by="accuracy", specaugment=None, seed=0)
    return clips * epochs / float(result["curve"].speed["clips_per_s"])


def gpu_figure() -> Figure:
    """The real size on a GPU."""
    name = "AST training, AST base, 600 clips of 10 s, 50 epochs, bf16, one H200"
    if not torch.cuda.is_available():
        return Figure(name, None, "<=", 120, "s", reason=NO_GPU)
    seconds = real_training_s(ASTArchitecture(), CLIPS, 50, steps=100, device="cuda")
    return Figure(name, seconds, "<=", 120, "s", "by the rate of 100 steps of 24; features in memory, random weights")


def main() -> None:
    """Measure all and write `build/bench/classifier.json`."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="At least one mel filter")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        figures = [
            log_mel_figure(),
            training_figure(folder, 5.0, 44100, rounds=1),
            training_figure(folder, 1.0, RATE, rounds=2),
            gpu_figure(),
            *ingest_figures(folder),
        ]
    publish("classifier", figures)


if __name__ == "__main__":
    main()
