import pytest

from usmd.errors import TraceError
from usmd.lab.traces.detecting import detect
from usmd.lab.traces.oracle_general import RECORD


def found(data, **columns):
    data = data.encode() if isinstance(data, str) else data
    return detect(lambda length: data[:length], "t", columns)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"USMTRACE1\n{}\n\0\0", "usm"),
        (RECORD.pack(1, 2, 3, -1), "oracle_general"),
        (RECORD.pack(1, 2, 3, -1) * 1000, "oracle_general"),
        ("1\n2\n", "text"),
        ("0x1f w\n", "text"),
        ("# a\n\n5 read\n6 WRITE", "text"),
        ("1\n2\nx\n", "text"),
        ("\ufeff1\n2\n", "text"),
        ("time,id\n1,2\n", "csv"),
        ("# x\r\nkey;op\r\n1;r\r\n", "csv"),
        ("id\n1\n", "csv"),
        ("# time,key\n1,a\n", "csv"),
        ("0,q:q:1:8WTfjZU14ee,17,213,4,get,0\n", "csv"),
        ("128166372003061629,hm,1,Read,383496192,32768,41286\n", "csv"),
        ('"page","x y"\n1,2\n', "csv"),
        ("==7== Lackey\n==7==\nI  0401ab70,3\n", "lackey"),
        ("hello from the program\n L 1ffe,8\n", "lackey"),
        ("app 12 1.5: 1 cpu/mem-loads,ldlat=30/P: 7f00\n", "perf"),
        ("perf: warning\n# x\n1.5: 7f00\n", "perf"),
        ("     7f00\n     7f01\n", "perf"),
        ("1234\n7f01\n", "perf"),
        ("mem-loads: 7f00\n", "perf"),
        ("# " + "x" * 10_000 + "\n5\n", "text"),
        ("==1== " + "banner\n==1== " * 5000 + "\n L 1ffe,8\n", "lackey"),
        ("1\n" * 100_000, "text"),
        ("1\n2\n".encode("utf-16"), "text"),
        (("\ufeff" + "1\n" * 5000).encode("utf-16-be"), "text"),
        ("time,id\r\n1,caf\u00e9\r\n".encode("utf-16"), "csv"),
    ],
)
def test_a_format_is_known_by_its_content(data, name):
    assert found(data) == name


def test_a_table_may_be_known_by_the_columns_that_are_named():
    assert found("block,when\n1,2\n", id="block") == "csv"
    assert found("block,when\n1,2\n", id="nope") == "csv", "whose reader says which columns there are"
    with pytest.raises(TraceError):
        found("block,when\n1,2\n")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("hello\nworld\n", "t is in no format known here, by its line 'hello'; give the format: csv"),
        ("1 2 3\n", "by its line '1 2 3'"),
        ("a,b\n1,2\n", "by its line 'a,b'; .*; if it is a table without a header, .* --columns id=2"),
        ("x" * 500, "by its line 'x+\\.\\.\\.'"),
        ("# a\n\n# b\n", "t has comments only"),
        ("\n", "t has comments only"),
        (b"\xff\xfe1234\n", "t, byte 0: not UTF-8"),
        (b"1\n2\n\xe9\n", "t, byte 4: not UTF-8"),
        ("1\n2\n3\n4\n".encode("utf-16-le"), "t is UTF-16 without a byte order mark; .*iconv"),
        ("1\n2\n3\n4\n".encode("utf-16-be"), "t is UTF-16 without a byte order mark"),
        (b"abc\0", "t is binary, but"),
        (b"trace.csv".ljust(257, b"\0") + b"ustar  \0" + bytes(247), "t is a tar archive; unpack it"),
        ("# " + "x" * (1 << 21), "t has no line with an access in its first 1,048,576 bytes"),
    ],
)
def test_where_the_content_does_not_tell_there_is_an_error(data, message):
    with pytest.raises(TraceError, match=message):
        found(data)
