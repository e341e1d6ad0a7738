"""Every byte comes back: four client processes over 8 times more memory than there is, with each evict policy.

Once by calls and once by page faults of real memory. The client is random_client.py. Seconds of work each:
$USMD_E2E_SECONDS, else as long as its least number of steps takes.
"""

import json
import os
from pathlib import Path

import pytest

from tests.support.clients import start_client
from tests.support.daemon import running_daemon, wait_until
from tests.support.io_ways import each_way
from tests.support.real_memory import require_pageout, require_real_memory, require_sampling

__all__ = ["each_way"]

CLIENT = Path(__file__).with_name("random_client.py")
SECONDS = float(os.environ.get("USMD_E2E_SECONDS", "0"))
MEMORY = 1 << 19
CLIENTS = {
    "plain": "first_fit",
    "yielding": "async_aware(regular=readahead(auto=true))",
    "huge": "flexible_huge_pages",
    "both": "async_aware(regular=flexible_huge_pages(size=2M))",
}
CONFIG = "".join(f'[[policy.rules]]\nname = "{name}"\nalloc = "{alloc}"\n' for name, alloc in CLIENTS.items())


LENGTH = 8 * MEMORY // len(CLIENTS)


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize(
    ("each_way", "mechanism", "evict", "sampling", "change"),
    [
        ("threads", "simulated", "s3_fifo", '"off"', ""),
        ("threads", "userfaultfd", "hint_aware", '"off"', ""),
        ("aio", "userfaultfd", "hint_aware", "16", "tests.support.unsampled_daemon:by_pageout"),
        ("io_uring", "userfaultfd", "hint_aware", "16", "tests.support.unsampled_daemon:without_rights"),
    ],
    indirect=["each_way"],
)
@pytest.mark.usefixtures("each_way")
def test_every_byte_is_right_over_8_times_more_memory_than_there_is(tmp_path, mechanism, evict, sampling, change):
    if mechanism == "userfaultfd":
        require_real_memory()
    if change.endswith("by_pageout"):
        require_pageout()
    elif change:
        require_sampling()
    flags = ("--memory", str(MEMORY), "--evict", evict, "--swap", f"file:{tmp_path / 'swap'}:10MiB")
    config, changes = f"{CONFIG}[memory]\nsampling = {sampling}\n", (change,) if change else ()
    with running_daemon(tmp_path, *flags, config=config, mechanism=mechanism, changes=changes) as daemon:
        clients = {
            name: start_client(CLIENT, daemon.address, name, seed, SECONDS, LENGTH, stdin=True)
            for seed, name in enumerate(CLIENTS, 1000 * len(evict))
        }
        try:
            attached = wait_until(
                lambda: len(found := daemon.admin.processes()) == len(CLIENTS) and found, "all clients attached"
            )
            used = {each.name: (each.alloc_policy, each.evict_policy) for each in attached}
            assert used == {name: (alloc, evict) for name, alloc in CLIENTS.items()}
            for client in clients.values():
                client.stdin.close()  # before that none ends, however late another one attaches
            for name, client in clients.items():
                out, err = client.communicate(timeout=SECONDS + 300)
                assert client.returncode == 0, f"client {name}: {err}"
                done = json.loads(out)
                assert min(done.get(key, 0) for key in ("reads", "writes", "hints", "pins", "ensures", "evicts")) > 0, (
                    done
                )
        finally:
            for client in clients.values():
                client.kill()
                client.communicate()
        counters = daemon.counters()
        assert min(counters[key] for key in ("swap_ins", "swap_outs", "evictions", "yields", "read_ahead")) > 0
        assert (counters["protect_faults"] > 0) == (mechanism == "userfaultfd")
        assert [counters[key] for key in ("policy_errors", "swap_read_errors", "swap_write_errors", "poisoned")] == [
            0
        ] * 4
        (device,) = daemon.admin.swap_devices()
        assert device.errors == 0

        def all_free():
            status = daemon.admin.status()
            return (status.processes, status.regions) == (0, 0) and (
                (status.free_frames, status.free_swap_slots) == (status.frames, status.swap_slots)
            )

        wait_until(all_free, "frames and slots are free once the clients are gone")
