"""The search over ordinary memory: what it finds does not depend on where its bytes are."""

import numpy as np
import pytest

from examples.vector_index import VectorIndex, nearest_cells, squares, train

CELLS = 16


@pytest.fixture
def vectors():
    return np.random.default_rng(7).standard_normal((2000, 8), np.float32)


@pytest.fixture
def index(vectors, ordinary):
    return VectorIndex(ordinary, vectors, train(vectors, CELLS, seed=1))


def brute_force(query, vectors, neighbours):
    return np.argsort(((vectors - query) ** 2).sum(axis=1), kind="stable")[:neighbours]


def test_a_search_of_all_cells_is_exact(index, vectors):
    for query in vectors[:50] + np.float32(0.1):
        found = index.search(query, 10, CELLS)
        assert set(found.ids) == set(brute_force(query, vectors, 10))
        assert list(found.distances) == sorted(found.distances)
        assert np.allclose(found.distances, squares(vectors[found.ids] - query), atol=1e-4)


def test_a_search_of_some_cells_is_exact_for_them(index, vectors):
    query = vectors[3]
    members = np.concatenate([index.members(cell) for cell in index.probe(query, 2)])
    found = index.search(query, 5, 2)
    assert set(found.ids) == set(members[brute_force(query, vectors[members], 5)])
    assert len(members) < len(vectors)


def test_a_vector_is_its_own_nearest(index, vectors):
    assert all(index.search(vectors[number], 1, 1).ids[0] == number for number in range(0, 2000, 97))


def test_every_vector_is_in_the_cell_of_its_nearest_centroid(index, vectors):
    centroids = train(vectors, CELLS, seed=1)
    cells = nearest_cells(vectors, centroids)
    found = [index.members(cell) for cell in range(CELLS)]
    assert sorted(np.concatenate(found)) == list(range(len(vectors)))
    assert all((cells[members] == cell).all() for cell, members in enumerate(found))


def test_a_cell_that_nobody_is_near_keeps_its_centroid():
    vectors = np.zeros((10, 4), np.float32)
    assert np.array_equal(train(vectors, 3, seed=1), np.zeros((3, 4), np.float32))


def test_a_bit_that_changed_is_noticed(index, vectors, ordinary):
    assert index.same(vectors)
    ordinary.regions["vectors"].bytes[12_345] ^= 1
    assert not index.same(vectors)


def test_closing_gives_both_regions_back_with_nothing_looking_into_them(index, ordinary):
    index.close()
    assert all(region.closed for region in ordinary.regions.values())
    assert vars(index).keys() == {"index_region", "vectors_region"}
