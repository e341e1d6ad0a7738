"""A client process for test_own_mappings: it unmaps, moves, protects and empties parts of its managed memory itself.

Run as `remapping_client.py ADDRESS SCENARIO SEED`. Meanwhile one thread of it keeps the daemon evicting and filling,
and another reads and writes pages of the same region that stay where they are. Each byte that was not given away is
compared with a model after each round. It prints `done`, or what was wrong, and ends at once: Python would unmap what
has moved.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import sys
import threading
from collections.abc import Callable

import lib_usm

PAGE = 4096
PAGES = 64
OWN = 32
"""Pages that the scenarios play with; the rest of the region stays where it is."""
PRESSURE = 512
"""Pages of the region that keeps the daemon busy; twice the memory."""
MOST = 8
"""Pages that are played with at a time."""
ROUNDS = 4
READ, WRITE = mmap.PROT_READ, mmap.PROT_WRITE
FRESH = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
NO_REPLACE = 0x100000  # MAP_FIXED_NOREPLACE
MAYMOVE, FIXED = 1, 2  # of mremap
SWITCH_SECONDS = 2e-5
"""After which a Python thread lets another run: each call here gives the lock away, and wants it back soon."""
NOWHERE = 0
ZEROS = bytes(PAGE)

_libc = ctypes.CDLL(None, use_errno=True)
_word, _size = ctypes.c_void_p, ctypes.c_size_t
_libc.memcpy.argtypes = [_word, _word, _size]
_libc.memset.argtypes = [_word, ctypes.c_int, _size]
_libc.munmap.argtypes = [_word, _size]
_libc.madvise.argtypes = [_word, _size, ctypes.c_int]
_libc.mprotect.argtypes = [_word, _size, ctypes.c_int]
_libc.mremap.argtypes = [_word, _size, _size, ctypes.c_int, _word]
_libc.mmap.argtypes = [_word, _size, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mremap.restype = _libc.mmap.restype = ctypes.c_void_p


class Wrong(Exception):
    """Memory does not hold what was stored."""


def system(result: int | None) -> int:
    """The result of a system call; raises OSError where it failed."""
    if result in (-1, None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result or 0)


def room(pages: int) -> int:
    """An address where nothing is, for so many pages."""
    return system(_libc.mmap(None, pages * PAGE, 0, FRESH, -1, 0))


class Memory:
    """A region, where each of its pages is in this process, and what it must hold."""

    def __init__(self, client: lib_usm.Client, pages: int, source: random.Random) -> None:
        self.region = client.mmap(pages * PAGE)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self.region.buffer))
        self.where = [first + page * PAGE for page in range(pages)]
        self.home = list(self.where)
        self.model = [ZEROS] * pages
        self.source = source
        for page in range(pages):
            self.write(page)

    def write(self, page: int) -> None:
        """Fill a page, or a part of it."""
        first = self.source.choice((0, 0, self.source.randrange(PAGE)))
        data = self.source.randbytes(PAGE - first)
        _libc.memcpy(self.where[page] + first, data, len(data))
        self.model[page] = self.model[page][:first] + data

    def read(self, page: int) -> bytes:
        """The bytes of a page."""
        buffer = ctypes.create_string_buffer(PAGE)
        _libc.memcpy(buffer, self.where[page], PAGE)
        return buffer.raw

    def check(self, page: int) -> None:
        """Raises Wrong unless a page, if it is anywhere, holds what it must."""
        if self.where[page] == NOWHERE:
            return
        found, wanted = self.read(page), self.model[page]
        if found != wanted:
            at = next(n for n in range(PAGE) if found[n] != wanted[n])
            zero = ", all zero" if found == ZEROS else ""
            raise Wrong(f"page {page} of {self.region!r}: byte {at} is {found[at]}, stored was {wanted[at]}{zero}")

    def run(self) -> tuple[int, int]:
        """Some pages in a row, also in this process: the first and how many."""
        first = self.source.choice([page for page in range(OWN) if self.where[page] != NOWHERE])
        count = 1
        while count < MOST and first + count < OWN and self.where[first + count] == self.where[first] + count * PAGE:
            count += 1
        return first, self.source.randint(1, count)

    def leave(self, first: int, count: int) -> None:
        """The pages are nowhere any more."""
        for page in range(first, first + count):
            self.where[page] = NOWHERE

    def move(self, first: int, count: int, to: int) -> None:
        """Have mremap move pages, which are in a row here, to an address."""
        origin = self.where[first]
        moved = system(_libc.mremap(origin, count * PAGE, count * PAGE, MAYMOVE | FIXED, to))
        assert moved == to
        # Nothing else is to come there by chance, so that pages can move back.
        system(_libc.mmap(origin, count * PAGE, 0, FRESH | NO_REPLACE, -1, 0))
        for number in range(count):
            self.where[first + number] = to + number * PAGE


class Scene:
    """The client's memory and the threads that keep it busy."""

    def __init__(self, address: str, seed: str) -> None:
        self.client = lib_usm.connect(address, name="remapping")
        self.source = random.Random(seed)
        self.memory = Memory(self.client, PAGES, self.source)
        self.pressure = self.client.mmap(PRESSURE * PAGE)
        self._pressure_address = ctypes.addressof(ctypes.c_char.from_buffer(self.pressure.buffer))
        self.errors: list[Exception] = []
        self.kept: list[object] = []
        """Regions that Python must not unmap."""
        self._over = False
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True) for work in (self._press, self._stay)
        ]
        for thread in self._threads:
            thread.start()

    def _guard(self, work: Callable[[random.Random], None]) -> None:
        source = random.Random(work.__name__)
        try:
            while not self._over:
                work(source)
        except Exception as error:  # noqa: BLE001 - told at the end
            self.errors.append(error)

    def _press(self, source: random.Random) -> None:
        """Have pages evicted, by one call in C, so that the other threads run meanwhile."""
        _libc.memset(self._pressure_address, source.randint(1, 255), PRESSURE * PAGE)

    def _stay(self, source: random.Random) -> None:
        """Read and write a page of the region that no scenario touches."""
        page = source.randrange(OWN, PAGES)
        self.memory.check(page)
        if source.random() < 0.5:
            data = source.randbytes(PAGE)
            _libc.memcpy(self.memory.where[page], data, PAGE)
            self.memory.model[page] = data
        if source.random() < 0.1:
            self.memory.region.evict(page * PAGE, PAGE)

    def touch(self) -> None:
        """Read some of the pages that scenarios play with, and write some, so that they are in every state."""
        for page in range(OWN):
            if self.memory.where[page] != NOWHERE and self.source.random() < 0.5:
                self.memory.check(page)
                if self.source.random() < 0.6:
                    self.memory.write(page)

    def begin_eviction(self) -> None:
        """Ask for the eviction of the region, which goes on meanwhile."""
        if self.source.random() < 0.7:
            self.memory.region.evict()

    def round(self) -> None:
        """Compare all pages that are anywhere, and tell what another thread saw."""
        for page in range(OWN):
            self.memory.check(page)
        if self.errors:
            raise self.errors[0]

    def end(self) -> None:
        """End the threads, and compare everything."""
        self._over = True
        for thread in self._threads:
            thread.join()
        for page in range(PAGES):
            self.memory.check(page)
        self.round()


