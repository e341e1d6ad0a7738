"""Mechanism `userfaultfd`: real memory. One memfd a region, mapped by the daemon and by its client alike.

The bytes of a page are in its region's memfd, and nowhere while the page is absent or swapped; a frame is the right to
memory. A client that handed over a userfaultfd maps the memfd, and its page faults are served; the regions of others
are loaded and stored by call. Covers bytes and mappings; which faults there are is `client_memory`'s, how they reach
the core the server's.

An eviction is: write-protect, copy out, punch the hole. Between the first and the last the client's writes wait, and
are reported; so no write is lost. A page that comes in from swap comes in write-protected, unless for a write, so that
its first write is reported, and a clean page is dropped without I/O.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from typing import Final

from usmd import log
from usmd.core.commands import SlotPage
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.errors import LimitExceeded, SwapIOError, Unmapped, UsmdError
from usmd.mechanism.base import Busy, Errors, Mechanism, Stage
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.off_loop import Account, Aftercare, Punching, Run, punch
from usmd.mechanism.uffd import HARDWARE_PAGE
from usmd.sizes import format_size

NAME: Final = "userfaultfd"
_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_F_SEAL_FUTURE_WRITE: Final = 16
"""Linux 5.1; Python 3.11 has no name for it."""
RESIDENT: Final = 1
"""In a residency map: the page is in memory, and not on its way out. 0 is anything else."""
BLOCK_PAGES: Final = 64
"""Pages in a block of staging memory, or more for a larger batch."""
SPARE_BLOCKS: Final = 4
"""Blocks kept for the next batch."""
MAX_RUNS: Final = 4096
"""Runs of pages that a region may hold when its client maps it."""
MAX_LATE: Final = 16
"""Regions whose end is late; then no region is made until they are through."""
FINISH_SECONDS: Final = 10.0
"""Longest wait for what is to be done when the daemon ends."""
CLEARED_BYTES: Final = 1 << 16
"""Of a residency map, cleared at a stretch."""
MAX_BUSY: Final = 1000
"""Times that a page is tried to be brought in against what its client does meanwhile."""


def _memfd(name: str, size: int) -> int:
    """A memfd of fixed size; raises LimitExceeded."""
    try:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise LimitExceeded(f"no descriptor for a region: {error.strerror}; raise usmd's file limit") from error
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        os.close(descriptor)
        raise LimitExceeded(f"no memory for a region of {format_size(size)}: {error.strerror}") from error
    return descriptor


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


def _map(memfd: int, size: int) -> memoryview:
    """Map a memfd, for as long as the view or a part of it is used; raises OSError.

    Python's own `mmap` keeps a duplicate of the descriptor, up to 3.12.
    """
    address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, memfd, 0)
    if address == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size).atexit = False
    _libc.madvise(address, size, mmap.MADV_NOHUGEPAGE)  # memory is given by the page; a kernel without them refuses
    return memoryview(memory).cast("B")


def _runs_of_data(memfd: int) -> Iterator[tuple[int, int]]:
    """Where a memfd holds bytes: first byte and end of each run of pages. May wait for a client; raises OSError."""
    end = 0
    while True:
        try:
            start = os.lseek(memfd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(memfd, start, os.SEEK_HOLE)
        yield start, end


class RealRegion:
    """A region's bytes and its residency map, each a memfd that the client gets, and their mappings in the daemon."""

    __slots__ = (
        "account", "client", "held", "mapping", "memfd", "page_count", "region_id", "residency", "residency_fd",
        "shared",
    )  # fmt: skip

    def __init__(self, region_id: int, page_count: int, page_size: int) -> None:
        """Make the memfds; raises LimitExceeded."""
        self.region_id = region_id
        self.page_count = page_count
        self.client: ClientMemory | None = None
        """The client's side, once it has mapped the region."""
        self.account = Account()
        self.shared = False
        """Another process has its memfd, and can hold the lock of the inode."""
        self.held: Callable[[], object] | None = None
        """A punch of it waits for a client, which is to end; this waits until the punch is through."""
        self.memfd = _memfd(f"usmd-{region_id}", page_count * page_size)
        try:
            self.residency_fd = _memfd(f"usmd-{region_id}-residency", 2 * page_count)
        except LimitExceeded:
            os.close(self.memfd)
            raise
        try:
            fcntl.fcntl(self.memfd, fcntl.F_ADD_SEALS, _SEALS)
            self.mapping = _map(self.memfd, page_count * page_size)
            self.residency = _map(self.residency_fd, 2 * page_count)
            """A byte a page, RESIDENT or 0; then a byte a page again, why a touch of it is SIGBUS, a FailureReason."""
            # After the daemon's own mapping: nobody else can write to it.
            fcntl.fcntl(self.residency_fd, fcntl.F_ADD_SEALS, _SEALS | _F_SEAL_FUTURE_WRITE)
        except (OSError, OverflowError, ValueError) as error:
            self.close()
            raise LimitExceeded(f"no room to map a region of {format_size(page_count * page_size)}: {error}") from error

    def share(self) -> list[int]:
        """The descriptors that its client gets."""
        self.shared = True
        return [self.memfd, self.residency_fd]

    def data(self) -> list[tuple[int, int]]:
        """Where the memfd holds bytes: first byte and end of each run of pages. Raises OSError (E2BIG: too many)."""
        found = list(islice(_runs_of_data(self.memfd), MAX_RUNS + 1))
        if len(found) <= MAX_RUNS:
            return found
        raise OSError(errno.E2BIG, f"it holds more than {MAX_RUNS} runs of pages already; map it before it is filled")

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the region. Through the mapping a hole would become a page of zeros, for the client as well."""
        return os.pread(self.memfd, length, offset)

    def pages_in_memory(self) -> int:
        """Pages of the hardware's size that the memfd holds, whoever put them there."""
        return os.fstat(self.memfd).st_blocks * 512 // mmap.PAGESIZE

    def empty(self) -> None:
        """Give all of its memory back, whoever still maps it, and close it. May wait for a client."""
        if self.held is not None:
            self.held()  # it may use the descriptor
        # The map first: a client that looks there before it touches is then told, and does not touch.
        for start, end in _runs_of_data(self.residency_fd):  # what it does not hold is 0 already
            for first in range(start, min(end, self.page_count), CLEARED_BYTES):
                stop = min(first + CLEARED_BYTES, end, self.page_count)
                self.residency[first:stop] = bytes(stop - first)
        try:
            punch(self.memfd, [(0, len(self.mapping))])
        finally:
            self.close()

    def close(self) -> None:
        """Close the descriptors. The mappings go when nobody reads them any more, such as a write to swap."""
        os.close(self.memfd)
        os.close(self.residency_fd)


