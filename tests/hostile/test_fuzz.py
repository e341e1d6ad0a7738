"""Random use of all four sockets, by grammar and by noise: nothing in the daemon breaks, and all comes back.

The suite tries the seeds of fuzz_seeds.txt, a line each: some that were chosen, and every one that found something.
$USMD_FUZZ_SECONDS goes on with new seeds for so long (`make fuzz`); a failure names its seed, which then belongs there.
"""

import os
import secrets
import time
from pathlib import Path

import pytest

from tests.support.daemon import wait_equal
from tests.support.fuzz import Fuzz
from tests.support.raw_client import RawClient
from tests.support.real_daemon import in_use, memory_descriptors, real_daemon
from tests.support.real_memory import require_real_memory
from usm_wire.pb.usm.v1 import client_pb2

STEPS = 200
SEEDS = (Path(__file__).parent / "fuzz_seeds.txt").read_text().split()
PAGES = 16
CONFIG = "[server]\nattach_timeout = 0.3\n"


def fuzz(folder, seed):
    """One daemon and one seed."""
    folder.mkdir()
    with real_daemon(folder, config=CONFIG) as daemon, RawClient(daemon.address, "neighbour") as neighbour:
        region = neighbour.map(PAGES * 4096)
        for page in range(PAGES):
            neighbour.put(region, page, b"%d" % page * 64)
        fuzzing = Fuzz(daemon, seed)
        try:
            for _ in range(STEPS):
                fuzzing.step()
        finally:
            fuzzing.close()
        assert fuzzing.statuses["OK"] > STEPS / 40, fuzzing.statuses
        assert [neighbour.get(region, page, 64)[:64] for page in range(PAGES)] == [
            (b"%d" % page * 64)[:64] for page in range(PAGES)
        ]
        wait_equal(lambda: [each.name for each in daemon.admin.processes()], ["neighbour"], "all others' sessions end")
        neighbour.call("UnmapRegion", client_pb2.UnmapRegionRequest(region_id=region))
        wait_equal(lambda: in_use(daemon), (1, 0, 0), "frames and slots return")
        wait_equal(lambda: memory_descriptors(daemon), [], "descriptors return")
        done = daemon.run_usmctl("debug", "validate")
        assert (done.returncode, done.stdout.partition(":")[0]) == (0, "all holds"), done


@pytest.mark.parametrize("seed", SEEDS)
def test_known_seeds(tmp_path, seed):
    require_real_memory()
    fuzz(tmp_path / "usmd", seed)


@pytest.mark.timeout(0)
def test_new_seeds(tmp_path):
    require_real_memory()
    seconds = float(os.environ.get("USMD_FUZZ_SECONDS", "0"))
    deadline = time.monotonic() + seconds  # waits: for as long as it is told to go on
    while time.monotonic() < deadline:  # waits: as above
        seed = secrets.token_hex(4)
        try:
            fuzz(tmp_path / seed, seed)
        except BaseException as error:
            error.add_note(f"the seed is {seed}; write it into tests/hostile/fuzz_seeds.txt")
            raise
