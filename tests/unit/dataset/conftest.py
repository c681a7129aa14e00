"""Small datasets on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.datasets import rows
from components.prepare_dataset.clips import Clip

Row = tuple[str, ...]


def noise(seed: int, seconds: float = 0.2, rate: int = 8000) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


@pytest.fixture
def settings() -> PrepareDatasetConfig:
    return PrepareDatasetConfig(storage_sample_rate_hz=8000)


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., DatasetSpec]:
    """Writes a CSV with one distinct noise file per path, and returns its spec."""

    def write(rows: Iterable[Row], columns: str = "path,label", **fields: object) -> DatasetSpec:
        lines = [columns]
        for number, row in enumerate(rows):
            path = tmp_path / row[0]
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, noise(number), 8000)
            lines.append(",".join(f'"{value}"' for value in row))
        labels = tmp_path / "labels.csv"
        labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return DatasetSpec.model_validate({"name": "own", "labels": labels, **fields})

    return write


def clip(number: int, label: str, split: str | None = None, group: str | None = None, content: str = "") -> Clip:
    """A checked clip, without a file."""
    source = f"{label}/{number}.wav"
    return Clip(
        clip_id=rows.Row(Path(source), source, label).clip_id,
        source=source,
        label=label,
        split=split,
        group=group,
        duration_s=1.0,
        content=content or source,
        file_duration_s=1.0,
        container="WAV",
        encoding="PCM_16",
        file_rate_hz=8000,
        file_channels=1,
        notes=(),
    )


@pytest.fixture(name="clip")
def clip_maker() -> Callable[..., Clip]:
    return clip
