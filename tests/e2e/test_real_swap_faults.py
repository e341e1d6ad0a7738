"""Swap devices that fail under real memory: full, damaged, refusing reads or writes, for good or for a while.

A thread that touches a page cannot be given an error, so it is SIGBUS; a call that asks for the page gets the typed
one. Writes that fail cost nobody a byte.
"""

import errno
import json
import mmap
import os
import re
import signal
import threading

import pytest

import lib_usm
from tests.support.daemon import wait_equal, wait_until
from tests.support.io_ways import each_way
from tests.support.real_daemon import FRAMES, PAGE, Bystander, real_daemon, to_swap
from tests.support.real_memory import require_real_memory
from tests.support.swap_faults import daemon_with_faults
from tests.support.told_client import Refused, told_clients
from usmd.ctl.targets import Place

__all__ = ["each_way"]

PAGES = 64


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def slot_of(daemon, client, name, page):
    """Slot of a page that is in swap only."""
    process = next(each.process_id for each in daemon.admin.processes() if each.name == client.name)
    found = daemon.admin.explain(process, Place(client.region_ids[name], "", page * PAGE))
    assert found.state == "SWAPPED", found
    return found.slot.slot


def in_swap(daemon, client):
    """Fill the region `data` and have it swapped out."""
    client.map("data", PAGES)
    client.do("fill", name="data", seed=1, first=0, pages=PAGES)
    to_swap(daemon, client, "data", 0, PAGES)


# Out of memory into swap


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_when_swap_cannot_be_written_pages_stay_faults_wait_and_the_rest_goes_on_when_it_can_again(tmp_path, error):
    with daemon_with_faults(tmp_path) as (daemon, faults), told_clients(daemon.address, "other", "app") as clients:
        other, client = clients
        bystander = Bystander(daemon, other)
        faults.fail("write", error)
        client.map("data", 2 * FRAMES)
        client.do("fill", name="data", seed=1, first=0, pages=32)
        client.do("evict", name="data", first=0, pages=32)
        # More than fits: these faults wait for frames, for the device may recover.
        filling = client.begin("fill", name="data", seed=1, first=32, pages=2 * FRAMES - 32)
        wait_until(filling.waits_for_its_page, "a fault waits for a frame")
        report = daemon.wait_for("swap_error", operation="write", device="file0")
        assert os.strerror(getattr(errno, error)) in report["message"]
        assert "pages stay in memory" in report["message"]
        assert daemon.counters()["swap_outs"] == 0
        # What is in memory is there, and can be read and written meanwhile.
        assert client.do("wrong", name="data", seed=1, first=0, pages=32) == []
        client.do("fill", name="data", seed=1, first=0, pages=32)
        bystander.check()
        assert filling.answer is None
        faults.end()
        filling.result()
        assert client.do("wrong", name="data", seed=1, first=0, pages=2 * FRAMES) == []
        bystander.check()
        counters = daemon.counters()
        assert min(counters["swap_write_errors"], counters["swap_outs"]) > 0
        assert counters["poisoned"] == 0


