"""usmctl against a real daemon: every subcommand, for people and for programs.

JSON comes from processes of its own; tables and complaints from the same command line called here, which is quicker.
"""

import contextlib
import json
import os
import signal
import threading

import pytest

import lib_usm
from tests.support.daemon import running_daemon, wait_equal, wait_until
from usmd.ctl.cli import main
from usmd.policies.registry import TABLES, is_file

PAGE = 4096


class Scene:
    """A daemon and one client, `indexer`, whose region `index` has 16 pages in memory and `cache` 8 in swap."""

    def __init__(self, daemon, client, index, cache):
        self.daemon = daemon
        self.client = client
        self.index = index
        self.cache = cache


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usmctl")
    flags = ("--memory", "1MiB", "--swap", f"file:{folder / 'swap'}:2MiB", "--evict", "hint_aware(fallback=lru)")
    with running_daemon(folder, *flags) as daemon, lib_usm.connect(daemon.address, name="indexer") as client:
        index, cache = client.mmap(16 * PAGE, name="index"), client.mmap(64 * PAGE, name="cache")
        index.write(0, os.urandom(16 * PAGE))
        cache.write(0, os.urandom(8 * PAGE))
        with pytest.warns(UserWarning, match="no policy of this process acts on X_OWNER"):
            client.usm_hint(index, "PRIORITY=HIGH; EVICTION=DENY; X_OWNER=tests")
        client.usm_hint(cache, "PRIORITY=LOW; DONTNEED")
        wait_equal(lambda: daemon.admin.regions(client.process_id)[1].swapped_pages, 8, "the cache is in swap")
        yield Scene(daemon, client, index, cache)


@pytest.fixture
def usmctl(scene, capsys):
    """usmctl in this process: exit code, standard output, standard error."""

    def run(*arguments):
        code = main(["--address", scene.daemon.admin_address, *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("status",), ["simulated", "256", "of 2 MiB", "swap"]),
        (("processes",), ["indexer", "async_aware", "hint_aware(fallback=lru)", "refuse"]),
        (("regions",), ["index", "cache"]),
        (("regions", "indexer"), ["index", "cache"]),
        (("regions", "1"), ["index", "cache"]),  # the first that attached
        (("policies",), [name for names in TABLES.values() for name in names]),
        (("swap",), ["file0", "512"]),
        (("hints", "indexer"), ["PRIORITY=HIGH; EVICTION=DENY; X_OWNER=tests", "PRIORITY=LOW; DONTNEED"]),
        (("map", "--cells", "16"), ["256"]),
        (("map", "--by", "owner"), ["indexer"]),
    ],
)
def test_a_subcommand_prints_a_table_for_people(usmctl, arguments, shown):
    code, text, complaint = usmctl(*arguments)
    assert (code, complaint) == (0, "")
    assert "\x1b" not in text
    assert [part for part in shown if part not in text] == [], text


def test_status_as_json_has_the_frames_the_slots_and_the_counters(scene):
    status = scene.daemon.usmctl("status")
    assert (status["frames"], status["free_frames"], status["unevictable_frames"]) == (256, 240, 16)
    assert (status["swap_slots"], status["free_swap_slots"]) == (512, 504)
    assert status["pid"] == scene.daemon.process.pid
    assert status["draining"] is False
    assert status["counters"]["swap_outs"] == 8


def test_processes_and_regions_as_json_count_pages(scene):
    (process,) = scene.daemon.usmctl("processes")["processes"]
    keys = ("name", "resident_pages", "swapped_pages", "unevictable_pages", "pid", "uid")
    counted = {key: process[key] for key in keys}
    assert counted == {
        "name": "indexer", "resident_pages": 16, "swapped_pages": 8, "unevictable_pages": 16,
        "pid": os.getpid(), "uid": os.getuid(),
    }  # fmt: skip
    regions = scene.daemon.usmctl("regions", str(scene.client.process_id))["regions"]
    assert [(each["name"], each["page_count"], each["resident_pages"], each["swapped_pages"]) for each in regions] == [
        ("index", 16, 16, 0),
        ("cache", 64, 0, 8),
    ]
    assert [each["address"] for each in regions] == [scene.index.address, scene.cache.address]


def test_policies_as_json_say_which_is_the_default_and_who_uses_it(scene):
    policies = scene.daemon.usmctl("policies")["policies"]
    built_in = {(kind, name) for kind, names in TABLES.items() for name in names if not is_file(name)}
    assert {(each["kind"], each["name"]) for each in policies} == built_in
    used = {(each["kind"], each["name"]) for each in policies if each["process_ids"] == [scene.client.process_id]}
    defaults = {(each["kind"], each["name"]) for each in policies if each["is_default"]}
    assert used == defaults == {
        ("alloc", "async_aware"), ("evict", "hint_aware"), ("oom", "refuse"), ("cond", "none"),
    }  # fmt: skip
    assert all(each["summary"] for each in policies)


