"""A process with a memory_max over real memory: it stays within it, loses no byte, and costs its neighbour no page."""

import mmap

import pytest

import lib_usm
from tests.support.daemon import running_daemon
from tests.support.real_memory import require_real_memory

PAGE = mmap.PAGESIZE
MOST = 64
CONFIG = f'[[policy.rules]]\nname = "hog"\nmemory_max = "{MOST * PAGE}B"\n'


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def test_a_hog_within_its_budget_takes_nothing_of_its_neighbours(tmp_path):
    flags = ("--mechanism", "userfaultfd", "--memory", "2MiB", "--page-size", str(PAGE), "--swap", "memory:4MiB")
    with (
        running_daemon(tmp_path, *flags, config=CONFIG) as daemon,
        lib_usm.connect(daemon.address, name="neighbour") as other,
        lib_usm.connect(daemon.address, name="hog") as hog,
        other.mmap(256 * PAGE) as kept,
        hog.mmap(512 * PAGE) as region,
    ):
        for page in range(256):
            kept.buffer[page * PAGE] = 1
        for turn in (1, 2):
            for page in range(512):
                region.buffer[page * PAGE] = (page + turn) % 251
        assert all(region.buffer[page * PAGE] == (page + 2) % 251 for page in range(512))
        found = {each.name: each for each in daemon.admin.processes()}
        assert found["hog"].resident_pages <= MOST == found["hog"].memory_max_pages
        assert found["hog"].counters["evictions"] > 512
        assert (found["neighbour"].counters["evictions"], found["neighbour"].resident_pages) == (0, 256)
        assert found["neighbour"].memory_max_pages == 0
