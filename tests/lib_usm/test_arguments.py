"""What callers may pass: the doors themselves, and that every public entry of the library goes through them."""

import inspect
import math
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lib_usm
from lib_usm.arguments import check_function, content, counted, kind_of, seconds, share, whole
from lib_usm.byte_sequence import ByteSequence
from tests.support.arguments import BUFFERS, INTEGERS, NOT_BUFFERS, NOT_INTEGERS, UNREADABLE, Index, Number, label
from tests.support.uthreads import Scene

LENGTH = 600
PAGE = 16
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# The doors


@pytest.mark.parametrize("kind", INTEGERS)
def test_a_numpy_integer_is_its_value(kind):
    limits = np.iinfo(kind)
    for value in (limits.min, -1, 0, 1, limits.max):
        if limits.min <= value <= limits.max:
            assert whole(kind(value), "n") == value
            assert type(whole(kind(value), "n")) is int


@pytest.mark.parametrize(("value", "number"), [(True, 1), (Number.ONE, 1), (Index(), 7), (np.array(5), 5)], ids=label)
def test_what_python_takes_for_an_index_is_an_integer(value, number):
    assert whole(value, "n") == number
    assert type(whole(value, "n")) is int


@pytest.mark.parametrize("value", NOT_INTEGERS, ids=label)
def test_what_is_no_integer_is_refused_by_name_and_type(value):
    with pytest.raises(lib_usm.WrongType, match=rf"^offset .* is {kind_of(value)}; an integer is needed"):
        whole(value, "offset")


@pytest.mark.parametrize(
    ("value", "kind"),
    [(5, "an int"), (..., "an ellipsis"), ("", "a str"), (np.uint8(5), "a uint8"), (None, "a NoneType")],
)
def test_a_type_has_its_article(value, kind):
    assert kind_of(value) == kind


def test_one_is_singular():
    assert [counted(number, "byte") for number in (-1, 0, 1, 2)] == ["-1 bytes", "0 bytes", "1 byte", "2 bytes"]


def test_an_integer_that_python_would_not_print_is_refused():
    with pytest.raises(lib_usm.OutOfRange, match="16610 bits"):
        whole(10**5000, "offset")


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (None, None),
        (0, 0.0),
        (-3, 0.0),
        (np.float32(0.5), 0.5),
        (np.uint8(200), 200.0),
        (True, 1.0),
        (Fraction(1, 2), 0.5),
        (math.inf, None),
        (-math.inf, 0.0),
        (threading.TIMEOUT_MAX * 2, None),
    ],
    ids=label,
)
def test_seconds_are_a_time_to_wait(value, answer):
    assert seconds(value, "timeout") == answer


def test_seconds_that_no_float_holds_are_refused():
    with pytest.raises(lib_usm.OutOfRange, match="bits"):
        seconds(10**400, "timeout")


@pytest.mark.parametrize("value", ["1", b"1", [1], object(), 1j], ids=label)
def test_what_is_no_number_of_seconds_is_refused(value):
    with pytest.raises(lib_usm.WrongType, match="number of seconds"):
        seconds(value, "timeout")
    with pytest.raises(lib_usm.InvalidArgument, match="not a number"):
        seconds(math.nan, "timeout")


@pytest.mark.parametrize("value", [1, 0.25, np.float32(0.5), Fraction(1, 4)], ids=label)
def test_a_share_is_a_float(value):
    assert (share(value, "part"), type(share(value, "part"))) == (float(value), float)


@pytest.mark.parametrize("value", ["1", b"1", [1], None, 1j], ids=label)
def test_what_is_no_share_is_refused(value):
    with pytest.raises(lib_usm.WrongType, match="a number is needed"):
        share(value, "part")
    with pytest.raises(lib_usm.InvalidArgument, match=r"part 1\.5 is not allowed; allowed is a share above 0, up to 1"):
        share(1.5, "part")


def test_a_function_is_anything_that_can_be_called_and_is_done_when_it_returns():
    async def coroutine():
        """Not to be called."""

    check_function(print)
    check_function([].append)
    for wrong in (None, "print", coroutine):
        with pytest.raises(lib_usm.InvalidArgument, match="is not a plain function"):
            check_function(wrong)


@pytest.mark.parametrize("data", BUFFERS, ids=label)
def test_the_bytes_of_a_buffer_are_those_in_c_order(data):
    with content(data) as view:
        assert (view.format, view.ndim, view.contiguous) == ("B", 1, True)
        assert bytes(view) == (data.tobytes() if hasattr(data, "tobytes") else bytes(data))


@pytest.mark.parametrize("data", [*NOT_BUFFERS, *UNREADABLE], ids=label)
def test_what_is_no_buffer_of_bytes_is_refused(data):
    expected = lib_usm.InvalidArgument if any(data is each for each in UNREADABLE) else lib_usm.WrongType
    with pytest.raises(expected, match="data"):
        content(data)


