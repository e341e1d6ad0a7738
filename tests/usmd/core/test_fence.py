"""What all fences share: reports of what a policy did, and what is let through."""

import pytest

from tests.support.made_policies import Quiet, shell_with
from tests.support.shell import Shell, make_core
from usmd.core import events
from usmd.core.fence import place
from usmd.core.running import PolicyHung
from usmd.errors import EndsRun
from usmd.policies import registry


def test_a_report_says_where_the_policy_raised():
    class Broken(registry.find("evict", "fifo")[0]):
        def page_filled(self, pfn):
            self.helper()

        def helper(self):
            raise KeyError("no such thing")

    shell = Shell(
        make_core(
            make_policy=lambda kind, text, view: Broken(view) if kind == "evict" else registry.make(kind, text, view)
        )
    )
    process = shell.attach()
    shell.fault(process, shell.map(process, 1), 0)
    (message,) = [each.message for each in shell.notices if each.kind == "policy_error"]
    line = Broken.helper.__code__.co_firstlineno + 1
    assert f"page_filled raised KeyError('no such thing') ({__file__}:{line})" in message
    assert place(KeyError()) == ""


def test_an_exception_that_ends_the_run_is_no_error_of_the_policy():
    class Ended(Quiet):
        def page_filled(self, pfn):
            raise EndsRun

    shell = shell_with({"ended": Ended})
    process = shell.attach(evict="ended")
    with pytest.raises(EndsRun):
        shell.fault(process, shell.map(process, 1), 0)
    assert shell.core.state.processes[process].policies.blame.errors["evict"] == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_policy_that_hung_is_called_no_more(wrapped):
    class Hung(Quiet):
        def page_filled(self, pfn):
            try:
                raise PolicyHung("it did not return")
            finally:
                if wrapped:
                    raise ValueError("meanwhile")

    shell = shell_with({"hung": Hung})
    process = shell.attach(evict="hung")
    policies = shell.core.state.processes[process].policies
    shell.fault(process, shell.map(process, 1), 0)
    assert policies.specifications["evict"] == "hint_aware"
    assert [each.kind for each in shell.notices if each.kind == "policy_replaced"] == ["policy_replaced"]


def test_errors_are_reported_at_the_1st_2nd_4th_and_8th_time():
    class Raises(Quiet):
        def page_filled(self, pfn):
            raise KeyError(pfn)

    shell = shell_with({"raises": Raises}, frames=16)
    process = shell.attach(evict="raises")
    region = shell.map(process, 10)
    for page in range(10):
        shell.do(events.Faults(process, [events.FaultRequest(1, region, page, 1, False)]))
    assert [each.fields["count"] for each in shell.notices if each.kind == "policy_error"] == ["1", "2", "4", "8"]
