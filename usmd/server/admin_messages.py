"""Makes the admin service's messages from the state of the core, which it only reads."""

from __future__ import annotations

from collections.abc import Sequence

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.core import quotas, report
from usmd.core.counters import NAMES
from usmd.core.guard import NO_POLICY
from usmd.core.mapping import KINDS
from usmd.core.pressure import Line, Pressure
from usmd.core.region import PAGE_BITS, PAGE_MASK, EvictionRecord, Process, Region, limit_or_none
from usmd.core.swap_map import SLOT_BITS, SLOT_MASK, STATUSES
from usmd.policies import registry
from usmd.server.device_queue import DeviceQueue
from usmd.server.engine import Engine
from usmd.server.hint_messages import fields_from_hint
from usmd.server.policy_changes import PolicyChange, PolicyChanges
from usmd.swap.mirror import MirrorStatus
from usmd.text_output import to_json


class AdminMessages:
    """Messages of one daemon. `defaults`: specification of the default policy by kind."""

    def __init__(self, engine: Engine, changes: PolicyChanges, defaults: dict[str, str]) -> None:
        self._engine = engine
        self._core = engine.core
        self._changes = changes
        self._defaults = defaults

    def process(self, process: Process, counters: Sequence[str] = NAMES) -> admin_pb2.Process:
        """A session, with these counters."""
        specifications = process.policies.specifications
        frozen = self._core.frozen.get(process.process_id)
        own = quotas.quotas_of(process, self._core.state.settings)
        return admin_pb2.Process(
            process_id=process.process_id,
            order=process.order,
            name=process.name,
            pid=process.pid or 0,
            uid=process.uid,
            alloc_policy=specifications["alloc"],
            evict_policy=specifications["evict"],
            oom_policy=specifications["oom"],
            cond_policy=specifications["cond"],
            regions=len(process.regions),
            mapped_bytes=process.mapped,
            resident_pages=process.resident,
            swapped_pages=process.swapped,
            unevictable_pages=process.unevictable,
            pinned_pages=process.pinned,
            memory_max_pages=limit_or_none(process.own_memory_max) or 0,
            swap_max_pages=limit_or_none(process.own_swap_max),
            swap_max_used_pages=process.stored,
            memory_min_pages=process.memory_min,
            memory_weight=process.weight,
            frozen_faults=0 if frozen is None else len(frozen.pages),
            frozen_seconds=0.0 if frozen is None else self._core.state.now - frozen.since,
            max_regions=own.max_regions,
            hint_ranges=process.hint_ranges,
            max_hint_ranges=own.max_hint_ranges,
            waiting_pages=process.missing,
            max_faults=own.max_faults,
            deny_budget_pages=own.deny_budget,
            counters=process.counters.as_dict(counters),
            pressure=pressure_message(process.pressure),
        )

    @staticmethod
    def region(region: Region) -> admin_pb2.RegionInfo:
        """A region."""
        return admin_pb2.RegionInfo(
            region_id=region.region_id,
            process_id=region.process.process_id,
            name=region.name,
            address=region.address,
            length=region.length,
            page_count=region.page_count,
            resident_pages=region.resident,
            swapped_pages=region.swapped,
            faults=region.faults,
            major_faults=region.major_faults,
            evictions=region.evictions,
            along_pages=region.along,
            along_used_pages=region.along_used,
            along_unused_pages=region.along_unused,
        )

    def policy(self, kind: str, name: str, users: Sequence[Process]) -> admin_pb2.Policy:
        """A policy, with the processes that use it."""
        return admin_pb2.Policy(
            kind=kind,
            name=name,
            summary=registry.summary(kind, name),
            is_default=registry.parse(self._defaults[kind])[0] == name,
            process_ids=[process.process_id for process in users],
            errors=sum(process.policies.blame.errors[kind] for process in users),
        )

    def process_policies(self, process: Process) -> admin_pb2.ProcessPolicies:
        """The policies of a process, and how each came to be in force."""
        answer = admin_pb2.ProcessPolicies(process_id=process.process_id, process_name=process.name)
        for kind in KINDS:
            change = self._changes.last(process.process_id, kind)
            answer.policies.add(
                kind=kind,
                policy=process.policies.specifications[kind],
                errors=process.policies.blame.errors[kind],
                change=None if change is None else self.policy_change(change),
            )
        return answer

    def policy_change(self, change: PolicyChange) -> admin_pb2.PolicyChange:
        """A replacement of a policy by another."""
        return admin_pb2.PolicyChange(
            seconds_ago=max(self._engine.now() - change.time, 0.0),
            kind=change.kind,
            before=change.before,
            after=change.after,
            misbehaved=change.misbehaved,
            did=change.did,
            errors=change.errors,
        )

    def swap_device(self, queue: DeviceQueue) -> admin_pb2.SwapDevice:
        """A swap device."""
        device = queue.device
        slots = self._core.state.swap.devices[device.number]
        usage = device.usage(slots.slots - slots.free)
        return admin_pb2.SwapDevice(
            number=device.number,
            name=device.name,
            kind=device.kind,
            path=device.path or "",
            slots=device.slots,
            free_slots=slots.free,
            pages_written=queue.pages_written,
            pages_read=queue.pages_read,
            errors=queue.errors,
            in_flight=queue.in_flight,
            capacity_bytes=usage.capacity,
            held_bytes=usage.held,
            stored_bytes=usage.stored,
            pages_refused=queue.pages_refused,
            io=queue.io,
            io_reason=queue.io_reason,
            state=STATUSES[slots.status],
            retiring_pages=self._core.retirement.of.get(device.number, 0),
            mirror=mirror_message(queue.mirror),
            read_p50_seconds=queue.reads.times.quantile(0.5),
            read_p99_seconds=queue.reads.times.quantile(0.99),
            write_p50_seconds=queue.writes.times.quantile(0.5),
            write_p99_seconds=queue.writes.times.quantile(0.99),
        )

    def hint_range(self, found: report.HintReport) -> admin_pb2.HintRange:
        """A range on which a hint is in force."""
        expires = found.range.expires
        return admin_pb2.HintRange(
            hint_id=found.range.number,
            process_id=found.process_id,
            region_id=found.region_id,
            first_page=found.range.first,
            page_count=found.range.end - found.range.first,
            text=found.range.hint.text,
            fields=fields_from_hint(found.range.hint),
            expires_in_seconds=None if expires is None else max(expires - self._engine.now(), 0.0),
            resident_pages=found.resident,
            unevictable_pages=found.unevictable,
            faults=found.range.effects.faults,
            evictions=found.range.effects.evictions,
            process_name=found.process_name,
            region_name=found.region_name,
            unheeded_keys=found.unheeded,
        )

    def kept_pages(self, process: Process) -> admin_pb2.KeptPages:
        """Pages that a process keeps in memory, which count towards the budget of EVICTION=DENY."""
        return admin_pb2.KeptPages(
            process_id=process.process_id,
            process_name=process.name,
            unevictable_pages=process.unevictable,
            pinned_pages=process.pinned,
            over_budget=process.counters.deny_over_budget,
            hint_ranges=process.hint_ranges,
            deny_budget=self._core.life.budget(process),
        )

    def page(
        self, process: Process, region: Region, page: int, hint: report.HintReport | None
    ) -> admin_pb2.ExplainPageResponse:
        """All that is known of a page; `hint`: of the range that it is in."""
        found = report.explain(self._core, region, page)
        answer = admin_pb2.ExplainPageResponse(
            process_id=process.process_id,
            region_id=region.region_id,
            region_name=region.name,
            page=page,
            address=region.address + page * self._core.state.settings.page_size,
            state=found.state,
            frame=found.frame,
            dirty=found.dirty,
            pinned=found.pinned,
            held=found.held,
            evictions_on_record=len(process.evictions),
            eviction_records=process.evictions.maxlen or 0,
            unevictable=found.unevictable,
            waiting_faults=found.waiting,
            at_swap_max=process.stored >= process.swap_max,
            at_memory_min=process.resident <= process.memory_min,
            policies=[each for each in process.policies.specifications.values() if each != NO_POLICY],
        )
        if found.slot is not None:
            device = self._core.state.swap.devices[found.slot >> SLOT_BITS]
            answer.slot.device = device.number
            answer.slot.device_name = device.name
            answer.slot.slot = found.slot & SLOT_MASK
            answer.slot.generation = found.generation
        if hint is not None:
            answer.hint.CopyFrom(self.hint_range(hint))
        if found.last_eviction is not None:
            answer.last_eviction.CopyFrom(self._eviction(found.last_eviction))
        return answer

    def evicted_page(self, record: EvictionRecord) -> admin_pb2.EvictedPage:
        """An eviction and its page."""
        number, page = record.page >> PAGE_BITS, record.page & PAGE_MASK
        region = self._core.state.regions.get(number)
        return admin_pb2.EvictedPage(
            region_id=number,
            region_name=None if region is None else region.name,
            page=page,
            address=0 if region is None else region.address + page * self._core.state.settings.page_size,
            eviction=self._eviction(record),
        )

    def _eviction(self, record: EvictionRecord) -> admin_pb2.Eviction:
        return admin_pb2.Eviction(
            seconds_ago=max(self._engine.now() - record.time, 0.0),
            policy=record.policy,
            reason=record.reason,
            result=record.result,
        )


