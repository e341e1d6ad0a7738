import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.lab.traces.lackey import ours, read_lackey

SAMPLE = """\
==29131== Lackey, an example Valgrind tool
==29131== Copyright (C) 2002-2017, and GNU GPL'd, by Nicholas Nethercote.
==29131== Command: /bin/true
==29131==
I  0401ab70,3
I  0401ab73,5
 S 1ffefff848,8
I  0401b910,1
 L 0402efe8,8
 M 1ffefff850,4
 L 1ffefffffe,4
I  ffffffffff600ffe,9

--29131-- a message of valgrind -v
==29131==
==29131== Counted 1 call to main()
"""


def read(text, page_size=4096, size=1 << 16):
    data = text.encode()
    chunks = [data[n : n + size] for n in range(0, len(data), size)]
    batches = list(read_lackey(chunks, Context("t", page_size)))
    assert all(batch.times is None for batch in batches)
    return [
        (key % 2**64, batch.writes[n] if batch.writes else 0) for batch in batches for n, key in enumerate(batch.keys)
    ]


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_instructions_loads_and_stores_become_pages(size, end):
    assert read(SAMPLE.replace("\n", end), size=size) == [
        (0x401A, 0),
        (0x401A, 0),
        (0x1FFEFFF, 1),
        (0x401B, 0),
        (0x402E, 0),
        (0x1FFEFFF, 1),
        (0x1FFEFFF, 0),
        (0x1FFF000, 0),
        (0xFFFFFFFFFF600, 0),
        (0xFFFFFFFFFF601, 0),
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(["I ", " L", " S", " M"]), st.integers(0, 2**64 - 40), st.integers(0, 40)),
        max_size=40,
    ),
    st.sampled_from([16, 4096, 1000, 1]),
    st.integers(1, 50),
)
def test_an_access_touches_the_page_of_each_of_its_bytes(lines, page_size, size):
    text = "".join(f"{kind} {address:08x},{length}\n" for kind, address, length in lines)
    assert read(text, page_size, size) == [
        (page, int(kind in (" S", " M")))
        for kind, address, length in lines
        for page in sorted({(address + n) // page_size for n in range(length or 1)})
    ]


def test_banners_alone_tell_of_no_access():
    assert read("==1== Lackey\n==1==\n") == []


@pytest.mark.parametrize(
    "line",
    ["hello", "L 1ffe,8", " X 1ffe,8", " L 1ffe", " L xyz,8", " L 1ffe,8 ", " L 1ffe,-8", " L 10000000000000000,1"],
)
def test_any_other_line_is_an_error_that_names_it(line):
    with pytest.raises(TraceError) as caught:
        read(f"==1== x\nI  0401ab70,3\n{line}\n")
    assert str(caught.value).startswith(f"t, line 3: {line!r} is not an access; allowed is lackey's")
    assert "--log-file" in str(caught.value)


@pytest.mark.parametrize("line", [" L ffffffffffffffff,2", " L 1000,999999999999"])
def test_an_access_beyond_all_measure_is_an_error(line):
    with pytest.raises(TraceError, match=r"t, line 3: .* is too long"):
        read(f"==1== x\n L 0ffe,8\n{line}\n")


def test_what_valgrind_says_itself_is_known_by_its_beginning():
    assert ours("==1== x")
    assert ours("--1-- x")
    assert ours("  \r")
    assert not ours(" L 1,1")
