"""Real page faults served by usmd, beside a minimal C handler in the same setting and beside the kernel alone.

A thread writes to untouched pages. The same C code (bench/touch.c) times each touch on all sides. The C handler
(bench/handler.c) is a separate process too, and does only what the kernel needs to resume the thread. The rounds of all
sides alternate. Then bench.real_swap measures eviction and swap-in of real pages.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np

import lib_usm
from bench import as_program, real_swap
from bench.c_handler import CHandler
from bench.folios import folios_allowed
from bench.native import (
    PAGE,
    Latency,
    Nanoseconds,
    NoCompilerError,
    Touch,
    address_of,
    compiled,
    on_cpus,
    present,
)
from bench.orders import in_no_order
from tools.own_daemon import running
from usmd.ctl.address import admin_socket
from usmd.ctl.connect import Admin
from usmd.mechanism import uffd

MEMORY: Final = "256MiB"
ROUNDS: Final = 6
FAULTS: Final = {1: 1000, 16: 200, 512: 16}
"""Faults per round, by pages per fault."""
AIM_RATIOS: Final = {1: 1.5, 16: 1.4, 512: 1.2}
"""By pages per fault."""
AIM_MICROSECONDS: Final = 25.0


class Placement(NamedTuple):
    """How the handlers wait, and on which CPUs they run."""

    wakeup: str
    """usmd's --fault-wakeup."""
    spin: int
    """Microseconds for which the C handler polls."""
    where: Literal["anywhere", "other CPU", "same CPU"]
    """CPU of the handler relative to that of the faulting thread. usmd is pinned to another CPU; it moves to the same
    one by itself (follow). The C handler is pinned to either."""

    @property
    def name(self) -> str:
        """The name that is printed."""
        return f"{self.wakeup}, {self.where}"


PLACEMENTS: Final = (
    Placement("sleep", 0, "anywhere"),
    Placement("sleep", 0, "other CPU"),
    Placement("spin:50", 50, "other CPU"),
    Placement("follow", 0, "same CPU"),
)


class Setting(NamedTuple):
    """The setting of one line: CPUs of the faulting thread and of another, pages per fault, the C programs."""

    here: int
    there: int
    pages: int
    folder: Path
    touch: Touch

    @property
    def length(self) -> int:
        """Bytes that a round brings in."""
        return FAULTS[self.pages] * self.pages * PAGE

    def fault(self, address: int) -> Nanoseconds:
        """Write to the first page of each block, in random order; returns the time of each touch.

        In ascending order most pages would come without a fault.
        """
        blocks = in_no_order(FAULTS[self.pages]) * np.uint32(self.pages)
        with on_cpus(self.here):
            return self.touch.touch(address, blocks, write=True)

    def check(self, who: str, faults: int, pages: int) -> None:
        """Raise RuntimeError unless each touch was a fault, and each fault brought in its whole block."""
        touches = FAULTS[self.pages]
        if (faults, pages) != (touches, touches * self.pages):
            raise RuntimeError(f"{who}: {touches} touches were {faults} faults, which brought in {pages} pages")


class Usmd(NamedTuple):
    """A client of a separate usmd, and its counters."""

    client: lib_usm.Client
    admin: Admin

    def faults(self) -> int:
        """Faults so far."""
        return sum(process.counters["faults"] for process in self.admin.processes())


def by_usmd(setting: Setting, usmd: Usmd) -> Nanoseconds:
    """A round of usmd."""
    before = usmd.faults()
    with usmd.client.mmap(setting.length) as region:
        address = address_of(region.buffer)
        times = setting.fault(address)
        setting.check("usmd", usmd.faults() - before, present(address, setting.length))
    return times


def by_c(setting: Setting, placement: Placement) -> Nanoseconds:
    """A round of the C handler."""
    cpu = {"anywhere": None, "other CPU": setting.there, "same CPU": setting.here}[placement.where]
    program = setting.folder / "handler"
    with CHandler(program, setting.length, pages=setting.pages, spin=placement.spin, cpu=cpu) as handler:
        times = setting.fault(handler.address)
        pages = present(handler.address, setting.length)
    setting.check("the C handler", handler.faults, pages)
    return times


