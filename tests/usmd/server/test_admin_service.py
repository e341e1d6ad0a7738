"""The admin service on the wire: lists, status, map, and events, with limits and answers to nonsense."""

import asyncio
import queue
import threading
from types import SimpleNamespace

import grpc
import pytest

from tests.support.raw_client import RawClient, open_channel, refused
from tests.usmd.server.admin_calls import INVALID, NOT_FOUND, PAGE, TOP, admin, process_of, region
from tests.usmd.server.test_admin_messages import DEFAULTS
from tests.usmd.server.test_engine import Bench
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usm_wire.pb.usm.v1 import client_pb2
from usmd.core import events
from usmd.core.counters import NAMES
from usmd.core.hints import parse_hint
from usmd.errors import ConfigError, InvalidArgument
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.admin_service import MAX_PAGE, AdminService, paginate
from usmd.server.pauses import ITEMS_A_PART
from usmd.server.policy_changes import PolicyChanges
from usmd.server.reload import Change, Reloaded
from usmd.server.sampling_cost import SamplingCost
from usmd.server.watch import Watch
from usmd.version import VERSION

__all__ = ["admin", "region"]


# Lists


def test_pages_of_a_list_follow_each_other_and_end():
    items = list(range(25))
    found, token = [], ""
    while True:
        page, token = paginate(items, 10, token)
        found.append(len(page))
        if not token:
            break
    assert found == [10, 10, 5]
    assert paginate(items, 25, "") == (items, "")
    assert paginate(items, 0, "24") == ([24], "")
    assert paginate(items, 5, "999999999999999999") == ([], "")


def test_a_page_has_no_more_than_fits_in_a_message():
    items = list(range(MAX_PAGE + 1))
    for size in (0, MAX_PAGE, (1 << 31) - 1):
        page, token = paginate(items, size, "")
        assert (len(page), token) == (MAX_PAGE, str(MAX_PAGE))


@pytest.mark.parametrize(
    ("size", "token"), [(-1, ""), (0, "x"), (0, "-1"), (0, "1.5"), (0, " 1"), (0, "٣"), (0, "²"), (0, "9" * 100_000)]
)
def test_a_page_size_or_token_that_is_none_is_refused_in_few_words(size, token):
    with pytest.raises(InvalidArgument) as caught:
        paginate([1, 2], size, token)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("method", "request_type"),
    [
        ("ListProcesses", pb.ListProcessesRequest),
        ("ListRegions", pb.ListRegionsRequest),
        ("ListHints", pb.ListHintsRequest),
    ],
)
def test_every_list_refuses_a_bad_token_and_size(admin, method, request_type):
    for request in (request_type(page_token="forged"), request_type(page_size=-5)):
        assert refused(getattr(admin, method), request)[:2] == INVALID


def test_processes_come_by_page(daemon, admin, client, other):
    with RawClient(daemon.address, "third"):
        found, token = [], ""
        while True:
            answer = admin.ListProcesses(pb.ListProcessesRequest(page_size=1, page_token=token))
            assert len(answer.processes) == 1
            found += answer.processes
            if not (token := answer.next_page_token):
                break
    assert [process.name for process in found][-3:] == ["first", "second", "third"]
    numbers = [process.process_id for process in found]
    assert len(set(numbers)) == len(numbers)


def test_a_process_shows_what_it_has_and_does(admin, client, region):
    client.hint(region, "EVICTION=DENY", 0, PAGE)
    processes = admin.ListProcesses(pb.ListProcessesRequest()).processes
    process = next(each for each in processes if each.process_id == process_of(client))
    assert (process.name, process.regions, process.mapped_bytes) == ("first", 1, 4 * PAGE)
    assert (process.resident_pages, process.swapped_pages, process.unevictable_pages) == (2, 0, 1)
    assert (process.alloc_policy, process.evict_policy, process.oom_policy) == ("async_aware", "hint_aware", "refuse")
    assert (process.pid, process.HasField("uid"), process.counters["faults"]) == (0, False, 2)
    assert len(process.counters) == len(NAMES)


def test_of_processes_the_counters_are_sent_that_are_asked_for(admin, client, region):
    asked = pb.ListProcessesRequest(counters=["yields", "faults"])
    process = next(each for each in admin.ListProcesses(asked).processes if each.process_id == process_of(client))
    assert dict(process.counters) == {"faults": 2, "yields": 0}
    asked.counters.append("fauls")
    *cause, words = refused(admin.ListProcesses, asked)
    assert tuple(cause) == INVALID
    assert "counter 'fauls' does not exist; there are accesses, faults" in words


