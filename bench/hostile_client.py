"""A client that misuses its memory, so that other clients wait: `hostile_client.py ADDRESS WAY [GIB]`.

It continues until it is ended. The ways are the methods of Hostile. tests/hostile asserts the outcome, and
bench.hostile measures how long a neighbour waits.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import sys
import threading
from collections.abc import Callable

import lib_usm
from usm_wire.pb.usm.v1 import client_pb2
from usm_wire.userfaultfd import open_userfaultfd

PAGE = 4096
PAGES = 64
HUGE_GIB = 8
MAPPINGS = 30_000
_API, _REGISTER = 0xC018AA3F, 0xC020AA00

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]


def evict_for_ever(region: lib_usm.Region) -> None:
    """Evict and touch all of a region, again and again."""
    while True:
        region.write(0, b"x" * len(region))
        region.evict(0, len(region))


def map_page(protection: int) -> int:
    """Map a new page; returns its address."""
    return int(libc.mmap(None, PAGE, protection, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0))


def trap() -> int:
    """The address of a missing page that no handler serves."""
    descriptor, _ = open_userfaultfd()
    fcntl.ioctl(descriptor, _API, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
    address = map_page(mmap.PROT_READ | mmap.PROT_WRITE)
    fcntl.ioctl(descriptor, _REGISTER, bytearray(struct.pack("QQQQ", address, PAGE, 1, 0)))
    return address


class Hostile:
    """A session with a region of `PAGES` pages, all written. `huge`: bytes that it maps and never touches."""

    def __init__(self, client: lib_usm.Client, huge: int) -> None:
        self.client = client
        self._huge = huge
        self.region = client.mmap(PAGES * PAGE)
        self.region.write(0, b"x" * PAGES * PAGE)

    def _memfd(self) -> int:
        assert self.client._memory is not None
        asked = client_pb2.MemoryRequest(region=client_pb2.MemoryRegion(region_id=self.region.region_id))
        return self.client._memory._ask(asked, expect=2)[0]

    def _hold_from(self, address: int) -> None:
        memfd = self._memfd()
        threading.Thread(target=lambda: libc.pwrite(memfd, address, PAGE, 0), daemon=True).start()
        evict_for_ever(self.region)

    def hold_by_a_page_that_nothing_serves(self) -> None:
        """Write to the memfd from a page that is never served."""
        self._hold_from(trap())

    def hold_by_a_page_of_another_region(self) -> None:
        """Write to the memfd from absent pages of usmd, so that client and daemon wait for each other."""
        other = self.client.mmap(PAGES * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(other.buffer))
        memfd = self._memfd()

        def write() -> None:
            while True:
                for page in range(PAGES):
                    libc.pwrite(memfd, address + page * PAGE, PAGE, page * PAGE)
                other.evict(0, PAGES * PAGE)

        threading.Thread(target=write, daemon=True).start()
        evict_for_ever(self.region)

    def hold_by_an_accomplice(self) -> None:
        """As the first, but by a child, which outlives the client until its stdin is closed."""
        memfd = self._memfd()
        ready, tell = os.pipe()
        if os.fork() == 0:
            address = trap()
            threading.Thread(target=lambda: libc.pwrite(memfd, address, PAGE, 0), daemon=True).start()
            os.write(tell, b"x")
            os.read(0, 1)
            os._exit(0)
        os.read(ready, 1)
        evict_for_ever(self.region)

    def map_it_often(self) -> None:
        """Map the region many times."""
        memfd = self._memfd()
        for _ in range(MAPPINGS):
            libc.mmap(None, PAGES * PAGE, mmap.PROT_READ, mmap.MAP_SHARED, memfd, 0)
        evict_for_ever(self.region)

    def leave_much_unserved(self) -> None:
        """End the session with gigabytes mapped and untouched; then touch a page."""
        memory = self.client.mmap(self._huge).buffer
        assert self.client._memory is not None
        self.client._memory._socket.close()
        memory[self._huge // 2]

    def map_other_things(self) -> None:
        """Make many mappings that are not usmd's, then do the same with little memory."""
        for _ in range(MAPPINGS):
            map_page(mmap.PROT_READ)
            map_page(0)  # different rights, else the kernel would merge neighbouring mappings
        memory = self.client.mmap(PAGES * PAGE).buffer
        assert self.client._memory is not None
        self.client._memory._socket.close()
        memory[0]


def main(address: str, way: str, gib: str = str(HUGE_GIB)) -> None:
    """Do what `way` names."""
    hostile = Hostile(lib_usm.connect(address, name="hostile"), int(gib) << 30)
    act: Callable[[], None] = getattr(hostile, way)
    act()


if __name__ == "__main__":
    main(*sys.argv[1:])
