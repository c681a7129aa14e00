"""Sub-seeds derived by name, so that results do not depend on order, workers, shards or resume point."""

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def derive_seed(seed: int, *names: str | int) -> int:
    """Derive a 31-bit seed from `seed` and `names` only.

    31 bits, because KFP carries numbers as doubles and NumPy's legacy seeds are 32-bit.
    """
    text = "\0".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy generator seeded by `derive_seed(seed, *names)`."""
    return np.random.default_rng(derive_seed(seed, *names))


def epoch_rows(count: int, size: int, step: int, seed: int, *names: str | int) -> NDArray[np.int64]:
    """Rows (size,) below `count` of batch `step`; epochs are permutations, so all rows are drawn equally often."""
    drawn, place, end = [np.empty(0, np.int64)], step * size, (step + 1) * size
    while place < end:
        epoch, offset = divmod(place, count)
        drawn.append(_epoch(count, epoch, seed, names)[offset : offset + end - place])
        place += len(drawn[-1])
    return np.concatenate(drawn)


@lru_cache(maxsize=2)
def _epoch(count: int, epoch: int, seed: int, names: tuple[str | int, ...]) -> NDArray[np.int64]:
    return numpy_generator(seed, *names, epoch).permutation(count)
