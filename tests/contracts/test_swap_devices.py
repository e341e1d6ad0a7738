"""One suite over every kind of swap device, those of installed packages too: what is read is what was written, or a
typed error.

A device is opened from its size alone, with its paths in a temporary folder; and once for each setting that is false
unless said. A device with a channel is tried with each way of I/O, its jobs submitted as the loop does it. The servers
of a remote one are real. A device of others is tried over some of them.
"""

from __future__ import annotations

import random
import threading

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.io_ways import require_way
from tests.support.redis_servers import running_redis
from tests.support.submitting import Submitter
from usmd.config_values import read_table
from usmd.errors import DataLoss, InvalidArgument, OutOfRange, Refused, SwapIOError
from usmd.swap import kinds
from usmd.swap.base import SlotIO
from usmd.swap.open import open_devices, parse_swap_spec

PAGE = 4096
SLOTS = 4096


def variants():
    """Each kind by name with its settings, and each of its switches alone."""
    for name in kinds.TABLE:
        if name == "mirror":
            continue
        yield pytest.param((name, {}), id=name)
        for field in msgspec.structs.fields(kinds.find(name)):
            if field.default is False:
                yield pytest.param((name, {field.name: True}), id=f"{name}-{field.name}")
    for way, direct in (("io_uring", False), ("io_uring", True), ("aio", True)):
        yield pytest.param(("file", {"io": way, "direct": direct}), id=f"file-{way}{'-direct' if direct else ''}")
    for far, local in (("memory", "compressed"), ("compressed", "memory")):
        yield pytest.param(("mirror", {"far": {"kind": far}, "local": {"kind": local}}), id=f"mirror-{far}-{local}")


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=variants())
def make(request, tmp_path):
    name, settings = request.param
    if name == "redis":
        settings = {"url": request.getfixturevalue("redis_server").url}
    kind = kinds.find(name)
    devices = []
    submits = "io" in settings
    if submits:
        require_way(settings["io"])
    elif "io" in kind.__struct_fields__:
        settings = {**settings, "io": "threads"}

    def build(slots=SLOTS):
        size = {"size": slots * PAGE}
        table = size | {key: value | size if isinstance(value, dict) else value for key, value in settings.items()}
        spec = read_table(kind, table, "swap[0]").placed(tmp_path, len(devices))
        devices.extend(open_devices([spec], PAGE))
        devices[-1].at_once = reads_at_once(devices[-1])
        if submits:
            Submitter(devices[-1])
        return devices[-1]

    yield build
    for device in devices:
        device.close()


@pytest.fixture
def device(make):
    return make()


def reads_at_once(device):
    """Whether this device can tell that a page just written need not be waited for."""
    entry = out(0)
    assert device.write([entry]) == [None]
    found = device.read_now([into(entry)])
    device.discard([0])
    assert found in ([None], None)
    return found is not None


