"""Changes of live processes: whole, or not at all."""

import pytest

from tests.usmd.server.test_engine import Bench
from usmd.core import events
from usmd.errors import InvalidArgument, NotFound, UnknownPolicy
from usmd.policies import registry
from usmd.server.admin_steering import Steering


def in_force(bench):
    return bench.engine.core.state.processes[bench.process].policies.specifications


def test_a_policy_that_fails_only_when_it_is_set_takes_back_those_before_it(monkeypatch):
    """It can be made for nobody, and not for this process."""
    bench = Bench()
    made = registry.make

    def make(kind, specification, memory):
        if kind == "oom" and memory.frame_count > 1:
            raise InvalidArgument("not for you")
        return made(kind, specification, memory)

    monkeypatch.setattr(bench.engine.core.state, "make_policy", make)
    with pytest.raises(InvalidArgument, match="not for you"):
        Steering(bench.engine).set_policies(bench.process, {"alloc": "prealloc", "evict": "arc", "oom": "kill_largest"})
    assert in_force(bench) == {"alloc": "first_fit", "evict": "fifo", "oom": "refuse", "cond": "none"}


def test_changes_are_told_in_their_order():
    bench = Bench()
    changes = Steering(bench.engine).set_policies(bench.process, {"alloc": "prealloc", "evict": "arc"})
    assert [(each.kind, each.before, each.after) for each in changes] == [
        ("alloc", "first_fit", "prealloc"),
        ("evict", "fifo", "arc"),
    ]
    assert [each.kind for each in bench.notices] == ["process_attached", "policy_set", "policy_set"][
        -len(bench.notices) :
    ]


@pytest.mark.parametrize(
    ("process", "wanted", "error"),
    [(99, {"evict": "arc"}, NotFound), (1, {}, InvalidArgument), (1, {"evict": "nothing"}, UnknownPolicy)],
)
def test_what_cannot_be_set_is_refused(process, wanted, error):
    bench = Bench()
    with pytest.raises(error):
        Steering(bench.engine).set_policies(process, wanted)
    assert in_force(bench)["evict"] == "fifo"


def test_an_operator_who_removes_hints_is_heard_of():
    bench = Bench()
    bench.hint("PRIORITY=HIGH")
    start = type("Start", (), {"region_id": bench.region, "region_name": "", "offset": 0})()
    assert Steering(bench.engine).clear_hints(bench.process, start, None).hint_ranges == 1
    notice = bench.notices[-1]
    assert (notice.kind, notice.process_id, notice.fields["hint_ranges"]) == ("hints_cleared", bench.process, "1")
    assert not list(bench.engine.core.state.regions[bench.region].hints)
    bench.engine.submit(events.Tick())
