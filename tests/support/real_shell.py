"""The core's test shell over memory that threads touch: a model of the kernel and of the userfaultfd mechanism.

A page is in memory or a hole, in the page table or out of it, and write-protected or not. A thread that touches a hole
or a page that is out, or writes to a protected page, waits; its fault is a message, read at once or (`auto_read` False)
when the test says so. A woken thread tries again, and may fault anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tests.support.shell import Shell
from usmd.core import commands, events
from usmd.core.frames import DIRTY, EVICTING, PRESENT
from usmd.core.region import PAGE_BITS, page_key

_ROUNDS = 1000
WAITS, DONE, SIGBUS = "waits", "done", "sigbus"


class Touch:
    """A thread that reads a page (`data` None), or writes all of it. `state`: waits, done or sigbus."""

    def __init__(self, process: int, region: int, page: int, data: bytes | None) -> None:
        self.process = process
        self.region = region
        self.page = page
        self.key = page_key(region, page)
        self.data = data
        self.state = WAITS
        self.read: bytes | None = None
        """The bytes that it read or replaced."""
        self.message: events.PageFault | None = None
        """Its fault, while it waits."""


class RealShell(Shell):
    """A Shell with `touch`, by which a thread touches its memory. Loads and stores by call work as well.

    `late`: `tell` passes the events that follow from commands to the core, the oldest first. So other events come in
    between, as in the engine, and a client sees a page before the core handles its completion.
    """

    def __init__(self, core, *, auto_io=True, auto_read=True, late=False, check=True):
        super().__init__(core, auto_io=auto_io, check=check)
        self.on_touch = lambda thread: None
        """Called after each touch of a thread."""
        self.auto_read = auto_read
        self.late = late
        self.memory: dict[int, bytes] = {}
        """Page key → bytes; other pages are holes."""
        self.protected: set[int] = set()
        self.out: set[int] = set()
        """Pages in memory that are out of the page table; their write protection stays."""
        self.poisoned: set[int] = set()
        self.gone: set[int] = set()
        """Regions that are gone: a touch of their pages is SIGBUS."""
        self.stays: set[int] = set()
        """Pages that cannot be protected now."""
        self.waiting: list[Touch] = []
        self.unread: list[Touch] = []
        """Threads of `waiting` whose message was not read yet."""
        self.untold: deque[events.Event] = deque()
        self.punched: set[int] = set()
        """Pages that the client punched out and no thread has touched since."""
        self.may_be_protected: set[int] = set()
        """Dirty pages whose first write still faults: a call stored to them, or their client had punched them out."""

    # Threads

    def touch(self, process: int, region: int, page: int, data: bytes | None = None) -> Touch:
        """Make a thread read a page, or write to it. The thread may have to wait."""
        thread = Touch(process, region, page, data)
        self._try(thread)
        self._read_if_automatic()
        return thread

    def _try(self, thread: Touch) -> None:
        """Do what the CPU and the kernel's fault handler do."""
        key = thread.key
        if thread.region in self.gone or (key not in self.memory and key in self.poisoned):
            thread.state = SIGBUS
        elif key in self.memory and key not in self.out and (thread.data is None or key not in self.protected):
            thread.state = DONE
            thread.read = self.memory[key]
            if thread.data is not None:
                self.memory[key] = thread.data
            self.on_touch(thread)
        else:
            kind = events.MISSING if key not in self.memory else events.MINOR if key in self.out else events.PROTECTED
            thread.message = events.PageFault(thread.region, thread.page, thread.data is not None, kind)
            self.waiting.append(thread)
            self.unread.append(thread)

    def _wake(self, key: int) -> None:
        """Make the threads that wait for a page try again; drops their unread messages."""
        woken = [thread for thread in self.waiting if thread.key == key]
        self.waiting = [thread for thread in self.waiting if thread.key != key]
        self.unread = [thread for thread in self.unread if thread.key != key]
        for thread in woken:
            self._try(thread)

    def read_faults(self, most: int = 64) -> None:
        """Pass the oldest messages to the core, one batch for each process."""
        read, self.unread = self.unread[:most], self.unread[most:]
        batches: dict[int, list[events.PageFault]] = {}
        for thread in read:
            if thread.region in self.gone or thread.process in self.ended:
                self._sigbus(thread)
            else:
                batches.setdefault(thread.process, []).append(thread.message)
        for process, faults in batches.items():
            self.do(events.PageFaults(process, faults))

    def _sigbus(self, thread: Touch) -> None:
        thread.state = SIGBUS
        self.waiting.remove(thread)

    def punch(self, region: int, page: int) -> None:
        """Make the client punch out a page (MADV_REMOVE)."""
        key = page_key(region, page)
        if self.memory.pop(key, None) is not None:
            self.punched.add(key)  # the kernel keeps its write protection
            self.out.discard(key)

    def zap(self, region: int, page: int) -> None:
        """Make the client take a page out of its page table (MADV_DONTNEED)."""
        key = page_key(region, page)
        if key in self.memory:
            self.out.add(key)

    # The mechanism

    def do(self, event):
        if self.late:
            answer, following = self._handle(event)
            self.untold.extend(following)
        else:
            answer = super().do(event)
        self._read_if_automatic()
        return answer

    def tell(self) -> None:
        """Pass the oldest event of `untold` to the core."""
        self.do(self.untold.popleft())

    def _read_if_automatic(self) -> None:
        for _ in range(_ROUNDS):
            if not self.auto_read or not self.unread:
                return
            self.read_faults()
        raise AssertionError(f"threads fault again and again: {[vars(thread) for thread in self.unread]}")

    def _peek(self, pfn, key):
        return self.memory.get(key, bytes(self.page_size))

    def _poke(self, pfn, key, data):
        if key in self.protected:
            self.may_be_protected.add(key)
        self.memory[key] = data
        self.punched.discard(key)

    def _not_gone(self, pages):
        """The pages whose regions exist. Commands other than Poison do nothing to other pages."""
        return [key for key in pages if key >> PAGE_BITS not in self.gone]

    def _fill(self, key: int, data: bytes, *, writable: bool) -> None:
        assert key not in self.memory, f"page {key:#x} was filled, where it was"
        self.memory[key] = data
        self.poisoned.discard(key)
        self.punched.discard(key)
        self.out.discard(key)
        (self.protected.discard if writable else self.protected.add)(key)
        self._wake(key)

    def _forget(self, key: int) -> None:
        """Make a page a hole."""
        self.memory.pop(key, None)
        self.out.discard(key)
        self.punched.discard(key)
        self._unprotect(key)

    def _unprotect(self, key: int) -> None:
        self.protected.discard(key)
        self.may_be_protected.discard(key)

    def _perform(self, command):
        match command:
            case commands.ZeroFill():
                for key in self._not_gone(command.pages):
                    self._fill(key, bytes(self.page_size), writable=True)
            case commands.Release():
                for key in self._not_gone(command.pages):
                    assert key in self.memory or key in self.punched, f"page {key:#x} was released, where it was not"
                    self._forget(key)
            case commands.Restore():
                writable = dict(zip(command.pages, command.writable, strict=True))
                for key in self._not_gone(command.pages):
                    assert key in self.memory or key in self.punched, f"page {key:#x} was restored, where it was not"
                    if writable[key]:
                        self._unprotect(key)
                    self._wake(key)
            case commands.MapAgain():
                for key, writable in zip(command.pages, command.writable, strict=True):
                    if key >> PAGE_BITS in self.gone:
                        continue
                    assert key in self.memory or key in self.punched, f"page {key:#x} was mapped, where it was not"
                    if key in self.out and not writable:
                        self.protected.add(key)
                    elif key in self.memory and writable:
                        self._unprotect(key)
                    self.out.discard(key)
                    self._wake(key)
            case commands.Sample():
                assert command.pages == sorted(command.pages), "a run of neighbours takes more than one call"
                self.out.update(key for key in self._not_gone(command.pages) if key in self.memory)
            case commands.Wake():
                emptied = sorted({key for key in self._not_gone(command.pages) if key not in self.memory})
                for key in emptied:
                    self.may_be_protected.add(key)
                    self._fill(key, bytes(self.page_size), writable=False)
                for key in self._not_gone(command.pages):
                    self._wake(key)
                if emptied:
                    yield events.Punched(emptied)
            case commands.Poison():
                for key in command.pages:
                    if key not in self.memory:
                        self.poisoned.add(key)
                    self._wake(key)
            case commands.RegionsGone():
                self.gone.update(command.region_ids)
                for key in [key for key in {*self.memory, *self.punched} if key >> PAGE_BITS in command.region_ids]:
                    self._forget(key)
            case commands.Protect():
                zero = []
                for pfn, key in zip(command.frames, command.pages, strict=True):
                    stable = key not in self.stays and key >> PAGE_BITS not in self.gone
                    if stable:
                        self.protected.add(key)
                        self.memory.setdefault(key, bytes(self.page_size))  # a read of a hole makes it a page of zeros
                        self.punched.discard(key)
                    zero.append(not any(self._peek(pfn, key)) if stable else None)
                yield events.Protected(command.ticket, command.frames, zero)
            case _:
                yield from super()._perform(command)

    def _completion(self, index=0):
        kind, page = self.pending[index]
        if kind == "write" or self.fail_read is not None:
            return super()._completion(index)
        del self.pending[index]
        key = (page.process_id, page.page, page.generation)
        if page.page >> PAGE_BITS not in self.gone:  # else its slot may be discarded
            stored_key, stored = self.slots[page.slot]
            assert stored_key == key, "a slot was read under another key than it was written"
            self._fill(page.page, stored, writable=page.writable)
        return events.SwapInDone([page.pfn], [None])

    def complete_io(self, index=0, *, late=False):
        """Complete one operation under way. `late`: put the completion into `untold`."""
        completion = self._completion(index)
        if late:
            self.untold.append(completion)
            self._read_if_automatic()
        else:
            self.do(completion)

    def bytes_of(self, region, page):
        key = page_key(region, page)
        return self.memory[key] if key in self.memory else super().bytes_of(region, page)

    # Invariants

    def _performed(self, following):
        """Assert that pages that are clean or on their way out are protected, and pages without a frame are holes."""
        state = self.core.state
        for region_id, region in state.regions.items():
            for page in range(region.page_count if region.gone is None else 0):
                key, entry = page_key(region_id, page), region.table[page]
                now_is = state.frames.state[entry - 1] if entry > 0 else None
                if now_is not in (PRESENT, EVICTING):
                    assert key not in self.memory or entry - 1 in self.core.life.filling, f"{key:#x} was not released"
                elif key not in self.memory:
                    assert key in self.punched, f"page {key:#x} is not where it should be"
                elif now_is == EVICTING or not state.frames.flags[entry - 1] & DIRTY:
                    heard_of = key in self.protected or key in self.out or _stays(entry - 1, [*self.untold, *following])
                    assert heard_of, f"a write to page {key:#x} would not be heard of"
                elif key in self.protected:
                    assert key in self.may_be_protected, f"page {key:#x} is dirty, and protected"


def _stays(pfn: int, untold: Iterable[events.Event]) -> bool:
    """Whether one of these events says that a frame cannot be protected."""
    told = [event for event in untold if isinstance(event, events.Protected)]
    return any((pfn, None) in zip(event.frames, event.zero, strict=True) for event in told)
