"""A process with one region that threads touch, in a model of what the kernel does."""

from tests.support.real_shell import DONE, RealShell
from tests.support.shell import PAGE, make_core
from usmd.core.frames import DIRTY, NO_SLOT
from usmd.core.region import page_key

DATA = b"x" * PAGE
OTHER = b"y" * PAGE


class App:
    """A process with one region, and the shell it lives in."""

    def __init__(self, pages=4, *, frames=8, auto_io=True, auto_read=True, devices=(("swap0", 64),), **more):
        policies = {kind: more.pop(kind) for kind in ("alloc", "evict", "oom") if kind in more}
        core = make_core(frames=frames, devices=devices, **more)
        self.shell = RealShell(core, auto_io=auto_io, auto_read=auto_read)
        self.process = self.shell.attach(**policies)
        self.region = self.shell.map(self.process, pages)

    @property
    def state(self):
        return self.shell.core.state

    def key(self, page=0):
        return page_key(self.region, page)

    def touch(self, page=0, data=None):
        return self.shell.touch(self.process, self.region, page, data)

    def evict(self, page=0, count=1):
        self.shell.evict(self.process, self.region, page, count)

    def state_of(self, page=0):
        return self.shell.state_of(self.region, page)

    def is_dirty(self, page=0):
        """Whether the page's frame is dirty; if so it has no slot, else it has one."""
        pfn = self.state.regions[self.region].table[page] - 1
        dirty = bool(self.state.frames.flags[pfn] & DIRTY)
        assert dirty == (self.state.frames.slot[pfn] == NO_SLOT)
        return dirty

    def slots_used(self):
        return self.state.swap.slots - self.state.swap.free

    def swapped(self, count=1):
        """Have the first `count` pages written by threads, and in swap."""
        auto_io, self.shell.auto_io = self.shell.auto_io, True
        auto_read, self.shell.auto_read = self.shell.auto_read, True
        for page in range(count):
            assert self.touch(page, bytes([page % 255 + 1]) * PAGE).state == DONE
        self.evict(0, count)
        assert {self.state_of(page) for page in range(count)} == {"SWAPPED"}
        self.shell.auto_io, self.shell.auto_read = auto_io, auto_read
        return self

    def counters(self, *names):
        counters = self.shell.counters()
        return tuple(counters[name] for name in names)

    def notices(self, kind):
        return [notice for notice in self.shell.notices if notice.kind == kind]
