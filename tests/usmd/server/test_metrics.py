"""All metrics of a daemon: one of each name, none that falls, in small steps."""

import asyncio

from tests.usmd.server.test_core_metrics import samples
from tests.usmd.server.test_engine import Bench
from usmd.server.metrics import Metrics


def with_metrics(test):
    async def main():
        bench = Bench()
        draining = [False]
        metrics = Metrics(bench.engine, processes=10, most_sessions=lambda: 5, draining=lambda: draining[0])
        await test(bench, metrics, draining)
        await bench.engine.close()

    asyncio.run(main())


def test_each_family_comes_once_with_a_unit_in_its_name_and_a_help_that_is_a_sentence():
    async def test(bench, metrics, draining):
        await bench.fault(0)
        families = [family for family in metrics.steps() if family is not None]
        names = [family.name for family in families]
        assert len(set(names)) == len(names) > 40
        assert {name for name in names if not name.startswith(("usmd_", "process_"))} == set()
        assert [family.name for family in families if not family.documentation.endswith(".")] == []
        assert [family.name for family in families if family.type == "histogram" and "seconds" not in family.name] == []

    with_metrics(test)


def test_the_daemon_says_what_it_is_and_what_scrapes_and_reloads_have_been():
    async def test(bench, metrics, draining):
        draining[0] = True
        metrics.scrapes, metrics.scrape_seconds = 3, 0.5
        metrics.reloads["failure"], metrics.reloaded = 2, 0.0
        found = samples(family for family in metrics.steps() if family is not None)
        assert found["usmd_draining"] == {(): 1}
        assert (found["usmd_scrapes"], found["usmd_scrape_cpu_seconds"]) == ({(): 3}, {(): 0.5})
        assert found["usmd_config_reloads"] == {("success",): 0, ("failure",): 2}
        assert found["usmd_config_last_reload_successful"] == {(): 0}
        assert 0 < found["usmd_own_memory_bytes"][()] < found["process_resident_memory_bytes"][()]

    with_metrics(test)
