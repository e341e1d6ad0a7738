"""readahead: which faults belong together, and how many pages each brings in."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.shell import PAGE, Shell, make_core
from usmd.core.hint_ranges import HintRange
from usmd.core.hints import parse_hint
from usmd.core.policy import USM_YIELD, Allocation, AsyncRequest, Fault
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument
from usmd.policies.alloc import readahead
from usmd.policies.alloc.async_aware import AsyncAware
from usmd.policies.alloc.first_fit import FirstFit
from usmd.policies.alloc.readahead import Readahead

PAGES = 96


class Memory(MemoryView):
    """Memory in which every planned page comes in, unless `leave_out` says otherwise."""

    capacity = 0

    def __init__(self, capacity=1 << 20):
        self.capacity = capacity
        self.present = set()

    def frame(self, region_id, page):
        return 0 if (region_id, page) in self.present else None

    def make(self, kind, specification, elsewhere=None):
        return {"first_fit": FirstFit, "yields": AsyncAware, "readahead": Readahead}.get(specification, FirstFit)(self)


class Scan:
    """Touches pages of a region of 10,000 pages; those that are absent are faults."""

    def __init__(self, capacity=1 << 20, **parameters):
        self.memory = Memory(capacity)
        self.policy = Readahead(self.memory, **parameters)

    def fault(self, page, *, hint=None, span=(0, 10_000), region=1):
        found = None if hint is None else HintRange(*span, 1, parse_hint(hint), None)
        return self.policy.allocate(Fault(region, page, 10_000, False, True, found), AsyncRequest())

    def touch(self, pages, *, region=1, most=10_000, **options):
        """The plans of the faults; of each, at most `most` pages come in."""
        plans = []
        for page in pages:
            if (region, page) in self.memory.present:
                continue
            plan = self.fault(page, region=region, **options)
            plans.append(plan)
            planned = range(plan.first, plan.first + plan.count * plan.stride, plan.stride)
            came = sorted(planned, key=lambda each: abs(each - page))
            self.memory.present.update((region, each) for each in came[:most])
        return plans

    def evict(self):
        self.memory.present.clear()


def counts(plans):
    return [plan.count for plan in plans]


def test_the_third_fault_in_a_row_opens_a_window_that_doubles_up_to_the_bound():
    plans = Scan(pages=16).touch(range(100, 180))
    assert plans[:5] == [Allocation(100), Allocation(101), Allocation(102, 4), Allocation(106, 8), Allocation(114, 16)]
    assert counts(plans[5:]) == [16] * 4


def test_downwards_the_window_lies_before_the_page():
    plans = Scan(pages=8).touch(range(200, 150, -1))
    assert plans[:5] == [Allocation(200), Allocation(199), Allocation(195, 4), Allocation(187, 8), Allocation(179, 8)]


def test_a_window_downwards_ends_at_the_first_page():
    assert Scan().touch(range(5, -1, -1))[-1] == Allocation(0, 4)


def test_two_scans_of_a_region_are_two_streams():
    pages = [page for pair in zip(range(100), range(5000, 5100), strict=True) for page in pair]
    assert counts(Scan().touch(pages)) == [1, 1, 1, 1, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64]


def test_scans_of_two_regions_are_two_streams():
    scan = Scan()
    plans = [scan.touch([page], region=region) for page in range(3) for region in (1, 2)]
    assert counts(plan for (plan,) in plans) == [1, 1, 1, 1, 4, 4]


def test_random_faults_between_those_of_a_scan_do_not_end_it():
    scan = Scan()
    scan.touch(range(3))
    scan.touch([9000, 7000, 8000])
    assert scan.fault(6) == Allocation(6, 8)


def test_a_stream_that_is_not_gone_on_with_is_forgotten_for_newer_ones():
    scan = Scan()
    scan.touch(range(3))
    scan.touch([9000, 7000, 8000, 6000])
    assert scan.fault(6) == Allocation(6)


def test_faults_in_no_order_bring_in_single_pages():
    generator = random.Random(20)
    scan = Scan()
    pages = [generator.randrange(10_000) for _ in range(5000)]
    assert sum(counts(scan.touch(pages))) <= 1.01 * len(set(pages))


def test_pages_that_are_present_already_do_not_end_a_scan():
    scan = Scan()
    scan.touch(range(3))
    scan.memory.present.update((1, page) for page in range(6, 9))
    assert scan.fault(9) == Allocation(9, 8)


def test_a_gap_of_absent_pages_ends_a_scan():
    scan = Scan()
    scan.touch(range(3))
    assert scan.fault(9) == Allocation(9)


def test_a_window_of_which_a_part_came_in_goes_on_and_does_not_grow():
    plans = Scan().touch(range(20), most=2)
    assert plans[2:6] == [Allocation(2, 4), Allocation(4, 4), Allocation(6, 4), Allocation(8, 4)]


def test_a_fault_on_a_page_that_is_coming_in_changes_nothing():
    scan = Scan()
    scan.touch(range(3))
    assert scan.fault(4) == Allocation(4)
    assert scan.fault(6) == Allocation(6, 8)


def test_windows_in_vain_make_those_that_follow_smaller_and_used_ones_larger_again():
    scan = Scan(pages=64)
    for start in range(0, 9000, 1000):  # each scan ends in the middle of its window
        scan.touch(range(start, start + 16))
    bound = scan.policy._regions[1].bound
    assert bound <= 2 * readahead.LEAST_BOUND
    assert max(counts(scan.touch(range(9000, 9900)))) == 64


def test_a_window_takes_a_share_of_the_frames_at_most():
    assert max(counts(Scan(capacity=32).touch(range(100)))) == 8
    assert max(counts(Scan(capacity=2).touch(range(100)))) == 1


def test_hints_open_a_window_at_once_or_never_or_give_its_size():
    assert Scan().fault(9, hint="ACCESS=SEQUENTIAL") == Allocation(9, 16)
    assert Scan(pages=8).fault(9, hint="ACCESS=SEQUENTIAL") == Allocation(9, 8)
    assert counts(Scan().touch(range(10), hint="ACCESS=RANDOM")) == [1] * 10
    assert Scan(hinted="first_fit").fault(9, hint="FHP=1MiB; ACCESS=SEQUENTIAL") == Allocation(9)
    assert counts(Scan().touch(range(3), hint="PRIORITY=HIGH")) == [1, 1, 4]


def test_with_the_hint_sequential_the_window_grows_too():
    assert counts(Scan().touch(range(100), hint="ACCESS=SEQUENTIAL")) == [16, 32, 64]


def test_what_the_policy_for_fhp_answers_is_the_answer():
    assert Scan(hinted="yields").fault(9, hint="FHP=64K") is USM_YIELD


def test_it_remembers_a_bounded_number_of_regions():
    scan = Scan()
    for region in range(1, readahead.REGIONS + 10):
        scan.fault(0, region=region)
    assert len(scan.policy._regions) == readahead.REGIONS


@pytest.mark.parametrize("pages", [0, -1])
def test_a_window_without_a_page_is_refused(pages):
    with pytest.raises(InvalidArgument, match=rf"readahead\(pages={pages}\); allowed are pages from 1"):
        Readahead(Memory(), pages=pages)


RUNS = st.lists(
    st.tuples(st.integers(0, PAGES - 1), st.integers(1, 40), st.sampled_from((1, -1, 2, 5)), st.booleans()),
    min_size=1, max_size=12,
)  # fmt: skip


def check_bytes(runs, frames):
    """Read and write in runs of (first page, length, step, write), and compare what is read with what was stored."""
    shell = Shell(make_core(frames=frames, low=2, high=8, devices=(("swap0", 4 * PAGES),)))
    process = shell.attach(alloc="async_aware(regular=readahead(pages=16))", evict="lru")
    region = shell.map(process, PAGES)
    stored = {}
    for number, (start, length, step, write) in enumerate(runs):
        for page in range(start, start + step * length, step):
            if not 0 <= page < PAGES:
                break
            if write:
                stored[page] = bytes([number + 1]) * PAGE
                shell.put(process, region, page, stored[page])
            else:
                assert shell.get(process, region, page) == stored.get(page, bytes(PAGE))
    for page in range(PAGES):
        assert shell.get(process, region, page) == stored.get(page, bytes(PAGE))


@given(RUNS)
@examples(30)
def test_whatever_the_order_the_bytes_are_what_was_stored(runs):
    check_bytes(runs, frames=24)


def replayed(alloc, order):
    """Counters of touches in this order over a full memory of 64 frames."""
    shell = Shell(make_core(frames=64, low=4, high=12, devices=(("swap0", 1024),)), check=False)
    process = shell.attach(alloc=alloc, evict="lru")
    region = shell.map(process, 512)
    for page in range(512):
        shell.put(process, region, page, b"0123456789abcdef")
    before = shell.counters()
    for page in order:
        shell.get(process, region, page)
    after = shell.counters()
    return {name: after[name] - before[name] for name in ("faults", "swap_ins")}


def test_a_scan_over_full_memory_takes_a_tenth_of_the_faults_and_reads_no_page_twice():
    scan = replayed("readahead", range(512))
    assert scan["faults"] <= 52
    assert scan["swap_ins"] == replayed("first_fit", range(512))["swap_ins"]


def test_random_reads_over_full_memory_bring_in_one_percent_more_at_most():
    generator = random.Random(20)
    order = [min(int(generator.paretovariate(0.6)), 511) * 197 % 512 for _ in range(6000)]
    single = replayed("first_fit", order)
    ahead = replayed("readahead", order)
    assert ahead["swap_ins"] <= 1.01 * single["swap_ins"]
    assert ahead["faults"] <= 1.01 * single["faults"]


def test_a_scan_is_found_among_faults_that_follow_a_forgotten_one():
    scan = Scan()
    scan.touch(range(3))
    scan.touch([9000, 7000, 8000, 6000, 5000])
    assert counts(scan.touch([6001, 4000, 6002, 6006])) == [1, 1, 4, 8]


# AUTO


class Auto:
    """A process with a region of `pages` pages of 4 KiB and FHP=AUTO, over `frames` frames."""

    def __init__(self, pages, frames, *, hint="FHP=AUTO", alloc="readahead", evict="lru"):
        self.shell = Shell(
            make_core(
                frames=frames, page_size=4096, low=frames // 32, high=frames // 16, devices=(("swap0", 8 * pages),)
            ),
            check=False,
        )
        self.process = self.shell.attach(alloc=alloc, evict=evict)
        self.region = self.shell.map(self.process, pages)
        if hint:
            self.shell.hint(self.process, self.region, hint)

    def touch(self, pages, data=b"x"):
        """Store to each page in this order; returns the faults and the pages that came along."""
        before = self.shell.counters()
        for page in pages:
            while not self.shell.store(self.process, self.region, page, data * 4096):
                self.shell.fault(self.process, self.region, page)
        after = self.shell.counters()
        return after["faults"] - before["faults"], after["read_ahead"] - before["read_ahead"]

    @property
    def blocks(self):
        policies = self.shell.core.state.processes[self.process].policies
        return policies._alloc._blocks[self.region]


def shuffled(pages):
    return random.Random(3).sample(range(pages), pages)


@pytest.mark.parametrize("order", [range(2048), range(2047, -1, -1), shuffled(2048)])
@pytest.mark.parametrize("how", [{}, {"hint": "", "alloc": "readahead(auto=true)"}])
def test_while_memory_is_ample_a_region_that_fits_comes_in_by_blocks_that_grow(order, how):
    auto = Auto(2048, 8192, **how)
    faults, along = auto.touch(order)
    assert faults + along == 2048
    assert faults <= 12
    assert auto.shell.counters()["evictions"] == 0


def test_a_block_ends_with_its_region_and_its_hint():
    auto = Auto(100, 4096, hint="")
    auto.shell.hint(auto.process, auto.region, "FHP=AUTO", 3, 60)
    assert auto.touch([40]) == (1, 15)
    assert auto.touch([4]) == (1, 28)  # half a block of 64, because a part of the other half is there
    auto.touch([60])
    assert auto.shell.state_of(auto.region, 62) == "PRESENT"
    assert auto.shell.state_of(auto.region, 63) == auto.shell.state_of(auto.region, 2) == "ABSENT"


def test_random_touches_of_more_than_there_is_memory_bring_in_single_pages_but_for_a_trial():
    auto = Auto(8192, 2048)
    pages = [random.Random(1).randrange(8192) for _ in range(1)] + random.Random(2).sample(range(8192), 1500)
    faults, along = auto.touch(pages)
    assert along <= 1.1 * readahead.TRIAL * (readahead.FIRST_BLOCK - 2) * 2
    assert faults >= 0.8 * len(set(pages))
    assert auto.blocks.most == 1


def test_a_region_larger_than_memory_that_is_touched_in_order_passes_the_trial():
    auto = Auto(8192, 2048)
    faults, along = auto.touch(range(1024))
    assert faults + along >= 1024
    assert faults <= 40
    assert auto.blocks.hits == readahead.HITS


def test_the_blocks_of_a_trial_are_large_where_much_is_ample_and_take_an_eighth_of_it_in_all():
    auto = Auto(1 << 18, 1 << 15)
    ample = auto.shell.core.state.frames.free
    assert auto.touch([0]) == (1, 127 - 1)
    _, along = auto.touch([1000 + each for each in random.Random(5).sample(range(1 << 17), 60)])
    assert auto.blocks.most == 1
    assert ample // 20 < along <= ample // readahead.AMPLE_SHARE


def test_addresses_set_aside_for_a_program_have_the_largest_blocks_after_a_few_faults():
    auto = Auto(1 << 18, 1 << 16)
    assert auto.touch(range(8 * 512))[0] <= 12
    assert auto.blocks.block == 512


def test_blocks_take_a_share_of_the_frames_that_are_ample_and_nothing_is_evicted_for_them():
    auto = Auto(4096, 4096)
    other = auto.shell.map(auto.process, 4096)
    auto.shell.hint(auto.process, other, "ACCESS=RANDOM")
    room = auto.shell.core.state.frames.free
    for page in range(room - 256 - 64):  # leaves 64 above the high watermark
        auto.shell.fault(auto.process, other, page)
    _, along = auto.touch([100])
    assert along <= 64 // readahead.AMPLE_SHARE
    assert auto.shell.counters()["evictions"] == 0
    auto.touch(shuffled(4096)[:64])
    assert auto.touch([4000])[1] == 0, "memory is short"


@pytest.mark.parametrize(
    ("pages", "frames", "first"), [(4096, 16384, 512), (4095, 16384, 16), (4096, 8192, 16), (512, 16384, 16)]
)
def test_the_first_block_is_a_large_one_if_it_is_a_small_part_of_a_region_that_fits_twice(pages, frames, first):
    auto = Auto(pages, frames)
    assert auto.touch([pages // 2]) == (1, first - 1)
    assert auto.touch([1]) == (1, {512: 512, 16: 64}[first] - 1)


def test_blocks_shrink_if_what_came_along_is_evicted_unused_and_come_again_after_a_while():
    auto = Auto(4095, 16384)
    state = auto.shell.core.state.regions[auto.region]
    auto.touch([0])
    for step in range(1, 6):
        state.along_unused = 100 * step
        auto.touch([step * 600])
    assert auto.blocks.most == 1
    single = 0
    for page in shuffled(4095):
        single += auto.touch([page])[0]
        if auto.blocks.most > 1:
            break
    assert readahead.TRY_AGAIN <= single <= readahead.TRY_AGAIN + 10
    assert auto.blocks.most == readahead.FIRST_BLOCK
    assert auto.blocks.patience == 2 * readahead.TRY_AGAIN
    state.along_used += 100
    auto.touch(next([page] for page in range(4096) if auto.shell.state_of(auto.region, page) == "ABSENT"))
    assert auto.blocks.most == 2 * readahead.FIRST_BLOCK


def test_with_random_access_there_are_no_blocks_and_a_size_is_for_the_policy_hinted():
    auto = Auto(1024, 8192, hint="FHP=AUTO; ACCESS=RANDOM")
    assert auto.touch([5, 500]) == (2, 0)
    auto.shell.hint(auto.process, auto.region, "FHP=32K")
    assert auto.touch([17]) == (1, 7)


def test_blocks_of_a_bounded_number_of_regions_are_remembered():
    auto = Auto(2, 4096)
    for _ in range(readahead.REGIONS + 4):
        auto.region = auto.shell.map(auto.process, 2)
        auto.shell.hint(auto.process, auto.region, "FHP=AUTO")
        auto.touch([0])
    assert len(auto.shell.core.state.processes[auto.process].policies._alloc._blocks) == readahead.REGIONS
