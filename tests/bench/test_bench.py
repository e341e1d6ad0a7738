"""The benchmarks run and measure what they say; no time is asserted."""

import importlib
import runpy
import sys

import pytest
import uvloop

from bench import __main__ as bench
from bench import core, disk, frames, stalls, stream, swap_devices
from usm_wire.pb.usm.v1 import client_pb2


def test_the_daemon_takes_at_most_200_bytes_a_frame():
    each, in_use = frames.bytes_per_frame(overcommit=4, frames=4096)
    assert each <= 200
    assert in_use > 4096 * 0.85


@pytest.mark.parametrize(("name", "measure", "aim"), core.MEASURES)
def test_each_measure_of_the_core_runs(monkeypatch, name, measure, aim):
    monkeypatch.setattr(core, "EVENTS", 640)
    monkeypatch.setattr(core, "FRAMES", 4096)
    assert measure() > 0


def test_the_core_bench_faults_pages_in_and_evicts_others():
    machine, process, region = core.make_core(64)
    for page in range(256):
        core.settle(machine, machine.handle(core.fault(process, region, page), 0.0))
    counters = machine.state.totals()
    assert counters.faults == 256
    assert counters.swap_outs > 150


def test_the_stream_bench_prints_a_ratio_for_each_batch(monkeypatch, capsys):
    monkeypatch.setattr(stream, "ROUNDS", 1)
    monkeypatch.setattr(stream, "MEMORY", "16MiB")
    monkeypatch.setattr(stream, "PAGES", 2048)
    monkeypatch.setattr(stream, "TRIPS", {1: 5, 64: 3})
    stream.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines if "ratio" in line] == ["1", "64"] * (
        1 if any("skipped" in line for line in lines) else 2
    )


def test_the_bare_stream_answers_each_fault_of_a_batch():
    from bench.echo_server import answer

    message = client_pb2.StreamFaultsResponse.FromString(answer(3).SerializeToString())
    assert [outcome.fault_id for outcome in message.outcomes] == [1, 2, 3]
    assert all(outcome.HasField("allocated") for outcome in message.outcomes)


def test_the_disk_bench_reads_by_each_way_and_prints_a_line_for_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(disk, "ROUNDS", 1)
    monkeypatch.setattr(disk, "PAGES", 512)
    monkeypatch.setattr(disk, "READS", {1: 20, 32: 100})
    uvloop.run(disk.queues(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:24].strip() for line in lines[1:]] == [setting.name for setting in disk.SETTINGS]


def test_an_unknown_name_lists_the_benchmarks(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "speed"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "no benchmark speed; there are stream, core, frames" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["__main__", *bench.BENCHES])
def test_asked_for_help_a_benchmark_says_what_it_measures_and_runs_nothing(monkeypatch, capsys, name):
    monkeypatch.setattr("sys.argv", ["bench", "--help"])
    monkeypatch.delitem(sys.modules, f"bench.{name}")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"bench.{name}", run_name="__main__")
    assert ended.value.code == 0
    first = importlib.import_module(f"bench.{name}").__doc__.split()[:3]
    assert " ".join(first) in " ".join(capsys.readouterr().out.split())


def test_the_stalls_bench_prints_a_line_for_each_thing_that_is_asked_of_many_pages(monkeypatch, capsys):
    for name, value in (
        ("SESSIONS", 4),
        ("MAPPING", 2),
        ("MAPPED", 2),
        ("DRAINED", 3),
        ("LITTLE", 2 << 20),
        ("NEIGHBOUR_PAGES", 256),
    ):
        monkeypatch.setattr(stalls, name, value)
    monkeypatch.setattr(stalls, "NEIGHBOUR_SECONDS", 0.01)
    for name in ("TTL_SECONDS", "NOTHING_SECONDS", "GRACE_SECONDS"):
        monkeypatch.setattr(stalls, name, 0.1)
    stalls.run("simulated", 1 << 20, 3)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line[2:32].strip() for line in lines] == [
        "nothing", "another program frees as much", "hint PRIORITY=HIGH", "hint EVICTION=DENY", "hint cleared",
        "hint with a TTL, and its end", "pin", "unpin", "unmap", "detach", "map 3 regions", "nothing, beside them",
        "usmctl status", "usmctl regions", "a hint on each", "detach, 3 regions", "death, 3 regions",
        "death, 4 sessions", "deaths, 2 that map", "a client uses all memory up", "drain, 3 sessions",
    ]  # fmt: skip
    assert all(float(line.partition("loop ")[2].split()[0]) > 0 for line in lines)


def test_the_bench_of_swap_devices_prints_a_line_for_each_kind_of_data_and_device(monkeypatch, capsys):
    monkeypatch.setattr(swap_devices, "PAGES", 256)
    monkeypatch.setattr(swap_devices, "ROUNDS", 1)
    swap_devices.main()
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == 3 * len(swap_devices.KINDS)
    ratios = {line.split("write")[0].split()[-1]: float(line.rpartition("ratio ")[2]) for line in lines}
    assert (ratios["memory"], ratios["file"]) == (1.0, 1.0)
    assert ratios["compressed"] > 1.0
