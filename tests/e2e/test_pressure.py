"""Pressure in a real daemon: a client whose memory is too small waits, which operators and the client are told."""

import queue

import lib_usm
from tests.support.daemon import running_daemon, wait_until

MEMORY = 256 << 10
PAGE = 4096


def test_the_pressure_on_a_client_that_needs_more_memory_than_there_is_is_seen_and_reported(tmp_path):
    config = '[server]\npressure_threshold = "0.1%"\n'
    with (
        running_daemon(tmp_path, "--memory", "256KiB", config=config) as daemon,
        lib_usm.connect(daemon.address, name="thrashing") as client,
        lib_usm.connect(daemon.address, name="idle") as idle,
    ):
        told, never = queue.SimpleQueue(), queue.SimpleQueue()
        client.on_pressure(told.put, threshold=0.001)
        client.on_pressure(never.put, threshold=1.0)
        idle.on_pressure(never.put, threshold=0.001)
        region = client.mmap(3 * MEMORY)

        def waits_enough():
            for offset in range(0, len(region), PAGE):
                region[offset] = 1
            return daemon.events("pressure_high", process_id=client.process_id)

        wait_until(waits_enough, "the pressure is reported")
        (event,) = daemon.events("pressure_high", process_id=client.process_id)
        assert event["message"].endswith("% of the last 10 s; the threshold is 0.1%")
        thrashing, resting = sorted(daemon.admin.processes(), key=lambda each: each.name, reverse=True)
        status = daemon.admin.status().pressure  # later, and so not less, but for rounding
        assert status.some.total_us + 1 >= thrashing.pressure.some.total_us >= thrashing.pressure.full.total_us > 0
        assert 0.0 < thrashing.pressure.some.avg300 < thrashing.pressure.some.avg10 < 1.0
        assert resting.pressure.some.total_us == resting.pressure.full.total_us == 0
        pressure = told.get(timeout=60)
        assert (pressure.above, 0.0 <= pressure.full <= pressure.some < 1.0) == (True, True)
        assert never.empty()
