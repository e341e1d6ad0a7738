"""The local part of a mirror gets back what it has lost, beside writes and discards of the same slots."""

import threading

import pytest

from tests.support.mirrors import PAGE, into, mirror, out, types_of
from tests.support.waiting import wait_equal, wait_until
from usmd.errors import DataLoss, SwapIOError
from usmd.swap import local_repair

A, B = bytes([65]) * PAGE, bytes([66]) * PAGE
HOUR = 3600.0


@pytest.fixture
def quick(monkeypatch):
    """A mirror whose far part is away for as long as a test says."""
    monkeypatch.setattr(local_repair, "AWAY_SECONDS", 0.001)
    monkeypatch.setattr(local_repair, "REST_SECONDS", 0.001)
    with mirror(monkeypatch, pause=HOUR) as found:
        yield found


def damage(one, *slots, fault="noise"):
    """Have the mirror find that the local part does not return pages: it reads them there while the far one is away."""
    one.local.fail("read", fault)
    one.device._reachable.failed(one.device._clock(), "as if it were")
    assert one.read(*[out(slot, 65) for slot in slots]) == [A] * len(slots)
    one.local.fail("read", None)
    one.device._reachable.answered()


def hold_repair(one):
    """A page is lost in the local part, and its repair is under way until `local.mend`."""
    one.write(out(1, 65))
    one.settled()
    one.local.fail("write", "hold")
    damage(one, 1)
    wait_until(lambda: one.device._repair._active, "the repair writes")


def local(one, entry, number):
    """What the local part alone returns."""
    target = into(entry)._replace(process=0, page=entry.slot, generation=number)
    (error,) = one.local.read([target])
    return bytes(target.buffer) if error is None else type(error)


@pytest.mark.parametrize("fault", ["io", "noise"])
def test_a_page_that_the_local_part_does_not_return_is_copied_to_it_from_the_far_one(quick, fault):
    quick.write(out(1, 65), out(2, 65))
    quick.settled()
    quick.local.discard([1, 2])
    damage(quick, 1, 2, fault=fault)
    wait_equal(lambda: quick.status.repaired, 2, "both pages are repaired")
    quick.settled()
    assert [local(quick, out(slot, 65), slot) for slot in (1, 2)] == [A, A]
    quick.far.fail("read", "io")
    assert quick.read(out(1, 65), out(2, 65)) == [A, A]


def test_until_the_local_part_takes_it_a_page_is_to_be_repaired(quick):
    quick.write(out(1, 65))
    quick.settled()
    quick.local.fail("write", "io")
    damage(quick, 1)
    wait_until(lambda: quick.local.begun["write"] > 1, "a repair is tried")
    assert (quick.status.to_repair, quick.status.in_step, quick.status.repaired) == (1, False, 0)
    quick.local.mend()
    quick.settled()
    assert local(quick, out(1, 65), 1) == A


def test_a_page_that_the_far_part_has_lost_meanwhile_is_lost(quick):
    quick.write(out(1, 65))
    quick.settled()
    quick.local.fail("write", "io")
    damage(quick, 1)
    quick.local.discard([1])
    quick.far.discard([1])
    quick.settled()
    assert quick.read(out(1, 65)) == [DataLoss]
    assert quick.status.repaired == 0


def test_a_write_waits_for_the_repair_of_its_slot_and_is_what_is_read(quick):
    hold_repair(quick)
    writer = threading.Thread(target=quick.write, args=(out(1, 66, generation=2),))
    writer.start()
    wait_equal(lambda: quick.device._copies.number(1), 2, "the write has begun")
    quick.local.mend()
    writer.join()
    quick.settled()
    assert quick.read(out(1, 66, generation=2)) == [B]
    assert local(quick, out(1, 66), 2) == B
    assert quick.status.repaired == 0


def test_a_write_that_begins_while_a_repair_looks_what_is_current_is_what_is_read(quick, monkeypatch):
    quick.write(out(1, 65))
    quick.settled()
    repair, copies = quick.device._repair, quick.device._copies
    writer = threading.Thread(target=quick.write, args=(out(1, 66, generation=2),))
    waits = threading.Event()

    class Changed(threading.Condition):
        def __enter__(self):
            if threading.current_thread() is writer:
                waits.set()
            return super().__enter__()

    repair._changed = Changed()
    real = copies.number

    def number(slot):
        found = real(slot)
        if threading.current_thread() is repair._thread and writer.ident is None:
            writer.start()
            wait_until(lambda: waits.is_set() or not writer.is_alive(), "the write waits, or has ended")
        return found

    monkeypatch.setattr(copies, "number", number)
    damage(quick, 1)
    wait_until(lambda: writer.ident is not None, "a repair is chosen")
    writer.join()
    quick.settled()
    assert local(quick, out(1, 66), 2) == B


def test_a_slot_that_is_discarded_while_it_is_repaired_is_empty(quick):
    hold_repair(quick)
    quick.device.discard([1])
    quick.local.mend()
    wait_until(lambda: not quick.device._repair._active, "the repair has ended")
    assert local(quick, out(1, 65), 1) is DataLoss
    assert quick.read(out(1, 65)) == [DataLoss]
    assert quick.status.to_repair == 0


def test_repairs_are_no_faster_than_their_rate(monkeypatch):
    monkeypatch.setattr(local_repair, "AWAY_SECONDS", 0.001)
    monkeypatch.setattr(local_repair, "BATCH", 1)
    with mirror(monkeypatch, pause=HOUR, repair_rate=PAGE, clock=lambda: 5.0) as one:  # and no time passes
        one.write(*[out(slot, 65) for slot in range(3)])
        one.settled()
        damage(one, 0, 1, 2)
        wait_equal(lambda: one.device._repair._not_before, 6.0, "the next repair comes a second later")
        assert (one.status.to_repair, one.status.repaired) == (2, 1)


def test_nothing_is_copied_while_the_far_part_is_away(monkeypatch):
    with mirror(monkeypatch, pause=HOUR) as one:
        one.write(out(1, 65))
        one.settled()
        one.far.fail("read", "io")
        one.local.fail("read", "io")
        assert one.read(out(1, 65)) == [SwapIOError]
        one.far.mend()
        assert one.read(out(1, 65)) == [A]
        assert one.status.away
        assert one.device._repair._thread.is_alive()
        assert (one.status.to_repair, one.local.begun["write"]) == (1, 1)


def test_a_defect_of_a_part_is_logged_and_ends_nothing(quick, monkeypatch, capsys):
    quick.write(out(1, 65))
    quick.settled()
    real = quick.local.write
    quick.local.write = lambda batch: 1 // 0
    damage(quick, 1)
    wait_until(lambda: "swap_device_defect" in capsys.readouterr().out, "it is logged")
    quick.local.write = real
    quick.settled()
    assert types_of(quick.device.read([into(out(1, 65))])) == [None]
