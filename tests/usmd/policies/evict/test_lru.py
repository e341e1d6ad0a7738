"""lru: the page whose last touch is longest ago."""

from tests.support.shell import PAGE, Shell, make_core


def test_a_touched_page_stays_and_the_least_recent_goes():
    shell = Shell(make_core(frames=3))
    process = shell.attach(evict="lru")
    region = shell.map(process, 5)
    for page in range(3):
        shell.put(process, region, page, b"x" * PAGE)
    shell.get(process, region, 0)
    shell.put(process, region, 3, b"x" * PAGE)
    assert [shell.state_of(region, page) for page in range(4)] == ["PRESENT", "SWAPPED", "PRESENT", "PRESENT"]


def faults_of(trace, frames, *, move):
    """Faults of a plain list that is a queue, or (`move`) a recency order."""
    held, faults = [], 0
    for page in trace:
        if page not in held:
            faults += 1
            held = [*held[-frames + 1 :], page]
        elif move:
            held.remove(page)
            held.append(page)
    return faults


def test_golden_counts_beside_fifo_where_one_page_is_hot():
    trace = [page for step in range(1, 22) for page in (0, 1 + step % 7)]
    for evict, golden in (("fifo", 28), ("lru", 22)):
        shell = Shell(make_core(frames=3))
        process = shell.attach(evict=evict)
        region = shell.map(process, 8)
        for page in trace:
            shell.put(process, region, page, b"x" * PAGE)
        assert shell.counters()["faults"] == golden == faults_of(trace, 3, move=evict == "lru")