def test_swap_as_json_has_the_path_and_the_traffic(scene):
    (device,) = scene.daemon.usmctl("swap")["swap_devices"]
    assert (device["number"], device["name"], device["kind"]) == (0, "file0", "file")
    assert os.path.exists(device["path"])
    assert (device["pages_written"], device["errors"], device["slots"] - device["free_slots"]) == (8, 0, 8)


def test_hints_as_json_have_the_text_and_the_fields(scene):
    high, low = scene.daemon.usmctl("hints", "indexer")["hint_ranges"]
    assert high["text"] == "PRIORITY=HIGH; EVICTION=DENY; X_OWNER=tests"
    assert (high["fields"]["priority"], high["fields"]["eviction"]) == ("HIGH", "DENY")
    assert high["fields"]["extra"] == {"X_OWNER": "tests"}
    assert high["unheeded_keys"] == ["X_OWNER"]
    assert (high["page_count"], high["resident_pages"], high["unevictable_pages"]) == (16, 16, 16)
    assert (low["region_id"], low["fields"]["priority"]) == (scene.cache.region_id, "LOW")


def test_the_map_as_json_covers_all_frames_and_names_the_owner(scene):
    found = scene.daemon.usmctl("map", "--cells", "16")
    assert (found["frames"], len(found["cells"])) == (256, 16)
    assert sum(cell["frames"] for cell in found["cells"]) == 256
    assert sum(cell["present"] for cell in found["cells"]) == 16
    assert sum(cell["unevictable"] for cell in found["cells"]) == 16
    assert {cell["process_id"] for cell in found["cells"]} == {0, scene.client.process_id}


@pytest.mark.parametrize("form", ["name_and_size", "number_and_offset", "address"])
def test_explain_finds_a_page_by_each_form(scene, form):
    page = {
        "name_and_size": "cache+12KiB",
        "number_and_offset": f"{scene.cache.region_id}+{3 * PAGE + 5}",
        "address": hex(scene.cache.address + 3 * PAGE + 9),
    }[form]
    found = scene.daemon.usmctl("explain", "indexer", page)
    assert (found["state"], found["page"], found["region_name"]) == ("SWAPPED", 3, "cache")
    assert found["address"] == scene.cache.address + 3 * PAGE


def test_explain_of_a_resident_page_shows_frame_and_right(scene, usmctl):
    found = scene.daemon.usmctl("explain", "indexer", "index+0")
    assert (found["state"], found["unevictable"], found["dirty"], found["slot"]) == ("PRESENT", True, True, None)
    assert found["hint"]["text"].startswith("PRIORITY=HIGH")
    code, text, _ = usmctl("explain", "indexer", "index+0")
    assert code == 0
    assert "PRESENT" in text
    assert "EVICTION=DENY protects it" in text


def test_explain_of_a_page_swapped_by_a_hint_says_so(scene):
    found = scene.daemon.usmctl("explain", "indexer", "cache+0")
    assert (found["slot"]["device_name"], found["frame"]) == ("file0", None)
    assert [found["last_eviction"][key] for key in ("policy", "reason", "result")] == ["hint", "DONTNEED", "swapped"]


def test_explain_of_a_page_swapped_under_pressure_names_policy_and_reason(tmp_path):
    flags = ("--memory", "256KiB", "--swap", "memory:2MiB", "--evict", "hint_aware(fallback=lru)")
    with running_daemon(tmp_path, *flags) as daemon, lib_usm.connect(daemon.address, name="app") as client:
        region = client.mmap(64 * PAGE * 3, name="cache")
        client.usm_hint(region, "PRIORITY=LOW")
        region.write(0, os.urandom(len(region)))
        found = daemon.usmctl("explain", "app", "cache+0")
        assert (found["state"], found["last_eviction"]["result"]) == ("SWAPPED", "swapped")
        assert found["last_eviction"]["policy"] == "hint_aware(fallback=lru)"
        reason = found["last_eviction"]["reason"]
        assert reason.startswith("PRIORITY=LOW, EVICTION=ALLOW: least recently used of its process; last fault ")
        done = daemon.run_usmctl("explain", "app", "cache+0")
        assert "by hint_aware(fallback=lru): PRIORITY=LOW" in done.stdout
        assert "written to swap" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("explain", "nobody", "1+0"), 1, "no process is named 'nobody'"),
        (("explain", "indexer", "index+64KiB"), 1, "none at offset 65536"),
        (("explain", "indexer", "0x1"), 1, "no region at address 0x1"),
        (("explain", "indexer", "somewhere"), 2, "cannot be read"),
        (("regions", "77"), 1, "no process 77"),
        (("map", "--cells", "0"), 2, "cells"),
    ],
)
def test_what_cannot_be_is_said_on_stderr_with_an_exit_code(usmctl, arguments, code, complaint):
    found, out, error = usmctl(*arguments)
    assert (found, out) == (code, "")
    assert complaint in error


