"""Recordings and shadows on the wire: what they stream, how they end, and who may have one."""

import contextlib

import grpc
import pytest

from tests.support.daemon import wait_until
from tests.support.raw_client import refused
from tests.usmd.server.admin_calls import process_of
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usm_wire.pb.usm.v1 import client_pb2

PAGE = 4096
SECONDS = 60
INVALID = ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
LIMIT = ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")


@pytest.fixture
def region(client):
    return client.map(16 * PAGE, "index")


@contextlib.contextmanager
def streaming(call):
    """A stream under way, and its first message; it is cancelled in the end."""
    try:
        yield call, next(call)
    finally:
        call.cancel()


def recording(admin, client):
    return streaming(admin.RecordAccesses(pb.RecordAccessesRequest(process_id=process_of(client)), timeout=SECONDS))


def shadowing(admin, client, *policies, **more):
    request = pb.ShadowPoliciesRequest(
        process_id=process_of(client), evict_policies=policies, interval_seconds=0.05, **more
    )
    return streaming(admin.ShadowPolicies(request, timeout=SECONDS))


def first_of(admin, request):
    """Why a stream is refused."""
    method = {pb.RecordAccessesRequest: admin.RecordAccesses, pb.ShadowPoliciesRequest: admin.ShadowPolicies}
    return refused(next, method[type(request)](request, timeout=SECONDS))


# Recordings


def test_a_recording_begins_with_its_header_and_has_each_access_once(admin, client, region):
    with recording(admin, client) as (call, first):
        header = first.header
        assert (header.process_id, header.process_name, header.page_size) == (process_of(client), "first", PAGE)
        assert (header.frames <= 61, header.evict_policy, header.mechanism) == (True, "hint_aware", "simulated")
        assert header.started_seconds > 1.6e9
        assert not header.faults_only
        client.put(region, 3, b"three")
        client.get(region, 3, 5)
        client.put(region, 3, b"three")
        found = []
        while len(found) < 3:
            message = next(call)
            assert sum(message.counts) == len(message.pages) == len(message.kinds)
            assert all(0 <= second < SECONDS for second in message.seconds)
            found.extend(zip(message.pages, message.kinds, strict=True))
        key = region << 32 | 3
        assert [page for page, _ in found] == [key] * 3
        assert [kind for _, kind in found] in ([2, 0, 1], [3, 0, 1])


def test_a_recording_ends_with_the_session_and_says_why(admin, client, region):
    with recording(admin, client) as (call, _):
        client.put(region, 0, b"x")
        client.call("Detach", client_pb2.DetachRequest())
        *some, last = list(call)
    assert sum(len(message.pages) for message in some) >= 1
    assert (last.ended, last.dropped) == ("detached", 0)


def test_a_process_is_recorded_by_one_at_a_time_and_by_another_afterwards(admin, client, other):
    with recording(admin, client):
        answer = first_of(admin, pb.RecordAccessesRequest(process_id=process_of(client)))
        assert answer[:2] == LIMIT
        assert "is recorded already" in answer[2]
        with recording(admin, other):
            pass

    def again():
        try:
            with recording(admin, client):
                return True
        except grpc.RpcError:
            return False

    wait_until(again, "the first recording is gone")


@pytest.mark.parametrize("request_type", [pb.RecordAccessesRequest, pb.ShadowPoliciesRequest])
def test_a_process_that_does_not_exist_is_not_found(admin, request_type):
    assert first_of(admin, request_type(process_id=1 << 40))[0] == "NOT_FOUND"


# Shadows


