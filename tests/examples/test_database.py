"""The seed's database in C: every answer is right, and hints keep its index in memory."""

import subprocess
from pathlib import Path

from tests.support.daemon import SECONDS, environment
from tests.support.native import compiled, linked, require_native
from tests.support.real_daemon import real_daemon

SOURCE = Path(__file__).parents[2] / "examples" / "database.c"


def test_every_query_is_right_and_with_hints_the_index_stays(tmp_path):
    require_native()
    program = compiled(tmp_path, SOURCE, options=linked())
    faults = {}
    for how in ([], ["plain"]):
        with real_daemon(tmp_path) as daemon:
            environ = environment(USM_ADDRESS=daemon.address)
            command = [str(program), "2000", "600", *how]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("600 queries are right, ")
            faults[" ".join(how)] = daemon.counters()["major_faults"]
            assert daemon.events("process_attached", name="database")
    assert faults[""] < faults["plain"]
