import re
import signal
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usmd import cli
from usmd.errors import AlreadyRunning, ConfigError, InvalidSize, SwapDeviceError, UnknownPolicy
from usmd.server.signals import MEANINGS
from usmd.swap.file import FileKind
from usmd.swap.memory import MemoryKind


class Daemon(types.ModuleType):
    """Stands for usmd.server.daemon: keeps what it was told."""

    def __init__(self):
        super().__init__("usmd.server.daemon")
        self.config = None
        self.error = None
        self.code = 0

    def serve(self, config, signals, source):
        self.config = config
        assert source.load() == config
        if self.error:
            raise self.error
        return self.code


@pytest.fixture
def daemon(monkeypatch, tmp_path):
    fake = Daemon()
    monkeypatch.setitem(sys.modules, "usmd.server.daemon", fake)

    def configure(log_format, level):
        fake.log_format, fake.log_level = log_format, level

    monkeypatch.setattr("usmd.log.configure", configure)
    monkeypatch.setattr(cli.standard_streams, "never_block", lambda: None)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    return fake


def run(*arguments):
    return CliRunner().invoke(cli.app, arguments)


def test_serve_without_anything_is_on_defaults_in_a_runtime_folder_it_makes(daemon, tmp_path):
    assert run("serve").exit_code == 0
    assert daemon.config.server.socket == tmp_path / "usmd" / "usmd.sock"
    assert (tmp_path / "usmd").stat().st_mode & 0o777 == 0o700
    assert daemon.log_format == "auto"


def test_every_flag_reaches_the_configuration(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(
        *("serve", "--socket", "unix:/a/usmd.sock", "--admin-socket", "/a/admin.sock", "--memory", "32MiB"),
        *("--page-size", "16KiB", "--swap", "memory:1GiB", "--swap", "file:/a:b/swap:2GiB", "--mechanism", "simulated"),
        *("--fault-wakeup", "spin:100"),
        *("--alloc", "first_fit", "--evict", "lru", "--oom", "kill_largest", "--cond", "trim", "--state-dir", "state"),
        *("--no-uvloop", "--log-format", "json", "--trace-events", "events.jsonl"),
        *("--metrics-listen", "127.0.0.1:9842", "--page-listen", "[::1]:9843", "--log-level", "error"),
    )
    assert result.exit_code == 0, result.stderr
    server, memory, policy = daemon.config.server, daemon.config.memory, daemon.config.policy
    assert (server.socket, server.admin_socket) == (Path("/a/usmd.sock"), Path("/a/admin.sock"))
    assert (server.state_dir, server.uvloop, server.log_format) == (tmp_path / "state", False, "json")
    assert server.trace_events == tmp_path / "events.jsonl"
    assert (memory.size, memory.page_size, memory.mechanism) == (32 << 20, 16384, "simulated")
    assert memory.fault_wakeup == "spin:100"
    assert daemon.config.swap == (MemoryKind(size=1 << 30), FileKind(size=2 << 30, path="/a:b/swap"))
    assert (policy.alloc, policy.evict, policy.oom, policy.cond) == ("first_fit", "lru", "kill_largest", "trim")
    assert not (tmp_path / "usmd").exists()
    assert (daemon.log_format, daemon.log_level) == ("json", "error")
    assert daemon.config.metrics.listen == "127.0.0.1:9842"
    assert daemon.config.page.listen == "[::1]:9843"


def test_flags_override_the_file_and_leave_the_rest_of_it(daemon, tmp_path):
    path = tmp_path / "usmd.toml"
    path.write_text('[memory]\nsize = "8MiB"\n[policy]\nevict = "lru"\n[server]\nuvloop = false\n')
    assert run("serve", "--config", str(path), "--evict", "fifo").exit_code == 0
    assert (daemon.config.memory.size, daemon.config.policy.evict) == (8 << 20, "fifo")
    assert daemon.config.server.uvloop is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory", "64MQ"], "memory.size: size '64MQ' cannot be read"),
        (["--page-size", "3KiB"], "memory.page_size = '3KiB' is not allowed"),
        (["--swap", "tape:1GiB"], "swap device 'tape:1GiB': there is no kind 'tape'"),
        (["--config", "absent.toml"], "configuration absent.toml cannot be read"),
        (["--socket", "usmd.sock"], "server.socket: address 'usmd.sock' is not allowed"),
        (
            ["--mechanism", "magic"],
            "memory.mechanism = 'magic' is not allowed; allowed is one of auto, simulated, userfaultfd\n",
        ),
        (
            ["--fault-wakeup", "spin"],
            """memory.fault_wakeup = 'spin' is not allowed; allowed is "auto", "sleep", "follow", or "spin:US" with""",
        ),
    ],
)
def test_a_bad_flag_is_one_line_on_stderr_and_exit_code_2(daemon, arguments, said):
    result = run("serve", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"usmd: {said}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert daemon.config is None


def test_of_several_mistakes_the_first_is_named_and_how_to_get_all(daemon, tmp_path):
    path = tmp_path / "usmd.toml"
    path.write_text("[server]\nmax_sessions = 0\n[memory]\npage_size = 3\n")
    result = run("serve", "--config", str(path))
    assert result.exit_code == 2
    assert re.fullmatch(
        r"usmd: server.max_sessions = 0 .* \(and 1 more: `usmd config check FILE` .*\)\n", result.stderr
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError, 2), (UnknownPolicy, 2), (InvalidSize, 2), (SwapDeviceError, 2), (AlreadyRunning, 3)],
)
def test_what_the_daemon_refuses_is_one_line_with_its_exit_code(daemon, error, code):
    daemon.error = error("first\nsecond")
    result = run("serve")
    assert (result.exit_code, result.stderr) == (code, "usmd: first second\n")


