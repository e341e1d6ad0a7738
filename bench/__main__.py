"""Runs all benchmarks, or those named."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from typing import Final

from bench import (
    colocation,
    compressed,
    core,
    disk,
    far,
    far_programs,
    fills,
    frames,
    hostile,
    memflt,
    neighbours,
    real_faults,
    redis,
    replay,
    scan,
    side_by_side,
    sight,
    stalls,
    stream,
    swap_devices,
    switches,
)

BENCHES: Final[dict[str, Callable[[], None]]] = {
    "stream": stream.main,
    "core": core.main,
    "frames": frames.main,
    "fills": fills.main,
    "real_faults": real_faults.main,
    "side_by_side": side_by_side.main,
    "scan": scan.main,
    "swap_devices": swap_devices.main,
    "compressed": compressed.main,
    "disk": disk.main,
    "far": far.main,
    "far_programs": far_programs.main,
    "switches": switches.main,
    "colocation": colocation.main,
    "replay": replay.main,
    "stalls": stalls.main,
    "hostile": hostile.main,
    "neighbours": neighbours.main,
    "sight": sight.main,
    "memflt": memflt.main,
    "redis": redis.main,
}


def main() -> None:
    """Print the machine, then run the benchmarks."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="docs/benchmarks.md says what each measures, and `python -m bench.NAME --help` which options it has.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)} (default: all)")
    names = parser.parse_args().names or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs\n")
    for name in names:
        BENCHES[name]()
        print()


if __name__ == "__main__":
    main()
