"""Sessions over an engine with a few frames, and identities as a test gives them out."""

import asyncio
from functools import partial

from usmd.core import events
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings
from usmd.errors import UnknownSession
from usmd.mechanism.simulated import SimulatedMemory
from usmd.policy_rules import PolicyRules
from usmd.server.engine import Engine
from usmd.server.sessions import Sessions
from usmd.swap.memory import MemorySwapDevice

PAGE = 16


class FakeIdentity:
    def __init__(self, uid):
        self.pid = 4711
        self.uid = uid
        self.on_gone = None
        self.closed = 0

    def close(self):
        self.closed += 1


class FakeIdentities:
    """Tickets as a test gives them out."""

    def __init__(self):
        self.tickets = {}

    def find(self, ticket):
        if ticket not in self.tickets:
            raise UnknownSession("no such ticket")
        return self.tickets.pop(ticket)


class Bench:
    def __init__(self, max_sessions=4, of_user=4, attach_timeout=1000.0, frames=2, **rules):
        devices = [MemorySwapDevice(number=0, name="memory0", slots=1, page_size=PAGE)]
        settings = CoreSettings(frames=frames, page_size=PAGE, deny_budget=frames, deny_budget_total=frames)
        self.engine = Engine(settings, SimulatedMemory(frames, PAGE), devices)
        self.identities = FakeIdentities()
        self.sessions = Sessions(
            self.engine,
            self.identities,
            PolicyRules(**rules),
            max_sessions=max_sessions,
            of_user=of_user,
            attach_timeout=attach_timeout,
        )

    def processes(self):
        return list(self.engine.core.state.processes.values())


def run(conversation, **settings):
    async def main():
        bench = Bench(**settings)
        try:
            await conversation(bench)
        finally:
            bench.sessions.end_all("over")
            await bench.engine.close()

    asyncio.run(main())


def fill(bench, session, pages):
    region = bench.engine.submit(events.Map(session.process_id, 8 * PAGE, "")).region_id
    for page in range(pages):
        fault = events.FaultRequest(page, region, page, 1, True)
        bench.engine.submit(events.Faults(session.process_id, [fault]))
        store = partial(bench.engine.memory.store, first=page_key(region, page), offset=0, data=memoryview(b"x" * PAGE))
        bench.engine.access(events.Access(session.process_id, region, page, 1, True), store)
    return region
