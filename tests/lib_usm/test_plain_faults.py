"""Which way of a fault is taken, by what each costs; and the plain one, over a real daemon."""

import itertools

import pytest

import lib_usm
from lib_usm import LocalManager, plain_faults
from lib_usm.plain_faults import PAUSE, PLAIN_TRIAL, SLOW, TRIAL, PlainFaults, populate
from tests.support.daemon import running_daemon
from tests.support.real_memory import require_real_memory

PAGE = 4096
MIB = 1 << 20


class Costs:
    """A kThread with faults of fixed costs by each way, in microseconds; `ways` are those taken."""

    def __init__(self, monkeypatch, message, plain):
        self.message, self.plain = message, plain
        self.now = 0.0
        self.faults = PlainFaults(lambda: self.now)
        self.ways = []
        self.possible = True
        monkeypatch.setattr(plain_faults, "populate", self.populate)

    def populate(self, *_, **__):
        self.now += self.plain / 1e6
        return self.possible

    def fault(self, count):
        """The ways of so many faults."""
        begun = len(self.ways)
        for _ in range(count):
            if self.faults.chosen() and self.faults.took(None, 0, PAGE, write=False):
                self.ways.append("plain")
            else:
                self.ways.append("message")
                self.faults.sent(self.message / 1e6, 1)
        return self.ways[begun:]


def test_plain_faults_are_taken_once_a_trial_found_them_cheaper(monkeypatch):
    costs = Costs(monkeypatch, message=100, plain=50)
    assert costs.fault(TRIAL) == ["message"] * TRIAL
    assert costs.fault(PLAIN_TRIAL + TRIAL * PAUSE) == ["plain"] * (PLAIN_TRIAL + TRIAL * PAUSE)


def test_messages_stay_where_they_are_cheaper_or_about_as_cheap(monkeypatch):
    costs = Costs(monkeypatch, message=50, plain=47)
    costs.fault(TRIAL)
    assert costs.fault(PLAIN_TRIAL) == ["plain"] * PLAIN_TRIAL
    assert costs.fault(PLAIN_TRIAL * PAUSE) == ["message"] * PLAIN_TRIAL * PAUSE


def test_the_other_way_is_tried_the_less_the_more_it_cost(monkeypatch):
    costs = Costs(monkeypatch, message=50, plain=500)
    assert costs.fault(TRIAL + 2 * PLAIN_TRIAL * (PAUSE * 10 + 1) - 2).count("plain") == 2 * PLAIN_TRIAL


def test_the_way_follows_a_change_of_costs(monkeypatch):
    costs = Costs(monkeypatch, message=100, plain=50)
    costs.fault(10 * TRIAL)
    assert costs.ways[-1] == "plain"
    costs.message = 20
    costs.fault(2 * TRIAL * (PAUSE + 2))
    assert costs.fault(PLAIN_TRIAL) == ["message"] * PLAIN_TRIAL


@pytest.mark.parametrize("before", [TRIAL, TRIAL + 2 * PLAIN_TRIAL])
def test_a_single_fault_that_takes_very_long_ends_plain_ones_at_once(monkeypatch, before):
    """In a trial and in use: its page is on a slow disk, and the other uThreads must run."""
    costs = Costs(monkeypatch, message=100, plain=50)
    costs.fault(before)
    costs.plain = 2 * SLOW * 1e6
    assert costs.fault(TRIAL + 2)[:2] == ["plain", "message"]
    assert costs.fault(TRIAL * PAUSE).count("plain") == 0


def test_a_page_that_cannot_be_had_so_is_sent_and_no_other_is_tried(monkeypatch):
    costs = Costs(monkeypatch, message=100, plain=50)
    costs.fault(TRIAL)
    costs.possible = False
    assert costs.fault(1000) == ["message"] * 1000


@pytest.fixture
def client(tmp_path):
    require_real_memory()
    flags = ("--memory", "1MiB", "--swap", f"file:{tmp_path / 'swap'}:16MiB")
    with (
        running_daemon(tmp_path, *flags, mechanism="userfaultfd") as daemon,
        lib_usm.connect(daemon.address) as connected,
    ):
        yield connected


def test_pages_that_were_touched_are_what_was_stored_by_either_way(client, monkeypatch):
    turns = itertools.count()
    monkeypatch.setattr(PlainFaults, "chosen", lambda faults: faults.works and next(turns) % 2 == 1)
    pages = 4 * MIB // PAGE
    with client.mmap(4 * MIB) as region:
        for page in range(pages):
            region.write(page * PAGE, page.to_bytes(8, "little"))
        manager, wrong = LocalManager(client), []

        def visit(first):
            for page in range(first, pages, 4):
                if region.read(page * PAGE, 8) != page.to_bytes(8, "little"):
                    wrong.append(page)
                region.write(page * PAGE + 8, page.to_bytes(8, "big"))

        for first in range(4):
            manager.spawn(visit, first)
        manager.run()
        assert wrong == []
        stats = manager.stats()
        assert stats.plain_faults > 0
        assert stats.faults > 0
        for page in range(pages):
            assert region.read(page * PAGE, 16) == page.to_bytes(8, "little") + page.to_bytes(8, "big")


def test_what_would_be_a_signal_is_false(client):
    with client.mmap(4 * PAGE) as region:
        assert populate(region.mapping, 0, PAGE, write=True)
        assert region.buffer[0] == 0
        assert not populate(region.mapping, 1 << 40, PAGE, write=False)
