"""Limits of a process in numbers, over real memory: the example of the guide, live changes, and faults that wait."""

import ctypes
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import lib_usm
from tests.support.daemon import wait_until
from tests.support.real_daemon import FRAMES, PAGE, real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.swap_faults import daemon_with_faults

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
PAGES = 64


def example():
    """The configuration of the guide that has such limits."""
    found = re.findall(r"```toml\n(.*?)```", OPERATING.read_text(encoding="utf-8"), re.DOTALL)
    (text,) = [each for each in found if "max_hint_ranges" in each and "policy.rules" in each]
    return text


def of(daemon, name):
    """What the daemon says of the process of that name."""
    return next(each for each in daemon.usmctl("processes")["processes"] if each["name"] == name)


def test_limits_of_the_guide_are_kept_by_name_and_changed_live(tmp_path):
    require_real_memory()
    with (
        real_daemon(tmp_path, config=example()) as daemon,
        lib_usm.connect(daemon.address, name="tenant-1") as tenant,
        lib_usm.connect(daemon.address, name="other") as other,
    ):
        region, *_ = [tenant.mmap(2 * PAGES * PAGE if number == 0 else PAGE) for number in range(16)]
        with pytest.raises(lib_usm.LimitExceeded, match="the process has 16 regions; its max_regions is 16"):
            tenant.mmap(PAGE)
        for number in range(64):
            tenant.usm_hint(region, "PRIORITY=HIGH", 2 * number * PAGE, PAGE)
        with pytest.raises(lib_usm.LimitExceeded, match=r"64 ranges .* its max_hint_ranges is 64"):
            tenant.usm_hint(region, "PRIORITY=LOW", PAGE, PAGE)
        budget = FRAMES // 20
        assert tenant.kept().budget_pages == budget
        with pytest.raises(lib_usm.LimitExceeded, match=f"its deny_budget is {budget} pages"):
            region.pin(0, PAGES * PAGE)
        found = of(daemon, "tenant-1")
        keys = ("max_regions", "max_hint_ranges", "hint_ranges", "max_faults", "deny_budget_pages")
        assert [found[key] for key in keys] == [16, 64, 64, 32, budget]
        assert of(daemon, "other")["max_regions"] is None
        assert other.kept().budget_pages == FRAMES // 2
        more = ("max_regions=17", "max_faults=none", "deny_budget=50%")
        (change,) = daemon.usmctl("limit", "tenant-1", *more)["changes"]
        assert (change["before"]["deny_budget_pages"], change["after"]["deny_budget_pages"]) == (budget, FRAMES // 2)
        assert (change["before"]["max_faults"], change["after"]["max_faults"]) == (32, None)
        tenant.mmap(PAGE)
        with region.pin(0, PAGES * PAGE):
            refused = daemon.run_usmctl("limit", "tenant-1", "deny_budget=5%")
            assert f"deny_budget of {budget} pages; allowed are {PAGES} and more" in refused.stderr


def test_beyond_its_limit_faults_of_threads_and_streams_wait_and_all_are_served(tmp_path):
    require_real_memory()
    config = '[[policy.rules]]\nname = "app"\nmax_faults = 2\nalloc = "first_fit"\n'
    with (
        daemon_with_faults(tmp_path, config=config) as (daemon, faults),
        lib_usm.connect(daemon.address, name="app") as app,
        lib_usm.connect(daemon.address, name="other") as other,
        ThreadPoolExecutor(9) as pool,
    ):
        region, kept = app.mmap(PAGES * PAGE), other.mmap(PAGES * PAGE)
        data = np.random.default_rng(7).bytes(PAGES * PAGE)
        copied = ctypes.create_string_buffer(PAGES)
        into, address = ctypes.addressof(copied), region.ndarray(np.uint8).ctypes.data

        def touch(page):
            ctypes.memmove(into + page, address + page * PAGE, 1)  # other threads run, and fault, meanwhile

        def wait_for(pages):
            wait_until(lambda: of(daemon, "app")["waiting_pages"] == pages, f"faults wait for {pages} pages")

        def swapped():
            region.evict()  # repeatedly, because pages that were touched a moment ago stay
            return of(daemon, "app")["swapped_pages"] == PAGES

        region[:] = data
        wait_until(swapped, "the pages are in swap")
        faults.hold_up("read")
        touches = [pool.submit(touch, page) for page in range(8)]
        wait_for(2)
        asked = pool.submit(app.fault_many, [(region, page, 1) for page in range(32, PAGES)])
        kept[:] = data
        assert bytes(kept[:]) == data
        assert of(daemon, "app")["waiting_pages"] == 2
        daemon.usmctl("limit", "app", "max_faults=5")
        wait_for(5)
        faults.end()
        for each in touches:
            each.result()
        assert all(isinstance(each, lib_usm.Allocated) for each in asked.result())
        assert copied.raw[:8] == data[: 8 * PAGE : PAGE]
        assert bytes(region[:]) == data
        wait_for(0)
