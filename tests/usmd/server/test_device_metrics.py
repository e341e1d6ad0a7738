"""Metrics of swap devices, and of how long things take."""

import asyncio

from tests.usmd.server.test_core_metrics import samples
from tests.usmd.server.test_engine import PAGE, Bench
from usmd.core.swap_map import RETIRING
from usmd.server.device_metrics import devices, durations
from usmd.server.latency import Histogram


def test_devices_have_slots_bytes_and_traffic_by_name():
    async def main():
        bench = Bench(frames=2, pages=4)
        for page in range(4):
            await bench.fault(page)
        engine = bench.engine
        found = samples(devices(engine.queues, engine.core.state.swap))
        assert set(found["usmd_swap_slots"]) == {(f"memory{n}", state) for n in (0, 1) for state in ("free", "used")}
        assert sum(found["usmd_swap_slots"].values()) == engine.core.state.swap.slots
        assert found["usmd_swap_pages"][("memory0", "out")] == engine.queues[0].pages_written
        assert found["usmd_swap_capacity_bytes"] == {("memory0",): 4096 * PAGE, ("memory1",): 4096 * PAGE}
        assert found["usmd_swap_hangs"] == {("memory0",): 0, ("memory1",): 0}
        assert found["usmd_swap_retiring_pages"] == {("memory0",): 0, ("memory1",): 0}
        for name in ("repair_pages", "away", "fallbacks", "repaired_pages"):
            assert found[f"usmd_swap_{name}"] == {("memory0",): 0, ("memory1",): 0}
        slots = engine.core.state.swap.devices[0]
        slots.status, used = RETIRING, slots.slots - slots.free
        assert samples(devices(engine.queues, engine.core.state.swap))["usmd_swap_retiring_pages"] == {
            ("memory0",): used, ("memory1",): 0,
        }  # fmt: skip
        await engine.close()

    asyncio.run(main())


def test_durations_are_those_of_faults_devices_and_the_loop():
    async def main():
        bench = Bench()
        await bench.fault(0)
        lag = Histogram()
        lag.add(0.25)
        engine = bench.engine
        found = samples(durations(engine.fault_times, engine.queues, lag))
        faults, pages, late = (
            found[f"usmd_{name}_seconds"] for name in ("fault_duration", "swap_duration", "loop_lag")
        )
        assert faults[("explicit", "+Inf")] == 1
        assert faults[("real", "+Inf")] == 0
        assert pages[("memory1", "out", "+Inf")] == 0
        assert (late[("+Inf",)], late[("0.2097152",)], late[("0.4194304",)]) == (1, 0, 1)
        await engine.close()

    asyncio.run(main())
