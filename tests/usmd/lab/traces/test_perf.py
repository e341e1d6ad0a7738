from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.lab.traces.perf import read_perf, recognised

DEFAULT = """\
# captured on: Mon Jan  5 10:00:00 2026
#
  app  1234  12.345678:  1 cpu/mem-loads,ldlat=30/P:     7f0012345678   68100142 |OP LOAD|LVL L1 401136 main+0x16 (app)
  app  1234 [001]  12.345690:    1 cpu/mem-stores/P:   7f0012346000    5080144 |OP STORE|LVL L1 40113a main+0x1a (app)
 Web Content 99/100 [003] 12.5:      10 MEM_INST_RETIRED.ALL_STORES:u:  ffff888100000010
  app  1234  12.600000:          1 cycles:                0 401140 main+0x20 (/tmp/app)
perf: interrupt took too long

  app  1234  12.700000:      2 ibs_op//:     7f0012347fff   1 |OP STORE|LVL L2 hit
"""

WITH_CALL_CHAINS = """\
app  1234 12.345678:          1 page-faults:     7f0012345678
            401136 main+0x16 (/tmp/app)
            7f00aaaaaaaa

app  1234 12.345679:          1 page-faults:     7f0012346678
            401137 main+0x17 (/tmp/app)
"""


def read(text, page_size=4096, size=1 << 16):
    context = Context("t", page_size)
    data = text.encode()
    batches = list(read_perf([data[n : n + size] for n in range(0, len(data), size)], context))
    keys = [key % 2**64 for batch in batches for key in batch.keys]
    writes = [write for batch in batches for write in batch.writes or bytes(len(batch.keys))]
    times = array("d")
    for batch in batches:
        times += batch.times or array("d")
    return keys, writes, list(times), context.skipped


@pytest.mark.parametrize("size", [1, 50, 1 << 16])
def test_the_default_output_with_addresses(size):
    assert read(DEFAULT, size=size) == (
        [0x7F0012345, 0x7F0012346, 0xFFFF888100000, 0x7F0012347],
        [0, 1, 1, 1],
        [12.345678, 12.34569, 12.5, 12.7],
        2,
    )


@pytest.mark.parametrize("size", [1, 50, 1 << 16])
def test_call_chains_are_passed_over_and_counted(size):
    assert read(WITH_CALL_CHAINS, size=size) == ([0x7F0012345, 0x7F0012346], [0, 0], [12.345678, 12.345679], 3)


def test_an_instruction_is_no_access():
    text = """\
        ls 16091 28324.051881:          1 page-faults:  ffffffff81775b9a elf_load+0x28a ([kernel.kallsyms])
        ls 16091 28324.051882:          1 page-faults:      7f912914d110 [unknown] ([unknown])
        ls 16091 28324.051883:          1 page-faults:      55d0790dc5c0 ffffffff81775b9a elf_load+0x28a ([kernel])
"""
    assert read(text) == ([0x55D0790DC], [0], [28324.051883], 2)


def test_times_and_addresses_alone():
    assert read("12.345: 7f00123\n    13.000000:      7f00523\n") == ([0x7F00, 0x7F00], [0, 0], [12.345, 13.0], 0)


def test_addresses_alone():
    assert read("     7f0012345678 \n\n  123 \n 0\nx y\n") == ([0x7F0012345, 0], [0, 0], [], 2)


def test_events_and_addresses_alone():
    text = "cpu/mem-loads/P:   7f0012345678\ncpu/mem-stores/P:   7f0012345678\n 7f00aaaaaaaa\n"
    assert read(text) == ([0x7F0012345] * 2, [0, 1], [], 1)


def test_a_command_with_store_in_its_name_is_no_write():
    assert read(" store 1 5.5: 1 mem-loads: 7f0012345678\n")[1] == [0]


def test_the_page_size_divides():
    assert read("1.5: 7f0012345678\n", 1 << 16)[0] == [0x7F001234]


def test_lines_that_are_printed_after_a_sample_are_no_accesses():
    text = """\
 app 7 5.5: 1 mem-loads:  7f0012345678 401136 main+0x1 (app)
  main.c:12
\t401136 main+0x16 (/tmp/app)
 app 7 5.6: 1 mem-loads:  7f0012346678 401136 main+0x1 (app) insn: 48 8b 00
"""
    assert read(text) == ([0x7F0012345, 0x7F0012346], [0, 0], [5.5, 5.6], 2)


def test_lines_without_an_address_are_all_counted():
    assert read("one\ntwo\n# three\n\n") == ([], [], [], 2)


@given(
    st.lists(st.tuples(st.integers(1, 2**64 - 1), st.booleans(), st.integers(0, 10**9)), min_size=1), st.integers(1, 99)
)
def test_samples_come_back_however_they_are_cut(samples, size):
    text = "".join(
        f"a 7 {n // 1000}.{n % 1000:03}: 1 mem-{'stores' if write else 'loads'}: {address:16x} 50 |OP N/A|x 40 main\n"
        for address, write, n in samples
    )
    keys, writes, times, skipped = read(text, size=size)
    assert keys == [address // 4096 for address, _, _ in samples]
    assert writes == [int(write) for _, write, _ in samples]
    assert times == pytest.approx([n / 1000 for _, _, n in samples])
    assert skipped == 0


def test_text_that_is_not_utf_8_is_an_error():
    with pytest.raises(TraceError, match=r"line 2: .* is not UTF-8"):
        list(read_perf([b"1.5: 7f00\n\xff\n"], Context("t")))


@pytest.mark.parametrize(
    ("text", "is_perf"),
    [
        (DEFAULT, True),
        (WITH_CALL_CHAINS, True),
        ("ls 1 2.5: 1 page-faults:  ffffffff81775b9a elf_load+0x28a ([kernel.kallsyms])", True),
        ("7f00\n 12", True),
        ("mem-loads: 7f00\nmem-loads: 12", True),
        ("kdamond 8 [001] 5.1: damon:damon_aggregated: target_id=0 4194304-8388608: 4 12", True),
        ("app  7 cpu/mem-loads/P:  7f00 401136 main (app)\napp  7 cpu/mem-loads/P:  7f01 401136 main (app)", True),
        ("7f00\nhello", False),
        ("warning: add milk", False),
        ("error: x", False),
    ],
)
def test_a_trace_of_perf_is_recognised(text, is_perf):
    assert recognised(text.strip().split("\n")) is is_perf
