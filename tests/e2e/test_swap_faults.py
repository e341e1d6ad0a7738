"""Swap devices that fail under a running daemon: damaged, truncated, full, unlinked; and those that cannot be made.

Every failure reaches the owner of the page as a typed error, and nobody else.
"""

import os

import pytest

import lib_usm
from tests.support.daemon import run_usmd, running_daemon, wait_until
from tests.support.io_ways import each_way

__all__ = ["each_way"]
pytestmark = pytest.mark.usefixtures("each_way")

PAGE = 4096
MIB = 1 << 20


def refused(folder, swap):
    """Start a daemon that does not start, with this swap device; its end."""
    places = ("--socket", str(folder / "usmd.sock"), "--admin-socket", str(folder / "admin.sock"))
    return run_usmd("serve", *places, "--memory", "1MiB", "--swap", swap)


def to_swap(daemon, client, region, offset=0, length=None):
    """Have the daemon swap a range out, and wait until all of it is in swap only."""
    client.usm_hint(region, "DONTNEED", offset, length)
    wanted = -(-(len(region) if length is None else length) // PAGE)

    def swapped():
        (found,) = [each for each in daemon.admin.regions(0) if each.region_id == region.region_id]
        return found.swapped_pages >= wanted

    wait_until(swapped, f"{wanted} pages of {region!r} are in swap")


def slot_of(daemon, client, region, page):
    """Slot of a page that is in swap only."""
    found = daemon.usmctl("explain", str(client.process_id), f"{region.region_id}+{page * PAGE}")
    assert found["state"] == "SWAPPED", found
    return found["slot"]["slot"]


def test_a_flipped_bit_is_data_loss_for_that_page_again_and_again_and_for_no_other(tmp_path):
    swap = tmp_path / "swap"
    with (
        running_daemon(tmp_path, "--memory", "1MiB", "--swap", f"file:{swap}:8MiB") as daemon,
        lib_usm.connect(daemon.address) as owner,
        lib_usm.connect(daemon.address) as other,
    ):
        data, others = os.urandom(64 * PAGE), os.urandom(64 * PAGE)
        region, theirs = owner.mmap(len(data)), other.mmap(len(others))
        region.write(0, data)
        theirs.write(0, others)
        to_swap(daemon, owner, region)
        to_swap(daemon, other, theirs)
        position = (slot_of(daemon, owner, region, 7) + 1) * PAGE + 1234
        with swap.open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            assert byte == data[7 * PAGE + 1234]
            file.seek(position)
            file.write(bytes((byte ^ 4,)))
        for _ in range(2):
            with pytest.raises(lib_usm.DataLoss) as caught:
                region.read(7 * PAGE, 10)
            assert caught.value.page == 7
        with pytest.raises(lib_usm.DataLoss):
            region.write(7 * PAGE + 100, b"not over lost bytes")
        with pytest.raises(lib_usm.DataLoss):
            region.read(0, len(data))
        assert region.read(0, 7 * PAGE) == data[: 7 * PAGE]
        assert region.read(8 * PAGE, 56 * PAGE) == data[8 * PAGE :]
        assert theirs.read(0, len(others)) == others
        errors = daemon.events("swap_error", process_id=owner.process_id)
        assert errors
        assert {error["page"] for error in errors} == {"7"}
        assert daemon.admin.swap_devices()[0].errors >= 4
        region.close()
        fresh = owner.mmap(len(data))
        fresh.write(0, data)
        to_swap(daemon, owner, fresh)
        assert fresh.read(0, len(data)) == data


def test_pages_beyond_the_end_of_a_truncated_file_are_data_loss_and_the_rest_goes_on(tmp_path):
    swap = tmp_path / "swap"
    with (
        running_daemon(tmp_path, "--memory", "1MiB", "--swap", f"file:{swap}:4MiB") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        data = os.urandom(32 * PAGE)
        region = client.mmap(len(data))
        region.write(0, data)
        to_swap(daemon, client, region)
        slots = [slot_of(daemon, client, region, page) for page in (0, 31)]
        assert slots[0] < slots[1]
        os.truncate(swap, (slots[1] + 1) * PAGE + 100)
        with pytest.raises(lib_usm.DataLoss, match="truncated") as caught:
            region.read(31 * PAGE, PAGE)
        assert caught.value.page == 31
        assert region.read(0, 31 * PAGE) == data[: 31 * PAGE]
        # Writes make the file as long again as it is needed.
        more = os.urandom(2 * MIB)
        second = client.mmap(len(more))
        second.write(0, more)
        assert second.read(0, len(more)) == more


def test_full_swap_refuses_and_works_again_when_memory_is_freed(tmp_path):
    swap = f"file:{tmp_path / 'swap'}:512KiB"
    with (
        running_daemon(tmp_path, "--memory", "1MiB", "--swap", swap, "--oom", "refuse") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        first, data = client.mmap(MIB), os.urandom(MIB)
        first.write(0, data)
        with pytest.warns(UserWarning, match="this session maps"):
            second, more = client.mmap(MIB), os.urandom(MIB)
        with pytest.raises(lib_usm.OutOfMemory, match=r"7 of 128 swap slots free, 7 pages .* newcomers"):
            second.write(0, more)
        second.close()
        assert first.read(0, MIB) == data
        first.close()
        third = client.mmap(MIB + 128 * PAGE - 16 * PAGE)
        third.write(0, more)
        assert third.read(0, MIB) == more
        assert daemon.counters()["swap_write_errors"] == 0


def test_a_swap_file_without_a_folder_stops_the_start_with_2(tmp_path):
    done = refused(tmp_path, f"file:{tmp_path}/nowhere/swap:1MiB")
    assert done.returncode == 2
    assert f"{tmp_path}/nowhere does not exist" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_file_is_left_alone_and_stops_the_start_with_2(tmp_path):
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    done = refused(tmp_path, f"file:{precious}:1MiB")
    assert done.returncode == 2
    assert "is not a usmd swap file" in done.stderr
    assert precious.read_text() == "years of work"


def test_a_swap_file_that_is_unlinked_meanwhile_goes_on(tmp_path):
    swap = tmp_path / "swap"
    with (
        running_daemon(tmp_path, "--memory", "1MiB", "--swap", f"file:{swap}:4MiB") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        data = os.urandom(3 * MIB)
        region = client.mmap(len(data))
        region.write(0, data)
        swap.unlink()
        assert region.read(0, len(data)) == data
        region.write(0, data[::-1])
        assert region.read(0, len(data)) == data[::-1]
        # What somebody else puts in its place is not ours to remove.
        swap.write_text("another's")
    assert swap.read_text() == "another's"


def fill(folder):
    """Write until the disk is full."""
    block = bytes(4096)
    with (folder / "filler").open("wb", buffering=0) as filler:
        for _ in range(os.statvfs(folder).f_bfree):
            assert filler.write(block) == len(block)
    assert os.statvfs(folder).f_bfree == 0


def test_a_swap_file_larger_than_its_disk_stops_the_start_with_2_and_leaves_no_file(tmp_path, small_disk):
    done = refused(tmp_path, f"file:{small_disk}/swap:4MiB")
    assert done.returncode == 2
    assert "needs 4.0 MiB" in done.stderr
    assert "2 MiB are free" in done.stderr
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_later_does_no_harm_because_the_file_has_its_room(tmp_path, small_disk):
    swap = f"file:{small_disk}/swap:1536KiB"
    with (
        running_daemon(tmp_path, "--memory", "1MiB", "--swap", swap) as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        fill(small_disk)
        data = os.urandom(2 * MIB)
        region = client.mmap(len(data))
        region.write(0, data)
        assert region.read(0, len(data)) == data
        assert daemon.admin.swap_devices()[0].errors == 0
