"""A daemon that answers from memory: AdminService on a Unix socket, without anything behind it."""

# ruff: noqa: N802 - the wire contract names the methods

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tests.support.forked import ForkedProcess
from tests.support.served import run_usmctl
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usm_wire.pb.usm.v1 import admin_pb2_grpc, common_pb2
from usmd.ctl.cli import main

PAGE_SIZE = 4096
USMCTL = [sys.executable, "-c", "import sys; from usmd.ctl.cli import main; sys.exit(main())"]


class FakeAdmin(admin_pb2_grpc.AdminServiceServicer):
    """Answers with its public attributes; lists come in pages of `page_items`."""

    def __init__(self) -> None:
        self.status = pb.GetStatusResponse(
            version="0.1.0", pid=4711, uptime_seconds=3725.5, mechanism="simulated", page_size=PAGE_SIZE,
            frames=1024, free_frames=256, filling_frames=8, present_frames=752, evicting_frames=8, dirty_frames=300,
            unevictable_frames=64, pinned_frames=2, low_watermark_frames=64, high_watermark_frames=128, processes=2,
            regions=3, swap_slots=4096, free_swap_slots=3072,
            counters={"faults": 12_345, "major_faults": 678, "evictions": 910, "policy_errors": 0, "odd_thing": 5},
        )  # fmt: skip
        self.processes = [
            pb.Process(
                process_id=1, name="indexer", pid=211, uid=1000, alloc_policy="flexible_huge_pages(pages=8)",
                evict_policy="hint_aware", oom_policy="refuse", regions=2, mapped_bytes=8 << 20, resident_pages=700,
                swapped_pages=900, unevictable_pages=64, counters={"faults": 9},
            ),
            pb.Process(process_id=2, name="cache", alloc_policy="first_fit", evict_policy="lru", oom_policy="refuse"),
        ]  # fmt: skip
        self.regions = [
            pb.RegionInfo(region_id=1, process_id=1, name="index", address=0x10000000, length=4 << 20, page_count=1024),
            pb.RegionInfo(region_id=2, process_id=1, name="", address=1 << 63, length=100, page_count=1),
            pb.RegionInfo(region_id=3, process_id=2, name="rows", address=0x10000000, length=PAGE_SIZE, page_count=1),
        ]
        self.policies = [
            pb.Policy(kind="alloc", name="first_fit", summary="the lowest free frames", is_default=True),
            pb.Policy(kind="evict", name="lru", summary="longest unused first", process_ids=[2], errors=3),
        ]
        self.process_policies = [
            pb.ProcessPolicies(
                process_id=2,
                process_name="cache",
                policies=[pb.PolicyInForce(kind="evict", policy="lru", errors=3)],
            )
        ]
        self.swap_devices = [
            pb.SwapDevice(
                number=0, name="file0", kind="file", path="/var/lib/usmd/swap0", slots=4096, free_slots=3072,
                pages_written=5000, pages_read=1200, errors=1, in_flight=4,
            )
        ]  # fmt: skip
        self.retirement = [
            pb.SwapRetirement(number=0, name="file0", pages=1024, pages_left=left, end=end)
            for left, end in ((1024, 0), (300, 0), (0, pb.SwapRetirement.END_CLOSED))
        ]
        self.hints = [
            pb.HintRange(
                hint_id=7, process_id=1, region_id=1, first_page=0, page_count=64, text="PRIORITY=HIGH; EVICTION=DENY",
                fields=common_pb2.HintFields(
                    priority=common_pb2.HintFields.PRIORITY_HIGH, eviction=common_pb2.HintFields.EVICTION_DENY
                ),
                expires_in_seconds=12.5, resident_pages=64, unevictable_pages=64,
            ),
            pb.HintRange(hint_id=8, process_id=2, region_id=3, first_page=0, page_count=1, text="PRIORITY=LOW"),
        ]  # fmt: skip
        self.kept_pages = [
            pb.KeptPages(
                process_id=1,
                process_name="indexer",
                unevictable_pages=64,
                over_budget=5,
                hint_ranges=1,
                deny_budget=512,
            )
        ]
        self.evictions = pb.ListEvictionsResponse(
            evictions=[
                pb.EvictedPage(
                    region_id=1, region_name="index", page=16, address=0x10010000,
                    eviction=pb.Eviction(seconds_ago=3.2, policy="lru", reason="longest unused", result="swapped"),
                )
            ],
            records=256,
            total=910,
        )  # fmt: skip
        self.page = pb.ExplainPageResponse(
            process_id=1, region_id=1, region_name="index", page=16, address=0x10010000, state="SWAPPED",
            slot=pb.SlotInfo(device=0, device_name="file0", slot=42, generation=3), waiting_faults=2,
            last_eviction=pb.Eviction(seconds_ago=3.2, policy="lru", reason="longest unused", result="swapped"),
            policies=["first_fit", "lru", "refuse"],
        )  # fmt: skip
        self.reloaded = pb.ReloadResponse(
            applied=[pb.ConfigChange(key="memory.low_watermark", before='"3%"', after='"5%"')],
            needs_restart=[pb.ConfigChange(key="server.trace_events", before="null", after='"/var/log/events"')],
        )
        self.users = [
            pb.UserInfo(
                uid=1000,
                sessions=3,
                resident_pages=64,
                regions=3,
                limits=pb.UserLimits(
                    max_sessions=8, memory_max_pages=128, memory_weight=200, max_regions=9, max_faults=7
                ),
            ),
            pb.UserInfo(uid=1001, limits=pb.UserLimits(memory_min_pages=1)),
        ]
        self.explained: pb.ExplainPageRequest | None = None
        self.events = [
            pb.Event(time_seconds=1.7e9, kind="process_attached", process_id=1, message="indexer came"),
            pb.Event(time_seconds=1.7e9 + 1, kind="swap_error", message="read failed", fields={"device": "file0"}),
        ]
        self.hold_events = threading.Event()  # set: the stream of events ends; clear: it stays open
        self.hold_events.set()
        self.accesses = [
            pb.RecordedAccesses(
                header=pb.RecordingHeader(
                    process_id=1, process_name="indexer", started_seconds=1.7e9, page_size=PAGE_SIZE, frames=960,
                    evict_policy="lru", mechanism="simulated",
                )
            ),
            pb.RecordedAccesses(
                seconds=[0.5, 1.5], counts=[2, 1], pages=[1 << 32, 1 << 32 | 7, 1 << 32], kinds=b"\2\3\1"
            ),
            pb.RecordedAccesses(dropped=4, ended="detached"),
        ]  # fmt: skip
        self.reports = [
            pb.ShadowReport(
                process_id=1, process_name="indexer", seconds=seconds, accesses=1000 * seconds, frames=960, sample=1,
                looked_at=1000 * seconds, live_policy="lru", live_misses=50, live_miss_ratio=0.05 / max(seconds, 1),
                simulations=[
                    pb.ShadowSimulation(
                        policy="lru", accesses=1000, misses=100, miss_ratio=0.1, recent_miss_ratio=0.08,
                    ),
                    pb.ShadowSimulation(policy="arc", accesses=1000, misses=90, miss_ratio=0.09, difference=-0.01),
                ],
                microseconds_an_access=2.5, wall_share=0.034,
            )
            for seconds in (0, 1, 2)
        ]  # fmt: skip
        self.validation = pb.ValidateResponse(frames=1024, regions=3, swap_slots=4096, seconds=0.0123)
        self.drained: pb.DrainRequest | None = None
        self.losses: list[pb.MemoryLoss] = []
        self.page_items = 1000
        self.requests: list[object] = []
        self.failure: tuple[grpc.StatusCode, str] | None = None
        self.answers_before_failure = 0

    def GetStatus(self, request, context):
        self._note(request, context)
        return self.status

    def ListProcesses(self, request, context):
        self._note(request, context)
        items, token = self._page(self.processes, request.page_token)
        return pb.ListProcessesResponse(processes=items, next_page_token=token)

    def ListRegions(self, request, context):
        self._note(request, context)
        chosen = [r for r in self.regions if request.process_id in (0, r.process_id)]
        items, token = self._page(chosen, request.page_token)
        return pb.ListRegionsResponse(regions=items, next_page_token=token)

    def ListPolicies(self, request, context):
        self._note(request, context)
        return pb.ListPoliciesResponse(policies=self.policies, processes=self.process_policies)

    def SetPolicy(self, request, context):
        self._note(request, context)
        kinds = [kind for kind in ("alloc", "evict", "oom") if getattr(request, kind)]
        changes = [pb.PolicyChange(kind=kind, before="old", after=getattr(request, kind)) for kind in kinds]
        return pb.SetPolicyResponse(process_id=request.process_id, changes=changes)

    def ListUsers(self, request, context):
        return pb.ListUsersResponse(users=self.users)

    def SetUserLimits(self, request, context):
        self.requests.append(request)
        return pb.SetUserLimitsResponse(
            uid=request.uid,
            before=pb.UserLimits(memory_max_pages=64),
            after=pb.UserLimits(max_sessions=3, max_hint_ranges=5),
        )

    def SetLimits(self, request, context):
        self._note(request, context)
        before = pb.ProcessLimits(memory_max_pages=64, memory_weight=100, max_regions=1000)
        after = pb.ProcessLimits(
            memory_min_pages=16, memory_weight=50, swap_max_pages=0, deny_budget_pages=8, max_regions=16
        )
        return pb.SetLimitsResponse(changes=[pb.LimitsChange(process_id=2, name="cache", before=before, after=after)])

    def ListSwapDevices(self, request, context):
        self._note(request, context)
        return pb.ListSwapDevicesResponse(swap_devices=self.swap_devices)

    def AddSwapDevice(self, request, context):
        self._note(request, context)
        kind, _, path = request.device.partition(":")
        added = pb.SwapDevice(number=1, name=request.name or f"{kind}1", kind=kind, path=path, slots=1024)
        return pb.AddSwapDeviceResponse(swap_device=added)

    def RetireSwapDevice(self, request, context):
        self._note(request, context)
        yield from self.retirement
        self._hold(context)

    def CancelSwapRetirement(self, request, context):
        self._note(request, context)
        return pb.CancelSwapRetirementResponse(swap_device=self.swap_devices[0])

    def GetMemoryMap(self, request, context):
        self._note(request, context)
        count = min(request.cells or 1024, self.status.frames)
        size = self.status.frames // count
        return pb.GetMemoryMapResponse(frames=self.status.frames, cells=[_cell(n, size) for n in range(count)])

    def ListHints(self, request, context):
        self._note(request, context)
        chosen = [h for h in self.hints if request.process_id in (0, h.process_id)]
        items, token = self._page(chosen, request.page_token)
        return pb.ListHintsResponse(
            hint_ranges=items, next_page_token=token, kept_pages=self.kept_pages, deny_budget=512,
            deny_budget_total=768, kept_total=64,
        )  # fmt: skip

    def ClearHints(self, request, context):
        self._note(request, context)
        return pb.ClearHintsResponse(region_id=1, first_page=16, page_count=8, hint_ranges=2)

    def ExplainPage(self, request, context):
        self._note(request, context)
        self.explained = request
        return self.page

    def ListEvictions(self, request, context):
        self._note(request, context)
        return self.evictions

    def RecordAccesses(self, request, context):
        self._note(request, context)
        yield from self.accesses
        self._hold(context)

    def ShadowPolicies(self, request, context):
        self._note(request, context)
        yield from self.reports
        self._hold(context)

    def WatchEvents(self, request, context):
        self._note(request, context)
        yield from self.events
        self._hold(context)

    def Validate(self, request, context):
        self._note(request, context)
        return self.validation

    def Reload(self, request, context):
        return self.reloaded

    def Drain(self, request, context):
        self._note(request, context)
        if not request.dry_run:
            self.drained = request
        return pb.DrainResponse(sessions=2, seconds_left=request.notice_seconds, losses=self.losses)

    def _hold(self, context) -> None:
        if not self.hold_events.is_set():
            context.add_callback(self.hold_events.set)
            self.hold_events.wait(timeout=90)

    def _note(self, request, context) -> None:
        self.requests.append(request)
        if self.failure is None:
            return
        if self.answers_before_failure:
            self.answers_before_failure -= 1
            return
        code, message = self.failure
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=code.name, domain="usmd"))
        status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
        context.abort_with_status(rpc_status.to_status(status))

    def _page(self, items: list, token: str) -> tuple[list, str]:
        start = int(token or 0)
        end = start + self.page_items
        return items[start:end], str(end) if end < len(items) else ""


