"""Metrics of a real daemon: what a scraper gets, and that bad scrapers hold up neither faults nor other scrapers."""

import contextlib
import http.client
import os
import socket
import stat

import pytest

import lib_usm
from tests.support.daemon import running_daemon
from tests.support.scraping import OPEN_METRICS, ask, families, metrics_of, values
from tests.support.waiting import wait_until
from usmd.server.http_server import MAX_CONNECTIONS

PAGE = 4096
FRAMES = 64


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, port):
    flags = ("--memory", f"{FRAMES * PAGE}B", "--swap", "memory:4MiB", "--evict", "lru")
    config = f'[metrics]\nlisten = "127.0.0.1:{port}"\nprocesses = 1\n'
    with running_daemon(tmp_path_factory.mktemp("metrics"), *flags, config=config) as running:
        yield running
        running.never("defect")


def scrape(daemon, accept=""):
    with contextlib.closing(metrics_of(daemon.admin_address)) as connection:
        return ask(connection, accept)


def test_both_formats_are_right_and_say_the_same(daemon, port):
    status, kind, text = scrape(daemon)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=90)) as connection:
        status, kind, open_text = ask(connection, OPEN_METRICS)
        assert ask(connection)[0] == 200  # on the same connection
    assert (status, kind) == (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    plain, strict = families(text), families(open_text, of_open_metrics=True)
    names = {sample.name for family in plain.values() for sample in family.samples}
    assert names == {sample.name for family in strict.values() for sample in family.samples}
    assert "usmd_fault_duration_seconds_bucket" in names


def test_metrics_agree_with_what_usmctl_says_and_no_count_falls(daemon):
    before = values(families(scrape(daemon)[2]))
    with lib_usm.connect(daemon.address, name='big "one"\\') as client, lib_usm.connect(daemon.address) as other:
        region = client.mmap(3 * FRAMES * PAGE)
        for _ in range(2):
            region.write(0, os.urandom(len(region)))
        other.mmap(PAGE)[0:1] = b"x"
        lag = ("usmd_loop_lag_seconds_count",)
        wait_until(lambda: values(families(scrape(daemon)[2]))[lag] > 0, "the lag of the loop was measured")
        text = scrape(daemon)[2]
        status = daemon.admin.status()
        found = values(families(text))
        assert found["usmd_frames", "present"] + found["usmd_frames", "free"] <= FRAMES
        assert found["usmd_processes",] == status.processes == 2
        processes = [key for key in found if key[0] == "usmd_process_resident_bytes"]
        # Labels are in the order of their names.
        assert sorted(processes) == sorted(
            [
                ("usmd_process_resident_bytes", 'big "one"\\', str(client.process_id), str(os.getuid())),
                ("usmd_process_resident_bytes", "", "other", ""),
            ]
        )
        counted = {
            "usmd_swap_ins_total": "swap_ins",
            "usmd_swap_outs_total": "swap_outs",
            "usmd_yields_total": "yields",
        }
        later = values(families(scrape(daemon)[2]))
        for metric, counter in counted.items():
            assert found[metric,] <= status.counters[counter] <= later[metric,]
        assert (
            found["usmd_evictions_total", "lru", "waiting_fault"]
            + found.get(("usmd_evictions_total", "lru", "low_watermark"), 0)
            >= 2 * FRAMES
        )
        assert found["usmd_fault_duration_seconds_count", "explicit"] > 0
        assert found["usmd_swap_duration_seconds_count", "memory0", "in"] > 0
        assert found[lag] > 0
    after = values(families(scrape(daemon)[2]))
    counts = [key for key in before if key[0].endswith(("_total", "_bucket", "_count"))]
    assert [key for key in counts if not before[key] <= found[key] <= after[key]] == []


def test_scrapers_that_are_silent_or_do_not_read_hold_up_neither_faults_nor_others(daemon):
    path = f"{daemon.admin_address.removeprefix('unix:')}.metrics"
    with contextlib.ExitStack() as stack:
        for number in range(MAX_CONNECTIONS + 4):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.connect(path)
            if number % 2:
                with contextlib.suppress(BrokenPipeError):  # it gave way already
                    peer.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        client = stack.enter_context(lib_usm.connect(daemon.address))
        region = client.mmap(2 * FRAMES * PAGE)
        data = os.urandom(len(region))
        region.write(0, data)
        assert region.read(0, len(data)) == data
        assert scrape(daemon)[0] == 200
    assert scrape(daemon)[0] == 200


def test_the_socket_admits_its_owner_alone_and_scrapes_say_what_they_cost(daemon):
    path = f"{daemon.admin_address.removeprefix('unix:')}.metrics"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    scrape(daemon)
    found = values(families(scrape(daemon)[2]))  # a scrape is counted when it has ended
    assert found["usmd_scrapes_total",] > 0
    assert 0 < found["usmd_scrape_cpu_seconds_total",] < found["process_cpu_seconds_total",]
    assert found["usmd_own_memory_bytes",] > 0
