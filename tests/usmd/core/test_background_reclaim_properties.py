"""The core's state machine with conditional policies that request anything at any time: all bytes and counts are right.

As in test_machine_properties, of which this is the same machine, with requests: such as a policy may have that heeds
its hooks, which are no error then, and such as no policy should have.
"""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.support.core_machine import INDEX, CoreMachine
from tests.support.examples import steps
from tests.support.real_core_machine import RealMachine
from tests.support.requests import FaithfulRequester, Requester, make_with
from usmd.core import events
from usmd.core.frames import EVICTING, FILLING
from usmd.core.policy import Requests
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.swap_map import SLOT_BITS
from usmd.core.work import Kind

PICKS = st.lists(INDEX, max_size=4)
NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(1 << PAGE_BITS, 3 << PAGE_BITS),
    st.floats(),
    st.text(max_size=3),
    st.tuples(st.integers(1 << PAGE_BITS, (1 << PAGE_BITS) + 12), st.integers(-1, 3)),
    st.tuples(st.integers(), st.integers(), st.integers()),
)


class Requesting:
    """For a machine: every process has a conditional policy that requests in its turn what the machine drew."""

    requester = Requester

    def make_shell(self, core):
        self.policies = []
        core.state.make_policy = make_with(self.policies, self.requester)
        shell = super().make_shell(core)
        attach = shell.attach
        shell.attach = lambda *arguments, **more: attach(*arguments, cond="requester", **more)
        return shell

    @rule(trim=st.integers(0, 4), back=PICKS, moves=PICKS, seconds=st.sampled_from([0.1, 0.1, 1.5]))
    def request(self, trim, back, moves, seconds):
        """What each process knows to be in swap comes back, or goes to the other device."""
        for policy in self.policies:
            if known := list(policy.known):
                policy.requests = Requests(
                    trim=trim,
                    swap_in=[known[pick % len(known)] for pick in back],
                    demote=[(page, 1 - policy.known[page]) for page in (known[pick % len(known)] for pick in moves)],
                )
            else:
                policy.requests = Requests(trim=trim)
        self.shell.tick(seconds)

    def settle(self):
        """What is under way ends."""
        while self.go_on():
            self.hear()

    @rule(trim=st.integers(1, 4), device=st.sampled_from([0, 1]), steps=st.integers(0, 3))
    def demote_with_frames_to_spare(self, trim, device, steps):
        """So that pages are on their way to the other device, some steps of it, and what comes next meets them."""
        self.settle()
        for policy in self.policies:
            policy.requests = Requests(trim=trim)
        self.shell.tick(0.1)
        self.settle()
        for policy in self.policies:
            policy.requests = Requests(demote=[(page, device) for page, at in policy.known.items() if at != device])
        self.shell.tick(0.1)
        for _ in range(steps):
            self.go_on()
        self.hear()

    @rule(trim=st.integers(1, 4), count=st.integers(1, 3))
    def bring_back_with_frames_to_spare(self, trim, count):
        """So that pages are on their way into memory."""
        self.settle()
        for policy in self.policies:
            policy.requests = Requests(trim=trim)
        self.shell.tick(0.1)
        self.settle()
        for policy in self.policies:
            policy.requests = Requests(swap_in=list(policy.known)[-count:])
        self.shell.tick(0.1)
        self.hear()

    @precondition(lambda self: self.shell.core.life.filling and self.model)
    @rule(pick=INDEX, byte=st.integers(0, 255))
    def fault_on_a_page_that_comes(self, pick, byte):
        keys = self.in_flight(self.shell.core.life.filling)
        if keys:
            key = keys[pick % len(keys)]
            number = next(at for at, (_, region) in enumerate(sorted(self.model)) if region == key >> PAGE_BITS)
            self.fault_and_store(number, key & PAGE_MASK, byte)

    @rule(pick=INDEX)
    def another_takes_its_place(self, pick):
        """It hears of what is in swap."""
        live = self.live()
        if live:
            self.shell.do(events.SetPolicy(live[pick % len(live)], "cond", "requester"))

    def on_its_way(self, pfn):
        now_is, evicting = self.shell.core.state.frames.state[pfn], self.shell.core.life.evicting
        return now_is == FILLING or (now_is == EVICTING and evicting[pfn].device is not None)

    @invariant()
    def policies_know_what_is_in_swap(self):
        """Each page in swap is known, or could not be read; and what is known is in swap or on its way from there."""
        if not hasattr(self, "policies"):
            return
        state = self.shell.core.state
        for process in state.processes.values():
            policy = process.policies._cond
            if policy is None or any(
                each.kind is Kind.TELL_SWAPPED and each.process is process for each in state.work.queue
            ):
                continue
            for region in process.regions.values():
                for page in range(region.page_count):
                    key, entry = region.first_key + page, region.table[page]
                    if entry < 0:
                        assert key in policy.known or key in policy.returned
                        assert policy.known.get(key, (-entry - 1) >> SLOT_BITS) == (-entry - 1) >> SLOT_BITS
                    elif key in policy.known:
                        assert entry > 0
                        assert self.on_its_way(entry - 1)
            assert {key >> PAGE_BITS for key in policy.known} <= {*process.regions, *state.dying}


class Faithful(Requesting):
    """Requests as above, which are no error."""

    requester = FaithfulRequester


class FaithfulMachine(Faithful, CoreMachine):
    """Memory of calls."""


class FaithfulRealMachine(Faithful, RealMachine):
    """Memory that threads touch."""


class Mad(Requesting):
    """And requests without sense, until the policy is switched off."""

    @rule(trim=st.integers(0, 2) | NONSENSE, back=st.lists(NONSENSE, max_size=4), moves=st.lists(NONSENSE, max_size=4))
    def request_nonsense(self, trim, back, moves):
        for policy in self.policies:
            policy.requests = Requests(trim=trim, swap_in=back, demote=moves)
        self.shell.tick(0.1)

    @rule(answer=NONSENSE)
    def answer_nonsense(self, answer):
        for policy in self.policies:
            policy.requests = answer
        self.shell.tick(0.1)

    def mistakes(self):
        """Those of the others."""
        processes = self.shell.core.state.processes.values()
        return sum(count for each in processes for kind, count in each.policies.blame.errors.items() if kind != "cond")


class MadMachine(Mad, CoreMachine):
    """Memory of calls."""


class MadRealMachine(Mad, RealMachine):
    """Memory that threads touch."""


for machine in (FaithfulMachine, FaithfulRealMachine, MadMachine, MadRealMachine):
    machine.TestCase.settings = steps(18, 50)


class TestCore(FaithfulMachine.TestCase):
    """Run by pytest."""


class TestCoreWithRealMemory(FaithfulRealMachine.TestCase):
    """Run by pytest."""


class TestCoreWithNonsense(MadMachine.TestCase):
    """Run by pytest."""


class TestCoreWithRealMemoryAndNonsense(MadRealMachine.TestCase):
    """Run by pytest."""
