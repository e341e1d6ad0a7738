"""Faults on swapped pages, beside a C handler that reads the same page from a file and copies it in; part of `disk`.

The client's thread stays on one CPU. The daemon, and the C handler, are on the same one or on the other; on the same
one the daemon follows the thread by itself (`memory.fault_wakeup = "follow"`), on the other it sleeps between faults.
"""

from __future__ import annotations

import mmap
import os
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench import real_swap
from bench.c_handler import CHandler
from bench.native import PAGE, Numbers, Touch, address_of, on_cpus

ROUNDS: Final = 5
TOUCHES: Final = 1000
AIM_CACHED: Final = 1.6
"""Of the C handler's time."""
AIM_DIRECT: Final = 1.4
"""Of the device's own read."""
_SEED: Final = 9


class Side(NamedTuple):
    """`touch` returns the median time of touches of missing pages in microseconds; `forget` makes all missing again."""

    touch: Callable[[Numbers], float]
    forget: Callable[[], object]


def _usmd(stack: ExitStack, touch: Touch, folder: Path, cpus: tuple[int, ...], wakeup: str, *, direct: bool) -> Side:
    path = folder / f"usmd-{wakeup}-{direct}"
    swap = f"file:{path}:{real_swap.SWAP}{':direct' if direct else ''}"
    with on_cpus(*cpus):
        data = stack.enter_context(real_swap.data(touch, "--fault-wakeup", wakeup, swap=swap, path=path))
    data.fill()
    data.evict()

    def forget() -> None:
        data.check()
        data.evict()

    return Side(lambda pages: _median(touch, data.address, pages), forget)


def _c(stack: ExitStack, touch: Touch, folder: Path, cpu: int, *, direct: bool) -> Side:
    program, length = folder / "handler", real_swap.DATA
    path = folder / "pages"
    if not path.exists():
        _write(path, touch, length)
    handler = stack.enter_context(CHandler(program, length, pages=1, spin=0, cpu=cpu, swap=path, direct=direct))

    def forget() -> None:
        wrong = touch.wrong_words(handler.address, 0, length, _SEED)
        if wrong:
            raise RuntimeError(f"the C handler brought in {wrong} wrong words")
        handler.forget()

    return Side(lambda pages: _median(touch, handler.address, pages), forget)


def _write(path: Path, touch: Touch, length: int) -> None:
    with path.open("w+b") as file, mmap.mmap(-1, length) as pages:
        touch.fill(address_of(pages), 0, length, _SEED)
        file.write(pages)
        file.flush()
        os.fsync(file.fileno())


def _median(touch: Touch, address: int, pages: Numbers) -> float:
    return float(np.median(touch.touch(address, pages, write=False))) / 1e3


def measure(touch: Touch, folder: Path, own_read: Callable[[Path], float]) -> None:
    """Print a line for each placement and kind of file. `folder`: with the C handler; its disk has the files.

    `own_read`: microseconds of the device's own read from a file.
    """
    here, *others = sorted(os.sched_getaffinity(0))
    placements: dict[str, tuple[tuple[int, ...], str, int]] = {"same CPU": ((), "follow", here)}
    if others:
        placements["other CPU"] = ((others[0],), "sleep", others[0])
    generator = np.random.default_rng(_SEED)
    with ExitStack() as stack:
        sides: dict[tuple[str, bool], tuple[Side, Side]] = {}
        for name, (cpus, wakeup, cpu) in placements.items():
            for direct in (False, True):
                usmd = _usmd(stack, touch, folder, cpus, wakeup, direct=direct)
                sides[name, direct] = usmd, _c(stack, touch, folder, cpu, direct=direct)
        stack.enter_context(on_cpus(here))
        times: dict[tuple[str, bool], list[tuple[float, float, float]]] = {key: [] for key in sides}
        for _ in range(ROUNDS):
            for key, both in sides.items():
                pages = generator.permutation(real_swap.DATA // PAGE)[:TOUCHES].astype(np.uint32)
                found = [side.touch(pages) for side in both]
                for side in both:
                    side.forget()
                times[key].append((found[0], found[1], own_read(folder / "pages")))
    print(f"  real faults on swapped pages beside bench/handler.c with the same file, p50 of {TOUCHES:,} touches")
    for (name, direct), found_times in times.items():
        usmd_us, c_us, own = (statistics.median(each) for each in zip(*found_times, strict=True))
        beside_c = statistics.median(mine / its for mine, its, _ in found_times)
        beside_device = statistics.median(mine / device for mine, _, device in found_times)
        what = f"device's own {own:5.1f} us, usmd {beside_device:4.2f} times (aim {AIM_DIRECT})" if direct else ""
        aim = "" if direct else f" (aim {AIM_CACHED})"
        print(
            f"  {name:<9} {'O_DIRECT' if direct else 'cached':<8} usmd {usmd_us:6.1f} us, C {c_us:6.1f} us: "
            f"{beside_c:4.2f} times{aim}{'; ' if what else ''}{what}"
        )
