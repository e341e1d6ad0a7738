"""Faults on every page of a region, by pages a fault: a compiled client, usmd at several sizes, and the kernel alone.

The client (bench/touch.c) writes to each page of a region once: in order, in strides, at random; memory never touched,
and memory that was evicted. The kernel's sides are anonymous memory with single pages and with transparent huge pages,
and a memfd. The rounds of all sides alternate; the first one of each is not counted. Before each the bench uses as much
memory and frees it, because the host of a virtual machine may have to find it first. As root the bench allows folios to
shared memory that asks (`shmem_enabled`), and restores the setting.
"""

from __future__ import annotations

import mmap
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

import lib_usm
from bench import as_program
from bench.aims import ratio, verdict
from bench.backed import back_memory
from bench.folios import folios_allowed
from bench.native import PAGE, NoCompilerError, Numbers, Touch, address_of, compiled
from tools.own_daemon import running
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin
from usmd.mechanism import uffd
from usmd.sizes import format_size

MEMORY: Final = "320MiB"
SWAP: Final = "256MiB"
LENGTH: Final = 64 << 20
ROUNDS: Final = 5
SIZES: Final = ("4K", "16K", "64K", "128K", "512K", "2M", "AUTO")
STRIDE: Final = 17
"""Pages between two touches in strides. The region is passed over so many times, and each page is touched once."""
ORDERS: Final = ("in order", "in strides", "at random")
LITTLE: Final = "24MiB"
"""Memory of usmd for touches under pressure."""
TOUCHES: Final = 3000
PRESSED: Final = ("4K", "AUTO", "16K", "64K")
TICKS: Final = (1, 2, 5, 10, 20, 50, 100, 200)
OUT: Final = Path(__file__).parent / "out" / "memflt.png"
AIM_KERNEL: Final = 1.88
AIM_THP: Final = 1.6
AIM_64K: Final = 5.0
AIM_PRESSED: Final = 1.1
AIM_AUTO: Final = 1.2
PATIENCE: Final = 30.0


Times = dict[str, list[float]]
"""Microseconds a page, by order: those of the rounds."""


class Line(NamedTuple):
    """The times of a side: of memory never touched, and of evicted memory (empty for the kernel)."""

    name: str
    first: Times
    again: Times


def pages_in(order: str, count: int) -> Numbers:
    """The pages of a region in an order."""
    if order == "in order":
        return np.arange(count, dtype=np.uint32)
    if order == "in strides":
        return np.concatenate([np.arange(start, count, STRIDE, dtype=np.uint32) for start in range(STRIDE)])
    return np.random.default_rng(0).permutation(count).astype(np.uint32)


