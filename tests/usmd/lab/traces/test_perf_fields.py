"""Which number of an event line is the address of data: a table of what perf prints."""

import pytest

from usmd.lab.traces.perf_fields import TIME, sample_after

SOURCE = "5080021 |OP LOAD|LVL L1 hit|SNP None|TLB L1 hit|LCK No|BLK  N/A"
AT = 0x7F0000001000
CODE = "401136 main+0x16 (/usr/bin/app)"


def sample(fields):
    line = f"  app   900 [002]    20.000001: {fields}"
    return sample_after(line, TIME.search(line).end())


def address(fields):
    found = sample(fields)
    return None if found is None else found.address


@pytest.mark.parametrize("event", ["cpu/mem-loads,ldlat=30/P", "mem-loads:uppp", "page-faults", "faults:u", "r1cd"])
@pytest.mark.parametrize("period", ["", "         1 ", "   5000003 "])
@pytest.mark.parametrize(
    "fields",
    [
        f"{AT:16x}",
        f"{AT:16x} {CODE}",
        f"{AT:16x} 401136 main+0x16",
        f"{AT:16x} 401136 main",
        f"{AT:16x} 401136 feed (/usr/bin/app)",
        f"{AT:16x} 401136 std::map<int, add b>::find(int) (/usr/bin/my app)",
        f"{AT:16x} 401136",
        f"{AT:16x} {CODE} insn: 0f 30",
        f"{AT:16x} {CODE} ilen: 2 insn: 0f 30",
        f"{AT:16x} {CODE}      3c0de1000",
        f"{AT:16x} {CODE}      3c0de1000   4K",
        f"{AT:16x} {SOURCE}",
        f"{AT:16x} {SOURCE}       7",
        f"{AT:16x} {SOURCE}       7   {CODE}   3c0de1000",
        f"{AT:16x} {SOURCE}   {CODE} insn: 0f 30",
        f"{AT:16x}       7",
        f"{AT:16x}       7   {CODE}",
        f"{AT:16x}       7   12   {CODE}",
        f"{AT:16x}   /user.slice/a b 401136 main",
        f"{AT:16x} {CODE} AX:0x5 BX:0x7",
        f"{AT:16x} {CODE} 0x401136/0x40113a/P/-/-/0",
    ],
)
def test_an_address_is_found_among_other_fields(event, period, fields):
    assert address(f"{period}{event}:  {fields}") == AT


@pytest.mark.parametrize("event", ["cpu/mem-loads,ldlat=30/P", "cycles:ppp", "instructions:u", "page-faults", "r1cd"])
@pytest.mark.parametrize(
    "fields",
    [
        "",
        CODE,
        "401136 main+0x16",
        "401136 main",
        "401136 feed (/usr/bin/app)",
        "401136 [unknown] ([unknown])",
        "401136 (/usr/bin/app)",
        f"{CODE} insn: 0f 30",
        f"{CODE} insn:",
        "401136 main insn: 0f 30",
        f"{CODE}      3c0de1000",
        f"{CODE}  AX:0x5",
        SOURCE,
        f"{SOURCE}   7  {CODE}",
        f"7   {CODE}",
        f"0 {CODE}",
        f"0 {SOURCE} 7 {CODE}",
        "0",
        "/user.slice 401136 main",
        "jmp 401136 main",
    ],
)
def test_an_instruction_is_no_address_of_data(event, fields):
    assert address(f"         1 {event}:  {fields}") is None


@pytest.mark.parametrize(
    "event",
    ["cycles", "cycles:ppp", "cpu/cycles/", "cpu_core/cycles/P", "ref-cycles", "instructions:u", "cpu-clock", "cs:u"],
)
def test_a_lone_number_of_an_event_that_counts_code_is_the_instruction(event):
    assert address(f"{event}: 401136") is None
    assert address(f"{event}: 401136 insn: 0f 30") is None
    assert address(f"{event}: {AT:16x} 401136 main") == AT


@pytest.mark.parametrize("event", ["branches:u", "branch-misses", "br_inst_retired.all", "intel_bts//"])
def test_the_target_of_a_branch_is_no_address_of_data(event):
    assert address(f"1 {event}: 401136 401140 main") is None


