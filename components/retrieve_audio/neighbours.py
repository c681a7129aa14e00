"""Nearest clips of a corpus too large for memory, and which gold clip each of them goes to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Match(NamedTuple):
    """Corpus clip `place` goes to gold clip `query` as its neighbour number `rank`, the nearest being 0."""

    query: int
    place: int
    rank: int
    cosine: float


class Nearest:
    """The `keep` nearest corpus clips of each query, of all that were added so far.

    Memory grows with queries times `keep`, not with the corpus.

    Args:
        queries: (Q, D) float32, rows of norm 1.
        keep: neighbours of each query.

    Attributes:
        cosines: (Q, at most `keep`), falling along each row; equals keep the order of the corpus.
        places: the corpus places that they belong to.
        seen: corpus clips added.
    """

    def __init__(self, queries: Floats, keep: int) -> None:
        self._queries, self._keep = queries, keep
        self.cosines = np.zeros((len(queries), 0), np.float32)
        self.places = np.zeros((len(queries), 0), np.int64)
        self.seen = 0

    def add(self, embeddings: Floats) -> None:
        """The next clips of the corpus: (B, D), rows of norm 1."""
        places = np.broadcast_to(
            np.arange(self.seen, self.seen + len(embeddings)), (len(self._queries), len(embeddings))
        )
        cosines = np.concatenate([self.cosines, self._queries @ embeddings.T], axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, : self._keep]
        self.cosines = np.take_along_axis(cosines, order, axis=1)
        self.places = np.take_along_axis(np.concatenate([self.places, places], axis=1), order, axis=1)
        self.seen += len(embeddings)


def assign(cosines: Floats, places: NDArray[np.int64], per_query: int) -> list[Match]:
    """Up to `per_query` corpus clips for each query, every corpus clip at most once.

    The most similar pair goes first. A corpus clip near several gold clips, possibly of different classes, goes
    to the nearest one only: it would otherwise enter training several times, under contradictory labels.

    Args:
        cosines: (Q, K), as `Nearest` has them; K of `per_query` · Q, or the whole corpus, leaves no query short.
        places: (Q, K).
        per_query: clips wanted for each query.
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