# Every public entry


def entries(client, region, lm):
    """Name → integers that are right, and what is called with them. Each integer is tried on its own."""
    return {
        "mmap": ((64,), lambda n: client.mmap(n).close()),
        "Client.mmap": ((64,), lambda n: client.mmap(n).close()),
        "Client.usm_hint": ((16, 32), lambda offset, n: client.usm_hint(region, "PRIORITY=LOW", offset, n)),
        "usm_hint": ((16, 32), lambda offset, n: lib_usm.usm_hint(region, "PRIORITY=LOW", offset, n)),
        "Client.fault": ((16, 32), lambda offset, n: client.fault(region, offset, n).runs),
        "Client.fault_many": ((1, 2), lambda page, n: [each.runs for each in client.fault_many([(region, page, n)])]),
        "Client.wait": ((7, 0), lambda token, timeout: client.wait(token, timeout)),
        "Client.load": ((16, 32), lambda offset, n: client.load(region, offset, n)),
        "Client.store": ((16,), lambda offset: client.store(region, offset, memoryview(b"ab"))),
        "Client.ensure": ((1, 2), lambda page, n: client.ensure(region, page, n)),
        "Client.pin": ((1, 0), lambda page, n: client.pin(region, page, n)),
        "Client.pin_async": ((1, 0), lambda page, n: finished(client.pin_async(region, page, n))),
        "Client.unpin": ((1, 0), lambda page, n: client.unpin(region, page, n)),
        "LocalManager": ((2,), lambda n: lib_usm.LocalManager(client, n) and None),
        "LocalManager.spawn": ((3,), lambda priority: lm.spawn(int, priority=priority).priority),
        "LocalManager.spawn_async": ((3,), lambda priority: lm.spawn_async(nothing, priority=priority).priority),
        "Region.ensure": ((16, 32), region.ensure),
        "Region.ensure_async": ((16, 32), lambda offset, n: region.ensure_async(offset, n).close()),
        "Region.pin": ((16, 0), lambda offset, n: region.pin(offset, n).release()),
        "Region.pin_async": ((16, 0), lambda offset, n: region.pin_async(offset, n) and None),
        "Region.evict": ((16, 32), region.evict),
        "Region.resident": ((16, 32), region.resident),
        "Region.hint": ((16, 32), lambda offset, n: region.hint("PRIORITY=LOW", offset, n)),
        "Region.read": ((16, 32), region.read),
        "Region.read_async": ((16, 32), lambda offset, n: region.read_async(offset, n).close()),
        "Region.write": ((16,), lambda offset: region.write(offset, b"ab")),
        "Region.write_async": ((16,), lambda offset: region.write_async(offset, b"ab").close()),
        "Region.ndarray": ((16,), lambda offset: region.ndarray("u1", None, offset)),
        "Region.byte_range": ((16, 32), region.byte_range),
        "Region.page_range": ((16, 32), region.page_range),
        "Region.__getitem__": ((16,), lambda index: region[index]),
        "Region.__setitem__": ((16, 5), region.__setitem__),
        "Region.__delitem__": ((16,), region.__delitem__),
        "Region.find": ((5, 3, 40), region.find),
        "Region.rfind": ((5, 3, 40), region.rfind),
        "Region.index": ((0, 3, 40), region.index),
        "Region.rindex": ((0, 3, 40), region.rindex),
        "Region.count": ((5, 3, 40), region.count),
        "Region.startswith": ((3, 40), lambda start, end: region.startswith(b"\0", start, end)),
        "Region.endswith": ((3, 40), lambda start, end: region.endswith(b"\0", start, end)),
    }


def finished(coroutine):
    """Run a coroutine that has nothing to wait for."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def nothing():
    """A coroutine function for a uThread that never runs."""


NO_BUFFER = ("Region.ndarray",)
"""Refused on simulated memory whatever is passed; lib_usm.arrays has its own tests."""


@pytest.fixture
def region(client):
    return client.mmap(LENGTH)


@pytest.fixture
def table(client, region, monkeypatch):
    monkeypatch.setattr("lib_usm.default.default_client", lambda: client)
    lm = Scene().lm
    yield entries(client, region, lm)
    lm.run()


def outcome(function, arguments):
    """What a call returns, or the kind of its error and what that says."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - the test compares it
        return type(error), str(error)


def test_the_table_has_every_public_entry_that_takes_an_integer(table):
    found = set()
    for name in lib_usm.__all__:
        item = getattr(lib_usm, name)
        if inspect.isclass(item):
            methods = dict(inspect.getmembers(item, inspect.isfunction))
            found |= {
                name if method == "__init__" else f"{name}.{method}"
                for method, function in methods.items()
                if (not method.startswith("_") or method.startswith("__"))
                and any(kind in str(function.__annotations__) for kind in ("SupportsIndex", "Bound", "Sought"))
            }
        elif inspect.isfunction(item) and "SupportsIndex" in str(item.__annotations__):
            found.add(name)
    assert found == set(table)


