"""How long a neighbour's real fault waits while another client misuses its memory.

Each client is a separate process (bench.hostile_client), and does one thing until usmd, or SIGBUS, ends it. Meanwhile a
thread of the neighbour touches a page of its own each millisecond. The first line is of the neighbour alone.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from typing import Final

import lib_usm
from bench import hostile_client
from bench.native import PAGE, NoCompilerError, Touch, compiled
from bench.stalls import NEIGHBOUR_PAGES, Neighbour
from tools.own_daemon import running
from usmd.mechanism import uffd

GIB: Final = 60
ALONE_SECONDS: Final = 2.0
WAYS: Final = {
    "hold_by_a_page_that_nothing_serves": "writes to its memfd from a page that never comes",
    "hold_by_a_page_of_another_region": "writes to its memfd from absent pages of usmd",
    "map_it_often": f"maps its region {hostile_client.MAPPINGS:,} times",
    "leave_much_unserved": "ends with gigabytes mapped and not touched",
    "map_other_things": f"ends with {2 * hostile_client.MAPPINGS:,} mappings of other things",
}
MOST_SECONDS: Final = 120.0


def measure(address: str, touch: Touch, gib: int) -> None:
    """Print one line for each way."""
    with lib_usm.connect(address, name="neighbour") as client, Neighbour(client, touch) as neighbour:
        time.sleep(ALONE_SECONDS)
        print(f"  {'nothing':50} longest wait {neighbour.longest() * 1000:8.2f} ms")
        for way, what in WAYS.items():
            command = [sys.executable, "-m", "bench.hostile_client", address, way, str(gib)]
            neighbour.longest()
            # Its last words on stderr are about the SIGBUS that is to end it.
            ended = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=MOST_SECONDS, check=False)
            by = signal.Signals(-ended.returncode).name if ended.returncode < 0 else f"exit code {ended.returncode}"
            print(f"  {what:50} longest wait {neighbour.longest() * 1000:8.2f} ms   it ended by {by}")


def run(gib: int) -> None:
    """Print all lines, or why nothing can be measured here."""
    print(f"what a neighbour's fault waits beside a hostile client (--mechanism userfaultfd, {gib} GiB not touched)")
    why_not = uffd.usable(uffd.probe())
    if why_not:
        print(f"  skipped: {why_not}")
        return
    single = ("--alloc", "flexible_huge_pages(pages=1)")  # so that each touch of the neighbour is a fault
    flags = ("--mechanism", "userfaultfd", "--page-size", str(PAGE), "--swap", "memory:64MiB", *single)
    try:
        with compiled() as folder, running(*flags, "--memory", str((NEIGHBOUR_PAGES + 4096) * PAGE)) as daemon:
            measure(daemon.address, Touch(folder / "touch.so"), gib)
    except NoCompilerError as error:
        print(f"  skipped: {error}")


def main() -> None:
    """Run with the defaults."""
    run(GIB)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=int, default=GIB, help=f"GiB that a client maps and does not touch ({GIB})")
    run(parser.parse_args().gib)