def test_the_daemons_exit_code_is_that_of_the_command(daemon):
    daemon.code = 4
    assert run("serve").exit_code == 4


def test_an_unsafe_runtime_folder_is_refused(daemon, tmp_path):
    (tmp_path / "usmd").symlink_to(tmp_path)
    result = run("serve")
    assert result.exit_code == 2
    assert "symbolic link" in result.stderr
    assert daemon.config is None


def test_an_unknown_flag_is_exit_code_2(daemon):
    assert run("serve", "--mem", "1GiB").exit_code == 2


def test_help_shows_every_flag_and_examples(daemon):
    text = re.sub(r"\x1b\[[0-9;]*m", "", run("serve", "--help").stdout)
    flags = "--config --socket --admin-socket --memory --page-size --swap --mechanism --fault-wakeup"
    flags += " --alloc --evict --oom --cond --state-dir --no-uvloop --log-format"
    assert [flag for flag in flags.split() if flag not in text] == []
    assert "usmd serve --memory 1GiB --swap memory:2GiB" in text
    assert "[bold]" not in text


def test_the_version_is_shown(daemon, monkeypatch):
    monkeypatch.setattr(cli, "VERSION", "9.9")
    assert run("--version").stdout == "usmd 9.9\n"


def test_main_runs_the_command_line_and_then_hears_no_more_signals(daemon, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["usmd", "serve", "--memory", "1B"])
    ignored = []
    monkeypatch.setattr(cli, "ignore_all", lambda: ignored.append(True))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert ignored == [True]
    assert capsys.readouterr().err.startswith("usmd: memory.size = 1 B")


def test_signals_are_as_before_after_serving_but_in_a_process_that_ends_with_it(daemon, monkeypatch):
    before = {number: signal.getsignal(number) for number in MEANINGS}
    assert run("serve").exit_code == 0
    assert {number: signal.getsignal(number) for number in MEANINGS} == before
    ignored = []
    for name in ("usmd.server.signals.ignore_all", "usmd.cli.ignore_all"):
        monkeypatch.setattr(name, lambda name=name: ignored.append(name))
    monkeypatch.setattr(sys, "argv", ["usmd", "serve"])
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert caught.value.code == 0
    assert ignored == ["usmd.server.signals.ignore_all", "usmd.cli.ignore_all"]


def test_the_help_tells_what_the_defaults_are_and_is_there_by_its_short_name(daemon):
    text = " ".join(run("serve", "-h").output.split())
    for part in (
        "64 MiB",
        "4 KiB",
        "async_aware",
        "hint_aware",
        "refuse",
        "admin.sock in your runtime folder",
        "sleep",
    ):
        assert part in text, part
