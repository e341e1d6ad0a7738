from tests.usmd.ctl.top.conftest import process, reading, terminal
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.top.process_view import printed, show_process
from usmd.ctl.top.rates import rows_of
from usmd.ctl.top.reading import Detail


def told(row, detail=None, *, console=None, width=80):
    text = printed(console or terminal(), width, lambda to: show_process(to, row, detail))
    return " ".join(text.plain.split()), text


def test_all_about_a_process_is_told_in_words():
    who = process(
        2, "indexer", 300, 100, uid=1000, resident_pages=256, swapped_pages=64, memory_min_pages=16, swap_max_pages=0,
        alloc_policy="async_aware", evict_policy="lru", oom_policy="refuse", cond_policy="none", mapped_bytes=8 << 20,
        max_regions=9,
    )  # fmt: skip
    (row,) = rows_of(reading(2.0, [who]), reading(1.0, [process(2, "indexer", 200, 100)]))
    words, _ = told(row)
    assert words.startswith("Process 2 indexer Who pid 1002, uid 1000")
    assert "8 MiB mapped in 0 regions; pages: 256 (1 MiB) in memory, 64 (256 KiB) in swap only" in words
    assert "memory_min 16 (64 KiB), memory_max none, memory_weight 100, swap_max 0, max_regions 0/9" in words
    assert "alloc async_aware, evict lru, oom refuse, cond none" in words
    assert "100 faults, 0 of them major" in words
    assert "Pressure some 0.0% of 10 s, 0.0% of 60 s, 0.0% of 300 s" in words
    assert "So far" not in words  # a list has not all counters
    words, _ = told(row, Detail(2, [], pb.ListEvictionsResponse()))
    assert "faults 300, major faults 100" in words


def test_before_a_second_reading_and_for_an_unknown_peer_it_says_so():
    (row,) = rows_of(reading(1.0, [process(3, "x", pid=0)]), None)
    words, _ = told(row)
    assert "pid unknown, uid unknown" in words
    assert "known after the next reading" in words
    words, _ = told(row, Detail(3, [], pb.ListEvictionsResponse()))
    assert "So far nothing" in words


def test_of_a_frozen_process_it_says_what_waits_and_why():
    frozen = process(2, frozen_faults=1, frozen_seconds=75.0, oom_policy="freeze(seconds=30)")
    words, _ = told(*rows_of(reading(1.0, [frozen]), None))
    assert "State FROZEN for 1 min 15 s: 1 fault waits for memory, as its oom policy freeze(seconds=30) has it" in words


def test_regions_and_evictions_follow_as_usmctl_prints_them():
    (row,) = rows_of(reading(1.0, [process(2, "indexer")]), None)
    evicted = pb.EvictedPage(
        region_id=7, region_name="index", page=16,
        eviction=pb.Eviction(seconds_ago=3.2, policy="lru", reason="longest unused", result="swapped"),
    )  # fmt: skip
    regions = [pb.RegionInfo(region_id=7, process_id=2, name="index", length=4096)]
    words, text = told(row, Detail(2, regions, pb.ListEvictionsResponse(evictions=[evicted], total=9, records=256)))
    assert "Regions ID NAME ADDRESS LENGTH" in words
    assert "PROC" not in words
    assert "longest unused" in words
    assert "1 of 9 evictions; the last 256 are on record" in words
    assert words.endswith("One page: usmctl explain 2 index+OFFSET")
    assert max(line.cell_len for line in text.split("\n")) <= 80


def test_what_the_terminal_lacks_is_not_printed():
    (row,) = rows_of(reading(1.0, [process(2, "indexer-with-a-name-that-goes-on")]), None)
    regions = [pb.RegionInfo(region_id=7, process_id=2, name="a-long-name" * 9, length=4096)]
    detail = Detail(2, regions, pb.ListEvictionsResponse())
    plain, _ = told(row, detail, console=terminal(colour=False, encoding="ascii"), width=60)
    assert plain.isascii()
