"""The daemon's life as a process: ready, one per socket, drain, refusals to start, and nothing left behind."""

import asyncio
import os
import queue
import signal
import socket
import stat

import pytest

import lib_usm
from tests.support.clients import busy_clients
from tests.support.daemon import USMD, environment, run_usmd, running_daemon, wait_until
from tests.support.real_memory import require_real_memory
from usmd.policies.registry import TABLES


def refused(folder, *flags, config=None, environ=None):
    """Start a daemon that does not start; its end."""
    arguments = ["--socket", str(folder / "usmd.sock"), "--admin-socket", str(folder / "admin.sock"), *flags]
    if config is not None:
        (folder / "usmd.toml").write_text(config)
        arguments += ["--config", str(folder / "usmd.toml")]
    return run_usmd("serve", *arguments, environ=environ)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_ready_line_says_where_and_what_is_served(tmp_path):
    with running_daemon(tmp_path, "--memory", "1MiB", "--swap", "memory:2MiB", program=USMD) as daemon:
        ready = daemon.wait_for("ready")
        assert ready["socket"] == f"unix:{tmp_path}/usmd.sock"
        assert ready["admin_socket"] == f"unix:{tmp_path}/admin.sock"
        assert ready["metrics"] == f"unix:{tmp_path}/admin.sock.metrics"
        assert (ready["pid"], ready["frames"], ready["page_size"]) == (daemon.process.pid, 256, 4096)
        modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usmd.sock", "admin.sock")}
        assert modes == {"usmd.sock": 0o660, "admin.sock": 0o600}


def test_everything_created_is_removed(tmp_path):
    swap = tmp_path / "swap"
    with running_daemon(tmp_path, "--memory", "1MiB", "--swap", f"file:{swap}:2MiB") as daemon:
        assert names_in(tmp_path) == [
            "admin.sock", "admin.sock.calls", "admin.sock.lock", "admin.sock.metrics", "swap", "usmd.sock",
            "usmd.sock.identity", "usmd.sock.lock",
        ]  # fmt: skip
        with lib_usm.connect(daemon.address) as client:
            client.mmap(2 << 20).write(0, b"x" * (2 << 20))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("taken", ["socket", "admin-socket"])
def test_a_second_daemon_on_a_socket_exits_with_3_and_leaves_the_first_serving(tmp_path, taken):
    other = tmp_path / "other"
    other.mkdir()
    with running_daemon(tmp_path, "--memory", "1MiB") as daemon, lib_usm.connect(daemon.address) as client:
        region = client.mmap(4096)
        region[0:5] = b"first"
        place = {"socket": daemon.address, "admin-socket": daemon.admin_address}[taken]
        second = refused(other, f"--{taken}", place)
        assert second.returncode == 3
        assert place.removeprefix("unix:") in second.stderr
        assert str(daemon.process.pid) in second.stderr
        assert names_in(other) == []
        assert region[0:5] == b"first"
        with lib_usm.connect(daemon.address) as newcomer:
            assert {each.process_id for each in daemon.admin.processes()} == {client.process_id, newcomer.process_id}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_while_clients_fault_and_they_are_told(tmp_path, number):
    swap = f"file:{tmp_path / 'swap'}:16MiB"
    with (
        running_daemon(tmp_path, "--memory", "1MiB", "--swap", swap, exit_code=None, program=USMD) as daemon,
        busy_clients(daemon.address, "a", "b", "c", length=1 << 20, chunk=10_000) as clients,
    ):
        daemon.signal(number)
        assert daemon.wait_exit() == 0
        assert [client.error()[0] for client in clients] == ["Draining"] * 3
        assert daemon.events("signal", signal=number.name)
        assert daemon.events("stopped")
        daemon.never("defect")
        assert not daemon.stray  # waits: it has ended
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("mechanism", ["simulated", "userfaultfd"])
def test_before_the_end_sessions_are_told_and_go_on_and_no_new_one_begins(tmp_path, mechanism):
    if mechanism == "userfaultfd":
        require_real_memory()
    told = queue.SimpleQueue()
    flags = {"config": "[server]\ndrain_notice = 600\n", "mechanism": mechanism, "exit_code": None}
    with running_daemon(tmp_path, "--memory", "1MiB", **flags) as daemon:
        client = lib_usm.connect(daemon.address, name="told")
        client.on_draining(told.put)
        region = client.mmap(8192)
        region[0:3] = b"abc"

        async def hear():
            here = asyncio.get_running_loop().create_future()
            client.on_draining(here.set_result)
            daemon.signal()
            return await here

        assert 0 < asyncio.run(hear()) <= 600
        assert 0 < told.get(timeout=60) <= 600
        notice = daemon.expect("drain_notice", ends_in="600", sessions="1")
        assert notice["losses"] == f"told (process {client.process_id}, pid {os.getpid()}) 4 KiB"
        with pytest.raises(lib_usm.Draining, match=r"ends all sessions in \d+ s and takes no new sessions"):
            lib_usm.connect(daemon.address)
        region[4096:4099] = b"def"
        assert region[0:3] + client.mmap(4096)[0:1] == b"abc\0"
        would = daemon.usmctl("drain", "--dry-run")
        assert (would["sessions"], [each["bytes"] for each in would["losses"]]) == (1, [2 * 4096])
        assert 0 < daemon.admin.status().drain_seconds_left <= 600
        daemon.signal()
        assert daemon.wait_exit() == 0
        with pytest.raises(lib_usm.Draining, match="usmd is draining"):
            client.mmap(4096)
        assert [each["message"] for each in daemon.events("signal")] == [
            "usmd drains in 600 s; a second signal ends this notice",
            "usmd drains; a second signal ends the grace of running calls",
        ]
        client.close()


