"""Processes with a memory_max and a swap_max over real memory: they keep to both, and cost their neighbour nothing."""

import mmap
import re
import signal
from pathlib import Path

import pytest

import lib_usm
from tests.support.daemon import running_daemon, wait_equal
from tests.support.real_daemon import Bystander, real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.told_client import Refused, told_clients
from usmd.ctl.targets import Place

PAGE = mmap.PAGESIZE
MOST = 64
CONFIG = f'[[policy.rules]]\nname = "hog"\nmemory_max = "{MOST * PAGE}B"\n'
OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


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
        assert not found["hog"].HasField("swap_max_pages")


def of(daemon, name):
    """What the daemon says of the process of that name."""
    return next(each for each in daemon.admin.processes() if each.name == name)


SWAP_MOST = 96
ROOM = MOST + SWAP_MOST - 1
"""Pages that such a process may have with content, for a frame is kept for those from swap."""


def test_at_its_swap_max_a_process_is_told_and_keeps_every_byte_and_its_neighbour_feels_nothing(tmp_path):
    config = f"{CONFIG}swap_max = {SWAP_MOST * PAGE}\n"
    with (
        real_daemon(tmp_path, config=config) as daemon,
        told_clients(daemon.address, "other", "hog") as (other, hog),
    ):
        bystander = Bystander(daemon, other)
        hog.map("data", 256)
        hog.do("fill", name="data", seed=1, first=0, pages=ROOM)
        with pytest.raises(Refused, match=r"OutOfMemory: .* 96 pages count against its swap_max of 96") as caught:
            hog.do("ensure", name="data", first=ROOM, pages=1)
        assert caught.value.page == ROOM
        assert re.search(r"its memory_max is 64 .*; unmap regions, or raise swap_max of its rule", str(caught.value))
        event = daemon.expect("fault_over_budget", refused="1", stored="96", swap_max="96")
        assert "page 159 of region" in event["message"]
        for seed in (1, 2):
            assert hog.do("wrong", name="data", seed=seed, first=0, pages=ROOM) == []
            hog.do("fill", name="data", seed=seed + 1, first=0, pages=ROOM)
        assert hog.do("wrong", name="data", seed=3, first=0, pages=ROOM) == []
        found = of(daemon, "hog")
        assert found.resident_pages <= MOST
        assert (found.swap_max_pages, found.swap_max_used_pages) == (96, 96)
        assert found.counters["budget_refusals"] == 1
        assert daemon.usmctl("status")["processes_at_swap_max"] == 1
        listed = {each["name"]: each for each in daemon.usmctl("processes")["processes"]}
        assert (listed["hog"]["swap_max_pages"], listed["hog"]["swap_max_used_pages"]) == (96, 96)
        assert listed["other"]["swap_max_pages"] is None
        told = [
            daemon.admin.explain(found.process_id, Place(hog.region_ids["data"], "", page * PAGE))
            for page in range(ROOM)
        ]
        assert all(each.at_swap_max for each in told)
        assert sum(each.dirty for each in told) == MOST - 1
        bystander.check()
        assert of(daemon, "other").counters["evictions"] == 0
        # A thread can be given no error: it gets SIGBUS, and the neighbour goes on.
        hog.begin("fill", name="data", seed=9, first=ROOM, pages=1)
        assert hog.ends_with() == -signal.SIGBUS
        daemon.expect("page_poisoned", reason="OUT_OF_MEMORY")
        bystander.check()
        wait_equal(lambda: daemon.admin.status().processes_at_swap_max, 0, "it is gone, and its pages count no more")
        other.map("more", 64)
        other.do("fill", name="more", seed=3, first=0, pages=64)
        assert other.do("wrong", name="more", seed=3, first=0, pages=64) == []
        assert of(daemon, "other").counters["evictions"] == 0


def test_the_example_of_the_guide_bounds_memory_and_swap(tmp_path):
    (example,) = [
        each for each in re.findall(r"```toml\n(.*?)```", OPERATING.read_text(encoding="utf-8"), re.DOTALL)
        if "swap_max" in each and "policy.rules" in each
    ]  # fmt: skip
    with (
        running_daemon(tmp_path, "--memory", "4MiB", "--swap", "compressed:1MiB", config=example) as daemon,
        lib_usm.connect(daemon.address, name="batch-7") as client,
        client.mmap(5 << 20) as region,
    ):
        region.write(0, bytes([7]) * ((3 << 20) - PAGE))
        with pytest.raises(lib_usm.OutOfMemory, match=r"its memory_max is 256 \(1 MiB\).* swap_max of 512 \(2 MiB\)"):
            region.write(3 << 20, bytes([8]) * PAGE)
        assert region.read(0, 1 << 18) == bytes([7]) * (1 << 18)
        assert of(daemon, "batch-7").swap_max_used_pages == 512