def test_regions_are_those_of_one_process_or_of_all(admin, client, other, region):
    theirs = other.map(1)
    client.hint(region, "DONTNEED", 2 * PAGE, PAGE)
    (mine,) = admin.ListRegions(pb.ListRegionsRequest(process_id=process_of(client))).regions
    assert (mine.region_id, mine.name, mine.length, mine.page_count) == (region, "index", 4 * PAGE, 4)
    assert (mine.faults, mine.major_faults, mine.process_id) == (2, 0, process_of(client))
    assert mine.resident_pages + mine.swapped_pages == 2
    everyone = [each.region_id for each in admin.ListRegions(pb.ListRegionsRequest()).regions]
    assert everyone[-2:] == [region, theirs]


def service_of(bench, reload=None):
    engine = bench.engine
    return AdminService(
        engine, Watch(), PolicyChanges(engine.now), DEFAULTS, started=0.0, draining=lambda: False,
        ending=SimpleNamespace(seconds_left=None), reload=reload, swap_devices=None,
    )  # fmt: skip


def test_very_many_regions_are_listed_in_parts_and_one_that_goes_meanwhile_is_left_out():
    async def main():
        bench = Bench()
        service, engine = service_of(bench), bench.engine
        regions = [bench.region]
        regions += [engine.map(events.Map(bench.process, PAGE, "")).region_id for _ in range(3 * ITEMS_A_PART)]
        made, region = [], service._messages.region
        service._messages.region = lambda each: made.append(each) or region(each)
        parts = []

        def beat():
            parts.append(len(made))
            if len(parts) == 2:
                engine.submit(events.Unmap(bench.process, regions[-1]))
            loop.call_soon(beat)

        loop = asyncio.get_running_loop()
        loop.call_soon(beat)
        answer = await service.ListRegions(pb.ListRegionsRequest(), None)
        assert [each.region_id for each in answer.regions] == regions[:-1]
        assert parts[:3] == [ITEMS_A_PART, 2 * ITEMS_A_PART, 3 * ITEMS_A_PART]

    asyncio.run(main())


class Lingering(SimulatedMemory):
    """Memory whose released pages can be touched until it settles."""

    lingers = False

    def release(self, pages):
        self.lingers = True
        super().release(pages)

    def settle(self):
        self.lingers = False


@pytest.mark.parametrize("method", [
    "GetStatus", "ListProcesses", "ListRegions", "GetMemoryMap", "ListHints", "ExplainPage", "ListEvictions",
])  # fmt: skip
def test_what_an_answer_says_has_left_is_out_of_memory(method):
    async def main():
        bench = Bench(memory=Lingering)
        await bench.fault(0)
        bench.engine.submit(events.SetHint(bench.process, bench.region, 0, None, parse_hint("DONTNEED")))
        assert bench.engine.memory.lingers
        request = getattr(pb, f"{method}Request")()
        if "process_id" in request.DESCRIPTOR.fields_by_name:
            request.process_id = bench.process
        if method == "ExplainPage":
            request.region_offset.region_id = bench.region
        await getattr(service_of(bench), method)(request, None)
        assert not bench.engine.memory.lingers

    asyncio.run(main())


@pytest.mark.parametrize(("method", "field"), [
    ("ListPolicies", "processes"), ("ListProcesses", "processes"), ("ListHints", "hint_ranges"), ("GetStatus", None),
])  # fmt: skip
def test_answers_about_very_many_processes_are_made_in_parts_and_leave_out_what_goes_meanwhile(method, field):
    async def main():
        bench = Bench()
        service, engine = service_of(bench), bench.engine
        more = [engine.submit(events.Attach("app", "first_fit", "lru", "refuse")).process_id for _ in range(200)]
        for process in more:
            region = engine.map(events.Map(process, PAGE, "")).region_id
            engine.submit(events.SetHint(process, region, 0, None, parse_hint("PRIORITY=LOW")))
        turns = 0

        def beat():
            nonlocal turns
            turns += 1
            if turns == 1 and field is not None:
                engine.submit(events.Detach(more[-1], "bye"))
            loop.call_soon(beat)

        loop = asyncio.get_running_loop()
        loop.call_soon(beat)
        answer = await getattr(service, method)(getattr(pb, f"{method}Request")(), None)
        assert turns > 2
        if field is not None:
            found = {each.process_id for each in getattr(answer, field)} - {bench.process}
            assert found == set(more[:-1])

    asyncio.run(main())


