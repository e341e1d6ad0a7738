"""The example itself, on a smaller array: a daemon of its own, real page faults, order and content checked."""

import numpy as np
import pytest
from typer.testing import CliRunner

from examples import real_memory, sort_array
from examples.sort_array import NOTHING, added, check, fill
from tests.support.real_memory import require_real_memory
from usmd.mechanism.uffd import Feature, Offer

COUNT = 3 * sort_array.CHUNK + 17


def ignore(done):
    """No bar to advance."""


@pytest.fixture
def filled():
    array = np.empty(COUNT)
    expected = fill(array, 1, ignore)
    array.sort()
    return array, expected


def test_an_array_four_times_the_memory_is_sorted_in_place():
    require_real_memory()
    result = sort_array.sort_array(2 << 20, 1 << 19)
    filling, sorting, checking = result.steps
    assert (result.numbers, result.mechanism) == (1 << 18, "userfaultfd")
    pages = (2 << 20) // real_memory.PAGE
    assert filling.counts.swap_outs > pages // 2
    assert sorting.counts.swap_ins > pages // 2
    assert checking.counts.swap_ins > pages // 2
    assert min(step.counts.faults for step in result.steps) > 0


def test_what_it_cost_is_shown_with_the_mechanism(capsys):
    require_real_memory()
    sort_array.show(sort_array.sort_array(1 << 20, 1 << 19))
    said = capsys.readouterr().out
    assert "131,072 numbers are in order, and the same as before" in said
    assert "mechanism: userfaultfd" in said
    assert "sorting" in said


def test_the_same_seed_gives_the_same_numbers_and_another_others():
    first, second, other = np.empty(COUNT), np.empty(COUNT), np.empty(COUNT)
    assert fill(first, 1, ignore) == fill(second, 1, ignore) != fill(other, 2, ignore)
    assert np.array_equal(first, second)


def test_the_check_passes_what_is_sorted_and_counts_all_of_it(filled):
    done = []
    check(*filled, done.append)
    assert sum(done) == COUNT


@pytest.mark.parametrize("place", [0, sort_array.CHUNK - 1, sort_array.CHUNK, COUNT - 2])
def test_two_numbers_that_changed_places_are_found(filled, place):
    array, expected = filled
    array[place], array[place + 1] = array[place + 1], array[place]
    with pytest.raises(SystemExit, match="not in order"):
        check(array, expected, ignore)


@pytest.mark.parametrize("place", [0, sort_array.CHUNK, COUNT - 1])
def test_a_number_that_became_another_is_found_also_when_the_order_holds(filled, place):
    array, expected = filled
    array[place] = array[place - 1] if place else array[1]
    with pytest.raises(SystemExit, match="other numbers than before"):
        check(array, expected, ignore)


def test_two_changes_whose_sum_and_xor_agree_are_found_by_the_mixed_sum():
    bits = np.array([1, 2, 4, 7], np.uint64)
    other = np.array([0, 3, 5, 6], np.uint64)
    assert np.bitwise_xor.reduce(bits) == np.bitwise_xor.reduce(other)
    assert bits.sum() == other.sum()
    assert added(NOTHING, bits.view(np.float64)) != added(NOTHING, other.view(np.float64))


def run(*arguments):
    app = sort_array.typer.Typer()
    app.command()(sort_array.command)
    return CliRunner().invoke(app, arguments)


def test_bad_sizes_are_bad_usage():
    assert run("--size", "much").exit_code == 2
    assert run("--memory", "5000").exit_code == 2


def test_the_options_reach_the_array(monkeypatch):
    asked = []
    monkeypatch.setattr(sort_array, "sort_array", lambda *sizes: asked.append(sizes))
    monkeypatch.setattr(sort_array, "show", lambda result: None)
    assert run("--size", "8MiB", "--memory", "1MiB", "--seed", "3").exit_code == 0
    assert run().exit_code == 0
    assert asked == [(8 << 20, 1 << 20, 3), (64 << 20, 16 << 20, sort_array.SEED)]


def test_without_real_memory_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(real_memory, "probe", lambda: Offer("", Feature(0), "no userfaultfd"))
    with pytest.raises(SystemExit, match="usmctl doctor"):
        sort_array.sort_array(1 << 20, 1 << 19)
