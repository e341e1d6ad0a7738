"""A process with a conditional policy and two swap devices, whose turns come when the test says so."""

from tests.support.requests import Requester, demoting, make_with
from tests.support.shell import PAGE, Shell, make_core
from usmd.core.region import page_key
from usmd.core.swap_map import SLOT_BITS

INTERVAL = 0.1


def data(page):
    return bytes([page + 1]) * PAGE


class App:
    """A process with a conditional policy, and a region whose pages are all stored; some of them are in swap."""

    def __init__(self, pages=4, swapped=(), *, frames=8, slots=(16, 16), policy=Requester, **settings):
        made = []
        devices = (("fast", slots[0]), ("slow", slots[1]))
        self.shell = Shell(make_core(frames=frames, devices=devices, make_policy=make_with(made, policy), **settings))
        self.process = self.shell.attach(cond="requester", swap_device="fast")
        self.policy = made[0]
        self.region = self.shell.map(self.process, pages)
        for page in range(pages):
            self.shell.put(self.process, self.region, page, data(page))
        for page in swapped:
            self.shell.evict(self.process, self.region, page, 1)
        self.policy.told.clear()

    @property
    def state(self):
        return self.shell.core.state

    @property
    def errors(self):
        return self.state.processes[self.process].policies.blame.errors["cond"]

    def key(self, page):
        return page_key(self.region, page)

    def turn(self, requests=None):
        """The next turn has come, and the policy requests this."""
        self.policy.requests = requests
        self.shell.tick(INTERVAL)

    def demote(self, *pages, device=1):
        self.turn(demoting(*(self.key(page) for page in pages), device=device))

    def states(self):
        return [self.shell.state_of(self.region, page) for page in range(len(self.pages()))]

    def pages(self):
        return range(self.state.regions[self.region].page_count)

    def device(self, page):
        """The device that a page in swap is on."""
        entry = self.state.regions[self.region].table[page]
        assert entry < 0
        return (-entry - 1) >> SLOT_BITS

    def used(self):
        return [device.slots - device.free for device in self.state.swap.devices]

    def is_right(self):
        self.shell.auto_io = True
        while self.shell.pending:
            self.shell.complete_io()
        for page in self.pages():
            assert self.shell.get(self.process, self.region, page) == data(page)

    def counted(self, *names):
        return [self.shell.counters()[name] for name in names]
