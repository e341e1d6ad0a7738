"""Changes of live processes by the admin service, on the wire: policies that are set, hints that are removed."""

import pytest

from tests.support.raw_client import refused
from tests.usmd.server.admin_calls import PAGE, TOP, admin, process_of, region
from usm_wire.pb.usm.v1 import admin_pb2 as pb

__all__ = ["admin", "region"]


# Steering


def in_force(admin, client):
    listed = admin.ListPolicies(pb.ListPoliciesRequest()).processes
    (mine,) = [each for each in listed if each.process_id == process_of(client)]
    return {each.kind: each for each in mine.policies}


def test_policies_of_a_live_process_are_set_and_what_was_is_told(admin, client, region):
    assert not in_force(admin, client)["evict"].HasField("change")
    answer = admin.SetPolicy(pb.SetPolicyRequest(process_id=process_of(client), evict="arc", alloc="first_fit"))
    assert [(each.kind, each.before, each.after) for each in answer.changes] == [
        ("alloc", "async_aware", "first_fit"),
        ("evict", "hint_aware", "arc"),
    ]
    found = in_force(admin, client)
    assert {kind: each.policy for kind, each in found.items()} == {
        "alloc": "first_fit",
        "evict": "arc",
        "oom": "refuse",
        "cond": "none",
    }
    assert (found["evict"].change.before, found["evict"].change.misbehaved) == ("hint_aware", False)
    assert not found["oom"].HasField("change")
    assert (client.get(region, 0, 4), client.get(region, 2, 3)) == (b"zero", b"two")


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ({}, "no policy is given"),
        ({"alloc": "first_fit", "evict": "nothing"}, "evict policy 'nothing' does not exist"),
        ({"alloc": "first_fit", "evict": "belady"}, "no known future"),
        ({"alloc": "first_fit", "oom": "refuse(x=1)"}, "it has no parameter 'x'"),
        ({"alloc": "first_fit", "evict": "/absent.py:Policy"}, "/absent.py cannot be read"),
    ],
)
def test_one_policy_that_cannot_be_had_leaves_all_as_they_were(admin, client, policies, said):
    answer = refused(admin.SetPolicy, pb.SetPolicyRequest(process_id=process_of(client), **policies))
    assert answer[0] == "INVALID_ARGUMENT"
    assert said in answer[2]
    assert in_force(admin, client)["alloc"].policy == "async_aware"


def test_the_hints_of_a_range_are_removed_and_the_budget_is_free_again(admin, client, region):
    process = process_of(client)
    client.hint(region, "EVICTION=DENY")

    def hints():
        return admin.ListHints(pb.ListHintsRequest(process_id=process))

    (kept,) = hints().kept_pages
    assert (kept.unevictable_pages, kept.hint_ranges, kept.process_name) == (2, 1, "first")
    assert (hints().deny_budget, hints().deny_budget_total, hints().kept_total) == (32, 48, 2)
    start = pb.RegionOffset(region_name="index", offset=2 * PAGE + 5)
    answer = admin.ClearHints(pb.ClearHintsRequest(process_id=process, start=start, length=1))
    assert (answer.region_id, answer.first_page, answer.page_count, answer.hint_ranges) == (region, 2, 1, 1)
    assert [(each.first_page, each.page_count) for each in hints().hint_ranges] == [(0, 2), (3, 1)]
    assert hints().kept_pages[0].unevictable_pages == 1
    admin.ClearHints(pb.ClearHintsRequest(process_id=process, start=pb.RegionOffset(region_id=region)))
    assert (len(hints().hint_ranges), len(hints().kept_pages), hints().kept_total) == (0, 0, 0)


@pytest.mark.parametrize(
    ("start", "length", "status"),
    [
        (pb.RegionOffset(region_name="nowhere"), None, "NOT_FOUND"),
        (pb.RegionOffset(region_name="index", offset=4 * PAGE), None, "OUT_OF_RANGE"),
        (pb.RegionOffset(region_name="index"), 0, "OUT_OF_RANGE"),
        (pb.RegionOffset(region_name="index", offset=1), 4 * PAGE, "OUT_OF_RANGE"),
        (pb.RegionOffset(region_name="index"), TOP, "OUT_OF_RANGE"),
    ],
)
def test_a_range_that_does_not_exist_keeps_its_hints(admin, client, region, start, length, status):
    client.hint(region, "PRIORITY=HIGH")
    request = pb.ClearHintsRequest(process_id=process_of(client), start=start, length=length)
    assert refused(admin.ClearHints, request)[0] == status
    assert len(admin.ListHints(pb.ListHintsRequest(process_id=process_of(client))).hint_ranges) == 1


def test_faults_and_evictions_under_a_hint_are_counted(daemon, admin, client, region):
    client.hint(region, "PRIORITY=HIGH")
    client.evict(daemon, region, 0)
    client.get(region, 0, 1)
    client.put(region, 3, b"three")
    (hint,) = admin.ListHints(pb.ListHintsRequest(process_id=process_of(client))).hint_ranges
    assert (hint.faults, hint.evictions, hint.process_name, hint.region_name) == (2, 1, "first", "index")