class _Block:
    """Staging memory: `size` bytes of the daemon's own at `address`."""

    __slots__ = ("address", "size", "view")

    def __init__(self, size: int) -> None:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.size = size
        self.view = memoryview(memory)


class _MemfdStage(Stage):
    """Buffers side by side in a block, in the order of the pages, and how far each page has been brought in."""

    __slots__ = ("block", "done", "tries")

    def __init__(self, pages: Sequence[SlotPage], block: _Block, page_size: int) -> None:
        view = block.view
        super().__init__(pages, [view[n * page_size : (n + 1) * page_size] for n in range(len(pages))])
        self.block = block
        self.done = [0] * len(pages)
        self.tries = 0


class UserfaultfdMemory(Mechanism):
    """Real memory in pages of `page_size` bytes, a multiple of the hardware's."""

    name = NAME

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._zeros = bytes(page_size)
        self._zero_block = _Block(HARDWARE_PAGE)
        """A page of zeros, to copy from."""
        self._regions: dict[int, RealRegion] = {}
        self._emptying: dict[int, tuple[ClientMemory | None, threading.Event]] = {}
        """Regions that are gone and still hold memory: their client, and what is set when they hold none."""
        self._left: dict[int, ClientMemory] = {}
        """Regions that are gone, whose client may still wait for pages of them."""
        self._blocks: list[_Block] = []
        """Staging memory that nobody uses now."""
        self._punching = Punching()
        self._aftercare = Aftercare(self._late)
        """Of regions that are gone."""
        self._farewells = Aftercare(self._late)
        """Of clients that are gone."""
        self._leaving: list[ClientMemory] = []
        """Clients that are gone, and whose userfaultfd is still open."""
        self.on_held: Callable[[int, str], None] = lambda _region, _why: None
        """Called with a region and a reason when its client has made a punch wait, and is to end."""

    # Regions

    def add_region(self, region_id: int, process_id: int, page_count: int) -> None:
        """Make the memfds of a region; raises LimitExceeded."""
        del process_id  # its client comes with `connect`
        if self._aftercare.behind >= MAX_LATE:
            raise LimitExceeded(
                f"the memory of {self._aftercare.behind} regions that are gone cannot be given back, because another "
                "process holds their memfds; no region is made before it is"
            )
        self._regions[region_id] = RealRegion(region_id, page_count, self._page_size)

    def region(self, region_id: int) -> RealRegion | None:
        """A region that is not gone, or None."""
        return self._regions.get(region_id)

    def connect(self, region: RealRegion, client: ClientMemory, address: int) -> None:
        """The client has mapped a region at an address: serve its faults. Raises OSError where the kernel refuses.

        Raises Busy while the same process's memory at these addresses is still poisoned for a session that has ended,
        which would poison the new region as well. After an error the region is mapped nowhere, and may be elsewhere.
        """
        length = region.page_count * self._page_size
        if any(each.pid == client.pid and each.overlaps(address, length) for each in list(self._leaving)):
            raise Busy(f"an ended session of process {client.pid} is being let go at {address:#x}; try again")
        for other in {id(each): each for each in self._clients()}.values():
            if other is not client and other.pid == client.pid:
                other.lose(address, length)
        client.register(region.region_id, address, length)
        region.client = client
        try:
            self._protect_all(region, client)
        except BaseException:  # raised again; else its faults would be taken, and nobody would be woken
            region.client = None
            client.forget(region.region_id)
            raise

    def _protect_all(self, region: RealRegion, client: ClientMemory) -> None:
        """What is there already may be clean, or on its way out, so that its first write must be heard of."""
        found: list[tuple[int, int]] = []
        held = self._punching.run(lambda: found.extend(region.data()), MAX_RUNS, region.account)
        if held is not None:
            self._held(region, held.wait_done, held.why)
            raise OSError(errno.EBUSY, held.why)
        for start, end in found:
            if not client.protect(region.region_id, start, end - start):
                raise OSError(errno.EAGAIN, "what it holds cannot be protected now")

    def drop_region(self, region_id: int, *, ended: bool) -> None:
        """Punch all of a region, so that its memory is free whoever still maps it."""
        region = self._regions.pop(region_id, None)
        if region is None:
            return
        emptied = threading.Event()
        self._emptying[region_id] = region.client, emptied

        def end() -> None:
            try:
                region.empty()
            finally:
                self._emptying.pop(region_id, None)
                emptied.set()

        self._aftercare.put(f"the end of region {region_id}", end)
        if region.client is not None:
            region.client.drop(region_id, ended=ended)
            if region.client.mapped(region_id):
                self._left[region_id] = region.client

    def is_emptied(self, region_id: int) -> bool:
        """As it says there."""
        return region_id not in self._emptying

    def disconnect(self, client: ClientMemory) -> None:
        """A client's process, or its wish to be served, has ended."""
        for region in self._regions.values():
            if region.client is client:
                region.client = None
        self._left = {region_id: each for region_id, each in self._left.items() if each is not client}

    def farewell(self, client: ClientMemory, *, poison: bool) -> None:
        """Have a client that is disconnected closed, and first what is missing in it made an error to touch.

        That is after its regions were emptied: a page that goes from a mapping which is served no more would be one of
        zeros, and not an error.
        """
        client.on_early = lambda: None
        self._leaving.append(client)
        before = [emptied for owner, emptied in list(self._emptying.values()) if owner is client]

        def end() -> None:
            try:
                for emptied in before:
                    emptied.wait()
                if poison:
                    client.poison_all()
            finally:
                client.close()
                self._leaving.remove(client)

        self._farewells.put(f"the end of the memory of process {client.pid}", end)

    # Pages

    def _runs(self, pages: Sequence[int]) -> Iterator[tuple[RealRegion, int, int]]:
        """Pages as runs of neighbours: region, first page, pages; those of regions that are gone are left out."""
        regions = self._regions
        if len(pages) == 1:
            only = regions.get(pages[0] >> PAGE_BITS)
            if only is not None:
                yield only, pages[0] & PAGE_MASK, 1
            return
        for region_id, first, count in _neighbours(pages):
            region = regions.get(region_id)
            if region is not None:
                yield region, first, count

    def zero(self, frames: Sequence[int], pages: Sequence[int]) -> None:
        """Make pages present and zero. For a region that no client maps a hole is as good."""
        del frames
        size = self._page_size
        if len(pages) == 1:  # the usual case, with the least around it
            only = self._regions.get(pages[0] >> PAGE_BITS)
            if only is not None:
                page = pages[0] & PAGE_MASK
                only.residency[page] = RESIDENT
                if only.client is not None:
                    only.client.zero(only.region_id, page * size, size)
            return
        for region, first, count in self._runs(pages):
            region.residency[first : first + count] = b"\1" * count
            if region.client is not None:
                region.client.zero(region.region_id, first * size, count * size)

    def release(self, pages: Sequence[int]) -> None:
        """Punch the pages."""
        size = self._page_size
        by_region: dict[int, list[Run]] = {}
        for region, first, count in self._runs(pages):
            region.residency[first : first + count] = bytes(count)
            by_region.setdefault(region.region_id, []).append((first * size, count * size))
        for region_id, runs in by_region.items():
            region = self._regions[region_id]
            self._punch(region, runs)
            if region.client is not None:
                for offset, length in runs:
                    region.client.not_wanted(region_id, offset, length)

    def _punch(self, region: RealRegion, runs: list[Run]) -> None:
        """Give the memory of ranges back; those of a client that has made that wait go when it ends."""
        if not region.shared:  # so that no other process can hold its lock
            punch(region.memfd, runs)
        elif region.held is None:
            pages = sum(length for _, length in runs) // HARDWARE_PAGE
            held = self._punching.run(lambda: punch(region.memfd, runs), pages, region.account)
            if held is not None:
                self._held(region, held.wait_done, held.why)

    def _held(self, region: RealRegion, wait: Callable[[], object], why: str) -> None:
        region.held = wait
        self.on_held(region.region_id, why)

    @staticmethod
    def _late(what: str) -> None:
        log.event("aftercare_late", what=what)

    def restore(self, pages: Sequence[int], writable: Sequence[bool]) -> None:
        """Let the client go on, and write where it may."""
        size = self._page_size
        for key, may_write in zip(pages, writable, strict=True):
            region = self._regions.get(key >> PAGE_BITS)
            if region is None:
                continue
            page = key & PAGE_MASK
            region.residency[page] = RESIDENT
            if region.client is None:
                continue
            if may_write:
                region.client.unprotect(region.region_id, page * size, size)
            else:
                region.client.wake(region.region_id, page * size, size)

    def wake(self, pages: Sequence[int]) -> list[int]:
        """Let the client go on; what it has emptied by itself holds zeros now, and is returned."""
        size = self._page_size
        return [
            region.region_id << PAGE_BITS | page
            for region, first, count in self._runs(pages)
            for page in range(first, first + count)
            if region.client is not None
            and region.client.refill(region.region_id, page * size, size, self._zero_block.address)
        ]

    def poison(self, pages: Sequence[int], reasons: Sequence[int]) -> list[int]:
        """SIGBUS for who touches the pages, also those of regions that are gone; returns those that cannot be."""
        size = self._page_size
        stuck = []
        for key, reason in zip(pages, reasons, strict=True):
            region_id = key >> PAGE_BITS
            region = self._regions.get(region_id)
            if region is not None:
                region.residency[region.page_count + (key & PAGE_MASK)] = reason
            client = self._left.get(region_id) if region is None else region.client
            if client is not None and not client.poison(region_id, (key & PAGE_MASK) * size, size):
                stuck.append(key)
        return stuck

    def protect(self, frames: Sequence[int], pages: Sequence[int]) -> list[bool | None]:
        """Write-protect the pages in the client, then look which are all zero."""
        del frames
        size, zeros = self._page_size, self._zeros
        answers: dict[int, bool | None] = {}
        for region, first, count in self._runs(pages):
            key = region.region_id << PAGE_BITS | first
            stable = region.client is None or region.client.protect(region.region_id, first * size, count * size)
            if stable:
                region.residency[first : first + count] = bytes(count)
            for number in range(count):
                start = (first + number) * size
                answers[key + number] = region.read(start, size) == zeros if stable else None
        return [answers.get(key) for key in pages]

    def source(self, page: SlotPage) -> memoryview:
        """A copy of the page, for its client can empty it at any time; of a region that is gone, anything."""
        region = self._regions.get(page.page >> PAGE_BITS)
        if region is None:
            return memoryview(self._zeros)
        start = (page.page & PAGE_MASK) * self._page_size
        return memoryview(region.read(start, self._page_size))

    def stage(self, pages: Sequence[SlotPage], *, at_once: bool = False) -> Stage:
        """Memory of the daemon alone: nobody sees a page before all of it has been read and verified."""
        del at_once
        needed = max(len(pages), BLOCK_PAGES) * self._page_size
        block = self._blocks.pop() if self._blocks and self._blocks[-1].size >= needed else _Block(needed)
        return _MemfdStage(pages, block, self._page_size)

    def fill(self, stage: Stage, errors: Sequence[UsmdError | None]) -> Errors:
        """Copy the pages in where the client sees them, neighbours by one call."""
        if not isinstance(stage, _MemfdStage):
            raise TypeError(f"{stage!r} is no stage of this mechanism")
        results = [None if isinstance(error, Busy) else error for error in errors]
        stage.tries += 1
        if len(results) == 1:  # the usual case, with the least around it
            if results[0] is None:
                self._fill_run(stage, [0], results)
            if not isinstance(results[0], Busy):
                self.unstage(stage)
            return results
        for indexes in self._fill_runs(stage, results):
            self._fill_run(stage, indexes, results)
        if not any(isinstance(result, Busy) for result in results):
            self.unstage(stage)
        return results

    def unstage(self, stage: Stage) -> None:
        """Keep the block for the next stage."""
        super().unstage(stage)
        if isinstance(stage, _MemfdStage) and len(self._blocks) < SPARE_BLOCKS:
            self._blocks.append(stage.block)

    def _fill_runs(self, stage: _MemfdStage, results: Errors) -> Iterator[list[int]]:
        """Indexes of the pages still to be filled, neighbours together."""
        size = self._page_size
        wanted = [n for n in range(len(stage.pages)) if results[n] is None and stage.done[n] < size]

        def place(position_index: tuple[int, int]) -> tuple[int, int, bool, bool]:
            position, index = position_index
            page = stage.pages[index]
            return page.page - position, index - position, page.writable, stage.done[index] > 0

        for _, run in groupby(enumerate(wanted), key=place):
            yield [index for _, index in run]

    def _fill_run(self, stage: _MemfdStage, indexes: list[int], results: Errors) -> None:
        size = self._page_size
        first = stage.pages[indexes[0]]
        region = self._regions.get(first.page >> PAGE_BITS)
        if region is None:
            return  # the core knows: it frees frame and slot
        page, count = first.page & PAGE_MASK, len(indexes)
        if region.client is None:
            for number, index in enumerate(indexes):
                start = (page + number) * size
                region.mapping[start : start + size] = stage.buffers[index]
                stage.done[index] = size
            region.residency[page : page + count] = b"\1" * count
            return
        skip = stage.done[indexes[0]]
        done, error = region.client.copy(
            region.region_id, page * size + skip, count * size - skip,
            stage.block.address + indexes[0] * size + skip, writable=first.writable,
        )  # fmt: skip
        done += skip
        if done == size and count == 1:
            stage.done[indexes[0]] = size
            region.residency[page] = RESIDENT
            return
        whole, part = divmod(done, size)
        for index in indexes[:whole]:
            stage.done[index] = size
        region.residency[page : page + whole] = b"\1" * whole
        if error == 0:
            return
        stage.done[indexes[whole]] = part
        if error == errno.EEXIST:
            # The client has written into the memfd, where nothing was. What it stored before is what counts.
            position = page * size + done
            self._punch(region, [(position & -mmap.PAGESIZE, mmap.PAGESIZE)])
        if error in (errno.EEXIST, errno.EAGAIN) and stage.tries < MAX_BUSY:
            for index in indexes[whole:]:
                results[index] = Busy("a page cannot be brought in just now")
        elif count > 1:
            for index in indexes[whole:]:  # the client has split its mapping: one by one
                self._fill_run(stage, [index], results)
        else:
            results[indexes[0]] = _why(error)

    def tick(self) -> None:
        """Do what an unfinished remap or a lack of memory held up."""
        self._aftercare.tick()
        self._farewells.tick()
        for client in {id(each): each for each in self._clients()}.values():
            client.retry()

    def _clients(self) -> Iterator[ClientMemory]:
        yield from (region.client for region in self._regions.values() if region.client is not None)
        yield from self._left.values()

    def load(self, frames: Sequence[int], first: int, offset: int, length: int) -> bytes:
        """Bytes of a region, by its memfd."""
        del frames
        start = (first & PAGE_MASK) * self._page_size + offset
        return self._regions[first >> PAGE_BITS].read(start, length) if length else b""

    def store(self, frames: Sequence[int], first: int, offset: int, data: memoryview) -> int:
        """Write to a region, by its memfd."""
        count = min(len(data), max(len(frames) * self._page_size - offset, 0))
        if count:
            start = (first & PAGE_MASK) * self._page_size + offset
            self._regions[first >> PAGE_BITS].mapping[start : start + count] = data[:count]
        return count

    def close(self) -> None:
        """Let go of all regions."""
        for region_id in list(self._regions):
            self.drop_region(region_id, ended=True)
        self.finish()

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Wait until all is done for the regions and clients that are gone, for `seconds` at most."""
        for aftercare in (self._farewells, self._aftercare):
            for what in aftercare.finish(seconds):
                self._late(what)


def _neighbours(pages: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Page keys as runs of ascending neighbours: region, first page, pages."""
    start = pages[0] if pages else 0
    count = 0
    for key in pages:
        if key == start + count:
            count += 1
            continue
        yield start >> PAGE_BITS, start & PAGE_MASK, count
        start, count = key, 1
    if count:
        yield start >> PAGE_BITS, start & PAGE_MASK, count


def _why(error: int) -> UsmdError:
    if error in (errno.ENOENT, errno.ESRCH):
        return Unmapped("its client has unmapped the memory where it was to come in")
    return SwapIOError(f"the page cannot be brought in: {os.strerror(error)}")