def config_change(key: str, before: object, after: object) -> admin_pb2.ConfigChange:
    """A key of the configuration whose value differs; values as in JSON."""
    return admin_pb2.ConfigChange(key=key, before=to_json(before), after=to_json(after))


def pressure_message(pressure: Pressure) -> admin_pb2.Pressure:
    """Pressure on a process, or on all."""
    some, full = pressure.some, pressure.full
    return admin_pb2.Pressure(some=_pressure_line(some), full=None if full is None else _pressure_line(full))


def _pressure_line(line: Line) -> admin_pb2.PressureLine:
    avg10, avg60, avg300 = line.averages
    return admin_pb2.PressureLine(avg10=avg10, avg60=avg60, avg300=avg300, total_us=line.microseconds)


def latencies(engine: Engine) -> list[admin_pb2.Latency]:
    """How long faults take, and reads and writes of each swap device."""
    timed = [("real_faults", "", engine.fault_times.real), ("explicit_faults", "", engine.fault_times.explicit)]
    for queue in engine.queues:
        timed += [
            ("swap_in", queue.device.name, queue.reads.times),
            ("swap_out", queue.device.name, queue.writes.times),
        ]
    return [
        admin_pb2.Latency(
            operation=operation,
            device=device,
            count=times.count,
            p50_seconds=times.quantile(0.5),
            p99_seconds=times.quantile(0.99),
        )
        for operation, device, times in timed
    ]


def mirror_message(mirror: MirrorStatus | None) -> admin_pb2.Mirror | None:
    """How the parts of a mirror stand."""
    if mirror is None:
        return None
    return admin_pb2.Mirror(
        far_kind=mirror.parts[0],
        local_kind=mirror.parts[1],
        in_step=mirror.in_step,
        away=mirror.away,
        pages_to_repair=mirror.to_repair,
        local_only_pages=mirror.local_only,
        fallbacks=mirror.fallbacks,
        repaired_pages=mirror.repaired,
        reason=mirror.why,
    )
