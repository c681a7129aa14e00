"""Sub-seeds derived by name, so that results do not depend on order, workers, shards or resume point."""

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """Derive a 31-bit seed from `seed` and `names` only.

    31 bits, because KFP carries numbers as doubles and NumPy's legacy seeds are 32-bit.
    """
    text = "\0".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy generator seeded by `derive_seed(seed, *names)`."""
    return np.random.default_rng(derive_seed(seed, *names))