def _cell(number: int, size: int) -> pb.MemoryMapCell:
    """Cells in turn: free, clean, dirty, unevictable, filling, evicting, and one that is a quarter full."""
    counts = (
        {"free": size},
        {"present": size},
        {"present": size, "dirty": size},
        {"present": size, "unevictable": size},
        {"filling": size},
        {"evicting": size},
        {"free": size - size // 4, "present": size // 4},
    )[number % 7]
    owner = 0 if number % 7 == 0 else 1 + number // 7 % 2
    return pb.MemoryMapCell(first_frame=number * size, frames=size, process_id=owner, **counts)


@dataclass
class Daemon:
    """A fake daemon under way, and how to call usmctl on it."""

    admin: FakeAdmin
    path: Path
    capsys: pytest.CaptureFixture[str] | None = field(default=None)

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    def ctl(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of `usmctl ARGUMENTS --address ...`."""
        code = main([*arguments, "--address", self.address])
        out, err = self.capsys.readouterr()
        return code, out, err


@pytest.fixture
def servers() -> Iterator[list[grpc.Server]]:
    """Servers that are stopped at the end of the test."""
    started: list[grpc.Server] = []
    yield started
    for server in started:
        server.stop(grace=None).wait()


@pytest.fixture
def serve_admin(tmp_path, servers) -> Callable[[admin_pb2_grpc.AdminServiceServicer, str], Path]:
    """Serve a service on a socket of that name; its path."""

    def serve(service: admin_pb2_grpc.AdminServiceServicer, name: str) -> Path:
        path = tmp_path / name
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        admin_pb2_grpc.add_AdminServiceServicer_to_server(service, server)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        servers.append(server)
        return path

    return serve


@pytest.fixture
def daemon(serve_admin, capsys, monkeypatch) -> Iterator[Daemon]:
    """A fake daemon; usmctl sees no terminal and no address but the one given."""
    for name in ("USM_ADMIN_ADDRESS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    admin = FakeAdmin()
    yield Daemon(admin, serve_admin(admin, "admin.sock"), capsys)
    admin.hold_events.set()


@pytest.fixture
def start(daemon):
    """Start usmctl as a process of its own, with the options of ForkedProcess; it is gone at the end of the test."""
    started = []

    def run(*arguments, **options):
        environ = {**os.environ, "USM_ADMIN_ADDRESS": daemon.address, "TERM": "xterm-256color"}
        process = ForkedProcess(run_usmctl, list(arguments), environ=environ, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