def content(seed):
    """A page that differs from every other, and can be compressed."""
    return random.Random(seed).randbytes(PAGE // 8) * 8


def out(slot, seed=None, *, process=1, page=None, generation=1):
    """An entry to write whose bytes follow from `seed` (the slot, unless given)."""
    data = bytearray(content(slot if seed is None else seed))
    return SlotIO(slot, process, 1000 + slot if page is None else page, generation, memoryview(data))


def into(entry, **changes):
    """An entry that reads into a fresh buffer what `entry` wrote, save for `changes`."""
    return entry._replace(buffer=memoryview(bytearray(PAGE)), **changes)


def types_of(results):
    return [None if result is None else type(result) for result in results]


@pytest.mark.parametrize(
    "slots",
    [
        [0],
        [SLOTS - 1],
        list(range(64)),
        list(range(64))[::-1],
        list(range(0, 128, 2)),
        [9, 3, 4, 100, 5, 8, SLOTS - 1, 0],
        list(range(2500)),
    ],
    ids=["first", "last", "adjacent", "descending", "gaps", "mixed", "more_than_one_call_takes"],
)
def test_a_batch_comes_back_as_it_was_written(device, slots):
    written = [out(slot) for slot in slots]
    assert device.write(written) == [None] * len(slots)
    targets = [into(entry) for entry in written]
    random.Random(5).shuffle(targets)
    assert device.read(targets) == [None] * len(slots)
    for target in targets:
        assert target.buffer == content(target.slot)


def test_a_page_that_cannot_be_compressed_comes_back_or_is_refused_and_spoils_no_other(device):
    neighbours = [out(4), out(6)]
    noise = out(5)._replace(buffer=memoryview(bytearray(random.Random(1).randbytes(PAGE))))
    device.write([out(5)])
    results = device.write([neighbours[0], noise, neighbours[1]])
    assert results[0] is None
    assert results[2] is None
    assert results[1] is None or isinstance(results[1], Refused)
    targets = [into(neighbours[0]), into(noise), into(neighbours[1])]
    assert types_of(device.read(targets)) == [None, None if results[1] is None else DataLoss, None]
    assert [targets[n].buffer for n in (0, 2)] == [content(4), content(6)]
    if results[1] is None:
        assert targets[1].buffer == noise.buffer


def test_writing_leaves_the_source_and_the_neighbours_alone(device):
    below, entry, above = out(4), out(5), out(6)
    device.write([below, above])
    device.write([entry])
    assert entry.buffer == content(5)
    targets = [into(below), into(above)]
    assert device.read(targets) == [None, None]
    assert [bytes(target.buffer) for target in targets] == [content(4), content(6)]


@pytest.mark.parametrize("field", ["process", "page", "generation"])
@pytest.mark.parametrize("value", [0, 2, 2**64 - 1])
def test_another_key_is_data_loss(device, field, value):
    entry = out(7)
    device.write([entry])
    (result,) = device.read([into(entry, **{field: value})])
    assert isinstance(result, DataLoss)
    assert f"swap device {device.name}, slot 7" in str(result)


def test_exchanged_key_values_are_data_loss(device):
    entry = out(7, process=3, page=4, generation=5)
    device.write([entry])
    for process, page, generation in ((4, 3, 5), (5, 4, 3), (3, 5, 4), (4, 5, 3), (5, 3, 4)):
        (result,) = device.read([into(entry, process=process, page=page, generation=generation)])
        assert isinstance(result, DataLoss)


def test_the_largest_key_is_as_good_as_any(device):
    entry = out(7, process=2**64 - 1, page=2**64 - 1, generation=2**64 - 1)
    assert device.write([entry]) == [None]
    assert device.read([into(entry)]) == [None]


def test_a_slot_never_written_is_data_loss(device):
    assert types_of(device.read([into(out(11))])) == [DataLoss]


def test_a_page_of_zeros_is_kept_like_any_other(device):
    entry = out(11)._replace(buffer=memoryview(bytearray(PAGE)))
    device.write([entry])
    target = entry._replace(buffer=memoryview(bytearray(b"x" * PAGE)))
    assert device.read([target]) == [None]
    assert target.buffer == bytes(PAGE)


def test_a_discarded_slot_is_data_loss_until_it_is_written_again(device):
    entries = [out(slot) for slot in range(64)]
    device.write(entries)
    device.discard([*range(20, 50), 3, 3])
    results = device.read([into(entry) for entry in entries])
    lost = {*range(20, 50), 3}
    assert types_of(results) == [DataLoss if slot in lost else None for slot in range(64)]
    again = out(30, seed="new", generation=2)
    assert device.write([again]) == [None]
    target = into(again)
    assert device.read([target]) == [None]
    assert target.buffer == content("new")


def test_discard_takes_any_iterable_and_empty_slots(device):
    device.discard(iter([1, 2, 3]))
    device.discard([])
    device.discard(range(SLOTS))


def test_one_bad_entry_does_not_spoil_the_batch(device):
    entries = [out(slot) for slot in range(40, 50)]
    device.write(entries)
    targets = [into(entry) for entry in entries]
    targets[4] = into(entries[4], generation=2)
    assert types_of(device.read(targets)) == [None] * 4 + [DataLoss] + [None] * 5
    assert all(targets[n].buffer == content(40 + n) for n in range(10) if n != 4)


def test_after_a_rewrite_only_the_new_generation_is_there(device):
    old, new = out(9, seed="a", generation=1), out(9, seed="b", generation=2)
    device.write([old])
    device.write([new])
    target = into(new)
    assert types_of(device.read([into(old)])) == [DataLoss]
    assert device.read([target]) == [None]
    assert target.buffer == content("b")


def test_reads_and_writes_of_two_threads_do_not_disturb_each_other(device):
    kept = [out(slot) for slot in range(0, 256, 2)]
    device.write(kept)
    begin = threading.Barrier(2)
    failures = []

    def write():
        begin.wait(90)
        for generation in range(2, 30):
            batch = [out(slot, generation, generation=generation) for slot in (1, 3, 5, 101)]
            failures.extend(filter(None, device.write(batch)))
            targets = [into(entry) for entry in batch]
            failures.extend(filter(None, device.read(targets)))
            failures.extend(t.slot for t in targets if t.buffer != content(generation))

    def read():
        begin.wait(90)
        for _ in range(28):
            targets = [into(entry) for entry in kept]
            failures.extend(filter(None, device.read(targets)))
            failures.extend(t.slot for t in targets if t.buffer != content(t.slot))

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_after_close_every_job_is_an_io_error_and_closing_again_does_nothing(device):
    entry = out(1)
    device.write([entry])
    device.close()
    device.close()
    assert types_of(device.write([entry])) == [SwapIOError]
    assert types_of(device.read([into(entry)])) == [SwapIOError]
    device.discard([1])


def test_a_device_says_what_it_is(device):
    assert (device.number, device.name, device.page_size) == (0, f"{device.kind}0", PAGE)
    assert device.kind in kinds.TABLE
    assert device.slots >= SLOTS


def test_a_device_is_read_from_the_command_line_as_from_the_configuration(device):
    spec = kinds.find(device.kind)
    assert spec.device is type(device)
    if spec.form == "SIZE":
        assert parse_swap_spec(f"{device.kind}:{SLOTS * PAGE}") == spec(size=SLOTS * PAGE)


def test_two_devices_of_a_kind_share_nothing(make):
    one, other = make(16), make(16)
    entry = out(2)
    one.write([entry])
    assert types_of(other.read([into(entry)])) == [DataLoss]


@pytest.mark.parametrize("slots", [[0], [SLOTS - 1], list(range(64)), [9, 3, 4, 100, 5, 8, SLOTS - 1, 0]])
def test_what_need_not_be_waited_for_comes_back_as_it_was_written(device, slots):
    written = [out(slot) for slot in slots]
    device.write(written)
    targets = [into(entry) for entry in written]
    # What was just written is in the kernel's page cache, or in memory.
    assert device.read_now(targets) == ([None] * len(slots) if device.at_once else None)
    for target in targets:
        assert target.buffer == (content(target.slot) if device.at_once else bytes(PAGE))


@pytest.mark.parametrize("field", ["process", "page", "generation"])
def test_another_key_is_data_loss_also_at_once_and_of_its_entry_alone(device, field):
    entries = [out(slot) for slot in (6, 7, 8)]
    device.write(entries)
    targets = [into(entries[0]), into(entries[1], **{field: 2}), into(entries[2])]
    results = device.read_now(targets)
    if not device.at_once:
        assert results is None
        results = device.read(targets)
    assert types_of(results) == [None, DataLoss, None]
    assert f"swap device {device.name}, slot 7" in str(results[1])
    assert [targets[n].buffer == content(6 + n) for n in (0, 2)] == [True, True]


def test_a_slot_that_holds_nothing_is_not_read_at_once_and_nor_is_a_closed_device(device):
    entries = [out(slot) for slot in range(4)]
    device.write(entries)
    device.discard([2])
    assert device.read_now([into(entry) for entry in entries]) is None
    assert device.read_now([into(out(99))]) is None
    assert types_of(device.read([into(entry) for entry in entries])) == [None, None, DataLoss, None]
    device.close()
    assert device.read_now([into(entries[0])]) is None


@pytest.mark.parametrize(("slot", "size", "error"), [(None, PAGE, OutOfRange), (0, PAGE - 1, InvalidArgument)])
def test_what_fits_no_slot_is_refused_at_once_as_it_is_later(device, slot, size, error):
    slot = device.slots if slot is None else slot
    entry = SlotIO(slot, 1, 1, 1, memoryview(bytearray(size)))
    for read in (device.read_now, device.read):
        with pytest.raises(error, match=f"slot {slot}"):
            read([entry])


def test_a_rewritten_slot_is_read_at_once_as_it_is_now(device):
    old, new = out(9, seed="a", generation=1), out(9, seed="b", generation=2)
    device.write([old])
    device.write([new])
    if device.at_once:
        target = into(new)
        assert types_of(device.read_now([into(old)])) == [DataLoss]
        assert device.read_now([target]) == [None]
        assert target.buffer == content("b")


SMALL = 12
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "read", "read_now", "discard"]),
        st.lists(st.integers(0, SMALL - 1), min_size=1, max_size=SMALL, unique=True),
    ),
    max_size=25,
)


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_sequence_of_jobs_agrees_with_a_dict(make, steps):
    device = make(SMALL)
    model = {}
    for generation, (what, slots) in enumerate(steps):
        if what == "write":
            batch = [out(slot, generation * 100 + slot, generation=generation) for slot in slots]
            assert device.write(batch) == [None] * len(slots)
            model.update((entry.slot, entry) for entry in batch)
        elif what == "discard":
            device.discard(slots)
            for slot in slots:
                model.pop(slot, None)
        else:
            targets = [into(model.get(slot, out(slot))) for slot in slots]
            results = device.read_now(targets) if what == "read_now" else None
            if what == "read_now" and device.at_once:
                assert (results is None) == any(slot not in model for slot in slots)
            if results is None:
                results = device.read(targets)
            assert types_of(results) == [None if slot in model else DataLoss for slot in slots]
            assert all(t.buffer == model[t.slot].buffer for t in targets if t.slot in model)
    device.close()
