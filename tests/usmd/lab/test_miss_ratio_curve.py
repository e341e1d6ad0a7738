"""Many sizes at once: the same rows as one by one, and no process left behind."""

import multiprocessing
from array import array

import msgspec
import pytest

from usmd.errors import InvalidArgument
from usmd.lab.loading import gather
from usmd.lab.miss_ratio_curve import curves, sizes
from usmd.lab.replay import Replay, Setup
from usmd.lab.traces.trace import cut


def test_sizes_go_from_a_thousandth_to_all_and_are_distinct():
    found = sizes(10_000, 5)
    assert (found[0], found[-1], len(found)) == (10, 10_000, 5)
    assert sizes(3, 16) == [1, 2, 3]
    with pytest.raises(InvalidArgument):
        sizes(10, 1)


def alone(trace, setup):
    replay = Replay(trace, setup)
    for _ in replay.run():
        pass
    return replay.row()


def comparable(row):
    return msgspec.structs.replace(row, seconds=0.0, accesses_per_s=0.0)


def test_rows_are_those_of_single_replays_and_workers_are_gone_afterwards():
    pages = [number * number % 97 for number in range(3000)]
    writes = bytes(number % 5 == 0 for number in range(3000))
    trace = gather(cut(array("q", pages), writes, array("d", range(3000))), "made", lambda: "made")
    setups = [Setup(frames, evict) for frames in (5, 20) for evict in ("lru", "s3_fifo")]
    found = list(curves(trace, setups, jobs=2))
    assert sorted(map(comparable, found), key=repr) == sorted(
        (comparable(alone(trace, each)) for each in setups), key=repr
    )
    running = curves(trace, setups * 3, jobs=2)
    next(running)
    running.close()
    for child in multiprocessing.active_children():
        child.join(timeout=10)
    assert multiprocessing.active_children() == []