def test_no_public_entry_says_that_it_takes_nothing_but_int():
    """So that the next one is not left out of the table above."""
    for owner in (lib_usm.Client, lib_usm.Region, lib_usm.LocalManager):
        for name, function in inspect.getmembers(owner, inspect.isfunction):
            if not name.startswith("_") and name not in ("absent_runs", "ensure_pages_async", "pages"):
                taken = {key: kind for key, kind in function.__annotations__.items() if key != "return"}
                assert not [key for key, kind in taken.items() if kind in ("int", "int | None", "float | None")], name


@pytest.mark.parametrize("kind", [*INTEGERS, Index, bool], ids=lambda kind: kind.__name__)
def test_each_entry_does_with_any_integer_what_it_does_with_an_int(table, kind):
    for name, (arguments, call) in table.items():
        expected = outcome(call, arguments)
        if name in NO_BUFFER:
            assert expected[0] is lib_usm.NoBuffer
        for position, value in enumerate(arguments):
            other = Index() if kind is Index else kind(value)
            plain = list(arguments)
            plain[position] = whole(other, "")
            given = list(arguments)
            given[position] = other
            assert outcome(call, given) == outcome(call, plain), (name, given)


HUGE = st.sampled_from(
    [
        *(kind(np.iinfo(kind).max) for kind in INTEGERS),
        *(kind(np.iinfo(kind).min) for kind in INTEGERS),
        *(np.uint64(2**63), 2**63, 2**64, -(2**64), 2**127, -1, 10**5000),
    ]
)


@relaxed
@given(data=st.data())
def test_what_lies_outside_is_refused_as_an_int_is_and_nothing_was_changed(daemon, table, data):
    name = data.draw(st.sampled_from(sorted(table)))
    arguments, call = table[name]
    given_ = list(arguments)
    position = data.draw(st.integers(0, len(arguments) - 1))
    given_[position] = data.draw(HUGE)
    plain = list(given_)
    plain[position] = int(given_[position])
    calls = len(daemon.calls)
    came = outcome(call, given_)
    if isinstance(came, tuple) and isinstance(came[0], type):
        assert issubclass(came[0], lib_usm.UsmError), (name, came)
        if name not in ("Client.wait", "Region.index", "Region.rindex"):  # which look before they refuse
            assert len(daemon.calls) == calls, name
    assert came == outcome(call, plain), name


@pytest.mark.parametrize("value", [each for each in NOT_INTEGERS if each is not None], ids=label)
def test_what_is_no_integer_is_refused_by_each_entry_and_nothing_was_changed(daemon, table, value):
    for name, (arguments, call) in table.items():
        for position in range(len(arguments)):
            looked_for = position == 0 and name.split(".")[-1] in ("find", "rfind", "index", "rindex", "count")
            a_time = (name, position) == ("Client.wait", 1) and not isinstance(value, (str, bytes, list))
            if name in NO_BUFFER or a_time or (looked_for and value == b"1"):
                continue
            given = list(arguments)
            given[position] = value
            calls = len(daemon.calls)
            with pytest.raises(lib_usm.WrongType):
                call(*given)
            assert len(daemon.calls) == calls, name


@pytest.mark.parametrize("requests", [[5], [("region",)], [(None, 0, 1)], ["abc"], [(1, 2, 3, 4)]], ids=label)
def test_what_is_no_request_is_refused(client, requests):
    with pytest.raises(lib_usm.WrongType, match=r"not a request|not a region"):
        client.fault_many(requests)


@pytest.mark.parametrize(
    ("offset", "n"),
    [
        *((0, 5), (np.uint8(200), np.uint8(200)), (True, True), (LENGTH, 0), (0, LENGTH + 1), (-1, 1), (0, -1)),
        *((0.0, 1), (0, 1.0), ("0", 1), ([0], 1), (np.int8(-1), 1), (np.uint64(2**63), 1), (0, np.uint64(2**64 - 1))),
    ],
    ids=label,
)
def test_both_forms_of_the_other_calls_take_and_refuse_the_same(region, offset, n):
    def of(function):
        came = outcome(function, (offset, n))
        return came if isinstance(came, tuple) and isinstance(came[0], type) else "taken"

    assert of(region.read) == of(lambda *given: region.read_async(*given).close())
    assert of(region.ensure) == of(lambda *given: region.ensure_async(*given).close())
    assert of(lambda *given: region.pin_async(*given)) == of(region.page_range)


def test_a_region_is_a_byte_sequence(region):
    assert isinstance(region, ByteSequence)
