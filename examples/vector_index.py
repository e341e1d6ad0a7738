"""Nearest-neighbour search with vectors and index in memory that usmd owns.

The vectors are in one region, grouped by cell: a vector's cell is that of the nearest of some hundred centroids (an
inverted file). The index is in another region: the centroids, the start of each cell, and the number and squared length
of each vector. A query compares with all centroids, then with the vectors of the few nearest cells. All of it is NumPy,
and knows nothing of pages, faults or swap.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import lib_usm

ROUNDS: Final = 4
SAMPLE_PER_CELL: Final = 32
_CHUNK: Final = 1 << 13
_ALIGNMENT: Final = 64

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]


class Found(NamedTuple):
    """The nearest vectors of a search, nearest first."""

    ids: Numbers
    distances: Vectors
    """Squared distances."""


def squares(vectors: Vectors) -> Vectors:
    """Squared length of each vector."""
    lengths: Vectors = np.einsum("ij,ij->i", vectors, vectors)
    return lengths


def nearest_cells(vectors: Vectors, centroids: Vectors) -> Numbers:
    """Number of the nearest centroid of each vector."""
    half = squares(centroids) / 2
    cells = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), _CHUNK):
        cells[start : start + _CHUNK] = (half - vectors[start : start + _CHUNK] @ centroids.T).argmin(axis=1)
    return cells


def train(vectors: Vectors, cells: int, seed: int) -> Vectors:
    """Centroids of `cells` cells, by some rounds of k-means over a sample. One without near vectors stays as it is."""
    random = np.random.default_rng(seed)
    size = min(len(vectors), cells * SAMPLE_PER_CELL)
    sample = vectors[random.choice(len(vectors), size, replace=False)]
    centroids = sample[:cells].copy()
    for _ in range(ROUNDS):
        nearest = nearest_cells(sample, centroids)
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, sample)
        counts = np.bincount(nearest, minlength=cells)
        centroids[counts > 0] = (sums[counts > 0].T / counts[counts > 0]).T
    return centroids


class VectorIndex:
    """Vectors and index in two regions, made and filled here; `close` gives them back."""

    def __init__(self, client: lib_usm.Client, vectors: Vectors, centroids: Vectors) -> None:
        count, dimensions = vectors.shape
        cells = nearest_cells(vectors, centroids)
        order = np.argsort(cells, kind="stable")
        self.vectors_region = client.mmap(vectors.nbytes, name="vectors")
        self._vectors: Vectors = self.vectors_region.ndarray(np.float32, (count, dimensions))
        sizes = (centroids.nbytes, 8 * (len(centroids) + 1), 8 * count, 4 * count)
        at = [0]
        for size in sizes:
            at.append(-(-(at[-1] + size) // _ALIGNMENT) * _ALIGNMENT)
        self.index_region = client.mmap(at[-1], name="index")
        self._centroids: Vectors = self.index_region.ndarray(np.float32, centroids.shape, at[0])
        self._begins: Numbers = self.index_region.ndarray(np.int64, (len(centroids) + 1,), at[1])
        self._ids: Numbers = self.index_region.ndarray(np.int64, (count,), at[2])
        self._squares: Vectors = self.index_region.ndarray(np.float32, (count,), at[3])
        self._centroids[:] = centroids
        self._begins[:] = np.searchsorted(cells[order], np.arange(len(centroids) + 1))
        self._ids[:] = order
        for start in range(0, count, _CHUNK):
            part = vectors[order[start : start + _CHUNK]]
            self._vectors[start : start + len(part)] = part
            self._squares[start : start + len(part)] = squares(part)

    def probe(self, query: Vectors, cells: int) -> Numbers:
        """The `cells` cells nearest to a query."""
        distances = squares(self._centroids) / 2 - self._centroids @ query
        return np.argpartition(distances, cells - 1)[:cells]

    def members(self, cell: int) -> Numbers:
        """Numbers of the vectors in a cell."""
        return self._ids[self._begins[cell] : self._begins[cell + 1]].copy()

    def search(self, query: Vectors, neighbours: int, cells: int) -> Found:
        """The nearest vectors in the `cells` nearest cells."""
        ids, distances = [], []
        for cell in self.probe(query, cells):
            begin, end = self._begins[cell], self._begins[cell + 1]
            ids.append(self._ids[begin:end])
            distances.append(self._squares[begin:end] - 2 * (self._vectors[begin:end] @ query))
        near, far = np.concatenate(ids), np.concatenate(distances) + query @ query
        best = np.argsort(far, kind="stable")[:neighbours]
        return Found(near[best], far[best])

    def same(self, vectors: Vectors) -> bool:
        """True if every vector is unchanged, bit by bit; reads all of them."""
        return all(
            np.array_equal(
                self._vectors[start : start + _CHUNK].view(np.uint32),
                vectors[self._ids[start : start + _CHUNK]].view(np.uint32),
            )
            for start in range(0, len(vectors), _CHUNK)
        )

    def close(self) -> None:
        """Give both regions back; the index cannot be used afterwards."""
        del self._vectors, self._centroids, self._begins, self._ids, self._squares
        self.vectors_region.close()
        self.index_region.close()
