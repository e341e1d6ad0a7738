"""Random use of all sockets, by grammar and by noise: nothing in the daemon breaks, and all comes back.

The suite tries the seeds of fuzz_seeds.txt, a line each: some that were chosen, and every one that found something.
$USMD_FUZZ_SECONDS goes on with new seeds for so long (`make fuzz`); a failure names its seed, which then belongs there.
"""

import os
import secrets
import time
from pathlib import Path

import pytest

from tests.hostile.bounds import GROWTH
from tests.support.fuzz import Fuzz
from tests.support.own_memory import at_most_grown
from tests.support.raw_client import RawClient
from tests.support.shared_daemon import free_port

STEPS = 200
SEEDS = (Path(__file__).parent / "fuzz_seeds.txt").read_text().split()
PAGES = 16


def OPTIONS(_):  # noqa: N802 - of the fixture `shared`
    return {"config": f'[metrics]\nlisten = "127.0.0.1:{free_port()}"\n'}


def fuzz(daemon, seed):
    """One seed; meanwhile a neighbour reads what it has stored by calls, as the bystander does by touches.

    Returns how often calls had each status.
    """
    with at_most_grown(daemon, GROWTH["noise"]), RawClient(daemon.address, "neighbour") as neighbour:
        region = neighbour.map(PAGES * 4096)
        for page in range(PAGES):
            neighbour.put(region, page, b"%d" % page * 64)
        fuzzing = Fuzz(daemon, seed)
        try:
            for number in range(STEPS):
                fuzzing.step()
                page = number % PAGES
                if number % 10 == 0:
                    assert neighbour.get(region, page, 64)[:64] == (b"%d" % page * 64)[:64]
        finally:
            fuzzing.close()
        return fuzzing.statuses


@pytest.mark.parametrize("seed", SEEDS)
def test_known_seeds(daemon, seed):
    statuses = fuzz(daemon, seed)
    assert statuses["OK"] > STEPS / 40, statuses


@pytest.mark.timeout(0)
def test_new_seeds(shared):
    seconds = float(os.environ.get("USMD_FUZZ_SECONDS", "0"))
    deadline = time.monotonic() + seconds  # waits: for as long as it is told to go on
    seeds, accepted = 0, 0
    while time.monotonic() < deadline:  # waits: as above
        seed = secrets.token_hex(4)
        try:
            with shared.unharmed():
                accepted += fuzz(shared.daemon, seed)["OK"]
                seeds += 1
        except BaseException as error:
            error.add_note(f"the seed is {seed}; write it into tests/hostile/fuzz_seeds.txt")
            raise
    # Of all together: a seed may end its own session with its first steps, and then little of it is accepted.
    assert accepted >= seeds * STEPS / 40