class Kernel:
    """The kernel's own memory."""

    def __init__(self, touch: Touch, name: str, *, shared: bool = False, huge: bool = False) -> None:
        self._touch = touch
        self.name = name
        self._shared = shared
        self._huge = huge

    def first(self, order: str) -> float:
        """Microseconds a page of memory never touched."""
        with ExitStack() as stack:
            if self._shared:
                descriptor = os.memfd_create("bench")
                stack.callback(os.close, descriptor)
                os.ftruncate(descriptor, LENGTH)
                memory = mmap.mmap(descriptor, LENGTH)
            else:
                memory = mmap.mmap(-1, LENGTH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            stack.enter_context(memory)
            memory.madvise(mmap.MADV_HUGEPAGE if self._huge else mmap.MADV_NOHUGEPAGE)
            return touched(self._touch, address_of(memory), order)

    def again(self, order: str) -> float | None:
        """None: the kernel has no swap here."""
        del order
        return None


class Usmd:
    """A client of usmd whose faults bring in `size`."""

    def __init__(self, touch: Touch, client: lib_usm.Client, admin: Admin, size: str) -> None:
        self._touch = touch
        self._client = client
        self._admin = admin
        self.name = f"usmd {size}"
        self._size = size

    def first(self, order: str) -> float:
        """Microseconds a page of memory never touched."""
        with self._client.mmap(LENGTH, fhp=self._size) as region:
            took = touched(self._touch, address_of(region.buffer), order)
        self._wait_for_frames()
        return took

    def again(self, order: str) -> float | None:
        """Microseconds a page of memory that was written to and evicted."""
        with self._client.mmap(LENGTH, fhp=self._size) as region:
            address = address_of(region.buffer)
            self._touch.fill(address, 0, LENGTH, 1)
            region.evict()
            self._wait_for_frames()
            took = touched(self._touch, address, order)
            if self._touch.wrong_words(address, 0, LENGTH, 1) > LENGTH // PAGE:  # a touch changes one word of a page
                raise RuntimeError("words are not what was stored")
        self._wait_for_frames()
        return took

    def under_pressure(self) -> float:
        """Microseconds a touch at random, of memory written to before that is larger than usmd's."""
        with self._client.mmap(LENGTH, fhp=self._size) as region:
            address = address_of(region.buffer)
            self._touch.fill(address, 0, LENGTH, 1)
            pages = pages_in("at random", LENGTH // PAGE)[:TOUCHES]
            took = float(self._touch.touch(address, pages, write=True).sum()) / len(pages) / 1000
        self._wait_for_frames()
        return took

    def _wait_for_frames(self) -> None:
        """Wait until all frames are free again, so that no work on a region of before is measured."""
        end = time.monotonic() + PATIENCE
        while (status := self._admin.status()).free_frames < status.frames:
            if time.monotonic() > end:
                raise RuntimeError(f"{status.frames - status.free_frames} frames are in use after {PATIENCE:g} s")
            time.sleep(0.01)


def touched(touch: Touch, address: int, order: str) -> float:
    """Touch each page once; returns microseconds a page."""
    back_memory(2 * LENGTH)
    pages = pages_in(order, LENGTH // PAGE)
    return float(touch.touch(address, pages, write=True).sum()) / len(pages) / 1000


@contextmanager
def connected(memory: str) -> Iterator[tuple[lib_usm.Client, Admin]]:
    """A usmd with so much memory, and swap in memory, with a client and an operator."""
    flags = ("--mechanism", "userfaultfd", "--memory", memory, "--page-size", str(PAGE), "--swap", f"memory:{SWAP}")
    with (
        running(*flags) as daemon,
        lib_usm.connect(daemon.address, name="bench") as client,
        Admin(admin_socket(daemon.admin_address)) as admin,
    ):
        yield client, admin


def measure(sides: list[Kernel | Usmd], rounds: int) -> list[Line]:
    """The lines of all sides: medians of alternating rounds."""
    lines = [Line(side.name, {}, {}) for side in sides]
    for kind in ("first", "again"):
        for order in ORDERS:
            times: list[list[float]] = [[] for _ in sides]
            for number in range(rounds + 1):
                for side, of_side in zip(sides, times, strict=True):
                    call: Callable[[str], float | None] = side.first if kind == "first" else side.again
                    took = call(order)
                    if took is not None and number:
                        of_side.append(took)
            for line, of_side in zip(lines, times, strict=True):
                if of_side:
                    (line.first if kind == "first" else line.again)[order] = of_side
    return lines


def pressure(touch: Touch, client: lib_usm.Client, admin: Admin) -> None:
    """Print what touches at random take if there is less memory than data, beside single pages."""
    sides = [Usmd(touch, client, admin, size) for size in PRESSED]
    rounds: list[list[float]] = [[side.under_pressure() for side in sides] for _ in range(ROUNDS + 1)][1:]
    print(f"  at random over {format_size(LENGTH)} in memory of {LITTLE}, all in swap or in memory before:")
    for number, side in enumerate(sides):
        found = ratio([times[number] for times in rounds], [times[0] for times in rounds])
        aim = f" {verdict(found, AIM_PRESSED, at_least=False)}" if side.name == "usmd AUTO" else ""
        took = statistics.median(times[number] for times in rounds)
        print(f"    {side.name:10} {took:8.1f} us a touch, {found:.2f}x{aim}")


def report(lines: list[Line]) -> None:
    """Print the table and the aims."""
    heading = "".join(f"{order:>12}" for order in ORDERS)
    print(f"  {'us a page':24}{heading}   after eviction:")
    for line in lines:
        cells = ["".join(f"{statistics.median(of[order]):12.2f}" for order in ORDERS) for of in line[1:] if of]
        print(f"  {line.name:24}{'   '.join(cells)}")
    first = {line.name: line.first for line in lines}
    in_order = {name: times["in order"] for name, times in first.items()}
    fixed = [name for name in first if name.startswith("usmd") and name != "usmd AUTO"]
    aims = [
        (
            f"AUTO against the best size, {order}",
            max(ratio(first["usmd AUTO"][order], first[name][order]) for name in fixed),
            AIM_AUTO,
            False,
        )
        for order in ORDERS
    ]
    aims += [
        (
            "the kernel's single pages against 2M",
            ratio(in_order["kernel, single pages"], in_order["usmd 2M"]),
            AIM_KERNEL,
            True,
        ),
        (
            "2M against the kernel's huge pages",
            ratio(in_order["usmd 2M"], in_order["kernel, huge pages"]),
            AIM_THP,
            False,
        ),
        ("4K against 64K", ratio(in_order["usmd 4K"], in_order["usmd 64K"]), AIM_64K, True),
    ]
    for what, found, aim, at_least in aims:
        print(f"  {what}: {found:.2f}x {verdict(found, aim, at_least=at_least)}")


def draw(lines: list[Line], path: Path) -> None:
    """Draw the table, if matplotlib is there."""
    try:
        import matplotlib as mpl

        mpl.use("agg")
        from matplotlib import pyplot
    except ImportError:
        print("  no picture: matplotlib is not installed")
        return
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5))
    for axis, title, values in (
        (axes[0], "first touch", [(line.name, line.first) for line in lines]),
        (axes[1], "after eviction", [(line.name, line.again) for line in lines if line.again]),
    ):
        height = 0.8 / len(ORDERS)
        for number, order in enumerate(ORDERS):
            places = [index + number * height for index in range(len(values))]
            axis.barh(places, [statistics.median(by_order[order]) for _, by_order in values], height, label=order)
        axis.set_yticks([index + height for index in range(len(values))], [name for name, _ in values])
        axis.set_xscale("log")
        axis.set_xticks(TICKS, [str(each) for each in TICKS])
        axis.minorticks_off()
        axis.set_xlabel("us a page")
        axis.set_title(title)
        axis.invert_yaxis()
    axes[0].legend()
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    print(f"  picture: {path}")


def main() -> None:
    """Print the table, or why nothing can be measured here."""
    print(
        f"memflt: writes to each of {LENGTH // PAGE:,} pages ({format_size(LENGTH)}; --mechanism userfaultfd "
        f"--memory {MEMORY}, swap in memory; load average {os.getloadavg()[0]:.1f})"
    )
    why_not = uffd.usable(uffd.probe())
    if why_not:
        print(f"  skipped: {why_not}")
        return
    try:
        with compiled() as folder, folios_allowed() as said, ExitStack() as stack:
            print(f"  {said}; medians of {ROUNDS} alternating rounds")
            touch = Touch(folder / "touch.so")
            client, admin = stack.enter_context(connected(MEMORY))
            sides: list[Kernel | Usmd] = [
                Kernel(touch, "kernel, single pages"),
                Kernel(touch, "kernel, huge pages", huge=True),
                Kernel(touch, "kernel, memfd", shared=True),
                *(Usmd(touch, client, admin, size) for size in SIZES),
            ]
            lines = measure(sides, ROUNDS)
            report(lines)
            draw(lines, OUT)
            stack.close()
            with connected(LITTLE) as (client, admin):
                pressure(touch, client, admin)
    except NoCompilerError as error:
        print(f"  skipped: {error}")


if __name__ == "__main__":
    as_program(main, __doc__)
