"""The example itself, on fewer vectors and queries: a daemon of its own, real page faults, answers checked."""

import numpy as np
import pytest
from typer.testing import CliRunner

from examples import nearest_neighbours, real_memory
from examples.nearest_neighbours import NEIGHBOURS, Plan, Search, check_answer, make_vectors
from examples.vector_index import Found, VectorIndex, train
from tests.support.real_memory import require_real_memory
from usmd.mechanism.uffd import Feature, Offer

SMALL = Plan(size=4 << 20, memory=1 << 20, queries=40, cells=32, probes=4)


class NoBars:
    """A progress that nobody looks at."""

    def add_task(self, *arguments, **options):
        return 0

    def advance(self, *arguments):
        pass


@pytest.fixture
def searched(ordinary):
    plan = Plan(size=1 << 20, queries=30, cells=16, probes=4)
    vectors, queries = make_vectors(plan)
    index = VectorIndex(ordinary, vectors, train(vectors, plan.cells, plan.seed))
    answers = [index.search(query, NEIGHBOURS, plan.probes) for query in queries]
    return Search(NoBars(), None, index, plan, queries), vectors, answers


def test_hints_keep_the_index_in_memory_and_every_answer_is_right(capsys):
    require_real_memory()
    result = nearest_neighbours.nearest_neighbours(SMALL)
    assert result.mechanism == "userfaultfd"
    assert result.with_hints.index_faults < result.without.index_faults
    assert min(result.without.vector_faults, result.with_hints.vector_faults) > 0
    assert result.without.counts.evictions > 0
    assert result.recall > 0.5
    nearest_neighbours.show(result, SMALL)
    said = capsys.readouterr().out
    assert "on the index" in said
    assert "mechanism: userfaultfd" in said


def test_the_same_plan_makes_the_same_vectors():
    first, second = (make_vectors(Plan(size=1 << 18, queries=3)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert first[0].nbytes == 1 << 18
    assert first[1].shape == (3, nearest_neighbours.DIMENSIONS)


def test_the_recall_is_the_share_of_true_neighbours(searched):
    search, vectors, answers = searched
    recall = search.check(vectors, answers)
    assert 0.3 < recall <= 1
    everything = [search._index.search(query, NEIGHBOURS, 16) for query in search._queries]
    search._plan = Plan(size=1 << 20, queries=30, cells=16, probes=16)
    assert search.check(vectors, everything) == 1


def test_a_wrong_distance_ends_it(searched):
    search, vectors, answers = searched
    answers[5].distances[2] *= 1.01
    with pytest.raises(SystemExit, match="wrong distances"):
        search.check(vectors, answers)


def test_a_neighbour_that_was_passed_over_ends_it(searched):
    search, vectors, answers = searched
    query, found = search._queries[0], search._index.search(search._queries[0], NEIGHBOURS + 1, 4)
    looked_at = np.concatenate([search._index.members(cell) for cell in search._index.probe(query, 4)])
    check_answer(query, answers[0], vectors, looked_at)
    with pytest.raises(SystemExit, match="not the nearest"):
        check_answer(query, Found(found.ids[1:], found.distances[1:]), vectors, looked_at)


def run(*arguments):
    app = nearest_neighbours.typer.Typer()
    app.command()(nearest_neighbours.command)
    return CliRunner().invoke(app, arguments)


def test_a_plan_that_cannot_be_is_bad_usage():
    assert run("--probes", "9", "--cells", "8").exit_code == 2
    assert run("--size", "4KiB").exit_code == 2
    assert run("--size", "many").exit_code == 2


def test_the_options_make_the_plan(monkeypatch):
    asked = []
    monkeypatch.setattr(nearest_neighbours, "nearest_neighbours", asked.append)
    monkeypatch.setattr(nearest_neighbours, "show", lambda result, plan: None)
    assert run().exit_code == 0
    options = ["--size", "8MiB", "--memory", "1MiB", "--queries", "5", "--cells", "9", "--probes", "2", "--seed", "3"]
    assert run(*options).exit_code == 0
    assert asked == [Plan(), Plan(8 << 20, 1 << 20, 5, 9, 2, 3)]


def test_without_real_memory_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(real_memory, "probe", lambda: Offer("", Feature(0), "no userfaultfd"))
    with pytest.raises(SystemExit, match="usmctl doctor"):
        nearest_neighbours.nearest_neighbours(SMALL)
