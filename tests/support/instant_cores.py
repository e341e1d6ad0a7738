"""The core without bytes, and what tests ask it."""

from tests.support.shell import PAGE
from usmd.core import events
from usmd.core.instant import InstantCore
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.policies import registry

PAGES = 40


def instant_core(
    *, frames=8, slots=2 * PAGES, make_policy=registry.make, evict="lru", alloc="first_fit", regions=1, **more
):
    """A core with one process and its regions, which are numbered from 1 on."""
    more = {"deny_budget": frames, "deny_budget_total": frames, "eviction_records": 0, **more}
    core = InstantCore(CoreSettings(frames=frames, page_size=PAGE, **more), [DeviceInfo("swap0", slots)], make_policy)
    core.handle(events.Attach("app", alloc, evict, "refuse"), 0.0)
    for _ in range(regions):
        core.handle(events.Map(1, PAGES * PAGE, ""), 0.0)
    return core


def counters(core):
    return core.state.processes[1].counters


def resident(core, region=1):
    return sorted(page for page, _ in core.state.regions[region].table.resident())
