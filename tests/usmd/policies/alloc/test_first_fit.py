"""first_fit: one page, lowest free frame."""

from tests.support.shell import Shell, make_core
from usmd.core.commands import Allocated


def test_a_fault_brings_one_page_on_the_lowest_free_frame():
    shell = Shell(make_core())
    process = shell.attach(alloc="first_fit")
    region, other = shell.map(process, 4), shell.map(process, 1)
    assert [shell.fault(process, region, page)[0].runs for page in (3, 1)] == [((3, 0, 1),), ((1, 1, 1),)]
    shell.evict(process, region, 3, 1)
    assert shell.fault(process, other, 0) == [Allocated(1, ((0, 0, 1),))]


def test_a_hint_of_fhp_does_not_concern_it():
    shell = Shell(make_core())
    process = shell.attach(alloc="first_fit")
    region = shell.map(process, 4)
    shell.hint(process, region, "FHP=1KiB")
    shell.fault(process, region, 0)
    assert shell.core.state.regions[region].resident == 1