def test_a_status_counts_frames_of_all_states():
    async def main():
        bench = Bench(frames=8, pages=8, hold_budget=4)
        engine = bench.engine
        engine.submit(events.Faults(bench.process, [events.FaultRequest(0, bench.region, 0, 3, True)]))
        engine.submit(events.Pin(bench.process, bench.region, 0, 1))
        found = await service_of(bench).GetStatus(pb.GetStatusRequest(), None)
        assert (found.frames, found.free_frames, found.present_frames, found.dirty_frames) == (8, 5, 3, 3)
        assert (found.filling_frames, found.evicting_frames, found.unevictable_frames) == (0, 0, 0)
        assert (found.pinned_frames, found.held_frames) == (1, 3)

    asyncio.run(main())


def test_a_status_tells_what_sampled_touches_cost_if_there_are_any():
    async def main():
        bench = Bench(frames=8, pages=8)
        before = await service_of(bench).GetStatus(pb.GetStatusRequest(), None)
        assert (before.sampling_cpu, before.sampling_cpu_max, before.sampling_rests) == (0.0, 0.0, False)
        now = [0.0]
        cost = bench.engine.sampling_cost = SamplingCost(0.25, lambda: now[0])
        cost.take_out(lambda: now.__setitem__(0, 1.0))
        cost.tick()
        found = await service_of(bench).GetStatus(pb.GetStatusRequest(), None)
        assert (found.sampling_cpu, found.sampling_cpu_max, found.sampling_rests) == (1.0, 0.25, True)

    asyncio.run(main())


@pytest.mark.parametrize("method", ["ListRegions", "ListHints", "ExplainPage", "ListEvictions", "ClearHints"])
@pytest.mark.parametrize("number", [1 << 50, TOP])
def test_a_process_that_does_not_exist_is_not_found(admin, method, number):
    request = getattr(pb, f"{method}Request")(process_id=number)
    answer = refused(getattr(admin, method), request)
    assert answer[:2] == NOT_FOUND
    assert "usmctl processes" in answer[2]


def test_hints_in_force_are_listed_with_what_they_cover(admin, client, region):
    client.hint(region, "PRIORITY=HIGH; EVICTION=DENY; TTL=1000; X_A=b", 0, 3 * PAGE)
    client.hint(region, "FHP=AUTO", PAGE, PAGE)
    ranges = admin.ListHints(pb.ListHintsRequest(process_id=process_of(client))).hint_ranges
    assert [(each.first_page, each.page_count, each.resident_pages, each.unevictable_pages) for each in ranges] == [
        (0, 1, 1, 1),
        (1, 1, 0, 0),
        (2, 1, 1, 1),
    ]
    assert ranges[0].hint_id == ranges[2].hint_id < ranges[1].hint_id
    assert 900 < ranges[0].expires_in_seconds <= 1000
    assert not ranges[1].HasField("expires_in_seconds")
    assert (ranges[0].text, ranges[0].fields.extra["X_A"]) == ("PRIORITY=HIGH; EVICTION=DENY; TTL=1000; X_A=b", "b")
    assert ranges[1].fields.fhp_auto


def test_policies_are_listed_with_their_users(admin, client):
    policies = admin.ListPolicies(pb.ListPoliciesRequest()).policies
    assert {policy.kind for policy in policies} == {"alloc", "evict", "oom", "cond"}
    assert all(policy.summary and not policy.errors for policy in policies)
    defaults = {policy.name for policy in policies if policy.is_default}
    assert defaults == {"async_aware", "hint_aware", "refuse", "none"}
    assert {policy.name for policy in policies if process_of(client) in policy.process_ids} == defaults


def test_swap_devices_are_listed_by_number(daemon, admin, client, region):
    client.evict(daemon, region, 0, 4, text="SWAP=memory1; DONTNEED")
    assert client.get(region, 0, 4) == b"zero"
    zero, one = admin.ListSwapDevices(pb.ListSwapDevicesRequest()).swap_devices
    assert (zero.number, zero.name, zero.kind, zero.path, zero.slots) == (0, "memory0", "memory", "", 512)
    assert (one.number, one.name, one.slots, one.errors) == (1, "memory1", 256, 0)
    assert one.pages_written >= 2
    assert one.pages_read >= 1
    assert one.free_slots < one.slots
    assert (one.capacity_bytes, one.pages_refused) == (256 * PAGE, 0)
    assert one.held_bytes == one.stored_bytes == (one.slots - one.free_slots) * PAGE


