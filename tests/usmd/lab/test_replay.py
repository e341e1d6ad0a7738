"""A replay's row, its clock, its hints, and policies that break; miss counts are proven in tests/contracts."""

import random
from array import array

import libcachesim
import pytest

from tests.support.policy_files import write_policies
from usmd.core.hints import parse_hint
from usmd.errors import InvalidArgument, UnknownPolicy
from usmd.lab.hint_file import TimedHint
from usmd.lab.loading import gather
from usmd.lab.replay import RUN, Replay, Setup
from usmd.lab.traces.trace import Batch, cut


def trace_of(pages, writes=b"", times=None):
    return gather(cut(array("q", pages), writes, times), "made", lambda: "made")


def row_of(trace, **setup):
    replay = Replay(trace, Setup(**setup))
    for _ in replay.run():
        pass
    return replay.row()


def test_a_row_counts_what_happened():
    # Two frames, LRU: 1 and 2 come in, 1 is hit, 3 drives 2 out, 2 drives 1 out (written to).
    row = row_of(trace_of([1, 2, 1, 3, 2], b"\1\0\0\0\0"), frames=2, evict="lru")
    assert (row.trace, row.frames, row.evict, row.alloc) == ("made", 2, "lru", "first_fit")
    assert (row.accesses, row.hits, row.misses, row.miss_ratio) == (5, 1, 4, 0.8)
    assert (row.evictions, row.writebacks, row.faults_per_1000) == (2, 1, 800.0)
    assert (row.policy_errors, row.refused, row.complete) == (0, 0, True)
    assert row.accesses_per_s > 0


def test_a_page_that_is_only_read_is_never_written_back():
    assert row_of(trace_of(list(range(50)) * 3), frames=4, evict="fifo").writebacks == 0


def test_the_optimum_knows_the_future():
    pages = [1, 2, 3, 1, 2, 4, 1, 2, 3, 4]
    assert row_of(trace_of(pages), frames=3, evict="belady").misses == 5
    assert row_of(trace_of(pages), frames=3, evict="hint_aware(fallback=belady)").misses == 5


def test_huge_pages_bring_neighbours_in():
    row = row_of(trace_of(range(64)), frames=64, evict="lru", alloc="flexible_huge_pages(pages=8)")
    assert (row.misses, row.read_ahead) == (8, 56)


def test_what_was_replayed_so_far_is_known():
    replay = Replay(trace_of([1] * (RUN + 10)), Setup(4, "lru"))
    assert next(replay.run()) == RUN
    row = replay.row()
    assert (row.accesses, row.hits, row.complete) == (RUN, RUN - 1, False)


CLEAN_FIRST = """
from usmd.policies.evict.lru import Lru


class CleanFirst(Lru):
    def choose_victims(self):
        return sorted(self.recency, key=self.memory.dirty)


class Interrupted(Lru):
    left = 70

    def choose_victims(self):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().choose_victims()


class Unmade(Lru):
    def __init__(self, memory):
        raise RuntimeError("no")
"""


@pytest.fixture
def theirs(tmp_path):
    return write_policies(tmp_path, CLEAN_FIRST, "theirs.py")


def clean_first(pages, writes, frames):
    """Misses and write-backs: of the clean pages, or if there is none of all, the least recently used one goes."""
    resident, misses, writebacks = {}, 0, 0
    for page, write in zip(pages, writes, strict=True):
        dirty = resident.pop(page, None)
        if dirty is None:
            misses += 1
            if len(resident) == frames:
                victim = min(resident, key=lambda each: resident[each])  # the first of the clean ones, in this order
                writebacks += resident.pop(victim)
        resident[page] = bool(dirty) or bool(write)
    return misses, writebacks


@pytest.mark.parametrize("seed", range(5))
def test_a_policy_knows_which_pages_need_a_write(theirs, seed):
    generator = random.Random(seed)
    pages = [int(generator.paretovariate(0.5)) % 300 for _ in range(3000)]
    writes = bytes(generator.random() < 0.1 for _ in pages)
    row = row_of(trace_of(pages, writes), frames=40, evict=f"{theirs}:CleanFirst")
    assert (row.misses, row.writebacks) == clean_first(pages, writes, 40)
    assert row.policy_errors == 0


def test_what_is_known_after_an_interrupt_is_of_one_moment(theirs):
    pages = [*range(60), *range(10)] + [0] * (RUN - 70) + list(range(1000))
    replay = Replay(trace_of(pages, bytes([1]) * len(pages)), Setup(30, f"{theirs}:Interrupted"))
    with pytest.raises(KeyboardInterrupt):
        list(replay.run())
    row = replay.row()
    assert (row.accesses, row.misses, row.evictions, row.writebacks) == (RUN, 70, 40, 40)
    assert (row.faults_per_1000, row.hits) == (1000 * 70 / RUN, RUN - 70)


