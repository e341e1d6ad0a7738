"""The hypothesis machine of tests.support.core_machine, while threads touch the same pages."""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.support.core_machine import INDEX, CoreMachine
from tests.support.core_model import OneOf
from tests.support.real_shell import SIGBUS, RealShell
from tests.support.shell import PAGE
from usmd.core import events, sampler, sampling
from usmd.core.frames import DIRTY
from usmd.core.region import PAGE_BITS, PAGE_MASK


class RealMachine(CoreMachine):
    """Also has threads that touch the pages, and whose faults are read late; and the core hears late of much."""

    sampling = 3.0

    def make_shell(self, core):
        self.threads = []
        self.patched.setattr(sampling, "BATCH", 2)
        self.patched.setattr(sampler, "LEAST", 1)
        shell = RealShell(core, auto_io=False, auto_read=False, late=True)
        shell.on_touch = self.touched
        return shell

    def touched(self, thread):
        """A thread has read, and perhaps written, a page: it saw what was stored, and nobody else did meanwhile."""
        pages = self.model.get((thread.process, thread.region))
        if pages is None:  # a session has ended, and its regions go in parts
            assert thread.process in self.shell.ended
            return
        assert thread.read == pages[thread.page]
        if thread.data is not None:
            self.now_has((thread.process, thread.region), thread.page, thread.data)

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, byte=st.integers(-90, 255), read=st.booleans())
    def touch(self, pick, first, byte, read):
        process, region = key = self.some_region(pick)
        page, _ = self.some_pages(key, first, 0)
        data = bytes([byte]) * PAGE if byte >= 0 else None
        self.threads.append(self.shell.touch(process, region, page, data))
        if read:
            self.read_faults()

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, count=st.integers(2, 9), write=st.booleans())
    def sweep(self, pick, first, count, write):
        """Threads touch pages one after the other, so that others must go."""
        for step in range(count):
            if self.model:
                self.touch(pick, first + step, 1 + step if write else -1, True)
                self.hear()
            if self.model:
                self.go_on()
                self.hear()

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, count=st.integers(3, 20), goes_on=st.integers(0, 3), read_first=st.booleans())
    def update_in_order(self, pick, first, count, goes_on, read_first):
        """A thread writes to page after page, some of which come in writable because that is foreseen."""
        for step in range(count):
            for byte in (-1, 1 + step) if read_first else (1 + step,):
                if self.model:
                    self.touch(pick, first + step, byte, True)
                    self.hear()
                for _ in range(goes_on):
                    if self.model:
                        self.go_on()
                        self.hear()

    @precondition(lambda self: self.shell.core.life.evicting or self.shell.core.life.filling)
    @rule(pick=INDEX, byte=st.integers(-90, 255), read=st.booleans())
    def touch_a_page_in_flight(self, pick, byte, read):
        keys = self.in_flight([*self.shell.core.life.evicting, *self.shell.core.life.filling])
        if keys:
            key = keys[pick % len(keys)]
            number = next(at for at, (_, region) in enumerate(sorted(self.model)) if region == key >> PAGE_BITS)
            self.touch(number, key & PAGE_MASK, byte, read)

    @precondition(lambda self: self.shell.unread)
    @rule(most=st.integers(1, 4))
    def read_faults(self, most=4):
        self.shell.read_faults(most)

    @precondition(lambda self: self.shell.untold)
    @rule()
    def tell(self):
        self.shell.tell()

    @precondition(lambda self: self.shell.pending)
    @rule(pick=INDEX)
    def complete_at_once(self, pick):
        """The client sees the page, and the core hears of it later."""
        self.shell.complete_io(pick % len(self.shell.pending), late=True)

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX)
    def punch(self, pick, first):
        """A client empties a page that is there, by itself."""
        key = self.some_region(pick)
        region = key[1]
        page, _ = self.some_pages(key, first, 0)
        if self.shell.state_of(region, page) == "PRESENT":
            self.shell.punch(region, page)
            state = self.shell.core.state
            dirty = state.frames.flags[state.regions[region].table[page] - 1] & DIRTY
            # One that was not written to since it came from swap may have its old bytes again.
            self.model[key][page] = bytes(PAGE) if dirty else OneOf(bytes(PAGE), self.model[key][page])

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX)
    def zap(self, pick, first):
        """A client takes a page out of its page table, by itself."""
        key = self.some_region(pick)
        self.shell.zap(key[1], self.some_pages(key, first, 0)[0])

    @precondition(lambda self: self.live())
    @rule(pick=INDEX, on=st.booleans())
    def set_sampling(self, pick, on):
        self.shell.do(events.SetSampling(self.live()[pick % len(self.live())], on=on))

    @precondition(lambda self: self.shell.memory and not self.shell.stays)
    @rule(pick=INDEX)
    def some_page_cannot_be_protected(self, pick):
        self.shell.stays.add(sorted(self.shell.memory)[pick % len(self.shell.memory)])

    @precondition(lambda self: self.shell.stays)
    @rule()
    def every_page_can_be_protected(self):
        self.shell.stays.clear()

    def under_way(self):
        return bool(super().under_way() or self.shell.untold or self.shell.unread)

    def go_on(self):
        if self.shell.untold:
            self.shell.tell()
        elif self.shell.unread:
            self.shell.read_faults()
        else:
            return super().go_on()
        return True

    @invariant()
    def no_thread_waits_for_nothing(self):
        """Each thread goes on, or is told by SIGBUS, which an operator can explain."""
        told = {(n.fields["region_id"], n.fields["page"]) for n in self.shell.notices if n.kind == "page_poisoned"}
        for thread in self.threads:
            gone = thread.region in self.shell.gone or thread.process in self.shell.ended
            if thread.state == SIGBUS and not gone:
                assert (str(thread.region), str(thread.page)) in told
        if not self.under_way() and not self.recovering():
            frozen = {
                (page.waiter.region.region_id, page.waiter.page)
                for each in self.shell.core.frozen.values()
                for page in each.pages
            }
            assert {(thread.region, thread.page) for thread in self.shell.waiting} <= frozen

    def teardown(self):
        if hasattr(self, "shell"):
            while self.under_way() or self.recovering() or self.shell.core.frozen:
                if not self.go_on():
                    self.shell.tick(1.0)
            self.no_thread_waits_for_nothing()
            self.shell.stays.clear()
            self.shell.late, self.shell.auto_read = False, True
        super().teardown()
