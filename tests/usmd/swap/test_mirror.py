"""A mirror: which part answers, what is said of a page that neither returns, and how the far part gets into step again.

What all devices share is in tests/contracts.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.failing_device import FailingDevice
from tests.support.mirrors import NEVER_LATE, PAGE, SLOTS, Mirror, into, mirror, out, types_of
from tests.support.waiting import wait_equal, wait_until
from usmd.errors import ConfigError, DataLoss, NoRoom, Refused, SwapDeviceError, SwapIOError
from usmd.swap import reachable
from usmd.swap.memory import MemoryKind
from usmd.swap.mirror import MirrorKind, MirrorSwapDevice
from usmd.swap.open import open_devices, parse_swap_spec

A, B = bytes([65]) * PAGE, bytes([66]) * PAGE
HOUR = 3600.0


@pytest.fixture
def quick(monkeypatch):
    """A mirror whose far part is tried again at once."""
    with mirror(monkeypatch) as found:
        yield found


def test_a_page_that_both_have_is_read_from_the_far_part(quick):
    assert quick.write(out(3, 65)) == [None]
    quick.settled()
    assert quick.read(out(3, 65)) == [A]
    assert (quick.far.begun["read"], quick.local.begun["read"]) == (1, 0)
    assert quick.status.fallbacks == 0


def test_a_write_is_done_when_the_local_part_has_it(quick):
    quick.far.fail("write", "hold")
    assert quick.write(out(3, 65)) == [None]
    quick.far.wait_for_call("write")
    assert quick.read(out(3, 65)) == [A]
    assert quick.status.coming == 1
    quick.far.mend()
    quick.settled()


@pytest.mark.parametrize("fault", ["io", "noise", "old"])
def test_what_the_far_part_does_not_return_comes_from_the_local_one_and_is_repaired(quick, fault):
    quick.write(out(3, 64))
    quick.settled()
    if fault == "old":
        quick.far.fail("write", "old")
    quick.write(out(3, 65, generation=2))
    quick.settled()
    if fault != "old":
        quick.far.fail("read", fault)
    assert quick.read(out(3, 65, generation=2)) == [A]
    assert quick.status.fallbacks == 1
    quick.far.mend()
    wait_until(lambda: quick.status.repaired == 1, "the page is repaired")
    quick.settled()
    fallbacks = quick.status.fallbacks
    assert quick.read(out(3, 65, generation=2)) == [A]
    assert quick.status.fallbacks == fallbacks


def test_one_bad_slot_of_the_far_part_keeps_no_other_page_from_it(quick):
    entries = [out(slot, 65 + slot) for slot in range(4)]
    quick.write(*entries)
    quick.settled()
    quick.far.fail("read", "io", slots={2})
    assert quick.read(*entries) == [bytes([65 + slot]) * PAGE for slot in range(4)]
    assert (quick.status.fallbacks, quick.status.away) == (1, False)
    assert quick.local.begun["read"] >= 1


def test_a_far_part_that_is_late_is_away_and_no_later_read_waits_for_it(monkeypatch):
    with mirror(monkeypatch, pause=HOUR) as slow:
        entries = [out(slot, 65) for slot in range(4)]
        slow.write(*entries)
        slow.settled()
        slow.far.fail("read", "hold")
        slow.is_late_after(0.005)
        assert slow.read(*entries) == [A] * 4
        slow.far.wait_for_call("read")
        assert slow.read(*entries) == [A] * 4
        assert slow.far.begun["read"] == 1
        assert slow.status.away
        assert "a read has not returned for 0.005 s" in slow.status.why


def test_a_far_part_that_was_late_for_a_read_returns_though_nothing_is_written(quick):
    quick.write(out(1, 65))
    quick.settled()
    quick.far.fail("read", "hold")
    quick.is_late_after(0.005)
    assert quick.read(out(1, 65)) == [A]
    assert quick.status.away
    quick.far.mend()
    wait_until(lambda: not quick.status.away, "the far part is tried again")


def test_a_late_write_makes_the_far_part_away_and_its_pages_are_written_again_later(monkeypatch):
    with mirror(monkeypatch) as slow:
        slow.far.fail("write", "hold")
        slow.write(out(1, 65))
        slow.far.wait_for_call("write")
        slow.is_late_after(0.005)
        slow.degraded(1)
        slow.write(out(2, 65), out(1, 66, generation=2))
        assert slow.status.to_repair >= 2
        assert slow.read(out(1, 66, generation=2), out(2, 65)) == [B, A]
        slow.far.mend()
        wait_until(lambda: slow.status.to_repair == 0, "both pages are on the far part")
        assert slow.read(out(1, 66, generation=2), out(2, 65)) == [B, A]


def test_while_the_far_part_is_away_pages_are_written_and_read_and_it_returns_without_a_restart(quick):
    quick.far.fail("write", "io")
    quick.write(*[out(slot, 65) for slot in range(8)])
    quick.degraded(8)
    assert quick.status.why == "write fails"
    assert quick.read(*[out(slot, 65) for slot in range(8)]) == [A] * 8
    assert quick.far.begun["read"] == 0
    quick.far.mend()
    quick.settled()
    assert quick.status.repaired == 8
    quick.local.fail("read", "io")
    assert quick.read(*[out(slot, 65) for slot in range(8)]) == [A] * 8


def test_a_far_part_that_lacks_nothing_is_found_to_be_back_by_a_read(quick):
    quick.write(out(1, 65))
    quick.settled()
    quick.far.fail("read", "io")
    assert quick.read(out(1, 65)) == [A]
    wait_until(lambda: quick.far.begun["read"] > 1 or quick.status.repaired, "it is tried again")
    quick.far.mend()
    quick.settled()


def test_a_page_that_the_local_part_has_lost_comes_from_the_far_one_even_if_that_was_away(monkeypatch):
    with mirror(monkeypatch, pause=HOUR) as one:
        one.write(out(1, 65), out(2, 65))
        one.settled()
        one.far.fail("read", "io")
        assert one.read(out(2, 65)) == [A]
        assert one.status.away
        one.far.mend()
        one.local.fail("read", "noise")
        assert one.read(out(1, 65)) == [A]


@pytest.mark.parametrize(
    ("far", "local", "error"),
    [
        ("io", "io", SwapIOError),
        ("io", "noise", SwapIOError),
        ("noise", "io", SwapIOError),
        ("noise", "noise", DataLoss),
    ],
)
def test_a_page_that_neither_returns_is_lost_only_if_both_have_lost_it(quick, far, local, error):
    entry = out(1, 65)
    quick.write(entry)
    quick.settled()
    quick.far.fail("read", far)
    quick.local.fail("read", local)
    (found,) = quick.device.read([into(entry)])
    assert type(found) is error
    assert "swap device m, slot 1: neither part of the mirror" in str(found)


def test_its_pages_are_tried_as_long_as_those_of_the_more_patient_part():
    far, local = FailingDevice("far"), FailingDevice("local")
    far.patience = 10.0
    device = MirrorSwapDevice(number=0, name="m", far=far, local=local)
    assert device.patience == 10.0
    device.close()


def test_a_page_that_the_local_part_alone_had_and_lost_is_data_loss(monkeypatch):
    with mirror(monkeypatch, pause=HOUR) as one:
        one.far.fail("write", "io")
        entry = out(1, 65)
        one.write(entry)
        one.degraded(1)
        one.local.fail("read", "noise")
        (found,) = one.device.read([into(entry)])
        assert type(found) is DataLoss
        assert "the far part does not have it" in str(found)


@pytest.mark.parametrize(("fault", "error"), [("io", SwapIOError), ("full", NoRoom), ("refuse", Refused)])
def test_a_page_that_the_local_part_does_not_take_is_not_taken(quick, fault, error):
    quick.local.fail("write", fault, slots={2})
    assert quick.write(out(1, 65), out(2, 65)) == [None, error]
    quick.settled()
    assert quick.read(out(1, 65), out(2, 65)) == [A, DataLoss]


def test_a_page_that_the_far_part_refuses_stays_with_the_local_one_and_one_for_which_it_is_full_comes_later(quick):
    quick.far.fail("write", "refuse")
    quick.write(out(1, 65))
    wait_until(lambda: quick.status.local_only == 1, "the page is the local part's alone")
    assert quick.status.in_step
    assert quick.read(out(1, 65)) == [A]
    quick.far.fail("write", "full")
    quick.write(out(2, 65))
    wait_until(lambda: quick.status.to_repair == 1, "the page has found no room")
    assert not quick.status.away
    assert quick.read(out(2, 65)) == [A]
    quick.write(out(1, 66, generation=2))
    assert quick.status.local_only == 0


def test_discarded_slots_are_empty_in_both_parts_also_while_they_are_written(quick):
    quick.far.fail("write", "hold")
    quick.write(out(1, 65))
    quick.far.wait_for_call("write")
    quick.device.discard([1])
    quick.far.mend()
    quick.write(out(2, 66))
    quick.settled()
    assert quick.read(out(1, 65), out(2, 66)) == [DataLoss, B]
    assert [types_of(part.read([into(out(1, 65))])) for part in (quick.far, quick.local)] == [[DataLoss], [DataLoss]]
    assert quick.status.to_repair == 0


def test_what_need_not_be_waited_for_is_read_at_once_and_failures_are_left_to_a_thread(quick):
    entries = [out(1, 65), out(2, 66)]
    quick.write(*entries)
    quick.settled()
    targets = [into(entry) for entry in entries]
    assert quick.device.read_now(targets) is None
    quick.far.at_once = True
    assert quick.device.read_now(targets) == [None, None]
    assert [bytes(target.buffer) for target in targets] == [A, B]
    quick.far.fail("read", "noise")
    assert quick.device.read_now(targets) is None


def test_repairs_are_no_faster_than_their_rate(monkeypatch):
    # One page a second, and no time passes.
    with mirror(monkeypatch, pause=0.0, repair_rate=PAGE, clock=lambda: 5.0) as one:
        one.far.fail("write", "io")
        one.write(*[out(slot, 65) for slot in range(3)])
        one.degraded(3)
        one.far.mend()
        wait_until(lambda: one.status.repaired == 1 and not one.status.away, "a try repairs one page")
        wait_equal(lambda: one.device._writer._repair_at, 6.0, "the next repair comes a second later")
        assert (one.status.to_repair, one.status.repaired) == (2, 1)


def test_a_mirror_closes_although_a_call_of_its_far_part_hangs(monkeypatch):
    monkeypatch.setattr("usmd.swap.mirror.CLOSE_SECONDS", 0.01)
    stuck = Mirror()
    stuck.far.fail("write", "hold")
    stuck.write(out(1, 65))
    stuck.far.wait_for_call("write")
    with pytest.raises(SwapIOError, match=r"swap device m\.far is not closed"):
        stuck.device.close()
    assert types_of(stuck.local.read([into(out(1, 65))])) == [SwapIOError]
    stuck.far.mend()
    stuck.device._writer._thread.join(NEVER_LATE)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["write", "read", "read_now", "discard"]),
            st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=4, unique=True),
        ),
        st.tuples(
            st.sampled_from(["far", "local"]),
            st.tuples(
                st.sampled_from(["write", "read"]),
                st.sampled_from(["io", "noise", "old", "full", "refuse", None]),
                st.sampled_from([None, {0, 1, 2, 3}]),
            ),
        ),
        st.tuples(st.just("settle"), st.none()),
    ),
    max_size=30,
)


@examples(60)
@given(steps=STEPS)
def test_whatever_fails_a_read_is_the_last_write_or_a_typed_error(steps):
    before = reachable.FIRST_PAUSE
    reachable.FIRST_PAUSE = 0.0005
    one = Mirror()
    try:
        model, damaged = {}, set()
        for number, (what, given_) in enumerate(steps):
            if what in ("far", "local"):
                operation, fault, slots = given_
                getattr(one, what).fail(operation, fault, slots)
            elif what == "settle":
                one.far.mend()
                one.settled()
            elif what == "discard":
                one.device.discard(given_)
                for slot in given_:
                    model.pop(slot, None)
            elif what == "write":
                entries = [out(slot, number + 1, generation=number) for slot in given_]
                lies = one.local.faults.get("write") == "old"
                for entry, error in zip(entries, one.device.write(entries), strict=True):
                    assert error is None or one.local.faults.get("write") in ("io", "full", "refuse")
                    model[entry.slot] = entry if error is None else None
                    (damaged.add if lies else damaged.discard)(entry.slot)
            else:
                check(one, model, damaged, given_, at_once=what == "read_now")
        for part in (one.far, one.local):
            part.mend()
        one.settled()
        check(one, model, damaged, range(SLOTS))
    finally:
        reachable.FIRST_PAUSE = before
        for part in (one.far, one.local):
            part.mend()
        one.device.close()


def check(one, model, damaged, slots, *, at_once=False):
    """Read slots: what is there has the bytes of the last write, and what the local part can return is there."""
    targets = [into(model.get(slot) or out(slot, 0)) for slot in slots]
    results = one.device.read_now(targets) if at_once else one.device.read(targets)
    if results is None:
        return
    local_reads = one.local.faults.get("read") in (None, "old", "full", "refuse")
    for target, error in zip(targets, results, strict=True):
        written = model.get(target.slot)
        if error is None:
            assert written is not None
            assert target.buffer == written.buffer
        else:
            assert isinstance(error, (DataLoss, SwapIOError))
            assert written is None or not local_reads or target.slot in damaged


def test_a_mirror_is_written_as_two_devices_and_as_a_table_of_two():
    spec = parse_swap_spec("mirror:memory:8KiB,file:/a,b:16KiB:direct")
    assert (spec.far, spec.local.path, spec.local.direct) == (MemoryKind(size=8192), "/a,b", True)
    assert spec.size == 16384


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mirror:memory:8KiB", "it has no second device"),
        ("mirror:memory:8KiB,8KiB", "it has no second device"),
        ("mirror:memory:8KiB,memory:8KiB,memory:8KiB", "it has more than two devices"),
        ("mirror:memory:8KiB,memory:8KiQ", "swap device 'memory:8KiQ'"),
        ("mirror:mirror:memory:8KiB,memory:8KiB", "it has no second device"),
    ],
)
def test_what_is_no_mirror_is_refused_with_its_form(text, why):
    with pytest.raises(ConfigError) as caught:
        parse_swap_spec(text)
    assert why in str(caught.value)
    assert str(caught.value).endswith("a mirror device is mirror:FAR,LOCAL")


def test_parts_have_no_names_are_no_mirrors_and_say_how_large_the_mirror_is():
    small, large = MemoryKind(size=8192), MemoryKind(size=16384)
    with pytest.raises(ConfigError, match="the part far of a mirror is a mirror"):
        MirrorKind(far=MirrorKind(far=small, local=small), local=small)
    with pytest.raises(ConfigError, match="the part local of a mirror has a name, 'x'"):
        MirrorKind(far=small, local=MemoryKind(size=8192, name="x"))
    with pytest.raises(ConfigError, match="a mirror is as large as its parts, and not 4 KiB; leave out `size`"):
        MirrorKind(far=small, local=large, size=4096)
    (device,) = open_devices([MirrorKind(far=small, local=large)], 4096)
    assert device.slots == 2
    device.close()


def test_if_a_part_cannot_be_opened_neither_stays_open(tmp_path):
    (tmp_path / "other").write_bytes(b"not swap")
    text = f"mirror:file:{tmp_path}/far:8KiB,file:{tmp_path}/other:8KiB"
    with pytest.raises(SwapDeviceError, match="is not a usmd swap file"):
        open_devices([parse_swap_spec(text)], 4096)
    assert not (tmp_path / "far").exists()


def test_parts_share_no_file_with_each_other_or_with_another_device(tmp_path):
    twice = parse_swap_spec(f"mirror:file:{tmp_path}/a:8KiB,file:{tmp_path}/a:8KiB")
    with pytest.raises(ConfigError, match=r"the path .*/a is taken by an earlier device"):
        open_devices([twice], 4096)
    apart = parse_swap_spec(f"mirror:memory:8KiB,file:{tmp_path}/a:8KiB")
    with pytest.raises(ConfigError, match=r"the path .*/a is taken by an earlier device"):
        open_devices([parse_swap_spec(f"file:{tmp_path}/a:8KiB"), apart], 4096)
    with pytest.raises(ConfigError, match="512 B is smaller than one page"):
        open_devices([parse_swap_spec("mirror:memory:8KiB,memory:512")], 4096)