def test_a_policy_that_cannot_be_made_is_refused(theirs):
    with pytest.raises(
        InvalidArgument, match=r"its constructor raised RuntimeError\('no'\) \(.*theirs.py:\d+\); correct"
    ):
        Replay(trace_of([1]), Setup(4, f"{theirs}:Unmade"))


def hint_on(time, first, end, text):
    return TimedHint(time, first, end, parse_hint(text))


def test_what_a_hint_asks_of_many_pages_is_all_done_before_the_next_access():
    # 700 pages come in, all are let go at once, and then each is missed again.
    pages = [*range(700), *range(700)]
    trace = trace_of(pages, times=array("d", [0.0] * 700 + [1.0] * 700))
    base = trace.pages[0]
    hints = [hint_on(1.0, base, base + 700, "DONTNEED")]
    assert row_of(trace, frames=700, evict="lru").misses == 700
    assert row_of(trace, frames=700, evict="lru", hints=hints).misses == 1400


def test_a_hint_holds_from_its_time_until_it_expires():
    pages = [0, 1, 2, 0, 3, 0, 4, 0, 5, 0, 6, 7, 0]
    times = array("d", [float(each) for each in range(13)])
    trace = trace_of(pages, times=times)
    base = trace.pages[0]
    plain = row_of(trace, frames=2, evict="hint_aware(fallback=fifo)")
    kept = row_of(
        trace, frames=2, evict="hint_aware(fallback=fifo)", hints=[hint_on(2.0, base, base + 1, "PRIORITY=HIGH; TTL=8")]
    )
    assert plain.misses > kept.misses
    unevictable = row_of(
        trace, frames=2, evict="fifo", hints=[hint_on(0.0, base, base + 1, "EVICTION=DENY")], deny_budget=0.5
    )
    assert unevictable.hits == 5, "page 0 is there at each of its touches after the first"


def test_all_memory_unevictable_is_refused_and_not_a_hang():
    trace = trace_of([0, 1, 2, 3])
    base = trace.pages[0]
    row = row_of(trace, frames=2, evict="lru", deny_budget=1.0, hints=[hint_on(0.0, base, base + 4, "EVICTION=DENY")])
    assert (row.misses, row.refused, row.evictions) == (4, 2, 0)


def test_w_tinylfu_hashes_the_ids_of_the_trace_as_libcachesim_does():
    generator = random.Random(1)
    ids = [generator.randrange(1 << 62) for _ in range(900)]
    trace = [ids[min(int(generator.expovariate(0.01)), 899)] for _ in range(8000)]
    cache, request, misses = libcachesim.WTinyLFU(200), libcachesim.Request(), 0
    request.obj_size = 1
    for identity in trace:
        request.obj_id = identity
        misses += not cache.get(request)
    assert row_of(trace_of(trace), frames=200, evict="w_tinylfu").misses == misses


POLICIES = '''
from usmd.core.policy import EvictPolicy


class Broken(EvictPolicy):
    """Names nobody and raises."""

    def page_filled(self, pfn):
        """Nothing."""

    def page_left(self, pfn):
        """Nothing."""

    def choose_victims(self):
        raise RuntimeError("no idea")


class Watching(Broken):
    """Remembers what time it was at each miss."""

    def __init__(self, memory):
        super().__init__(memory)
        self.times = []

    def page_missed(self, page):
        self.times.append(self.memory.now)
'''


@pytest.fixture
def policies(tmp_path):
    return write_policies(tmp_path, POLICIES, "mine.py")


def test_a_policy_that_breaks_is_told_and_the_sweep_answers(policies):
    row = row_of(trace_of(list(range(20)) * 2), frames=4, evict=f"{policies}:Broken")
    assert row.complete
    assert row.policy_errors > 0
    assert "no idea" in row.policy_error


def test_a_foreign_policy_sees_the_time_of_each_access(policies):
    trace = trace_of([1, 2, 3], times=array("d", [10.0, 10.5, 12.0]))
    replay = Replay(trace, Setup(4, f"{policies}:Watching"))
    list(replay.run())
    assert replay.core.state.processes[1].policies.on_miss.__self__.times == [0.0, 0.5, 2.0]


@pytest.mark.parametrize(
    ("setup", "error"),
    [
        ({"frames": 0, "evict": "lru"}, InvalidArgument),
        ({"frames": 1 << 40, "evict": "lru"}, InvalidArgument),
        ({"frames": 4, "evict": "lruu"}, UnknownPolicy),
        ({"frames": 4, "evict": "clock(bits=0)"}, InvalidArgument),
        ({"frames": 4, "evict": "lru", "alloc": "lru"}, UnknownPolicy),
    ],
)
def test_a_setup_that_cannot_be_is_an_error(setup, error):
    with pytest.raises(error):
        Replay(gather([Batch(array("q", [1]))], "made", lambda: "made"), Setup(**setup))
