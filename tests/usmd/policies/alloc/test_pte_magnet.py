"""pte_magnet: a page on the frame beside that of the page before it."""

from tests.support.shell import PAGE, Shell, make_core


def frames(shell, region, pages):
    return [shell.core.state.regions[region].table[page] - 1 for page in pages]


def touch(shell, process, region, *pages):
    for page in pages:
        shell.put(process, region, page, b"x" * PAGE)


def test_where_the_frame_beside_is_taken_it_is_the_lowest():
    shell = Shell(make_core(frames=8))
    process = shell.attach(alloc="pte_magnet")
    one, two = shell.map(process, 4), shell.map(process, 4)
    touch(shell, process, one, 0)
    touch(shell, process, two, 0)
    touch(shell, process, one, 1, 2)
    assert (frames(shell, one, [0, 1, 2]), frames(shell, two, [0])) == ([0, 2, 3], [1])


def test_the_run_of_a_region_goes_on_where_first_fit_would_fill_a_gap():
    runs = {}
    for alloc in ("pte_magnet", "first_fit"):
        shell = Shell(make_core(frames=12))
        process = shell.attach(alloc=alloc)
        early, region = shell.map(process, 2), shell.map(process, 6)
        touch(shell, process, early, 0, 1)
        touch(shell, process, region, 0, 1)
        shell.evict(process, early)
        touch(shell, process, region, 2, 3)
        runs[alloc] = frames(shell, region, range(4))
    assert runs == {"pte_magnet": [2, 3, 4, 5], "first_fit": [2, 3, 0, 1]}


def test_without_a_page_before_it_a_page_takes_the_lowest_frame():
    shell = Shell(make_core(frames=8))
    process = shell.attach(alloc="pte_magnet")
    region = shell.map(process, 8)
    touch(shell, process, region, 4, 6, 0)
    assert frames(shell, region, [4, 6, 0]) == [0, 1, 2]


def test_beside_the_last_frame_there_is_none():
    shell = Shell(make_core(frames=3))
    process = shell.attach(alloc="pte_magnet")
    region = shell.map(process, 5)
    touch(shell, process, region, 0, 1, 2)
    shell.evict(process, region, 0, 1)
    touch(shell, process, region, 3)
    assert frames(shell, region, [1, 2, 3]) == [1, 2, 0]
    assert shell.counters()["policy_errors"] == 0


def test_pages_from_swap_follow_their_neighbour_too():
    shell = Shell(make_core(frames=8))
    process = shell.attach(alloc="pte_magnet")
    region = shell.map(process, 6)
    touch(shell, process, region, 0, 1, 2, 3)
    shell.evict(process, region, 0, 2)
    shell.evict(process, region, 3, 1)
    assert shell.get(process, region, 3) == b"x" * PAGE
    assert frames(shell, region, [2, 3]) == [2, 3]


def test_hints_of_huge_pages_do_not_concern_it():
    shell = Shell(make_core(frames=8))
    process = shell.attach(alloc="pte_magnet")
    region = shell.map(process, 6)
    shell.hint(process, region, "FHP=1KiB")
    touch(shell, process, region, 0)
    assert shell.core.state.regions[region].resident == 1
