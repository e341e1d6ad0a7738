"""What the policies do in the live daemon, seen by a client and by an operator: hints, yields, huge pages, rules."""

import os

import grpc
import pytest

import lib_usm
from tests.support.daemon import running_daemon, wait_equal
from usm_wire.pb.usm.v1 import client_pb2, client_pb2_grpc

PAGE = 4096
FRAMES = 128
INDEX = 32
MEMORY = ("--memory", "512KiB", "--swap", "memory:8MiB")


def region_info(daemon, region):
    (found,) = [each for each in daemon.usmctl("regions")["regions"] if each["region_id"] == region.region_id]
    return found


def scan(cache, index):
    """Read the cache from end to end twice, and the index a little in between."""
    for _ in range(2):
        for page in range(0, cache.page_count, 16):
            cache.read(page * PAGE, 16 * PAGE)
            index.read(page % index.page_count * PAGE, 100)


def prepared(client):
    index, cache = client.mmap(INDEX * PAGE, name="index"), client.mmap(2 * FRAMES * PAGE, name="cache")
    contents = os.urandom(len(index)), os.urandom(len(cache))
    index.write(0, contents[0])
    cache.write(0, contents[1])
    return index, cache, contents


@pytest.mark.parametrize("hint", ["PRIORITY=HIGH; EVICTION=DENY", "PRIORITY=HIGH"])
def test_hint_aware_keeps_the_index_in_memory_while_the_cache_is_scanned(tmp_path, hint):
    with (
        running_daemon(tmp_path, *MEMORY, "--evict", "hint_aware(fallback=fifo)") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        index, cache, contents = prepared(client)
        client.usm_hint(index, hint)
        client.usm_hint(cache, "PRIORITY=LOW; EVICTION=ALLOW")
        assert index.read(0, len(index)) == contents[0]
        before = region_info(daemon, index)
        assert before["resident_pages"] == INDEX
        cache_before = region_info(daemon, cache)
        scan(cache, index)
        after = region_info(daemon, index)
        assert [after[key] - before[key] for key in ("faults", "major_faults", "evictions")] == [0, 0, 0]
        assert region_info(daemon, cache)["major_faults"] - cache_before["major_faults"] > FRAMES
        assert (index.read(0, len(index)), cache.read(0, len(cache))) == contents


def test_without_hints_the_scan_drives_the_index_out(tmp_path):
    with (
        running_daemon(tmp_path, *MEMORY, "--evict", "hint_aware(fallback=fifo)") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        index, cache, _ = prepared(client)
        index.read(0, len(index))
        before = region_info(daemon, index)
        scan(cache, index)
        assert region_info(daemon, index)["major_faults"] > before["major_faults"]


@pytest.mark.filterwarnings("ignore:.* beyond the budget:UserWarning")
def test_deny_holds_within_its_budget_and_what_exceeds_it_is_counted_and_evictable(tmp_path):
    config = '[memory]\ndeny_budget = "25%"\ndeny_budget_total = "30%"\n'
    with running_daemon(tmp_path, *MEMORY, config=config) as daemon:
        with lib_usm.connect(daemon.address, name="first") as first, lib_usm.connect(daemon.address) as second:
            regions = [client.mmap(2 * FRAMES * PAGE) for client in (first, second)]
            data = os.urandom(len(regions[0]))
            answers = []
            for client, region in zip((first, second), regions, strict=True):
                region.write(0, data[: FRAMES // 3 * PAGE])
                answers.append(client.usm_hint(region, "EVICTION=DENY"))
            assert answers[0].over_budget_pages > 0
            assert answers[0].page_count == 2 * FRAMES
            unevictable = [each["unevictable_pages"] for each in daemon.usmctl("processes")["processes"]]
            assert unevictable == [FRAMES // 4, int(FRAMES * 0.3) - FRAMES // 4]
            for region in regions:
                region.write(0, data)
                assert region.read(0, len(data)) == data
            status = daemon.admin.status()
            assert status.unevictable_frames <= int(FRAMES * 0.3)
            assert status.counters["deny_over_budget"] > 0
            assert first.kept().refused_pages + second.kept().refused_pages == status.counters["deny_over_budget"]
        wait_equal(lambda: daemon.admin.status().unevictable_frames, 0, "the budget is free again")


def swapped_region(daemon, client, pages=8):
    region = client.mmap(pages * PAGE)
    region.write(0, os.urandom(pages * PAGE))
    client.usm_hint(region, "DONTNEED")
    wait_equal(lambda: daemon.admin.regions(client.process_id)[-1].swapped_pages, pages, "the region is in swap")
    return region


def test_async_aware_yields_a_swap_fault_and_completes_its_token(tmp_path):
    with (
        running_daemon(tmp_path, *MEMORY, "--alloc", "async_aware") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = swapped_region(daemon, client)
        outcome = client.fault(region, 2 * PAGE, 3 * PAGE, wait=False)
        assert isinstance(outcome, lib_usm.Yielded)
        completed = client.wait(outcome.token, timeout=90)
        assert isinstance(completed, lib_usm.Allocated)
        assert sum(run.page_count for run in completed.runs) == 3
        with pytest.raises(lib_usm.UnknownToken):
            client.wait(outcome.token, timeout=90)
        fresh = client.mmap(PAGE)
        assert isinstance(client.fault(fresh, 0, PAGE, wait=False), lib_usm.Allocated)
        (process,) = daemon.usmctl("processes")["processes"]
        assert process["counters"]["yields"] == 1


def test_first_fit_serves_a_swap_fault_without_a_yield(tmp_path):
    with (
        running_daemon(tmp_path, *MEMORY, "--alloc", "first_fit") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = swapped_region(daemon, client)
        assert isinstance(client.fault(region, 0, PAGE, wait=False), lib_usm.Allocated)
        assert daemon.counters()["yields"] == 0


@pytest.mark.parametrize(("fhp", "pages"), [("64KiB", 16), ("28KiB", 7), ("4KiB", 1)])
def test_one_fault_brings_n_pages_on_contiguous_frames_for_any_n(tmp_path, fhp, pages):
    with (
        running_daemon(tmp_path, *MEMORY, "--alloc", "flexible_huge_pages") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = client.mmap(64 * PAGE)
        client.usm_hint(region, f"FHP={fhp}")
        outcome = client.fault(region, 20 * PAGE, 1)
        (run,) = outcome.runs
        assert (run.first_page, run.page_count) == (20 - 20 % pages, pages)
        (seen,) = daemon.admin.regions(client.process_id)
        assert (seen.faults, seen.resident_pages) == (1, pages)
        # What came along needs no fault of its own.
        region.write(run.first_page * PAGE, b"x" * (pages * PAGE))
        assert daemon.admin.regions(client.process_id)[0].faults == 1


def test_rules_choose_by_exact_name_then_glob_then_uid_and_else_the_default(tmp_path):
    config = f"""
[policy]
alloc = "async_aware"
evict = "hint_aware(fallback=fifo)"
[[policy.rules]]
uid = {os.getuid()}
evict = "fifo"
[[policy.rules]]
glob = "web-*"
evict = "lru"
[[policy.rules]]
name = "web-1"
alloc = "flexible_huge_pages(pages=4)"
oom = "kill_largest"
"""
    with running_daemon(tmp_path, *MEMORY, config=config) as daemon:
        clients = [lib_usm.connect(daemon.address, name=name) for name in ("web-1", "web-2", "batch")]
        with lib_usm.connect(daemon.address, name="WEB-3"), RawAttach(daemon.address, "stranger"):
            found = {each["name"]: each for each in daemon.usmctl("processes")["processes"]}
            policies = {
                name: (each["alloc_policy"], each["evict_policy"], each["oom_policy"]) for name, each in found.items()
            }
            default = "hint_aware(fallback=fifo)"
            assert policies == {
                "web-1": ("flexible_huge_pages(pages=4)", default, "kill_largest"),
                "web-2": ("async_aware", "lru", "refuse"),
                "batch": ("async_aware", "fifo", "refuse"),
                "WEB-3": ("async_aware", "fifo", "refuse"),
                "stranger": ("async_aware", default, "refuse"),
            }
            assert {(each["pid"], each["uid"]) for name, each in found.items() if name != "stranger"} == {
                (os.getpid(), os.getuid())
            }
            assert (found["stranger"]["pid"], found["stranger"]["uid"]) == (0, None)
        for client in clients:
            client.close()


class RawAttach:
    """A session that nobody vouches for: attached without a ticket, by bare stubs."""

    def __init__(self, address, name):
        self.channel = grpc.insecure_channel(address)
        self.stub = client_pb2_grpc.ClientServiceStub(self.channel)
        answer = self.stub.Attach(client_pb2.AttachRequest(name=name))
        self.metadata = (("usm-session-token", answer.session_token),)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stub.Detach(client_pb2.DetachRequest(), metadata=self.metadata)
        self.channel.close()


@pytest.mark.parametrize("device", ["1", "slow"])
def test_a_swap_hint_sends_pages_to_that_device(tmp_path, device):
    config = f"""
[[swap]]
kind = "memory"
size = "4MiB"
name = "fast"
[[swap]]
kind = "file"
path = "{tmp_path}/swap"
size = "4MiB"
name = "slow"
"""
    with (
        running_daemon(tmp_path, "--memory", "512KiB", config=config) as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = client.mmap(32 * PAGE)
        data = os.urandom(32 * PAGE)
        region.write(0, data)
        client.usm_hint(region, f"SWAP={device}; DONTNEED", 8 * PAGE, 16 * PAGE)
        wait_equal(lambda: daemon.admin.regions(0)[0].swapped_pages, 16, "the hinted pages are in swap")
        written = {each["name"]: each["pages_written"] for each in daemon.usmctl("swap")["swap_devices"]}
        assert written == {"fast": 0, "slow": 16}
        client.usm_hint(region, "DONTNEED")
        wait_equal(lambda: daemon.admin.regions(0)[0].swapped_pages, 32, "all pages are in swap")
        used = {each["name"]: each["slots"] - each["free_slots"] for each in daemon.usmctl("swap")["swap_devices"]}
        assert used == {"fast": 16, "slow": 16}
        assert region.read(0, len(data)) == data
        with pytest.raises(lib_usm.InvalidHint, match=r"0 \(fast\), 1 \(slow\)"):
            client.usm_hint(region, "SWAP=tape")


def test_a_client_chooses_its_policies_where_the_configuration_lets_it(tmp_path):
    config = '[policy]\nchoices = ["lru", "s3_fifo"]\n[[policy.rules]]\nname = "ruled"\nevict = "clock"\n'
    with running_daemon(tmp_path, *MEMORY, config=config) as daemon:
        with lib_usm.connect(daemon.address, name="free", evict="s3_fifo(small=0.2)") as client:
            [process] = daemon.admin.processes()
            assert (process.alloc_policy, process.evict_policy) == ("async_aware", "s3_fifo(small=0.2)")
            region = client.mmap(2 * FRAMES * PAGE)
            region.write(0, b"x" * len(region))
            assert region.read(0, len(region)) == b"x" * len(region)
        for name, evict, said in (
            ("free", "arc", "policy.choices .* does not allow arc; allowed are lru, s3_fifo"),
            ("free", "lru(depth=3)", "it has no parameter 'depth'"),
            ("ruled", "lru", "a rule of usmd's configuration gives this process clock"),
        ):
            with pytest.raises(lib_usm.InvalidArgument, match=said):
                lib_usm.connect(daemon.address, name=name, evict=evict)
        wait_equal(lambda: daemon.admin.status().processes, 0, "no session is left")