@pytest.mark.parametrize(
    "fields",
    [
        f"{AT:16x} [heap] ([heap]) 401136 main+0x16 (/usr/bin/app)",
        f"{AT:16x} [unknown] ([unknown]) ffffffff81775b9a elf_load+0x28a ([kernel.kallsyms])",
        f"{AT:16x} [unknown] 401136 main",
    ],
)
def test_a_page_fault_prints_the_symbol_of_its_address(fields):
    assert address(f"1 page-faults:u: {fields}") == AT
    assert address(f"1 minor-faults: {fields}") == AT
    assert address(f"1 cache-misses: {fields}") is None


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (f"{AT:16x}", AT),
        (f"         1 {AT:16x}", AT),
        (f"    100003 {AT:16x} {CODE}", AT),
        (f"{7000001000:16} 401136", 0x7000001000),
        (f"{AT:16x} 401136 main", AT),
        (f"{AT:16x} {SOURCE}", AT),
        ("         1 ", None),
        (f"         1 {CODE}", None),
        (CODE, None),
        (f"         1 {SOURCE}", None),
        ("7f00123", 0x7F00123),
        ("1234", 0x1234),
    ],
)
def test_without_an_event_the_period_is_told_by_its_place(fields, found):
    assert address(fields) == found


@pytest.mark.parametrize(
    "fields",
    [
        "damon:damon_aggregated: target_id=0 nr_regions=3 4194304-8388608: 4 12",
        "block:block_rq_issue: 8,0 W 4096 () 123456 + 8 [kworker/u8:2]",
        "sched:sched_switch: prev_comm=a prev_pid=1 ==> next_comm=b",
        "kmem:mm_page_alloc: page=0xffffea0000 pfn=0x1234 order=0",
        "kmem:kmalloc: call_site=add ptr=0xffff8881 bytes_req=64",
        "syscalls:sys_enter_mmap: addr: 0x00000000, len: 0x00001000",
        "raw_syscalls:sys_enter: NR 9 (0, 1000, 3, 22)",
        "probe_libc:malloc: (7f0000001000) bytes=64",
        "probe:x: 7f0000001000",
        "sched:sched_switch:u: 7f0000001000",
        "filemap:mm_filemap_fault: dev 8:1 ino 12 ofs=4096",
        "exceptions:page_fault_user: no field of that name",
        "PERF_RECORD_MMAP2 12/12: [0x400000(0x1000) @ 0 08:01 1 0]: r-xp /bin/app",
        "PERF_RECORD_LOST lost 12",
        "PERF_RECORD_ITRACE_START pid: 12",
        "hello world",
    ],
)
def test_numbers_of_tracepoints_and_records_are_no_addresses(fields):
    assert sample(fields) is None
    assert sample(f"         1 {fields}") is None


@pytest.mark.parametrize(
    ("fields", "write"),
    [
        (f"exceptions:page_fault_user: address=0x{AT:x} ip=0x401136 error_code=0x6", True),
        (f"exceptions:page_fault_user: address=0x{AT:x} ip=0x401136 error_code=0x4", False),
        (f"exceptions:page_fault_kernel:  address={AT:x} ip=copy_user error_code=0x2", True),
        (f"exceptions:page_fault_user:u: ip=0x401136 address=0x{AT:X}", False),
        (f"kvm:kvm_page_fault: vcpu 0 rip 0x401136 address 0x{AT:016x} error_code 0x182", True),
    ],
)
def test_tracepoints_of_page_faults_have_an_address_of_data(fields, write):
    assert sample(fields)[:2] == (AT, write)


@pytest.mark.parametrize(
    ("event", "write"),
    [
        ("cpu/mem-stores/P", True),
        ("MEM_INST_RETIRED.ALL_STORES:u", True),
        ("cpu/mem-loads/P", False),
        ("mem:0x7f0000001000:w", True),
        ("mem:0x7f0000001000/8:rw:u", False),
    ],
)
def test_a_store_is_a_write(event, write):
    assert sample(f"1 {event}: {AT:16x} {CODE}")[:2] == (AT, write)


def test_the_source_of_the_data_tells_a_store():
    assert sample(f"1 ibs_op//: {AT:16x} 1 |OP STORE|LVL L1 hit").write
