"""The one door: accesses, refused requests, determinism. Sequences at random are in test_machine_properties.py."""

import random

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.compiled import BUILD
from usmd.core import commands, events
from usmd.errors import NotFound, OutOfRange, UsmdError


@pytest.fixture
def shell():
    return Shell(make_core())


def test_an_access_answers_the_frames_up_to_the_first_absent_page_and_all_absent_ones(shell):
    process = shell.attach()
    region = shell.map(process, 6)
    for page in (0, 1, 3):
        shell.fault(process, region, page)
    assert shell.access(process, region, 0, 6) == commands.Accessed([0, 1], [2, 4, 5])
    assert shell.counters()["accesses"] == 2


@pytest.mark.parametrize(("first", "count"), [(0, 0), (0, -1), (-1, 1), (0, 4), (3, 1), (1 << 70, 1)])
def test_an_access_outside_the_region_is_out_of_range(shell, first, count):
    process = shell.attach()
    region = shell.map(process, 3)
    with pytest.raises(OutOfRange, match="which has pages 0 to 2"):
        shell.access(process, region, first, count)


def test_an_access_to_the_region_of_another_is_not_found(shell):
    owner, stranger = shell.attach(), shell.attach()
    region = shell.map(owner, 1)
    with pytest.raises(NotFound):
        shell.access(stranger, region, 0)


@pytest.mark.parametrize(
    "event",
    [
        events.Detach(9, "bye"),
        events.Map(9, 1, ""),
        events.Unmap(1, 9),
        events.SetHint(1, 9, 0, None, None),
        events.Faults(9, []),
        events.Access(1, 9, 0, 1, False),
    ],
)
def test_a_request_that_is_refused_changes_nothing(shell, event):
    process = shell.attach()
    shell.put(process, shell.map(process, 2), 0, b"x" * PAGE)
    before = shell.counters(), shell.core.state.frames.free, len(shell.core.state.regions)
    with pytest.raises(NotFound):
        shell.do(event)
    assert (shell.counters(), shell.core.state.frames.free, len(shell.core.state.regions)) == before
    assert shell.core.handle(events.Tick(), 0.0) == []


def test_bytes_of_a_load_move_before_the_page_is_taken_away():
    shell = Shell(make_core(frames=2, low=1, high=1))
    process = shell.attach(evict="lru")
    region = shell.map(process, 3)
    for page in range(3):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    assert [shell.get(process, region, page)[0] for page in range(3)] == [1, 2, 3]


def conversation(seed):
    """Commands of one core for events that a seeded generator makes up."""
    chance = random.Random(seed)
    core = make_core(frames=5, low=1, high=2, hold_budget=2, devices=(("a", 6), ("b", 3)))
    shell = Shell(core)
    heard = []

    class Listening:
        def handle(self, event, now):
            happened = core.handle(event, now)
            heard.extend(map(repr, happened))
            return happened

        def __getattr__(self, name):
            return getattr(core, name)

    shell.core = Listening()
    processes = [
        shell.attach(alloc=alloc, evict=evict, oom=oom)
        for alloc, evict, oom in (("first_fit", "lru", "refuse"), ("async_aware", "hint_aware", "kill_largest"))
    ]
    regions = [(process, shell.map(process, 8)) for process in processes for _ in range(2)]
    for step in range(200):
        process, region = chance.choice(regions)
        page, what = chance.randrange(8), chance.randrange(4)
        try:
            if what == 0:
                shell.store(process, region, page, bytes([step]) * PAGE)
            elif what == 1:
                shell.hint(process, region, chance.choice(["PRIORITY=LOW", "EVICTION=DENY", "DONTNEED", ""]), page)
            elif what == 2:
                shell.tick(0.1)
            else:
                shell.fault(process, region, page, fault_id=step)
        except UsmdError as error:
            heard.append(repr(error))
    return heard


def test_the_same_events_have_the_same_commands():
    first = conversation(5)
    assert len(first) > 150
    assert first == conversation(5)
    assert first != conversation(6)


@pytest.mark.skipif(BUILD.compiled, reason="compiled classes have no dict")
def test_objects_of_the_hot_path_have_fewer_attributes_than_cpython_keeps_without_a_dict_of_its_own(shell):
    """With 30 an access takes 8 % longer: the attributes of an object are then looked up in a dict of its own."""
    shell.attach()
    (process,) = shell.core.state.processes.values()
    assert max(len(vars(each)) for each in (shell.core, shell.core.life, process.policies)) < 30
