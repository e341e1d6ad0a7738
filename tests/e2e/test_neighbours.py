"""A greedy client beside small ones, over real memory: a newcomer, one with a guarantee, and limits that change."""

import mmap

import pytest

from tests.support.daemon import wait_until
from tests.support.real_daemon import FRAMES, real_daemon, resident_pages
from tests.support.real_memory import require_real_memory
from tests.support.told_client import Refused, told_clients

PAGE = mmap.PAGESIZE
SLOTS = 512
RESERVE = 96
GUARANTEED = 48
DATA, MOST = 200, 64
CONFIG = f"""
[memory]
newcomer_reserve = "{RESERVE * PAGE}B"

[[policy.rules]]
name = "owner"
memory_min = "{GUARANTEED * PAGE}B"
"""


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def of(daemon, name):
    """What the daemon says of the process of that name."""
    return next(each for each in daemon.admin.processes() if each.name == name)


def test_beside_a_greedy_client_newcomers_and_those_with_a_guarantee_live(tmp_path):
    with (
        real_daemon(tmp_path, swap=f"memory:{SLOTS * PAGE}B", config=CONFIG) as daemon,
        told_clients(daemon.address, "owner", "hog", "newcomer") as (owner, hog, newcomer),
    ):
        hog.map("data", DATA)
        hog.do("fill", name="data", seed=1, first=0, pages=DATA)
        rest = FRAMES + SLOTS - RESERVE - GUARANTEED - DATA
        hog.map("rest", 2 * rest)
        hog.do("fill", name="rest", seed=2, first=0, pages=rest - 16)
        with pytest.raises(
            Refused, match=r"OutOfMemory: .* 144 pages of memory and swap kept for guarantees and newcomers"
        ):
            hog.do("ensure", name="rest", first=rest - 16, pages=32)
        owner.map("data", GUARANTEED)
        owner.do("fill", name="data", seed=3, first=0, pages=GUARANTEED)
        newcomer.map("data", RESERVE)
        newcomer.do("fill", name="data", seed=4, first=0, pages=RESERVE // 2 - 2)
        assert hog.do("wrong", name="data", seed=1, first=0, pages=DATA) == []
        hog.do("fill", name="data", seed=5, first=0, pages=DATA)
        assert hog.do("wrong", name="rest", seed=2, first=0, pages=rest - 16) == []
        assert owner.do("wrong", name="data", seed=3, first=0, pages=GUARANTEED) == []
        assert newcomer.do("wrong", name="data", seed=4, first=0, pages=RESERVE // 2 - 2) == []
        found = of(daemon, "owner")
        assert (found.counters["evictions"], found.resident_pages) == (0, GUARANTEED)
        assert (found.memory_min_pages, found.memory_weight) == (GUARANTEED, 100)
        assert daemon.usmctl("explain", "owner", "data+0")["at_memory_min"]
        assert of(daemon, "hog").counters["poisoned"] == 0
        # What an operator does about it.
        refused = daemon.run_usmctl("limit", "hog", "memory_min=100%")
        assert refused.returncode == 1
        assert "memory_min of 256 pages" in refused.stderr
        hog.do("close_region", name="rest")
        (change,) = daemon.usmctl("limit", "hog", f"memory_max={MOST * PAGE}B", "memory_weight=50")["changes"]
        assert (change["before"]["memory_max_pages"], change["after"]["memory_max_pages"]) == (None, MOST)
        wait_until(lambda: resident_pages(daemon, "hog") <= MOST, "the hog has shrunk")
        daemon.expect("limits_set", memory_max=str(MOST), memory_weight="50")
        assert hog.do("wrong", name="data", seed=5, first=0, pages=DATA) == []
        assert resident_pages(daemon, "hog") <= MOST
