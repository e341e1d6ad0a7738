import pytest

from usmd.errors import TraceError
from usmd.lab.traces.columns import (
    NAMES,
    Columns,
    check_overrides,
    choose_columns,
    commented_header,
    find_columns,
    recognised,
)
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
    assert recognised("where;size", {"address": "where"})
    assert not recognised("where;size", {})


@pytest.mark.parametrize("name", ["Object ID", "object-id", " OBJECT_ID "])
def test_case_and_blanks_in_usual_names_do_not_matter(name):
    assert find(f"x,{name}").key == 1


def test_a_name_as_it_is_written_goes_before_one_in_another_case():
    assert find("KEY,key,id", id="key").key == 1
    assert find("KEY,key,id", id="KEY").key == 0
    assert find("id,Op,op", op="Op").op == 1


def test_columns_may_have_numbers_and_be_left_out():
    assert find("a,b,c", id="2", time="3") == Columns(",", 3, key=1, is_address=False, time=2)
    assert find("7,2,id", id="2").key == 1, "a column that is called so goes first"
    assert find("ts,id,op,size", time="", op="", size="") == Columns(",", 4, key=1, is_address=False)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("time", None),
        ("ts_ms", 1e-3),
        ("Timestamp (us)", 1e-6),
        ("time[ns]", 1e-9),
        ("time_s", 1.0),
        ("epoch ms", 1e-3),
    ],
)
def test_the_name_of_the_times_may_tell_their_unit(name, unit):
    columns = find(f"id,{name}")
    assert (columns.time, columns.time_unit) == (1, unit)


@pytest.mark.parametrize(
    ("line", "overrides", "is_header", "key"),
    [
        ("1,2,3", {"id": "2"}, False, 1),
        ("a,b,c", {"id": "2"}, False, 1),
        ("a,key,c", {"id": "2"}, True, 1),
        ("when,b,c", {"id": "2", "time": "1"}, True, 1),
        ("1.5,b,c", {"id": "2", "time": "1"}, False, 1),
        ("a,b,verb", {"id": "2", "op": "3"}, True, 1),
        ("a,b,set", {"id": "2", "op": "3"}, False, 1),
        ("a;offs", {"address": "2"}, True, 1),
        ("a;0x10", {"address": "2"}, False, 1),
        ("a;x", {"id": "x"}, True, 1),
    ],
)
def test_a_table_whose_columns_have_numbers_may_be_without_a_header(line, overrides, is_header, key):
    columns, found = choose_columns(line, 1, None, Context("t", columns=overrides))
    assert (columns.key, found) == (key, is_header)


def test_a_comment_may_have_the_names():
    assert commented_header("# time,key") == "time,key"
    assert commented_header("#key") == "key"
    assert commented_header("# the key of all") is None
    assert commented_header("# made, today") is None
    assert choose_columns("1,2", 2, "time,key", Context("t")) == (find("time,key"), False)
    assert choose_columns("x,id", 2, "time,key", Context("t")) == (find("x,id"), True)


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
        ("a,b", {"id": "c"}, "has no column 'c'; allowed is one of a, b, or a number from 1 to 2"),
        ("a,b", {"id": "3"}, "has no column '3'"),
        ("a,b", {"id": "0"}, "has no column '0'"),
        ("a,b", {"id": ""}, "column id= has no name"),
        ("Key,KEY", {"id": "key"}, "has the column 'Key' twice"),
        ("id,b", {"time": "When"}, "has no column 'When'"),
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
