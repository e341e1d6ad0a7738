"""Real memory with a region that a client maps, for tests of the mechanism."""

import os

import pytest

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import HARDWARE_PAGE, Client, read
from usmd.core.commands import SlotPage
from usmd.core.region import page_key
from usmd.mechanism.userfaultfd import UserfaultfdMemory

REGION, OTHER = 3, 4
PAGES = 8
LARGE = 65536


def key(page, region=REGION):
    return page_key(region, page)


class World:
    """Real memory with a region of PAGES pages, all absent, that a client maps."""

    def __init__(self, page_size, *, connected=True, minor=False, poison=True):
        self.page_size = page_size
        self.memory = UserfaultfdMemory(page_size)
        self.memory.add_region(REGION, 1, PAGES)
        self.region = self.memory.region(REGION)
        self.memfd = os.dup(self.region.memfd)
        self.client = Client(page_size, minor=minor, poison=poison)
        self.address = self.client.map(self.memfd, PAGES * page_size)
        if connected:
            self.connect()

    def connect(self):
        self.memory.connect(self.region, self.client.memory, self.address)

    def at(self, page):
        return self.address + page * self.page_size

    def stage(self, *pages, writable=True):
        """Page n is to get bytes n % 255 + 1."""
        stage = self.memory.stage([SlotPage(page, page, 1, key(page), 1, writable) for page in pages])
        for page, buffer in zip(pages, stage.buffers, strict=True):
            buffer[:] = bytes([page % 255 + 1]) * self.page_size
        return stage

    def fill(self, *pages, writable=True):
        return self.memory.fill(self.stage(*pages, writable=writable), [None] * len(pages))

    def client_writes_into_the_memfd(self, page, data=b"c", offset=0):
        os.pwrite(self.memfd, data, page * self.page_size + offset)

    def seen(self, page):
        return read(self.at(page), self.page_size).result()

    def resident(self):
        return [page for page in range(PAGES) if self.region.residency[page]]

    def held(self):
        return os.fstat(self.memfd).st_blocks * 512

    def close(self):
        self.client.close()
        self.memory.close()
        os.close(self.memfd)


@pytest.fixture(params=[HARDWARE_PAGE, LARGE])
def world(request):
    require_real_memory()
    made = World(request.param)
    yield made
    made.close()


@pytest.fixture
def small():
    require_real_memory()
    made = World(HARDWARE_PAGE)
    yield made
    made.close()


@pytest.fixture
def large():
    require_real_memory()
    made = World(LARGE)
    yield made
    made.close()


def full(page, world):
    return bytes([page + 1]) * world.page_size


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))
