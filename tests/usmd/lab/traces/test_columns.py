import pytest

from usmd.errors import TraceError
from usmd.lab.traces.columns import NAMES, Columns, check_overrides, find_columns, recognised
from usmd.lab.traces.context import Context


def find(header, **columns):
    return find_columns(header, 1, Context("t", columns=columns))


def test_each_column_is_found_by_its_name():
    assert find("time,id,size,op") == Columns(",", 4, key=1, is_address=False, time=0, size=2, op=3)
    assert find("op|page") == Columns("|", 2, key=1, is_address=False, time=None, size=None, op=0)


@pytest.mark.parametrize("name", NAMES["id"] + NAMES["address"])
def test_each_name_for_an_id_or_address_is_known(name):
    assert recognised(name, {})
    assert find(f"x,{name.upper()} ").is_address is (name in NAMES["address"])


@pytest.mark.parametrize("meaning", ["time", "size", "op"])
def test_each_other_name_is_known(meaning):
    for name in NAMES[meaning]:
        assert getattr(find(f"id,{name}"), meaning) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter):
    assert find(delimiter.join(["a b", "id", "x"])).delimiter == delimiter


def test_the_delimiter_is_the_one_that_yields_an_id():
    assert find("a,b,c|id|size").delimiter == "|"


def test_names_may_be_quoted():
    assert find('"time","id"').key == 1


def test_columns_may_be_named():
    assert find("id,my column,when", id="My Column", time="when") == Columns(
        ",", 3, key=1, is_address=False, time=2, size=None, op=None
    )
    assert find("offset;size", address="offset").is_address
    assert recognised("offset;size", {"address": "offset"})
    assert not recognised("offset;size", {})


def test_an_id_goes_before_an_address_unless_the_address_was_named():
    assert find("addr,id").key == 1
    assert find("addr,id", address="addr").key == 0
    assert find("id,addr").is_address is False


def test_the_first_of_several_names_counts():
    assert find("timestamp,time,id").time == 1


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("a,b", {}, "line 1: 'a,b' has no column for ids; allowed is one of id, key"),
        ("", {}, "line 1: '' has no column for ids"),
        ('"id', {}, "has no column for ids"),
        ("id,id", {}, "has the column 'id' twice"),
        ("id,ts,ts", {}, "has the column 'ts' twice"),
        ("a,b", {"id": "c"}, "has no column 'c'"),
        ("id,b", {"time": "when"}, "has no column 'when'"),
        ("id,b", {"address": "place"}, "has no column 'place'"),
        ("id", {"colour": "red"}, "'colour'; allowed is time, id, address"),
        ("id", {"id": "a", "address": "b"}, "one of the two"),
    ],
)
def test_a_header_that_does_not_do_is_an_error(header, columns, message):
    with pytest.raises(TraceError, match=message):
        find(header, **columns)


def test_names_that_mean_nothing_are_refused_before_any_header():
    with pytest.raises(TraceError):
        check_overrides({"ids": "x"})
    check_overrides({"time": "a", "address": "b", "size": "c", "op": "d"})
