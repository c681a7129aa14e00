"""Sub-seeds by name, so that results depend on neither order, workers, shards nor resume point."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """A 31-bit seed that depends only on `seed` and `names`.

    31 bits, because KFP carries numbers as doubles and NumPy's legacy seeds are 32-bit.
    """
    text = "\0".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator seeded by `derive_seed(seed, *names)`."""
    return np.random.default_rng(derive_seed(seed, *names))
