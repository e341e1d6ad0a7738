"""Conditional policies in the live daemon: memory first and the file later, back when memory is free, trimmed ahead."""

import os

import pytest

import lib_usm
from tests.support.daemon import run_usmd, running_daemon, wait_until
from tests.support.real_memory import require_real_memory
from tests.support.told_client import told_clients

PAGE = 4096
FRAMES = 128
TIERS = """
[[swap]]
kind = "memory"
size = "4MiB"
name = "fast"
[[swap]]
kind = "file"
path = "{folder}/swap"
size = "4MiB"
name = "slow"
[policy]
swap = "fast"
cond = "{cond}"
"""


def tiers(folder, cond):
    return TIERS.format(folder=folder, cond=cond)


def used(daemon):
    """Slots in use, by device."""
    return {each.name: each.slots - each.free_slots for each in daemon.admin.swap_devices()}


def region_of(daemon):
    return daemon.admin.regions(0)[0]


def explained_pages(daemon, client, region):
    for page in range(region.page_count):
        yield daemon.usmctl("explain", str(client.process_id), f"{region.region_id}+{page * PAGE}")


def test_pages_go_to_memory_first_are_on_the_file_later_and_come_back_right(tmp_path):
    with (
        running_daemon(tmp_path, "--memory", "512KiB", config=tiers(tmp_path, "demote(after=3600)")) as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = client.mmap(2 * FRAMES * PAGE)
        data = os.urandom(len(region))
        region.write(0, data)
        swapped = region_of(daemon).swapped_pages
        assert swapped >= FRAMES
        assert (used(daemon)["slow"], daemon.counters()["demotions"]) == (0, 0)  # their time is not over
        daemon.admin.set_policy(client.process_id, {"cond": "demote(after=0.2)"})

        def all_on_file():
            slots = used(daemon)
            return slots["fast"] == 0 and slots["slow"] >= region_of(daemon).swapped_pages

        wait_until(all_on_file, "all pages in swap are on the file")
        assert daemon.counters()["demotions"] >= swapped
        explained = next(page for page in explained_pages(daemon, client, region) if page["state"] == "SWAPPED")
        assert explained["slot"]["device_name"] == "slow"
        assert explained["last_eviction"]["reason"] == "demoted to swap device slow"
        assert explained["last_eviction"]["result"] == "demoted"
        assert region.read(0, len(data)) == data
        counters = daemon.counters()
        assert (counters["swap_read_errors"], counters["swap_write_errors"]) == (0, 0)
        daemon.never("policy_error")


def test_pages_come_back_once_memory_is_free(tmp_path):
    with (
        running_daemon(
            tmp_path, "--memory", "512KiB", "--swap", "memory:4MiB", "--cond", "swap_back(free=0.25,batch=16)"
        ) as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = client.mmap(64 * PAGE)
        data = os.urandom(len(region))
        region.write(0, data)
        with lib_usm.connect(daemon.address, name="hog") as hog:
            large = hog.mmap(FRAMES * PAGE)
            large.write(0, os.urandom(len(large)))
            assert region_of(daemon).swapped_pages > 0
            assert daemon.counters()["swapped_back"] == 0

        def in_memory():
            return region_of(daemon).swapped_pages == 0 and daemon.admin.status().filling_frames == 0

        wait_until(in_memory, "all pages are in memory again")
        counters, faults = daemon.counters(), region_of(daemon).faults
        assert counters["swapped_back"] > 0
        assert region.read(0, len(data)) == data
        assert (region_of(daemon).faults, daemon.events("policy_error")) == (faults, [])


def test_trim_keeps_more_free_than_the_watermarks(tmp_path):
    with (
        running_daemon(
            tmp_path, "--memory", "512KiB", "--swap", "memory:4MiB", "--cond", "trim(low=0.3,high=0.5)"
        ) as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = client.mmap(2 * FRAMES * PAGE)
        data = os.urandom(len(region))
        region.write(0, data)
        wait_until(lambda: daemon.admin.status().free_frames >= FRAMES // 2, "half of memory is free")
        assert region.read(0, len(data)) == data
        daemon.never("policy_error")


@pytest.mark.parametrize(
    ("cond", "said"),
    [
        ("later", ["cond policy 'later' does not exist", "all_of, demote, none, swap_back, tiers, trim"]),
        ("trim(low=0.5)", ["trim(low=0.5,high=0.1)", "0 <= low <= high <= 1"]),
        ("all_of(first=demote(fast=1))", ["demote(fast=1,slow=1", "that differ"]),
    ],
)
def test_a_conditional_policy_that_cannot_be_had_stops_the_start(tmp_path, cond, said):
    places = ("--socket", str(tmp_path / "usmd.sock"), "--admin-socket", str(tmp_path / "admin.sock"))
    done = run_usmd("serve", *places, "--cond", cond)
    assert done.returncode == 2
    assert all(words in done.stderr for words in ["policy.cond: ", *said])


def test_real_memory_goes_and_comes_by_way_of_both_devices(tmp_path):
    require_real_memory()
    config = tiers(tmp_path, "all_of(first=demote(after=0.2),second=swap_back(free=0.5))")
    with (
        running_daemon(tmp_path, "--memory", "512KiB", config=config, mechanism="userfaultfd") as daemon,
        told_clients(daemon.address, "app") as (client,),
    ):
        client.map("data", 2 * FRAMES)
        for seed in range(3):
            before = daemon.counters()["demotions"]
            client.do("fill", name="data", seed=seed, first=0, pages=2 * FRAMES)
            wait_until(lambda before=before: daemon.counters()["demotions"] >= before + FRAMES // 2, "pages move")
            assert client.do("wrong", name="data", seed=seed, first=0, pages=2 * FRAMES) == []
        counters = daemon.counters()
        assert counters["demotions"] > FRAMES
        assert [counters[name] for name in ("poisoned", "swap_read_errors", "swap_write_errors")] == [0, 0, 0]
        daemon.never("policy_error")