@contextlib.contextmanager
def watching(daemon, *arguments):
    """The lines of `usmctl watch` so far, from the process that prints them."""
    lines = []
    with daemon.start_usmctl("watch", *arguments) as process:
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        reader.start()
        try:
            yield process, lines
        finally:
            process.kill()
            process.wait()
            reader.join()


def test_watch_prints_a_json_line_for_each_event_until_interrupted(tmp_path):
    with running_daemon(tmp_path, "--memory", "1MiB") as daemon, watching(daemon, "--format", "json") as (watch, lines):

        def events_of_a_visit():
            # The watch says nothing when it begins, so visits go on until one is seen.
            lib_usm.connect(daemon.address, name="visitor").close()
            return [json.loads(line) for line in list(lines)]

        event = wait_until(events_of_a_visit, "a visit is seen", 20)[0]
        assert event["kind"] in ("process_attached", "process_detached")
        seen = wait_until(
            lambda: [each for each in events_of_a_visit() if each["kind"] == "process_attached"], "an attach is seen"
        )
        assert seen[0]["fields"]["name"] == "visitor"
        assert seen[0]["process_id"] > 0
        assert "visitor attached as process" in seen[0]["message"]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(90) == 0


def test_a_drain_ends_a_watch_in_good_order(tmp_path):
    with running_daemon(tmp_path, "--memory", "1MiB") as daemon, watching(daemon) as (watch, lines):
        wait_until(
            lambda: lib_usm.connect(daemon.address, name="visitor").close() or list(lines), "a visit is seen", 20
        )
        assert "visitor" in lines[0]
        daemon.signal()
        assert daemon.wait_exit() == 0
        assert watch.wait(90) == 0


@pytest.mark.parametrize("output", ["table", "json"])
def test_drain_ends_the_sessions_and_the_daemon(tmp_path, output):
    with running_daemon(tmp_path, "--memory", "1MiB") as daemon:
        client = lib_usm.connect(daemon.address)
        done = daemon.run_usmctl("--format", output, "drain", "--yes")
        assert done.returncode == 0, done.stderr
        nothing = {"sessions": 1, "seconds_left": 0.0, "losses": []}
        assert json.loads(done.stdout) == nothing if output == "json" else done.stdout == "1 session ended\n"
        assert daemon.wait_exit() == 0
        with pytest.raises(lib_usm.Draining):
            client.mmap(PAGE)
        client.close()


def test_a_drain_that_is_not_confirmed_changes_nothing(tmp_path):
    with running_daemon(tmp_path, "--memory", "1MiB") as daemon, lib_usm.connect(daemon.address) as client:
        done = daemon.run_usmctl("drain")
        assert done.returncode == 1
        assert "nothing was done" in done.stderr
        assert client.mmap(PAGE)[0:1] == b"\0"


def test_a_daemon_that_is_gone_is_said_to_be_gone(tmp_path):
    with running_daemon(tmp_path, "--memory", "1MiB") as daemon:
        pass
    done = daemon.run_usmctl("status")
    assert done.returncode == 1
    assert f"no usmd at {daemon.admin_address}" in done.stderr


def test_status_tells_how_long_faults_and_devices_take(tmp_path):
    with (
        running_daemon(tmp_path, "--memory", "256KiB", "--swap", "memory:4MiB") as daemon,
        lib_usm.connect(daemon.address) as client,
        client.mmap(1 << 20) as region,
    ):
        region.write(0, b"x" * len(region))
        assert region.read(0, 1) == b"x"
        found = {each["operation"]: each for each in daemon.usmctl("status")["latencies"]}
        for operation, device in (("explicit_faults", ""), ("swap_in", "memory0"), ("swap_out", "memory0")):
            each = found[operation]
            assert each["device"] == device
            assert each["count"] > 0
            assert 0 < each["p50_seconds"] <= each["p99_seconds"]
        assert found["real_faults"]["count"] == 0
        assert "explicit faults" in daemon.run_usmctl("status").stdout
