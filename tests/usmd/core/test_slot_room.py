"""Slots that an eviction may take, by whose page it makes room for."""

from tests.support.shell import make_core
from usmd.core import events
from usmd.core.slot_room import SlotRoom


def slot_room(slots=20, **more):
    core = make_core(devices=(("swap0", slots),), frames=40, reclaim_batch=4, **more)
    core.handle(events.Attach("app", "first_fit", "fifo", "refuse", memory_max=30, swap_max=9), 0.0)
    core.handle(events.Attach("owner", "first_fit", "fifo", "refuse", memory_min=6), 0.0)
    return core.state, SlotRoom(core.state, core.life)


def test_a_process_leaves_the_slots_that_others_lack():
    state, slots = slot_room(reserve=3)
    assert slots.to_spare() == 11
    slots.use(state.processes[1])
    assert (slots.to_spare(), slots.of(state.processes[1])) == (14, 9)
    state, slots = slot_room(slots=10, reserve=3)
    assert slots.to_spare() == 1
    slots.use(state.processes[1])
    assert slots.to_spare() == 4  # it holds nothing yet, so it may use the reserve
    state.processes[1].resident = 20
    assert slots.to_spare() == 1
    slots.use(state.processes[2])
    assert slots.to_spare() == 10
    slots.use(state.processes[1], swap=True)
    assert slots.to_spare() == 10


def test_while_slots_are_ample_nothing_is_looked_up():
    state, slots = slot_room(slots=10_000)
    assert state.guarantees.few == 6
    slots.use(state.processes[2])
    assert slots.to_spare() == 10_000 - 6
    assert state.guarantees.few == 1
    state.swap.devices[0].free = 2_000
    assert slots.to_spare() == 2_000
    assert state.guarantees.few == 6
