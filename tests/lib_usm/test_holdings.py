"""What the daemon keeps for this process: given back once, by its owner's end or by whoever takes it."""

import threading
import weakref

import pytest

from lib_usm.holdings import Holdings


class Owner:
    """What refers to a region's bytes."""


@pytest.fixture
def given_back():
    return []


@pytest.fixture
def holdings(given_back):
    return Holdings(given_back.append)


def test_a_region_is_given_back_when_its_owner_goes(holdings, given_back):
    one, other = Owner(), Owner()
    holdings.keep(1, "one", one)
    holdings.keep(2, "other", other)
    assert (given_back, holdings.names()) == ([], ["one", "other"])
    del one
    assert (given_back, holdings.names()) == ([1], ["other"])
    del other
    assert (given_back, holdings.names()) == ([1, 2], [])


def test_what_was_taken_is_the_takers_alone(holdings, given_back):
    owner = Owner()
    holdings.keep(1, "one", owner)
    assert holdings.take(1)
    assert not holdings.take(1)
    del owner
    assert given_back == []


def test_what_is_put_back_is_given_back_at_its_owners_end(holdings, given_back):
    owner = Owner()
    holdings.keep(1, "one", owner)
    assert holdings.take(1)
    assert holdings.put_back(1, "one", weakref.ref(owner))
    assert holdings.names() == ["one"]
    del owner
    assert given_back == [1]


def test_what_has_no_owner_any_more_stays_the_takers(holdings, given_back):
    owner = Owner()
    reference = weakref.ref(owner)
    holdings.keep(1, "one", owner)
    assert holdings.take(1)
    del owner
    assert not holdings.put_back(1, "one", reference)
    assert (given_back, holdings.names()) == ([], [])


def test_an_owner_that_goes_in_the_middle_of_putting_back_gives_it_back_once(holdings, given_back):
    owner = Owner()
    holdings.keep(1, "one", owner)
    assert holdings.take(1)
    owners = [owner]
    del owner

    def reference():
        owners.clear()  # now its finalizer gives it back

    assert holdings.put_back(1, "one", reference)
    assert given_back == [1]


def test_waiting_ends_with_the_last_owner_or_the_time(holdings, in_thread, poll):
    owners = [Owner(), Owner(), Owner()]
    for number, owner in enumerate(owners):
        holdings.keep(number, str(number), owner)
    del owner
    holdings.wait_for([0], 0)
    assert holdings.names() == ["0", "1", "2"]
    waits = in_thread(holdings.wait_for, [0, 1], 60)
    poll(lambda: holdings._watched)
    owners.pop(0)
    assert not waits.done()
    owners.pop(0)
    waits.result(90)
    assert holdings.names() == ["2"]
    holdings.wait_for([], 60)


def test_of_threads_that_take_a_region_one_gets_it(holdings):
    owners = [Owner() for _ in range(500)]
    for number, owner in enumerate(owners):
        holdings.keep(number, "", owner)
    got = []
    begin = threading.Barrier(4)

    def take():
        begin.wait(90)
        got.extend(number for number in range(500) if holdings.take(number))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert sorted(got) == list(range(500))
