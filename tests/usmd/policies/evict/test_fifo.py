"""fifo: the order of arrival, touched or not."""

from tests.support.shell import PAGE, Shell, make_core


def test_the_first_in_is_the_first_out_however_often_it_is_touched():
    shell = Shell(make_core(frames=3))
    process = shell.attach(evict="fifo")
    region = shell.map(process, 5)
    for page in range(3):
        shell.put(process, region, page, b"x" * PAGE)
    shell.get(process, region, 0)
    shell.put(process, region, 3, b"x" * PAGE)
    shell.put(process, region, 4, b"x" * PAGE)
    assert [shell.state_of(region, page) for page in range(5)] == [
        "SWAPPED",
        "SWAPPED",
        "PRESENT",
        "PRESENT",
        "PRESENT",
    ]


def test_golden_count_of_a_cyclic_scan_over_more_pages_than_frames():
    shell = Shell(make_core(frames=4))
    process = shell.attach(evict="fifo")
    region = shell.map(process, 5)
    for step in range(25):
        shell.put(process, region, step % 5, b"x" * PAGE)
    assert shell.counters()["faults"] == 25
