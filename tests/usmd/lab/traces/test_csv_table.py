import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.lab.traces.csv_table import ROWS, read_csv
from usmd.lab.traces.keys import hashed
from usmd.lab.traces.operations import OPERATIONS, WRITE


def read(text, size=1 << 16, page_size=4096, **columns):
    data = text.encode()
    chunks = [data[n : n + size] for n in range(0, len(data), size)]
    batches = list(read_csv(chunks, Context("t", page_size, columns)))
    return [
        (
            key % 2**64,
            batch.writes[n] if batch.writes else 0,
            None if batch.times is None else batch.times[n],
        )
        for batch in batches
        for n, key in enumerate(batch.keys)
    ]


def keys(text, **more):
    return [key for key, _, _ in read(text, **more)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("size", [1, 10, 1 << 16])
def test_rows_are_accesses(end, delimiter, size):
    text = "time,id,size,op\n0.5,7,100,get\n1,8,100,SET\n\n2e1,9,,w\n".replace("\n", end).replace(",", delimiter)
    assert read(text, size) == [(7, 0, 0.5), (8, 1, 1.0), (9, 1, 20.0)]


def test_a_table_may_be_ids_alone_and_end_without_a_line_break():
    assert read("id\n1\n\n2") == [(1, 0, None), (2, 0, None)]
    assert read('id\n"1"\n\n2') == [(1, 0, None), (2, 0, None)]


def test_comments_and_blank_lines_may_come_before_the_header():
    assert keys("# made by x\n\nid,op\n5,r\n") == [5]


def test_ids_are_integers_hex_or_any_text():
    assert keys("id\n 12 \n0xff\n18446744073709551615\nuser:1\n18446744073709551616\n1.0\n") == [
        12,
        255,
        2**64 - 1,
        hashed("user:1"),
        hashed("18446744073709551616"),
        hashed("1.0"),
    ]


def test_quoted_fields_may_hold_delimiters_and_line_breaks():
    text = 'id,op\n1,r\n"a,b",w\n"two\nlines",r\n"say ""x""",w\n2,r\n'
    for size in (1, 9, 1000):
        assert read(text, size) == [
            (1, 0, None),
            (hashed("a,b"), 1, None),
            (hashed("two\nlines"), 0, None),
            (hashed('say "x"'), 1, None),
            (2, 0, None),
        ]


def test_columns_may_be_named():
    assert read("id,my column\n1,2\n", id="my column") == [(2, 0, None)]
    assert read("when,offset\n1,8192\n", address="offset", time="when") == [(2, 0, 1.0)]


def test_operations_write_or_read_or_are_passed_over_and_counted():
    context = Context("t")
    rows = "".join(f"{n},{name}\n{n}, {name.upper()} \n" for n, name in enumerate(OPERATIONS))
    batches = list(read_csv([b"id,op\n", rows.encode()], context))
    found = [(key, write) for batch in batches for key, write in zip(batch.keys, batch.writes, strict=True)]
    kept = [(n, int(kind == WRITE)) for n, kind in enumerate(OPERATIONS.values()) if kind <= WRITE for _ in "ab"]
    assert found == kept
    assert context.skipped == 2 * len(OPERATIONS) - len(kept)


def test_fields_of_a_row_that_is_no_access_may_be_anything():
    assert read("ts,address,size,op\nnever,,,flush_all\n1,4096,1,get\n2,x,-1,delete\n") == [(1, 0, 1.0)]
    assert read('ts,key,op\n,,stats\n1,"a b",get\n') == [(hashed("a b"), 0, 1.0)]
    assert read("key,op\n1,delete\n2,del\n") == []


@pytest.mark.parametrize(
    ("times", "seconds", "more"),
    [
        (("ts", "10", "20"), (10.0, 20.0), {}),
        (("ts_ms", "10", "20"), (0.01, 0.02), {}),
        (("Timestamp (us)", "10", "20"), (1e-5, 2e-5), {}),
        (("time [ns]", "10", "20"), (1e-8, 2e-8), {}),
        (("when_ms", "10", "20"), (0.01, 0.02), {"time": "when_ms"}),
        (("ts", "1700000000", "1700000001.5"), (1700000000, 1700000001.5), {}),
        (("ts", "1700000000000", "1700000001500"), (1700000000, 1700000001.5), {}),
        (("ts", "1700000000000000", "1700000001500000"), (1700000000, 1700000001.5), {}),
        (("ts", "1700000000000000000", "1700000001500000000"), (1700000000, 1700000001.5), {}),
        (("ts", "128166372003061629", "128166372013061629"), (12816637200.306, 12816637201.306), {}),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 16])
def test_times_may_be_in_any_unit(times, seconds, more, size):
    name, *values = times
    found = read(f"{name},id\n" + "".join(f"{value},1\n" for value in values), size, **more)
    assert [time for _, _, time in found] == pytest.approx(seconds, rel=1e-9)


@pytest.mark.parametrize(("unit", "seconds"), [("s", 1.7e12), ("ms", 1.7e9), ("us", 1.7e6), ("ns", 1.7e3)])
def test_the_unit_of_times_that_is_asked_for_holds(unit, seconds):
    batches = read_csv([b"ts_us,id\n1700000000000,1\n"], Context("t", time_unit=unit))
    assert list(next(batches).times) == pytest.approx([seconds])


TWITTER = "0,q:q:1:8WTfjZU14ee,17,213,4,get,0\n1,yDqF:3q:1AJrrJ1nnCJ,27,27,6,add,3600\n1,yDqF,1,2,3,delete,0\n"
CAMBRIDGE = "128166372003061629,hm,1,Read,383496192,32768,41286\n128166372016382155,hm,1,Write,4096,4096,1963\n"


@pytest.mark.parametrize("size", [1, 50, 1 << 16])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_well_known_tables_have_no_header(size, end):
    assert read(TWITTER.replace("\n", end), size) == [
        (hashed("q:q:1:8WTfjZU14ee"), 0, 0.0),
        (hashed("yDqF:3q:1AJrrJ1nnCJ"), 1, 1.0),
    ]
    found = read(CAMBRIDGE.replace("\n", end), size)
    assert [(key, write) for key, write, _ in found] == [(383496192 // 4096 + n, 0) for n in range(8)] + [(1, 1)]
    assert found[-1][2] - found[0][2] == pytest.approx(1.3320526, abs=1e-5)


@pytest.mark.parametrize("size", [1, 1 << 16])
def test_without_a_header_columns_have_numbers(size):
    rows = "get;0.5;x;7\nset;0.75;y;8\n"
    assert read(rows, size, id="4", time="2", op="1") == [(7, 0, 0.5), (8, 1, 0.75)]
    assert read(rows, size, address="4") == [(0, 0, None), (0, 0, None)]
    assert read("what;when;a;b\n" + rows, size, id="4", time="2", op="1") == [(7, 0, 0.5), (8, 1, 0.75)]
    assert read("a,key\n1,2\n", size, id="2") == [(2, 0, None)]


@pytest.mark.parametrize("size", [1, 1 << 16])
def test_the_header_may_be_a_comment(size):
    assert read("# made today, by x\n# time,key,op\n1,5,set\n2,6,get\n", size) == [(5, 1, 1.0), (6, 0, 2.0)]
    assert read("#key\nkey,op\n5,set\n", size) == [(5, 1, None)]


def test_columns_may_be_left_out():
    assert read("ts,key,op\nnever,5,jump\n", time="", op="") == [(5, 0, None)]


def test_addresses_become_pages():
    assert keys("addr\n4095\n0x1000\n18446744073709551615\n") == [0, 1, 2**52 - 1]
    assert keys("addr\n4095\n", page_size=1000) == [4]


def test_an_access_touches_each_page_of_its_bytes():
    text = "time,op,address,size\n1,w,4095,2\n2,r,0x2000,0\n3,r,8192,4096\n4,w,0,0x3001\n"
    assert read(text) == [
        (0, 1, 1.0),
        (1, 1, 1.0),
        (2, 0, 2.0),
        (2, 0, 3.0),
        (0, 1, 4.0),
        (1, 1, 4.0),
        (2, 1, 4.0),
        (3, 1, 4.0),
    ]


def test_the_size_of_an_object_does_not_matter():
    assert keys("id,size\n1,999999\n2,big\n3,\n") == [1, 2, 3]


FIELD = st.one_of(
    st.integers(0, 2**64 - 1).map(str), st.integers(0, 2**64 - 1).map(hex), st.text('ab,"\n ;', min_size=1)
)


@given(
    st.lists(st.tuples(FIELD.filter(str.strip), st.sampled_from(["r", "w", "Set"]), st.floats(0, 1e9)), max_size=20),
    st.integers(1, 60),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_rows_come_back_however_they_are_cut(rows, size, quoting):
    table = io.StringIO(newline="")
    writer = csv.writer(table, quoting=quoting, lineterminator="\n")
    writer.writerow(["id", "op", "time"])
    writer.writerows(rows)
    assert read(table.getvalue(), size) == [
        (int(key, 0) if key[0].isdigit() else hashed(key.strip()), int(op != "r"), time) for key, op, time in rows
    ]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.booleans())), st.integers(1, 60))
def test_the_short_way_and_the_long_way_agree(rows, size):
    text = "id,op\n" + "".join(f"{key},{'rw'[write]}\n" for key, write in rows)
    expected = [(key, int(write), None) for key, write in rows]
    assert read(text, size) == read(text.replace("op\n", 'op\n\n"5",r\n'), size)[1:] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: .* allowed is a line with the names of columns"),
        ("# only\n\n", "line 1: .* is not a header"),
        ("a,b\n1,2\n", "line 1: 'a,b' has no column for ids"),
        ("\n\na,b\n1,2\n", "line 3: 'a,b' has no column for ids"),
        ("id,op\n1,r\n1,jump\n", "line 3: 'jump' is not a known operation; allowed is get, .*--columns op= leaves"),
        ("id,op\n1,r\n1,\n", "line 3: '' is not a known operation"),
        ("id,op\n1,r\n\n1\n", "line 4: '1' has 1 fields; allowed is 2"),
        ("id,op\n1,r\na,b,r\n", "line 3: 'a,b,r' has 3 fields"),
        ("id,op\n1,r\n1\n2,r,r\n", "line 3: '1' has 1 fields"),
        ("id,op\n1,r\n ,r\n", "line 3: '' is not an id"),
        ("id,op\n1,r\n,r\n", "line 3: '' is not an id"),
        ("id,ts\n1,2\n1,noon\n", "line 3: 'noon' is not a time; allowed is a number, or --columns time="),
        ("id,ts\n1,2\n1,nan\n", "line 3: 'nan' is not a time"),
        ("id,ts\n1,2\n1,\n", "line 3: '' is not a time"),
        ("id,op\n1,delete\n1,jump\n", "line 3: 'jump' is not a known operation"),
        ("addr\n1\nx\n", "line 3: 'x' is not an address"),
        ("addr\n1\n-1\n", "line 3: '-1' is not an address"),
        ("addr\n1\n18446744073709551616\n", "line 3: '18446744073709551616' is not an address"),
        ("addr,size\n1,2\n1,-2\n", "line 3: '-2' is not a size"),
        ("addr,size\n1,2\n1,9999999999\n", "line 3: '9999999999' is not a size; .* at most 268,431,360"),
        ("addr,size\n1,2\n18446744073709551615,2\n", "line 3: '0x10000000000000001' is where"),
        ('id,op\n1,r\n"a\nb",r\n1,x\n', "line 5: 'x' is not a known operation"),
        ('id,op\n1,r\n"a,r\n1,r\n', "line 4: .*unexpected end"),
        ('id,op\n1,r\n"a"b,r\n', "line 3: .*expected after"),
        ("id,op\n1,r\n1\r2,r\n", "line 3: .*new-line"),
    ],
)
@pytest.mark.parametrize("size", [3, 1 << 16])
def test_what_cannot_be_used_is_an_error_with_its_line(text, message, size):
    with pytest.raises(TraceError, match=f"t, {message}"):
        read(text, size)


def test_lines_are_numbered_across_runs_of_rows():
    text = "id,op\n" + '"a\nb",r\n' * (2 * ROWS) + "1,r\n1,x\n"
    with pytest.raises(TraceError, match=f"line {4 * ROWS + 3}: 'x'"):
        read(text)


def test_times_too_large_to_add_up_are_times():
    assert read("id,ts\n1,1.7e308\n2,1.7e308\n") == [(1, 0, 1.7e308), (2, 0, 1.7e308)]


def test_text_that_is_not_utf_8_is_an_error():
    for data in (b"id\n1\n\xff\n", b'id\n"1"\n\xff\n', b"\n\nid,\xff\n"):
        with pytest.raises(TraceError, match=r"line 3: .* is not UTF-8"):
            list(read_csv([data], Context("t")))