def test_a_call_after_the_drain_says_that_the_daemon_drained(tmp_path):
    with running_daemon(tmp_path, "--memory", "1MiB", exit_code=None) as daemon:
        client = lib_usm.connect(daemon.address)
        region = client.mmap(8192)
        region[0:3] = b"abc"
        daemon.signal()
        assert daemon.wait_exit() == 0
        with pytest.raises(lib_usm.Draining, match="draining"):
            region.read(0, 3)
        client.close()


def test_it_serves_on_asyncios_own_loop(tmp_path):
    flags = ("--memory", "1MiB", "--no-uvloop", "--swap", "memory:8MiB")
    with running_daemon(tmp_path, *flags) as daemon, lib_usm.connect(daemon.address) as client:
        region = client.mmap(2 << 20)
        data = os.urandom(2 << 20)
        region.write(0, data)
        assert region.read(0, len(data)) == data


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("[server]\nsokcet = '/tmp/x'\n", ["server.sokcet", "server.socket", "admin_socket"]),
        ("[memry]\nsize = '1MiB'\n", ["memry", "memory", "allowed"]),
        ("[memory]\nsize = '64Mx'\n", ["memory.size", "'64Mx'", "MiB"]),
        ("[server\n", ["usmd.toml", "TOML"]),
        ("[policy]\nevict = 'mru'\n", ["evict", "'mru'", *TABLES["evict"]]),
        ("[[policy.rules]]\nname = 'x'\noom = 'panic'\n", ["oom", "'panic'", *TABLES["oom"]]),
        ("[policy]\nswap = 'ssd'\n", ["policy.swap", "'ssd'", "memory0"]),
    ],
)
def test_a_configuration_that_cannot_be_used_exits_with_2_and_names_it(tmp_path, config, named):
    done = refused(tmp_path, config=config)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("usmd: ")
    assert done.stderr.count("\n") == 1
    assert [text for text in named if text not in done.stderr] == []
    assert names_in(tmp_path) == ["usmd.toml"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--alloc", "best_fit"), ["alloc", "'best_fit'", *TABLES["alloc"]]),
        (("--swap", "tape:1GiB"), ["'tape:1GiB'", "memory:SIZE", "file:PATH:SIZE"]),
    ],
)
def test_a_flag_that_cannot_be_used_exits_with_2_and_names_it(tmp_path, flags, named):
    done = refused(tmp_path, *flags)
    assert done.returncode == 2, done.stderr
    assert [text for text in named if text not in done.stderr] == []
    assert names_in(tmp_path) == []


def test_without_configuration_or_flags_it_serves_in_the_users_runtime_folder(tmp_path, monkeypatch):
    environ = environment(XDG_RUNTIME_DIR=str(tmp_path))
    with running_daemon(tmp_path, places=False, environ=environ) as daemon:
        assert daemon.address == f"unix:{tmp_path}/usmd/usmd.sock"
        assert daemon.events("ready")[0]["frames"] == (64 << 20) // 4096
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        monkeypatch.delenv("USM_ADDRESS", raising=False)
        with lib_usm.connect() as client:
            region = client.mmap(10)
            region[0:3] = b"abc"
            assert region[0:4] == b"abc\0"
            (process,) = daemon.admin.processes()
            defaults = (process.alloc_policy, process.evict_policy, process.oom_policy)
            assert defaults == ("async_aware", "hint_aware", "refuse")
        folder = tmp_path / "usmd"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names_in(folder) == []


def test_the_service_manager_is_told_ready_and_stopping(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(90)
        environ = environment(NOTIFY_SOCKET=str(tmp_path / "notify"))
        with running_daemon(tmp_path, "--memory", "1MiB", environ=environ) as daemon:
            assert "READY=1" in manager.recv(4096).decode().splitlines()
            assert daemon.process.poll() is None
        assert "STOPPING=1" in manager.recv(4096).decode().splitlines()


def test_after_a_kill_clients_learn_it_and_the_next_daemon_starts_in_the_same_place(tmp_path):
    flags = ("--memory", "1MiB", "--swap", f"file:{tmp_path / 'swap'}:2MiB")
    with running_daemon(tmp_path, *flags, exit_code=None) as daemon:
        client = lib_usm.connect(daemon.address)
        region = client.mmap(8192)
        region[0:3] = b"abc"
        daemon.signal(signal.SIGKILL)
        assert daemon.wait_exit() == -signal.SIGKILL
        with pytest.raises(lib_usm.ConnectionLost):
            wait_until(lambda: region.read(0, 3) != b"abc", "the loss is noticed")
        client.close()
        assert "swap" in names_in(tmp_path)
    with running_daemon(tmp_path, *flags) as daemon, lib_usm.connect(daemon.address) as client:
        assert client.mmap(8192).read(0, 3) == b"\0\0\0"
    assert names_in(tmp_path) == []
