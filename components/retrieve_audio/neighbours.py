"""Nearest-neighbour search in a corpus too large for memory, and assignment of corpus clips to gold clips."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Match(NamedTuple):
    """Assignment of corpus clip `place` to gold clip `query` as neighbour number `rank`; 0 = nearest."""

    query: int
    place: int
    rank: int
    cosine: float


class Nearest:
    """Running search for the `keep` nearest corpus clips of each query.

    Memory grows with queries times `keep`, not with the corpus.

    Args:
        queries: (Q, D) float32, rows of norm 1.

    Attributes:
        cosines: (Q, at most `keep`), descending along each row; ties keep the order of the corpus.
        places: corpus indices of the neighbours, in the shape of `cosines`.
        seen: number of corpus clips added.
    """

    def __init__(self, queries: Floats, keep: int) -> None:
        self._queries, self._keep = queries, keep
        self.cosines = np.zeros((len(queries), 0), np.float32)
        self.places = np.zeros((len(queries), 0), np.int64)
        self.seen = 0

    def add(self, embeddings: Floats) -> None:
        """Add the corpus's next clips, (B, D) with rows of norm 1."""
        places = np.broadcast_to(
            np.arange(self.seen, self.seen + len(embeddings)), (len(self._queries), len(embeddings))
        )
        cosines = np.concatenate([self.cosines, self._queries @ embeddings.T], axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, : self._keep]
        self.cosines = np.take_along_axis(cosines, order, axis=1)
        self.places = np.take_along_axis(np.concatenate([self.places, places], axis=1), order, axis=1)
        self.seen += len(embeddings)


def assign(cosines: Floats, places: NDArray[np.int64], per_query: int) -> list[Match]:
    """Assign up to `per_query` corpus clips to each query, every corpus clip at most once.

    Pairs are assigned greedily, most similar first. A corpus clip near several gold clips, possibly of different
    classes, goes to only one of them; otherwise it would enter training several times with contradictory labels.

    Args:
        cosines: (Q, K) from `Nearest`; K = `per_query` · Q, or the whole corpus, leaves no query short.
        places: (Q, K) from `Nearest`.
    """
    queries = np.repeat(np.arange(cosines.shape[0]), cosines.shape[1])
    taken: set[int] = set()
    counts = [0] * cosines.shape[0]
    found = []
    for flat in np.argsort(-cosines.ravel(), kind="stable"):
        query, place = int(queries[flat]), int(places.ravel()[flat])
        if counts[query] < per_query and place not in taken:
            found.append(Match(query, place, counts[query], float(cosines.ravel()[flat])))
            taken.add(place)
            counts[query] += 1
    return found