def munmap_part(scene: Scene) -> None:
    """Parts go one after the other; what is beside them stays."""
    memory = scene.memory
    for page in scene.source.sample(range(OWN), OWN // 2):
        scene.touch()
        scene.begin_eviction()
        system(_libc.munmap(memory.where[page], PAGE))
        memory.leave(page, 1)
        scene.round()


def munmap_whole(scene: Scene) -> None:
    """A region goes and usmd is not told; the next one lies where it was."""
    reused = 0
    before = 0
    for _ in range(ROUNDS):
        memory = Memory(scene.client, 16, scene.source)
        scene.kept.append(memory)
        reused += memory.where[0] == before
        before = memory.where[0]
        memory.region.evict()
        for page in range(16):
            memory.check(page)
        memory.region.evict()
        system(_libc.munmap(before, 16 * PAGE))
        if scene.source.random() < 0.5:
            scene.client.unmap(memory.region, None)  # as `close` does, which would unmap again
        scene.touch()
        scene.round()
    assert reused, "no region was mapped where one had been"


def madvise_dontneed(scene: Scene, rounds: int = ROUNDS) -> None:
    """Shared memory loses nothing by MADV_DONTNEED, MADV_WILLNEED and MADV_DONTFORK."""
    memory = scene.memory
    advices = (mmap.MADV_DONTNEED, mmap.MADV_DONTNEED, mmap.MADV_WILLNEED, mmap.MADV_DONTFORK)
    for _ in range(rounds):
        scene.touch()
        scene.begin_eviction()
        for advice in advices:
            first, count = memory.run()
            system(_libc.madvise(memory.where[first], count * PAGE, advice))
            if scene.source.random() < 0.5:
                memory.write(first)
        scene.round()


def madvise_remove(scene: Scene) -> None:
    """What is emptied is zeros, or what it was if it was in swap; what is written then is kept."""
    memory = scene.memory
    for _ in range(ROUNDS):
        scene.touch()
        scene.begin_eviction()
        first, count = memory.run()
        system(_libc.madvise(memory.where[first], count * PAGE, mmap.MADV_REMOVE))
        for page in range(first, first + count):
            if scene.source.random() < 0.5:
                data = scene.source.randbytes(PAGE)
                _libc.memcpy(memory.where[page], data, PAGE)
                memory.model[page] = data
            else:
                found = memory.read(page)
                if found not in (ZEROS, memory.model[page]):
                    raise Wrong(f"page {page} was emptied, and holds neither zeros nor what it held")
                memory.model[page] = found
        scene.round()


def mprotect(scene: Scene, rounds: int = ROUNDS) -> None:
    """Pages that may only be read, or not even that, come and go like others."""
    memory = scene.memory
    for _ in range(rounds):
        scene.touch()
        first, count = memory.run()
        system(_libc.mprotect(memory.where[first], count * PAGE, scene.source.choice((0, READ))))
        scene.begin_eviction()
        for page in range(OWN):
            if not first <= page < first + count:
                memory.check(page)
        system(_libc.mprotect(memory.where[first], count * PAGE, READ))
        scene.begin_eviction()
        scene.round()
        system(_libc.mprotect(memory.where[first], count * PAGE, READ | WRITE))
        memory.write(first)
        scene.round()


def mremap_whole(scene: Scene) -> None:
    """A region moves about in the process."""
    memory = Memory(scene.client, OWN, scene.source)
    for _ in range(ROUNDS):
        for page in range(0, OWN, 2):
            memory.check(page)
            memory.write(page)
        memory.region.evict()
        memory.move(0, OWN, room(OWN))
        for page in range(OWN):
            memory.check(page)
        scene.round()


def mremap_part(scene: Scene, rounds: int = ROUNDS) -> None:
    """Parts of a region move, and move back page by page."""
    memory = scene.memory
    for _ in range(rounds):
        scene.touch()
        scene.begin_eviction()
        first, count = memory.run()
        if memory.where[first] == memory.home[first]:
            memory.move(first, count, room(count))
        else:
            for page in range(first, first + count):
                memory.move(page, 1, memory.home[page])
        scene.round()


def mremap_over(scene: Scene) -> None:
    """Pages move to where others of the same region are, which are given away by that."""
    memory = scene.memory
    for first, over in ((0, 8), (11, 20), (14, 28), (24, 4)):
        scene.touch()
        scene.begin_eviction()
        to = memory.where[over]
        memory.leave(over, 2)
        memory.move(first, 2, to)
        scene.round()


def mremap_smaller(scene: Scene) -> None:
    """A region gets smaller from its end on."""
    memory = Memory(scene.client, OWN, scene.source)
    for pages in range(OWN - 1, 0, -1):
        for page in range(0, pages, 3):
            memory.write(page)
        memory.region.evict()
        system(_libc.mremap(memory.where[0], (pages + 1) * PAGE, pages * PAGE, 0, None))
        memory.leave(pages, 1)
        for page in range(OWN):
            memory.check(page)
        scene.round()


def everything(scene: Scene) -> None:
    """All of it in turn; parts that have moved are protected and advised as well, and parts of them go at the end."""
    for _ in range(ROUNDS):
        scene.source.choice((madvise_dontneed, mprotect, mremap_part))(scene, 1)
    munmap_part(scene)


SCENARIOS: dict[str, Callable[[Scene], None]] = {
    each.__name__: each
    for each in (
        munmap_part, munmap_whole, madvise_dontneed, madvise_remove, mprotect,
        mremap_whole, mremap_part, mremap_over, mremap_smaller, everything,
    )
}  # fmt: skip


def main(address: str, name: str, seed: str) -> None:
    """Run a scenario."""
    sys.setswitchinterval(SWITCH_SECONDS)
    scene = Scene(address, seed)
    try:
        SCENARIOS[name](scene)
        scene.end()
    except (Wrong, AssertionError, OSError, lib_usm.UsmError) as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os.write(1, b"done\n")
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
