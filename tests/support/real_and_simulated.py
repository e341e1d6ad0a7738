"""A daemon with real memory and one that simulates it, clients of both, and what tests ask them."""

from pathlib import Path

import pytest

import lib_usm
from tests.support.daemon import running_daemon, wait_equal, wait_until
from tests.support.real_memory import require_real_memory

PAGE = 4096
FRAMES = 64
PAGES = 8
LENGTH = PAGES * PAGE - 96
BUDGET = 16
"""Frames that may be pinned."""
CONFIG = '[memory]\ndeny_budget = "25%"\n'


def serve(folder, mechanism):
    flags = ("--memory", str(FRAMES * PAGE), "--swap", "memory:1MiB")
    return running_daemon(folder, *flags, config=CONFIG, mechanism=mechanism)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    require_real_memory()
    with serve(tmp_path_factory.mktemp("real"), "userfaultfd") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("simulated"), "simulated") as daemon:
        yield daemon


@pytest.fixture(params=["real", "simulated"])
def daemon(request):
    """Each of both; each test leaves it empty."""
    daemon = request.getfixturevalue(request.param)
    yield daemon
    left_empty(daemon)


def left_empty(daemon):
    def left():
        status = daemon.admin.status()
        return status.processes, status.frames - status.free_frames, status.pinned_frames + status.held_frames

    wait_equal(left, (0, 0, 0), "nothing is left of the test's sessions")


@pytest.fixture
def client(daemon):
    with lib_usm.connect(daemon.address, name="tests") as client:
        yield client


@pytest.fixture
def real_client(real):
    with lib_usm.connect(real.address, name="tests") as client:
        assert client.why_no_buffer == ""
        yield client
    left_empty(real)


@pytest.fixture
def region(real_client):
    """All of it is there already, so that no test waits for a page in the middle of something else."""
    region = real_client.mmap(LENGTH, name="memory")
    region.ensure()
    return region


def in_swap(daemon):
    return sum(each.swapped_pages for each in daemon.admin.regions(0))


def evict(daemon, region, pages, offset=0):
    """Evict whole pages. It is asked again and again, for pages that were used a moment ago are kept."""

    def gone():
        region.evict(offset, min(pages * PAGE, len(region) - offset))
        return in_swap(daemon) >= pages

    wait_until(gone, f"{pages} pages are in swap")


def mappings():
    """How many memfds of regions this process has mapped."""
    return Path("/proc/self/maps").read_text().count("/memfd:usmd")


def are_pinned(daemon, frames):
    assert daemon.admin.status().pinned_frames == frames