# Status and map


def test_the_status_adds_up(daemon, admin, client, region):
    status = admin.GetStatus(pb.GetStatusRequest())
    assert (status.version, status.pid, status.mechanism, status.page_size) == (
        VERSION,
        daemon.process.pid,
        "simulated",
        PAGE,
    )
    in_use = status.filling_frames + status.present_frames + status.evicting_frames
    assert status.free_frames + in_use == status.frames == 64
    assert status.dirty_frames >= 2
    assert (status.low_watermark_frames, status.high_watermark_frames) == (1, 3)
    assert (status.swap_slots, status.draining) == (768, False)
    assert status.swap_capacity_bytes == 768 * PAGE
    assert status.processes >= 1
    assert status.counters["faults"] >= 2
    assert status.uptime_seconds > 0


@pytest.mark.parametrize(("wanted", "cells"), [(0, 64), (1, 1), (7, 7), (64, 64), (65, 64), (65536, 64)])
def test_the_map_covers_all_frames_in_the_cells_asked_for(admin, client, region, wanted, cells):
    answer = admin.GetMemoryMap(pb.GetMemoryMapRequest(cells=wanted))
    assert (len(answer.cells), answer.frames) == (cells, 64)
    assert sum(cell.frames for cell in answer.cells) == 64
    for cell in answer.cells:
        assert cell.free + cell.filling + cell.present + cell.evicting == cell.frames
    assert process_of(client) in {cell.process_id for cell in answer.cells}


@pytest.mark.parametrize("wanted", [65537, (1 << 32) - 1])
def test_too_many_cells_are_refused(admin, wanted):
    answer = refused(admin.GetMemoryMap, pb.GetMemoryMapRequest(cells=wanted))
    assert answer[:2] == INVALID
    assert "65536" in answer[2]


# Events


def test_a_watcher_hears_of_sessions_from_the_moment_it_is_told_that_it_watches(daemon, admin):
    watching = admin.WatchEvents(pb.WatchEventsRequest())
    watching.initial_metadata()
    heard = queue.SimpleQueue()

    def listen():
        try:
            for event in watching:
                heard.put(event)
        except grpc.RpcError as error:
            heard.put(error.code())

    thread = threading.Thread(target=listen)
    thread.start()
    with RawClient(daemon.address, "watched") as session:
        session.call("Detach", client_pb2.DetachRequest())
    found = {}
    while "process_detached" not in found:
        event = heard.get(timeout=90)
        if event.process_id == session.attached.process_id:
            found[event.kind] = event
    assert found["process_attached"].fields["name"] == "watched"
    assert found["process_attached"].time_seconds > 1.6e9
    assert "watched" in found["process_detached"].message
    watching.cancel()
    thread.join(90)
    assert heard.get(timeout=90) is grpc.StatusCode.CANCELLED


def test_bytes_that_are_no_message_are_an_invalid_argument(daemon):
    channel = open_channel(daemon.admin_address)
    for method in ("ListProcesses", "ExplainPage", "Drain"):
        answer = refused(channel.unary_unary(f"/usm.v1.AdminService/{method}"), b"\xff", timeout=90)
        assert answer == (*INVALID, f"the message is not a valid {method}Request")
    watch = channel.unary_stream("/usm.v1.AdminService/WatchEvents")(b"\xff", timeout=90)
    assert refused(next, watch) == (*INVALID, "the message is not a valid WatchEventsRequest")
    channel.close()


def test_a_reload_says_what_is_in_force_and_what_is_not_as_json():
    async def main():
        async def reload():
            return Reloaded([Change("memory.low_watermark", "3%", "5%")], [Change("swap", [], [{"kind": "memory"}])])

        answer = await service_of(Bench(), reload).Reload(pb.ReloadRequest(), None)
        assert answer.applied == [pb.ConfigChange(key="memory.low_watermark", before='"3%"', after='"5%"')]
        assert answer.needs_restart == [pb.ConfigChange(key="swap", before="[]", after='[{"kind":"memory"}]')]

    asyncio.run(main())


def test_all_mistakes_of_a_refused_configuration_are_in_the_error():
    async def main():
        async def reload():
            raise ConfigError("a is wrong", "a", [ConfigError("b is wrong", "b")])

        with pytest.raises(ConfigError, match="a is wrong; b is wrong"):
            await service_of(Bench(), reload).Reload(pb.ReloadRequest(), None)

    asyncio.run(main())