def by_kernel(setting: Setting, *, shared: bool) -> Nanoseconds:
    """A round of the kernel alone: a memfd mapped shared, or anonymous memory."""
    with ExitStack() as stack:
        if shared:
            descriptor = os.memfd_create("bench")
            stack.callback(os.close, descriptor)
            os.ftruncate(descriptor, setting.length)
            memory = mmap.mmap(descriptor, setting.length)
        else:
            memory = mmap.mmap(-1, setting.length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        stack.enter_context(memory)
        return setting.fault(address_of(memory))


@contextmanager
def usmd_at(setting: Setting, placement: Placement) -> Iterator[Usmd]:
    """A usmd that waits for faults as `placement` says, and brings in `setting.pages` pages per fault."""
    flags = ["--mechanism", "userfaultfd", "--fault-wakeup", placement.wakeup]
    flags += ["--memory", MEMORY, "--page-size", str(PAGE)]
    if setting.pages > 1:
        flags += ["--alloc", f"flexible_huge_pages(pages={setting.pages})"]
    with ExitStack() as stack:
        with on_cpus(setting.there) if placement.where == "other CPU" else on_cpus():
            daemon = stack.enter_context(running(*flags))
        client = stack.enter_context(lib_usm.connect(daemon.address, name="bench"))
        yield Usmd(client, stack.enter_context(Admin(admin_socket(daemon.admin_address))))


def report(setting: Setting, placement: Placement, kernel: dict[bool, list[Nanoseconds]]) -> Latency:
    """Print one line: usmd and the C handler at one placement.

    The kernel's single pages go to `kernel`, by `shared`.
    """
    ours, bare = [], []
    with usmd_at(setting, placement) as usmd:
        for _ in range(ROUNDS):
            bare.append(by_c(setting, placement))
            ours.append(by_usmd(setting, usmd))
            if setting.pages == 1:
                for shared, rounds in kernel.items():
                    rounds.append(by_kernel(setting, shared=shared))
    a, b = Latency.of(ours), Latency.of(bare)
    ratio = float(np.median([np.median(x) / np.median(y) for x, y in zip(ours, bare, strict=True)]))
    each = "" if setting.pages == 1 else f"   a page {a.p50 / setting.pages:.2f} and {b.p50 / setting.pages:.2f}"
    print(
        f"    {placement.name:19} usmd p50 {a.p50:7.1f} p99 {a.p99:7.1f}   C p50 {b.p50:7.1f} p99 {b.p99:7.1f}   "
        f"ratio {ratio:.2f} ({judged(AIM_RATIOS[setting.pages], ratio)}){each}"
    )
    return a


def judged(aim: float, measured: float) -> str:
    """The aim, and whether it was met."""
    return f"aim {aim:.2f}: {'met' if measured <= aim else 'MISSED'}"


def measure(folder: Path, touch: Touch) -> None:
    """Print the lines of all placements and numbers of pages per fault."""
    here, *others = sorted(os.sched_getaffinity(0))
    placements = [placement for placement in PLACEMENTS if placement.where != "other CPU" or others]
    there = others[0] if others else here
    print(
        f"  faulting thread pinned to CPU {here}, handler anywhere, or on the other CPU ({there}), or on the same one"
    )
    if not others:
        print("  what is for another CPU is skipped: this process has only one")
    print("  C handler: bench/handler.c, a process of its own, same registration, poll or spin, UFFDIO_ZEROPAGE")
    print(f"  us; p50 is the median of {ROUNDS} alternating rounds, p99 that of all their touches")
    for pages, faults in FAULTS.items():
        policy = "default policies" if pages == 1 else f"--alloc flexible_huge_pages(pages={pages})"
        print(f"  {pages} page{'s' if pages > 1 else ''} a fault ({policy}), {faults} faults a round")
        setting = Setting(here, there, pages, folder, touch)
        kernel: dict[bool, list[Nanoseconds]] = {True: [], False: []}
        ours = {placement.name: report(setting, placement, kernel) for placement in placements}
        if pages == 1:
            for name, shared in (("memfd mapped shared", True), ("anonymous memory", False)):
                latency = Latency.of(kernel[shared])
                print(f"    kernel alone, {name:19} p50 {latency.p50:7.1f} p99 {latency.p99:7.1f}")
            best = min(ours, key=lambda name: ours[name].p50)
            print(f"    best of usmd: {best}: p50 {ours[best].p50:.1f} us ({judged(AIM_MICROSECONDS, ours[best].p50)})")


def main() -> None:
    """Print all lines, or why nothing can be measured here."""
    print(
        f"real page faults: writes to pages never touched (--mechanism userfaultfd --memory {MEMORY}, "
        f"pages of {PAGE} bytes; load average {os.getloadavg()[0]:.1f})"
    )
    why_not = uffd.usable(uffd.probe())
    if why_not:
        print(f"  skipped: {why_not}")
        return
    try:
        with compiled() as folder, folios_allowed() as said:
            print(f"  huge folios: {said}")
            touch = Touch(folder / "touch.so")
            measure(folder, touch)
            real_swap.measure(touch)
    except NoCompilerError as error:
        print(f"  skipped: {error}")


if __name__ == "__main__":
    as_program(main, __doc__)
