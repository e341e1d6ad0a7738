"""Which clients are sampled, and what the core, the log and operators are told when that begins and ends."""

import asyncio
import errno
import os

import pytest

from usm_wire.conventions import RANGE_TO_TAKE_OUT
from usmd.core import commands, events
from usmd.core.settings import CoreSettings
from usmd.mechanism import sampler, uffd
from usmd.mechanism.sampled_pages import SampledPages
from usmd.mechanism.uffd import HEARS_TOUCHES, Feature
from usmd.mechanism.userfaultfd import UserfaultfdMemory
from usmd.server.engine import Engine
from usmd.server.sampling_cost import MEASURED, SamplingCost
from usmd.server.touch_sampling import TOLD_A_TICK, TouchSampling
from usmd.swap.memory import MemorySwapDevice

ALL = uffd.REQUIRED | HEARS_TOUCHES | Feature.WP_UNPOPULATED
PAGE = 4096


class Client:
    """A ClientMemory, as far as sampling goes."""

    def __init__(self, features=ALL):
        self.features = features
        self.sampled = SampledPages(-1, None, None)


class Bench:
    """An engine over real memory without clients, and its sampling; `swap` is the kernel's."""

    def __init__(self, rate=2.0, features=ALL, cost=None, refusal=""):
        settings = CoreSettings(
            frames=8, page_size=PAGE, deny_budget=4, deny_budget_total=4, sampling=rate,
            default_policies=("first_fit", "fifo", "refuse"),
        )  # fmt: skip
        self.memory = UserfaultfdMemory(PAGE)
        self.engine = Engine(settings, self.memory, [MemorySwapDevice(number=0, name="swap", slots=8, page_size=PAGE)])
        self.swap = ""
        self.sampling = TouchSampling(self.engine, self.memory, features, lambda: self.swap, cost, lambda: refusal)
        self.process = self.engine.submit(events.Attach("app", "first_fit", "fifo", "refuse")).process_id

    def active(self, process=None):
        """Whether the core takes pages of the process out, or will do so once memory is short."""
        state = self.engine.core.state
        found = state.processes[self.process if process is None else process]
        return found in state.unsampled or (found.sampling is not None and found.sampling.active)


@pytest.fixture
def make():
    made = []

    def bench(*arguments, **options):
        made.append(Bench(*arguments, **options))
        return made[-1]

    yield bench
    for each in made:
        asyncio.run(each.engine.close())


def test_a_client_whose_userfaultfd_hears_touches_is_sampled_until_it_is_gone(make):
    bench = make()
    assert (bench.memory.sampling, bench.sampling.features) == ("client", HEARS_TOUCHES)
    app = Client()
    assert bench.sampling.begin(app, bench.process, 0) is None
    assert (app.sampled.sampler.name, bench.active(), bench.memory.sampling) == ("pageout", True, "pageout")
    bench.sampling.end(app)
    assert (app.sampled.sampler, bench.memory.sampling) == (None, "client")


@pytest.mark.parametrize("refusal", ["", "usmd needs CAP_SYS_NICE"])
def test_a_client_that_offers_to_take_its_own_pages_out_does_that_whether_usmd_may_or_not(make, refusal):
    bench, app = make(refusal=refusal), Client()
    with bench.sampling.begin(app, bench.process, 0, takes_out=True) as theirs:
        assert (app.sampled.sampler.name, bench.active(), bench.memory.sampling) == ("client", True, "client")
        app.sampled.sampler.take_out([(4096, 4096)])
        assert len(theirs.recv(100)) == RANGE_TO_TAKE_OUT.size
    bench.sampling.end(app)
    assert app.sampled.sampler is None


def test_both_ways_are_told_while_there_are_clients_of_both(make):
    bench = make()
    clients = [Client() for _ in range(2)]
    for number, client in enumerate(clients):
        bench.sampling.begin(client, bench.process, 0, takes_out=bool(number))
    assert bench.memory.sampling == "client and pageout"
    bench.sampling.end(clients[1])
    assert bench.memory.sampling == "pageout"
    bench.sampling.end(clients[0])


def test_a_client_that_offers_nothing_is_not_sampled_where_usmd_may_not_which_is_told(make, logged):
    bench, app, other = make(refusal="usmd needs CAP_SYS_NICE"), Client(), Client()
    assert bench.memory.sampling == "client"
    assert bench.sampling.begin(app, bench.process, 0) is None
    assert (app.sampled.sampler, bench.active()) == (None, False)
    bench.sampling.begin(other, bench.process, 0, takes_out=True)
    why = (
        "it does not take its own pages out (lib_usm without a compiler, or an older one), and usmd needs CAP_SYS_NICE"
    )
    assert bench.memory.sampling == f"client, but not of 1 process: {why}"
    assert [(line["event"], line["why"]) for line in logged] == [("sampling_ended", why)]
    for each in (app, other):
        bench.sampling.end(each)
    assert bench.memory.sampling == "client"


