"""Miniatures of published datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes files below a root: text as it is, None as a short distinct noise."""

    def write(files: dict[str, str | None], root: str = "root") -> Path:
        for folder in {(tmp_path / root / name).parent for name in files}:
            folder.mkdir(parents=True, exist_ok=True)
        for number, (name, text) in enumerate(files.items()):
            path = tmp_path / root / name
            if text is None:
                noise = 0.1 * np.random.default_rng(number).standard_normal(1600)
                soundfile.write(path, noise, 8000, format=path.suffix[1:].upper())
            else:
                path.write_text(text, encoding="utf-8")
        return tmp_path / root

    return write