def test_a_device_that_stays_broken_ends_in_out_of_memory_and_loses_nothing(tmp_path):
    with daemon_with_faults(tmp_path) as (daemon, faults), told_clients(daemon.address, "other", "app") as clients:
        other, client = clients
        bystander = Bystander(daemon, other)
        faults.fail("write", "EIO")
        client.map("data", 2 * FRAMES)
        client.do("fill", name="data", seed=1, first=0, pages=FRAMES // 2)
        with pytest.raises(Refused, match="OutOfMemory: no frame for page"):
            client.do("ensure", name="data", first=FRAMES // 2, pages=FRAMES)
        assert client.do("wrong", name="data", seed=1, first=0, pages=FRAMES // 2) == []
        bystander.check()
        faults.end()
        wait_until(lambda: can_have(client, FRAMES, 8), "the device is tried again, and takes pages")
        assert client.do("wrong", name="data", seed=1, first=0, pages=FRAMES // 2) == []
        bystander.check()


def can_have(client, first, pages):
    """Whether pages of the region `data` can be had."""
    try:
        client.do("ensure", name="data", first=first, pages=pages)
    except Refused:
        return False
    return True


@pytest.mark.usefixtures("each_way")
def test_a_disk_that_is_really_full_when_a_page_is_to_be_written_costs_no_byte(tmp_path, small_disk):
    swap = small_disk / "swap"
    with (
        real_daemon(tmp_path, swap=f"file:{swap}:1536KiB") as daemon,
        told_clients(daemon.address, "app") as (client,),
    ):
        # The room that the file had taken is lost to it, and to others.
        os.truncate(swap, PAGE)
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:
            for _ in range(os.statvfs(small_disk).f_bfree):
                file.write(bytes(PAGE))
        client.map("data", FRAMES + 64)
        filling = client.begin("fill", name="data", seed=1, first=0, pages=FRAMES + 64)
        report = daemon.wait_for("swap_error", operation="write")
        assert "No space left on device" in report["message"]
        wait_until(filling.waits_for_its_page, "a fault waits for a frame")
        filler.unlink()
        filling.result()
        assert client.do("wrong", name="data", seed=1, first=0, pages=FRAMES + 64) == []


def test_without_a_frame_or_a_slot_ensure_is_out_of_memory_and_a_touch_is_sigbus(tmp_path):
    with (
        real_daemon(tmp_path, swap="memory:128KiB") as daemon,
        told_clients(daemon.address, "other", "asks", "touches") as (other, asks, touches),
    ):
        bystander = Bystander(daemon, other)
        # These keep what they have: zeros take no slot, and so have no place in swap to go to once it is full.
        asks.map("data", FRAMES)
        asks.do("fill", name="data", seed=1, first=0, pages=48)
        touches.map("data", FRAMES)
        with pytest.raises(Refused, match="OutOfMemory"):
            touches.do("store", name="data", seed=2, first=0, pages=FRAMES)
        touch = touches.begin("fill", name="data", seed=2, first=0, pages=FRAMES)
        assert touches.ends_with() == -signal.SIGBUS
        assert touch.answer is None
        poisoned = daemon.expect("page_poisoned", reason="OUT_OF_MEMORY")
        assert "touches" in poisoned["message"]
        wait_equal(lambda: {each.name for each in daemon.admin.processes()}, {"other", "asks"}, "it is gone")
        with pytest.raises(Refused, match="OutOfMemory: no frame for page") as caught:
            asks.do("ensure", name="data", first=48, pages=FRAMES - 48)
        assert caught.value.page is not None
        assert asks.do("wrong", name="data", seed=1, first=0, pages=48) == []
        bystander.check()
        assert daemon.counters()["oom_refusals"] > 0


# From swap into memory


def test_a_page_that_cannot_be_read_is_swap_io_error_for_ensure_and_comes_back_when_the_device_recovers(tmp_path):
    with daemon_with_faults(tmp_path) as (daemon, faults), told_clients(daemon.address, "other", "app") as clients:
        other, client = clients
        bystander = Bystander(daemon, other)
        in_swap(daemon, client)
        faults.fail("read", "EIO", [slot_of(daemon, client, "data", 7)])
        for _ in range(2):
            with pytest.raises(Refused, match=r"SwapIOError: .*Input/output error") as caught:
                client.do("ensure", name="data", first=0, pages=16)
            assert caught.value.page == 7
        assert not client.do("resident", name="data", first=7, pages=1)
        assert client.do("wrong", name="data", seed=1, first=0, pages=7) == []
        assert client.do("wrong", name="data", seed=1, first=8, pages=PAGES - 8) == []
        bystander.check()
        faults.end()
        client.do("ensure", name="data", first=0, pages=16)
        assert client.do("wrong", name="data", seed=1, first=0, pages=PAGES) == []
        daemon.never("page_poisoned")


def test_a_touch_of_a_page_that_cannot_be_read_is_sigbus_and_ensure_heals_it_when_the_device_recovers(tmp_path):
    with daemon_with_faults(tmp_path) as (daemon, faults), told_clients(daemon.address, "other", "app") as clients:
        other, client = clients
        bystander = Bystander(daemon, other)
        in_swap(daemon, client)
        faults.fail("read", "EIO", [slot_of(daemon, client, "data", 7)])
        # A system call is told with EFAULT what ends a thread by SIGBUS, so that the process lives on.
        assert not client.do("send", name="data", page=7)
        poisoned = daemon.wait_for("page_poisoned")
        assert (poisoned["page"], poisoned["reason"]) == ("7", "SWAP_IO")
        assert not client.do("send", name="data", page=7)
        assert not client.do("resident", name="data", first=7, pages=1)
        with pytest.raises(Refused, match="SwapIOError"):
            client.do("ensure", name="data", first=7, pages=1)
        faults.end()
        client.do("ensure", name="data", first=7, pages=1)
        assert client.do("resident", name="data", first=7, pages=1)
        assert client.do("wrong", name="data", seed=1, first=0, pages=PAGES) == []
        assert client.do("send", name="data", page=7)
        client.do("fill", name="data", seed=2, first=7, pages=1)
        to_swap(daemon, client, "data", 7, 1)
        assert client.do("wrong", name="data", seed=2, first=7, pages=1) == []
        bystander.check()


def test_a_touch_of_a_page_that_cannot_be_read_ends_its_process_alone(tmp_path):
    with (
        daemon_with_faults(tmp_path) as (daemon, faults),
        told_clients(daemon.address, "other", "app", "same") as (other, client, same),
    ):
        bystander = Bystander(daemon, other)
        in_swap(daemon, client)
        in_swap(daemon, same)
        faults.fail("read", "EIO", [slot_of(daemon, client, "data", 7)])
        assert client.do("wrong", name="data", seed=1, first=0, pages=7) == []
        touch = client.begin("peek", name="data", page=7)
        assert client.ends_with() == -signal.SIGBUS
        assert touch.answer is None
        assert same.do("wrong", name="data", seed=1, first=0, pages=PAGES) == []
        same.kill()
        bystander.wait_alone()
        bystander.check()


def damage(swap, slot):
    """Flip a bit of a slot in the swap file."""
    position = (slot + 1) * PAGE + 1234
    with swap.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes((byte ^ 4,)))


@pytest.mark.usefixtures("each_way")
def test_a_damaged_page_is_data_loss_for_ensure_sigbus_for_a_touch_and_nothing_for_anybody_else(tmp_path):
    with (
        real_daemon(tmp_path, swap=f"file:{tmp_path / 'swap'}:8MiB") as daemon,
        told_clients(daemon.address, "other", "app") as (other, client),
    ):
        bystander = Bystander(daemon, other)
        in_swap(daemon, client)
        damage(tmp_path / "swap", slot_of(daemon, client, "data", 7))
        for _ in range(2):
            with pytest.raises(Refused, match="DataLoss") as caught:
                client.do("ensure", name="data", first=4, pages=8)
            assert caught.value.page == 7
            with pytest.raises(Refused, match="DataLoss") as caught:
                client.do("load", name="data", first=0, pages=PAGES)
            assert caught.value.page == 7
        assert client.do("wrong", name="data", seed=1, first=0, pages=7) == []
        assert client.do("wrong", name="data", seed=1, first=8, pages=PAGES - 8) == []
        touch = client.begin("fill", name="data", seed=2, first=7, pages=1)
        assert client.ends_with() == -signal.SIGBUS
        assert touch.answer is None
        # Which byte of the page a copy touches first, the C library decides.
        assert re.search(r"SIGBUS at page 7 \(byte (28|29|30|31|32)\d{3}\) of <Region", client.last_words())
        assert ": the daemon could not bring the page: its bytes in swap are damaged" in client.last_words()
        bystander.wait_alone()
        bystander.check()


def test_operators_who_watch_are_told_of_a_page_whose_touch_is_sigbus(tmp_path):
    with (
        daemon_with_faults(tmp_path) as (daemon, faults),
        told_clients(daemon.address, "app") as (client,),
        daemon.start_usmctl("watch", "--format", "json") as watch,
    ):
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(watch.stdout))
        reader.start()
        try:
            in_swap(daemon, client)
            faults.fail("read", "EIO")
            # The watch says nothing when it begins, so visits go on until one is seen.
            wait_until(lambda: lib_usm.connect(daemon.address).close() or list(lines), "a visit is seen")
            assert not client.do("send", name="data", page=9)

            def told():
                return [each for each in map(json.loads, list(lines)) if each["kind"] == "page_poisoned"]

            (event,) = wait_until(told, "the watch tells of a page")
        finally:
            watch.kill()
            reader.join()
        assert "of app: a touch of it is SIGBUS now" in event["message"]
        assert event["fields"]["reason"] == "SWAP_IO"
        assert (event["fields"]["region_id"], event["fields"]["page"]) == (str(client.region_ids["data"]), "9")
        faults.end()


def test_a_page_that_its_client_empties_while_it_is_being_written_is_zeros_or_what_it_was_and_no_sigbus(tmp_path):
    with daemon_with_faults(tmp_path) as (daemon, faults), told_clients(daemon.address, "app") as (client,):
        client.map("data", PAGES)
        client.do("fill", name="data", seed=1, first=0, pages=PAGES)
        faults.hold_up("write")

        def writes():
            client.do("evict", name="data", first=0, pages=PAGES)
            return daemon.admin.swap_devices()[0].in_flight

        assert wait_until(writes, "pages are being written") > 0
        client.do("madvise", name="data", first=0, pages=PAGES, advice=mmap.MADV_REMOVE)
        faults.end()
        wait_until(lambda: not daemon.admin.swap_devices()[0].in_flight, "the writes end")
        client.do("ensure", name="data", first=0, pages=PAGES)
        wrong = client.do("wrong", name="data", seed=1, first=0, pages=PAGES)
        assert [page for page in wrong if client.peek("data", page) != bytes(PAGE)] == []


# Longer than a job waits for a CPU on a machine that is busy.
DEVICE_TIMEOUT = "[server]\ndevice_timeout = 2\n"


def test_a_write_that_hangs_leaves_every_byte_in_memory_and_the_device_is_used_again(tmp_path):
    with (
        daemon_with_faults(tmp_path, config=DEVICE_TIMEOUT) as (daemon, faults),
        told_clients(daemon.address, "app") as (client,),
    ):
        client.map("data", 64)
        client.do("fill", name="data", seed=1, first=0, pages=64)
        faults.hold_up("write")
        client.do("evict", name="data", first=0, pages=64)
        assert daemon.wait_for("swap_device_hangs")["operation"] == "write"
        assert client.do("wrong", name="data", seed=1, first=0, pages=64) == []
        client.do("fill", name="data", seed=2, first=0, pages=64)
        faults.end()
        daemon.wait_for("swap_device_returned")
        to_swap(daemon, client, "data", 0, 64)
        assert client.do("wrong", name="data", seed=2, first=0, pages=64) == []
        assert len(daemon.events("swap_device_hangs")) == 1


def test_a_read_that_hangs_is_an_error_to_its_page_alone_and_later_the_page_comes(tmp_path):
    with (
        daemon_with_faults(tmp_path, config=DEVICE_TIMEOUT) as (daemon, faults),
        told_clients(daemon.address, "app", "other") as (client, other),
    ):
        for each in (client, other):
            each.map("data", 32)
            each.do("fill", name="data", seed=3, first=0, pages=32)
        to_swap(daemon, client, "data", 0, 32)
        faults.hold_up("read")
        with pytest.raises(Refused) as caught:
            client.do("ensure", name="data", first=5, pages=1)
        assert caught.value.kind == "SwapIOError"
        assert daemon.wait_for("swap_device_hangs")["operation"] == "read"
        other.do("fill", name="data", seed=4, first=0, pages=32)
        faults.end()
        daemon.wait_for("swap_device_returned")
        client.do("ensure", name="data", first=0, pages=32)
        assert client.do("wrong", name="data", seed=3, first=0, pages=32) == []
        assert other.do("wrong", name="data", seed=4, first=0, pages=32) == []
