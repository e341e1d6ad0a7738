"""Three swap devices as tiers in the live daemon: pages go down by age, come up by faults, and stay what they are."""

import random

import lib_usm
from tests.support.daemon import running_daemon
from tests.support.waiting import wait_until

PAGE = 4096
PAGES = 512
TIERS = """
[memory]
demotion_rate = "64MiB"
[[swap]]
kind = "compressed"
size = "256KiB"
name = "zip"
[[swap]]
kind = "file"
size = "512KiB"
path = "{folder}/disk"
name = "disk"
[[swap]]
kind = "file"
size = "8MiB"
path = "{folder}/far"
name = "far"
"""


def page(number):
    """A page that compresses to about a third."""
    return random.Random(number).randbytes(PAGE // 3).ljust(PAGE, b".")


def test_pages_go_down_when_tiers_fill_and_up_when_they_are_touched_and_every_byte_comes_back(tmp_path):
    flags = ("--memory", "512KiB", "--cond", "tiers(high=0.8,low=0.6)")
    with (
        running_daemon(tmp_path, *flags, config=TIERS.format(folder=tmp_path)) as daemon,
        lib_usm.connect(daemon.address) as client,
    ):

        def shares():
            found = {each.name: each for each in daemon.admin.swap_devices()}
            zipped = found["zip"].held_bytes / found["zip"].capacity_bytes
            return zipped, *((each.slots - each.free_slots) / each.slots for each in (found["disk"], found["far"]))

        region = client.mmap(PAGES * PAGE)
        for number in range(PAGES):
            region.write(number * PAGE, page(number))
        wait_until(lambda: max(shares()[:2]) <= 0.8, "no tier but the last is above its mark")
        assert min(shares()) > 0
        client.usm_hint(region, "SWAP=far", 0, 8 * PAGE)
        for number in range(PAGES):
            assert region.read(number * PAGE, PAGE) == page(number)
        wait_until(lambda: max(shares()[:2]) <= 0.8, "nor is one after all pages were read")
        assert daemon.admin.status().counters["demotions"] > 0
        (read,) = [each for each in daemon.admin.swap_devices() if each.name == "far"]
        assert 0 < read.read_p50_seconds <= read.read_p99_seconds
        assert [each.errors for each in daemon.admin.swap_devices()] == [0, 0, 0]
        daemon.never("swap_error")
        daemon.never("policy_error")
