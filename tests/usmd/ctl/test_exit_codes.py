"""Every exit code that docs/operating.md names is one that the programs have, for the reason that stands there."""

import re
import signal
from pathlib import Path

import pytest

from tests.support.daemon import environment, run_usmd, running_daemon
from tests.support.forked import run_forked
from tests.support.served import run_usmctl
from usmd import cli as usmd_cli
from usmd.ctl import cli
from usmd.ctl.run_command import NOT_EXECUTABLE, NOT_FOUND
from usmd.server.lock import SocketLock

TEXT = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
TABLE = TEXT.partition("### Exit codes\n")[2].partition("\n#")[0]
ROWS = {(program, int(code)) for program, code in re.findall(r"^\| `([a-z ]+)` \| (\d+) \|", TABLE, re.MULTILINE)}
SECONDS = 60.0


def usmd(*arguments):
    with pytest.raises(SystemExit) as ended:
        usmd_cli.program(list(arguments))
    return ended.value.code or 0


def forked(*arguments):
    return run_forked(run_usmctl, list(arguments), environ=environment(), seconds=SECONDS).returncode


def served_already(folder):
    with SocketLock(folder / "usmd.sock"):
        return run_usmd("serve", "--socket", str(folder / "usmd.sock"), "--admin-socket", str(folder / "a")).returncode


def drained(folder):
    (folder / "served").mkdir()
    with running_daemon(folder / "served", "--memory", "256KiB", exit_code=None) as running:
        running.signal(signal.SIGTERM)
        return running.wait_exit()


def file(folder, text):
    path = folder / "file"
    path.write_text(text)
    return str(path)


def interrupted(monkeypatch):
    monkeypatch.setattr("usmd.ctl.doctor_probe.look", lambda: signal.raise_signal(signal.SIGINT))
    return cli.main(["doctor"])


def examined(monkeypatch, reason):
    class Report:
        pass

    Report.reason = reason
    monkeypatch.setattr("usmd.ctl.doctor_probe.look", lambda: None)
    monkeypatch.setattr("usmd.ctl.doctor.diagnose", lambda _: Report)
    monkeypatch.setattr("usmd.ctl.doctor_view.show_report", lambda *_: None)
    return cli.main(["doctor"])


def validated(daemon, count):
    daemon.admin.validation.violation_count = count
    return daemon.ctl("debug", "validate")[0]


ENDS = {
    ("usmd serve", 0): lambda at: drained(at.folder),
    ("usmd serve", 2): lambda at: usmd("serve", "--memory", "much"),
    ("usmd serve", 3): lambda at: served_already(at.folder),
    ("usmd config", 0): lambda at: usmd("config", "check", file(at.folder, "")),
    ("usmd config", 2): lambda at: usmd("config", "check", file(at.folder, "[memory]\nsizes = 1\n")),
    ("usmctl", 0): lambda at: at.daemon.ctl("status")[0],
    ("usmctl", 1): lambda at: cli.main(["--address", f"unix:{at.folder}/none", "status"]),
    ("usmctl", 2): lambda at: cli.main(["status", "--nonsense"]),
    ("usmctl", 130): lambda at: interrupted(at.monkeypatch),
    ("usmctl doctor", 0): lambda at: examined(at.monkeypatch, ""),
    ("usmctl doctor", 1): lambda at: examined(at.monkeypatch, "no userfaultfd"),
    ("usmctl debug", 0): lambda at: validated(at.daemon, 0),
    ("usmctl debug", 1): lambda at: validated(at.daemon, 1),
    ("usmctl run", NOT_EXECUTABLE): lambda at: forked("run", "--", file(at.folder, "")),
    ("usmctl run", NOT_FOUND): lambda at: forked("run", "--", f"{at.folder}/none"),
}


class At:
    """What a row is tried with."""

    def __init__(self, folder, daemon, monkeypatch):
        self.folder = folder
        self.daemon = daemon
        self.monkeypatch = monkeypatch


def test_every_row_is_tried_here():
    assert set(ENDS) == ROWS


@pytest.mark.parametrize(("row", "end"), ENDS.items(), ids=[" ".join(map(str, row)) for row in ENDS])
def test_a_program_ends_with_the_code_that_the_table_says(tmp_path, daemon, monkeypatch, capsys, row, end):
    assert end(At(tmp_path, daemon, monkeypatch)) == row[1]


def test_a_program_that_was_started_has_its_own_exit_code():
    assert forked("run", "--", "sh", "-c", "exit 7") == 7


@pytest.mark.parametrize(
    ("program", "arguments", "codes"),
    [
        (usmd_cli.program, ["serve", "--help"], "0 2 3"),
        (usmd_cli.program, ["config", "check", "--help"], "0 2"),
        (cli.program, ["--help"], "0 1 2 130"),
        (cli.program, ["doctor", "--help"], "0 1"),
        (cli.program, ["debug", "validate", "--help"], "0 1"),
        (cli.program, ["run", "--help"], "126 127"),
    ],
    ids=str,
)
def test_the_help_names_the_codes(capsys, program, arguments, codes):
    program(arguments, standalone_mode=False)
    text = capsys.readouterr().out.partition("Exit code")[2]
    assert re.findall(r"\d+", text)[: len(codes.split())] == codes.split()
