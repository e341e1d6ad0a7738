import io
import re

from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.console import PIPE_WIDTH
from usmd.ctl.policies_view import show_changes, show_policies


def shown(show, message):
    console = Console(file=io.StringIO(), width=PIPE_WIDTH, highlight=False, markup=False, color_system=None)
    show(console, message)
    return [re.split(r" {2,}", line.strip()) for line in console.file.getvalue().splitlines()]


LRU = pb.Policy(kind="evict", name="lru", summary="longest unused first", process_ids=[2, 3], errors=7)
FIRST_FIT = pb.Policy(kind="alloc", name="first_fit", summary="lowest free", is_default=True)


def test_a_policy_tells_whether_it_is_the_default_and_who_uses_it():
    header, one, two = shown(show_policies, pb.ListPoliciesResponse(policies=[LRU, FIRST_FIT]))
    assert one == ["evict", "lru", "-", "2, 3", "7", "longest unused first"]
    assert two == ["alloc", "first_fit", "yes", "-", "0", "lowest free"]
    assert len(header) == 6


def test_a_policy_in_force_tells_how_it_came_to_be():
    change = pb.PolicyChange(seconds_ago=75.0, kind="evict", before="arc", after="lru")
    bad = pb.PolicyChange(
        seconds_ago=0.5, kind="oom", before="/x.py:Y", after="refuse",
        misbehaved=True, errors=101, did="made 101 errors",
    )  # fmt: skip
    process = pb.ProcessPolicies(
        process_id=2,
        process_name="app",
        policies=[
            pb.PolicyInForce(kind="alloc", policy="first_fit"),
            pb.PolicyInForce(kind="evict", policy="lru", errors=3, change=change),
            pb.PolicyInForce(kind="oom", policy="refuse", change=bad),
        ],
    )
    lines = shown(show_policies, pb.ListPoliciesResponse(policies=[LRU], processes=[process]))[3:]
    assert lines == [
        ["PROCESS", "KIND", "IN FORCE", "ERRORS", "SINCE"],
        ["2 app", "alloc", "first_fit", "0", "the session began"],
        ["2 app", "evict", "lru", "3", "1 min 15 s ago: set in the place of arc"],
        ["2 app", "oom", "refuse", "0", "0.5 s ago: took the place of /x.py:Y, which made 101 errors"],
    ]


def test_a_change_tells_what_was_and_what_is():
    answer = pb.SetPolicyResponse(process_id=2, changes=[pb.PolicyChange(kind="evict", before="lru", after="arc")])
    assert shown(show_changes, answer) == [["process 2"], ["KIND", "BEFORE", "NOW"], ["evict", "lru", "arc"]]