def test_a_shadow_reports_each_policy_beside_the_one_in_force(admin, client, region):
    client.hint(region, "ACCESS=RANDOM")  # so that each page comes in with a fault of its own
    with shadowing(admin, client, "arc", "lru", frames=4) as (call, first):
        assert [simulation.policy for simulation in first.simulations] == ["hint_aware", "arc", "lru"]
        assert (first.frames, first.sample, first.live_policy, first.faults_only) == (4, 1, "hint_aware", False)
        for _ in range(2):
            for page in range(8):
                client.put(region, page, b"x")
        report = next(each for each in call if each.looked_at >= 16)
        assert report.accesses == 16
        assert (report.live_misses, report.live_miss_ratio, report.dropped) == (8, 0.5, 0)
        lru = report.simulations[2]
        assert (lru.accesses, lru.misses, lru.miss_ratio, lru.difference) == (16, 16, 1.0, 0.0)
        assert (lru.policy_errors, lru.problem, lru.stopped) == (0, "", False)
        assert report.microseconds_an_access > 0
        assert 0 < report.wall_share < 1
        client.call("Detach", client_pb2.DetachRequest())
        assert list(call)[-1].ended == "detached"


def test_the_policies_of_a_process_may_change_beside_its_shadow(admin, client, region):
    with shadowing(admin, client, "arc") as (call, _):
        admin.SetPolicy(pb.SetPolicyRequest(process_id=process_of(client), evict="s3_fifo"))
        report = next(each for each in call if each.live_policy == "s3_fifo")
        assert report.simulations[0].policy == "hint_aware"


def test_a_simulation_that_fails_is_stopped_and_nobody_else_notices(daemon, admin, client, region, tmp_path):
    file = tmp_path / "fails.py"
    file.write_text(
        "from usmd.policies.evict.lru import Lru\n\n\n"
        "class Fails(Lru):\n    def page_filled(self, pfn):\n        raise ValueError(pfn)\n"
    )
    file.chmod(0o644)
    with shadowing(admin, client, f"{file}:Fails", "lru", frames=2) as (call, _):
        for turn in range(30):
            for page in range(8):
                client.put(region, page, b"%d" % turn)
        report = next(each for each in call if each.looked_at >= 240)
        _, fails, lru = report.simulations
        assert fails.stopped
        assert "ValueError" in fails.problem
        assert (lru.stopped, lru.misses) == (False, 240)
    assert client.get(region, 5, 2) == b"29"
    policies = admin.ListPolicies(pb.ListPoliciesRequest(), timeout=SECONDS).processes
    (mine,) = [each for each in policies if each.process_id == process_of(client)]
    assert not any(each.errors for each in mine.policies)


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({}, INVALID, "0 policies to shadow; allowed are 1 to 8"),
        ({"evict_policies": ["lru"] * 9}, INVALID, "9 policies"),
        ({"evict_policies": ["nothing"]}, None, "evict policy 'nothing' does not exist"),
        ({"evict_policies": ["belady"]}, INVALID, "no known future"),
        ({"evict_policies": ["lru"], "frames": 1 << 40}, LIMIT, "2097152 frames in all"),
        ({"evict_policies": ["lru"], "frames": 64, "sample": 8}, INVALID, "allowed is 1/1 to 1/4"),
        ({"evict_policies": ["lru"], "interval_seconds": 0.01}, INVALID, "allowed are 0.05 to 3600"),
        ({"evict_policies": ["lru"], "interval_seconds": float("nan")}, INVALID, "allowed are 0.05 to 3600"),
    ],
)
def test_a_shadow_that_cannot_be_is_refused(admin, client, more, status, said):
    answer = first_of(admin, pb.ShadowPoliciesRequest(process_id=process_of(client), **more))
    assert answer[0] in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
    assert status is None or answer[:2] == status
    assert said in answer[2]


def test_a_process_is_shadowed_by_one_at_a_time_and_may_be_recorded_meanwhile(admin, client, region):
    with shadowing(admin, client, "arc"), recording(admin, client) as (call, _):
        answer = first_of(admin, pb.ShadowPoliciesRequest(process_id=process_of(client), evict_policies=["lru"]))
        assert answer[:2] == LIMIT
        assert "is shadowed already" in answer[2]
        client.put(region, 1, b"x")
        assert next(message for message in call if message.pages).pages[0] == region << 32 | 1
