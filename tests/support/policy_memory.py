"""An evict policy and a core's part of its contract without a core, and steps of a property test over both."""

from hypothesis import strategies as st

from tests.support.shell import PAGE
from usmd.core.frames import FREE, PRESENT, PRIORITY_SHIFT
from usmd.core.region import Process
from usmd.core.settings import CoreSettings
from usmd.core.state import State
from usmd.core.view import MemoryView
from usmd.policies import registry

FRAMES = 8


class Memory:
    """One evict policy, and a core's part of its contract, without a core: what it knows, and what became of it.

    `refusals` says for one victim after the other whether it cannot go (it is pinned, or there is no slot).
    """

    def __init__(self, evict):
        self.state = State(
            CoreSettings(frames=FRAMES, page_size=PAGE, deny_budget=8, deny_budget_total=8), (), registry.make, float
        )
        self.state.future = lambda page: self.state.touch + 1 + page * 7919 % 40
        self.process, self.other = (Process(number, "app", None, None, None) for number in (1, 2))
        self.state.processes = {1: self.process, 2: self.other}
        self.process.resident = FRAMES
        self.policy = registry.make("evict", evict, MemoryView(self.state, self.process))
        self.frames = self.state.frames
        self.known: set[int] = set()
        """Frames that the policy knows."""
        self.kept: set[int] = set()
        """Frames with a page that it does not know: unevictable, or pinned by the process."""

    def free(self):
        return [pfn for pfn in range(FRAMES) if self.frames.state[pfn] == FREE]

    def frame_of(self, page):
        return next((pfn for pfn, each in enumerate(self.frames.page) if each == page), None)

    def touch(self, page, priority, frame, *, missed, refusals=()):
        """A page is asked for, and comes in if a frame is free or can be had; which one is up to `frame`."""
        self.state.touch += 1
        pfn = self.frame_of(page)
        if pfn in self.known:
            self.policy.page_accessed(pfn, write=bool(priority))
        elif pfn is None:
            if missed:
                self.policy.page_missed(page)
            if not self.free() and missed:  # nobody evicts for a guess
                self.evict(1, refusals)
            if self.free():
                pfn = self.free()[frame % len(self.free())]
                self.frames.state[pfn], self.frames.page[pfn] = PRESENT, page
                self.fill(pfn, priority)

    def fill(self, pfn, priority):
        self.frames.flags[pfn] = priority << PRIORITY_SHIFT
        self.kept.discard(pfn)
        self.known.add(pfn)
        self.policy.page_filled(pfn)

    def evict(self, wanted, refusals):
        """Take victims as the core does: until there are enough, and it asks for no more then."""
        refusals = iter(refusals)
        named = []
        for pfn in self.policy.choose_victims():
            named.append(pfn)
            assert pfn in self.known
            if not next(refusals, False):
                self.gone(pfn)
                wanted -= 1
                if wanted == 0:
                    break
        assert len(named) == len(set(named)), "named twice"
        assert wanted == 0 or set(named) >= self.known, "not all were named"

    def gone(self, pfn):
        """A page is evicted, and nothing is in its frame."""
        assert self.policy.reason(pfn) not in ("", "chosen by the policy")
        assert self.policy.swap_device(pfn) is None
        self.known.remove(pfn)
        self.policy.page_evicted(pfn)
        self.frames.give_back(pfn)

    def hint(self, pfn, priority):
        before = self.frames.flags[pfn] >> PRIORITY_SHIFT
        self.frames.flags[pfn] = priority << PRIORITY_SHIFT
        self.policy.hint_changed(pfn, before)

    def leave(self, pfn, *, stays):
        """The page is freed, or `stays` under EVICTION=DENY."""
        self.known.remove(pfn)
        self.policy.page_left(pfn)
        if stays:
            self.kept.add(pfn)
        else:
            self.frames.give_back(pfn)

    def retake(self, pfn):
        """An eviction that is cancelled: the page never left its frame."""
        self.known.remove(pfn)
        self.policy.page_evicted(pfn)
        self.fill(pfn, self.frames.flags[pfn] >> PRIORITY_SHIFT)

    def event_ends(self):
        """What the policy gave up goes, which the core would hear of now."""
        given_up = [pfn for _, pfn, _ in self.state.forced_victims]
        self.state.forced_victims.clear()
        assert set(given_up) <= self.known
        for pfn in dict.fromkeys(given_up):
            self.gone(pfn)

    def names_all(self):
        """Whoever can have none gets to see all."""
        named = list(self.policy.choose_victims())
        assert sorted(named) == sorted(self.known)


PAGE_NUMBERS = st.integers(0, 3 * FRAMES)
PRIORITIES = st.integers(0, 2)
REFUSALS = st.lists(st.booleans(), max_size=FRAMES)
ANY = st.integers(0, 63)
STEPS = st.one_of(
    st.tuples(st.just("miss"), PAGE_NUMBERS, PRIORITIES, ANY, REFUSALS),
    st.tuples(st.just("miss"), PAGE_NUMBERS, PRIORITIES, ANY, st.just([])),
    st.tuples(st.just("guess"), PAGE_NUMBERS, PRIORITIES, ANY),
    st.tuples(st.just("access"), ANY),
    st.tuples(st.just("hint"), ANY, PRIORITIES),
    st.tuples(st.just("leave"), ANY, st.booleans()),
    st.tuples(st.just("return"), ANY, PRIORITIES),
    st.tuples(st.just("evict"), st.integers(1, FRAMES), REFUSALS),
    st.tuples(st.just("hint evicts"), ANY),
    st.tuples(st.just("retake"), ANY),
    st.tuples(st.just("close"), st.integers(0, FRAMES)),
    st.tuples(st.just("all refused")),
    st.tuples(st.just("other grows"), st.integers(0, 64)),
)


def perform(memory, step):
    """One step; those that need a page pick one of what there is."""
    kind, *rest = step
    pick = None
    pages = sorted(memory.kept if kind == "return" else memory.known)
    if kind in ("access", "hint", "leave", "return", "hint evicts", "retake"):
        if not pages:
            return
        pick = pages[rest[0] % len(pages)]
    match kind:
        case "miss":
            memory.touch(*rest[:3], missed=True, refusals=rest[3])
        case "guess":
            memory.touch(*rest, missed=False)
        case "access":
            memory.touch(memory.frames.page[pick], 0, 0, missed=True)
        case "hint":
            memory.hint(pick, rest[1])
        case "leave":
            memory.leave(pick, stays=rest[1])
        case "return":
            memory.fill(pick, rest[1])
        case "evict":
            memory.evict(*rest)
        case "hint evicts":
            memory.gone(pick)
        case "retake":
            memory.retake(pick)
        case "close":
            for _, _ in zip(range(rest[0]), memory.policy.choose_victims(), strict=False):
                pass
        case "all refused":
            memory.names_all()
        case "other grows":  # so that the view's capacity is less
            memory.other.resident = rest[0]