@pytest.mark.parametrize(("refusal", "way"), [("", "pageout"), ("usmd needs CAP_SYS_NICE", None)])
def test_without_descriptors_for_a_socket_usmd_takes_the_pages_out_if_it_may(make, monkeypatch, refusal, way):
    def refuse(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(sampler.socket, "socketpair", refuse)
    bench, app = make(refusal=refusal), Client()
    assert bench.sampling.begin(app, bench.process, 0, takes_out=True) is None
    assert (app.sampled.sampler and app.sampled.sampler.name) == way
    assert ("Too many open files" in bench.memory.sampling) == bool(refusal)


def test_a_client_whose_system_calls_would_fail_is_not(make):
    bench, app = make(), Client(uffd.REQUIRED)
    bench.sampling.begin(app, bench.process, 0)
    assert (app.sampled.sampler, bench.active()) == (None, False)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rate": 0.0}, 'memory.sampling = "off"'),
        ({"features": ALL & ~Feature.WP_UNPOPULATED}, "WP_UNPOPULATED"),
    ],
)
def test_nobody_is_where_it_is_switched_off_or_the_kernel_cannot(make, options, why):
    bench, app = make(**options), Client()
    assert bench.sampling.begin(app, bench.process, 0, takes_out=True) is None
    assert app.sampled.sampler is None
    assert bench.sampling.features == Feature(0)
    assert bench.memory.sampling.startswith("off: ")
    assert why in bench.memory.sampling


def test_it_rests_while_the_kernel_has_swap(make, logged):
    bench, app = make(), Client()
    bench.sampling.begin(app, bench.process, 0)
    bench.swap = "the kernel has swap (/dev/zram0)"
    for _ in range(2):
        bench.sampling.look()
    assert (bench.active(), bench.memory.sampling) == (False, "off: the kernel has swap (/dev/zram0)")
    late = Client()
    other = bench.engine.submit(events.Attach("late", "first_fit", "fifo", "refuse")).process_id
    bench.sampling.begin(late, other, 0)
    assert not bench.active(other)
    bench.swap = ""
    bench.sampling.look()
    assert (bench.active(), bench.memory.sampling) == (True, "pageout")
    assert bench.active(other)
    assert [line["event"] for line in logged] == ["sampling_suspended", "sampling_resumed"]


def test_a_client_of_which_no_page_can_be_taken_out_is_told_of_once(make, logged):
    bench, app = make(), Client()
    bench.sampling.begin(app, bench.process, 0)
    for _ in range(2):
        bench.memory.on_unsampled(app, "process_madvise is not permitted")
    assert bench.active() is False
    assert bench.memory.sampling == "client, but not of 1 process: process_madvise is not permitted"
    bench.sampling.end(app)
    assert bench.memory.sampling == "client"
    assert [(line["event"], line["why"]) for line in logged] == [("sampling_ended", "process_madvise is not permitted")]


def test_it_rests_while_it_has_cost_more_than_its_share(make):
    now = [0.0]
    bench = make(cost=SamplingCost(0.25, lambda: now[0]))
    app, late = Client(), Client()
    bench.sampling.begin(app, bench.process, 0)

    def sampled(pages):
        now[0] += 0.1

    bench.memory.sample = sampled
    bench.engine.performers[commands.Sample](commands.Sample([1]))
    bench.sampling.tick()
    assert (bench.active(), bench.memory.sampling) == (False, "pageout")
    other = bench.engine.submit(events.Attach("late", "first_fit", "fifo", "refuse")).process_id
    bench.sampling.begin(late, other, 0)
    assert not bench.active(other)
    bench.swap = "the kernel has swap"
    bench.sampling.look()
    now[0] += 1.0
    bench.sampling.tick()
    assert bench.active() is False  # for the other reason
    bench.swap = ""
    bench.sampling.look()
    assert bench.active() is True
    assert bench.active(other)


def test_faults_that_tell_of_touches_are_part_of_the_cost(make, monkeypatch):
    now = [0.0]
    bench = make(cost=SamplingCost(0.25, lambda: now[0]))
    handled = []

    def submit(event):
        now[0] += 0.1
        handled.append(event)

    monkeypatch.setattr(bench.engine, "submit", submit)
    for page in range(MEASURED):
        bench.sampling.touched(7, [events.PageFault(1, page, False, events.MINOR)])
    bench.sampling.tick()
    assert [each.faults[0].page for each in handled] == list(range(MEASURED))
    assert {each.process_id for each in handled} == {7}
    assert bench.sampling.cost.share > 0


def test_very_many_clients_are_told_some_a_tick_and_those_that_go_meanwhile_are_not(make, monkeypatch):
    bench = make()
    clients = [Client() for _ in range(2 * TOLD_A_TICK + 1)]
    told = []
    monkeypatch.setattr(bench.engine, "submit", lambda event: told.append((event.process_id, event.on)))
    for number, client in enumerate(clients):
        bench.sampling.begin(client, number, 0)
    assert told == [(number, True) for number in range(len(clients))]
    told.clear()
    bench.swap = "the kernel has swap"
    bench.sampling.look()
    assert told == [(number, False) for number in range(TOLD_A_TICK)]
    for client in clients[TOLD_A_TICK : 2 * TOLD_A_TICK]:
        bench.sampling.end(client)
    for _ in range(3):
        bench.sampling.tick()
    assert told[TOLD_A_TICK:] == [(2 * TOLD_A_TICK, False)]


def test_a_client_that_cannot_be_sampled_as_it_begins_again_disturbs_no_other(make, monkeypatch):
    bench = make()
    clients = [Client() for _ in range(4)]
    for number, client in enumerate(clients):
        bench.sampling.begin(client, number, 0)
    told = []

    def submit(event):
        told.append(event.process_id)
        if event.on and event.process_id == 1:
            bench.memory.on_unsampled(clients[1], "process_madvise is not permitted")

    monkeypatch.setattr(bench.engine, "submit", submit)
    for bench.swap in ("the kernel has swap", ""):
        bench.sampling.look()
    assert told == [0, 1, 2, 3, 0, 1, 1, 2, 3]
