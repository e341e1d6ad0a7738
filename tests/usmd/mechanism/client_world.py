"""A client with two regions that the daemon serves by `ClientMemory`, and one that is stuck in a remap; for tests."""

import errno
import os
from types import SimpleNamespace

import pytest

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import HARDWARE_PAGE, Client, map_memory, read, unmap, write
from usmd.mechanism import client_memory, uffd
from usmd.mechanism.uffd import Drained, Feature

REGION, OTHER = 7, 8
PAGES = 8
SIZE = PAGES * HARDWARE_PAGE


class World:
    """A client with two regions of PAGES hardware pages, and bytes of the daemon's to copy from."""

    def __init__(self, **options):
        self.client = Client(HARDWARE_PAGE, **options)
        self.memory = self.client.memory
        self.memfds = {region: os.memfd_create("test") for region in (REGION, OTHER)}
        self.addresses = {}
        for region, memfd in self.memfds.items():
            os.ftruncate(memfd, SIZE)
            self.addresses[region] = self.client.map(memfd, SIZE)
            self.memory.register(region, self.addresses[region], SIZE)
        self.address = self.addresses[REGION]
        self.source = map_memory(SIZE)
        write(self.source, b"".join(bytes([page + 1]) * HARDWARE_PAGE for page in range(PAGES))).result()

    def at(self, page, region=REGION):
        return self.addresses[region] + page * HARDWARE_PAGE

    def zero(self, page, pages=1, region=REGION):
        return self.memory.zero(region, page * HARDWARE_PAGE, pages * HARDWARE_PAGE)

    def copy(self, page, pages=1, *, writable=True):
        """Page n of the region gets bytes n + 1."""
        offset = page * HARDWARE_PAGE
        return self.memory.copy(REGION, offset, pages * HARDWARE_PAGE, self.source + offset, writable=writable)

    def protect(self, page, pages=1):
        return self.memory.protect(REGION, page * HARDWARE_PAGE, pages * HARDWARE_PAGE)

    def unprotect(self, page, pages=1):
        self.memory.unprotect(REGION, page * HARDWARE_PAGE, pages * HARDWARE_PAGE)

    def poison(self, page, pages=1):
        return self.memory.poison(REGION, page * HARDWARE_PAGE, pages * HARDWARE_PAGE)

    def refill(self, page):
        return self.memory.refill(REGION, page * HARDWARE_PAGE, HARDWARE_PAGE, self.source)

    def held(self, region=REGION):
        return os.fstat(self.memfds[region]).st_blocks * 512 // HARDWARE_PAGE

    def close(self):
        self.client.close()
        for memfd in self.memfds.values():
            os.close(memfd)
        unmap(self.source, SIZE)


@pytest.fixture
def world():
    require_real_memory()
    made = World()
    yield made
    made.close()


@pytest.fixture
def poisoning(world):
    if Feature.POISON not in world.client.features:
        pytest.skip("this kernel cannot poison")
    return world


@pytest.fixture
def patient(monkeypatch):
    """A client is waited for however long it takes to get on with its remap, on a machine that is busy."""
    monkeypatch.setattr(client_memory, "BUSY_TRIES", 1 << 30)


def first_byte(address):
    """The byte of a page that is there."""
    return read(address).result()[0]


class Clock:
    """Stands for the module `time`: counts sleeps, and no time passes but as told."""

    def __init__(self):
        self.now = 1000.0
        self.sleeps = 0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.sleeps += 1


@pytest.fixture
def stuck(world, monkeypatch):
    """A client whose remap never ends: fills are refused, and nothing can be read."""

    def refuse(*_, on_busy, **__):
        while on_busy():
            pass
        return Drained(0, errno.EAGAIN)

    clock = Clock()
    monkeypatch.setattr(client_memory, "time", clock)  # for its sleep
    monkeypatch.setattr(world.memory, "_clock", clock.monotonic)
    with monkeypatch.context() as patch:
        for name in ("zero", "copy", "poison"):
            patch.setattr(uffd, name, refuse)
        patch.setattr(world.memory, "_zero_page", lambda *_: False)
        patch.setattr(world.memory, "_copy_pages", lambda *_: 0)
        yield SimpleNamespace(world=world, clock=clock, memory=world.memory, let_go=patch.undo)
