"""No update is lost: threads count in pages that the daemon takes out and brings in under them all the time.

The client is counting_client.py. Seconds of counting: $USMD_E2E_SECONDS, else 0.1. What keeps updates is that a page
is write-protected before it is copied; the last test takes that away, and sees them go.
"""

import json
import os
from pathlib import Path

import pytest

from tests.support.clients import start_client
from tests.support.daemon import running_daemon, wait_until
from tests.support.folios import folios_so_far, shmem_enabled
from tests.support.io_ways import each_way
from tests.support.real_memory import require_pageout, require_real_memory, require_sampling

__all__ = ["each_way"]

CLIENT = Path(__file__).with_name("counting_client.py")
UNPROTECTED = "tests.support.unprotected_daemon:lose_updates"
SECONDS = float(os.environ.get("USMD_E2E_SECONDS", "0.1"))
INCREMENTS = 100_000
PAGE = 4096
PAGES = 256
"""Of memory; the clients' regions together have 8 times as many."""
CLIENTS = 3


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def count(daemon, seconds, increments, pages=8 * PAGES, *, until_one_ends=False):
    """Run the clients, for so long and until they have counted so far together; what each has to say.

    `until_one_ends`: those that go on when one has ended have nothing to say.
    """
    each = (seconds, -(-increments // CLIENTS), pages // CLIENTS)
    clients = [start_client(CLIENT, daemon.address, f"counter{number}", number, *each) for number in range(CLIENTS)]
    said = []
    try:
        if until_one_ends:
            wait_until(lambda: any(client.poll() is not None for client in clients), "a client ends", seconds + 300)
        for client in clients:
            if until_one_ends and client.poll() is None:
                continue
            out, err = client.communicate(timeout=seconds + 300)
            assert client.returncode == 0, f"{client.returncode}: {err}"
            said.append(json.loads(out))
    finally:
        for client in clients:
            client.kill()
            client.communicate()
    return said


def count_exactly(daemon, increments, shown, pages=8 * PAGES):
    """Run the clients, of which none finds anything wrong, until all of `shown` has happened; the daemon's counters.

    What they meet is up to chance on a busy machine: a thread may get no turn while a page is on its way out. If
    something never happens, the test's own time ends it.
    """
    while True:
        said = count(daemon, SECONDS, increments, pages)
        assert [each["shown"] for each in said] == [[]] * CLIENTS
        assert [(each["wrong"], each["lost"]) for each in said] == [(0, 0)] * CLIENTS
        assert sum(each["increments"] for each in said) >= increments
        counters = daemon.counters()
        if min(counters[key] for key in shown) > SECONDS:
            return counters


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize(
    ("each_way", "evict", "sampling", "change"),
    [
        ("threads", "fifo", '"off"', ""),
        ("aio", "lru", "16", "tests.support.unsampled_daemon:without_rights"),
        ("io_uring", "lru", "16", "tests.support.unsampled_daemon:by_pageout"),
    ],
    indirect=["each_way"],
)
def test_increments_of_several_processes_are_exact_while_their_pages_come_and_go(
    tmp_path, evict, sampling, change, each_way
):
    if change.endswith("by_pageout"):
        require_pageout()
    elif change:
        require_sampling()
    flags = ("--memory", str(PAGES * PAGE), "--evict", evict, "--swap", f"file:{tmp_path / 'swap'}:16MiB")
    config = f"[memory]\nsampling = {sampling}\n"
    changes = (change,) if change else ()
    with running_daemon(tmp_path, *flags, config=config, mechanism="userfaultfd", changes=changes) as daemon:
        # Stores met evictions, and were the first to clean pages, or this has shown nothing. What is submitted is often
        # written before a store can meet it.
        shown = ["swap_outs", "swap_ins", "protect_faults", *(["retaken"] if each_way == "threads" else [])]
        counters = count_exactly(daemon, INCREMENTS, shown if sampling == '"off"' else [*shown, "rescued"])
        assert [counters[key] for key in ("poisoned", "swap_read_errors", "swap_write_errors")] == [0, 0, 0]
        assert bool(counters["rescued"]) == (sampling != '"off"')


@pytest.mark.parametrize("alloc", ["flexible_huge_pages(size=2M)", "readahead(auto=true)"])
def test_increments_are_exact_in_huge_folios_that_are_split_as_their_pages_go(tmp_path, alloc):
    pages = 16 * PAGES
    flags = ("--memory", str(pages * PAGE), "--alloc", alloc, "--swap", "memory:64MiB")
    with shmem_enabled("advise"):
        before = folios_so_far()
        with running_daemon(tmp_path, *flags, mechanism="userfaultfd") as daemon:
            counters = count_exactly(daemon, INCREMENTS // 8, ("swap_outs", "swap_ins", "read_ahead"), pages=2 * pages)
            # Not `poisoned`: a fault on a page that has just come in may wait for that as its region is unmapped.
            assert [counters[key] for key in ("swap_read_errors", "swap_write_errors")] == [0, 0]
        assert folios_so_far() > before


def test_without_write_protect_updates_are_lost_and_the_clients_see_it(tmp_path):
    flags = ("--memory", str(PAGES * PAGE), "--evict", "fifo", "--swap", f"file:{tmp_path / 'swap'}:16MiB")
    with running_daemon(tmp_path, *flags, mechanism="userfaultfd", changes=(UNPROTECTED,)) as daemon:
        said = count(daemon, 60, 0, until_one_ends=True)
        assert max(each["lost"] for each in said) > 0
        assert any("of page" in text for each in said for text in each["shown"])
        assert daemon.counters()["poisoned"] == 0
