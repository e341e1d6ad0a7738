"""A process with one region, some of whose pages it pins."""

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.frames import PINNED
from usmd.core.region import page_key

DATA = b"x" * PAGE


class App:
    """A process with one region, of which the first `resident` pages are present and dirty."""

    def __init__(self, resident=4, *, pages=8, shell=None, evict="fifo", oom="refuse", auto_io=True, **settings):
        self.shell = shell or Shell(make_core(**settings), auto_io=auto_io)
        self.process = self.shell.attach(evict=evict, oom=oom)
        self.region = self.shell.map(self.process, pages)
        for page in range(resident):
            self.shell.put(self.process, self.region, page, DATA)

    @property
    def state(self):
        return self.shell.core.state

    @property
    def own(self):
        return self.state.processes[self.process]

    def pin(self, first=0, count=1):
        """The pages that are absent; with none the range is pinned."""
        return self.shell.do(events.Pin(self.process, self.region, first, count)).absent

    def unpin(self, first=0, count=1):
        return self.shell.do(events.Unpin(self.process, self.region, first, count))

    def hint(self, text, first=0, count=1):
        return self.shell.hint(self.process, self.region, text, first, count)

    def pinned(self):
        """Pages whose frames are marked, which are those that the process counts."""
        region = self.state.regions[self.region]
        marked = [page for page in range(region.page_count) if self.flags(page) & PINNED]
        assert [page for page in range(region.page_count) if page in region.pins] == marked
        return marked

    def flags(self, page):
        pfn = self.state.regions[self.region].table[page] - 1
        return self.state.frames.flags[pfn] if pfn >= 0 else 0

    def victims(self):
        """Pages that the evict policy would name, in its order."""
        return [self.state.frames.page[pfn] - page_key(self.region, 0) for pfn in self.own.policies.candidates(99)]

    def states(self, *pages):
        return [self.shell.state_of(self.region, page) for page in pages]
