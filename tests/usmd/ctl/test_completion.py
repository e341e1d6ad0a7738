import os
import shutil
import subprocess
import sys

import pytest
import shellingham

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl import cli
from usmd.ctl.completion import in_list


@pytest.fixture
def offered(monkeypatch, capsys):
    """What Tab offers after these words, of which the last may be unfinished; as bash asks."""

    def ask(*words):
        monkeypatch.setenv("_USMCTL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["usmctl", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert cli.main([]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out.split()

    return ask


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["replay", "t", "--evict", "ar"], ["arc"]),
        (["replay", "t", "--evict", "lru,s3"], ["lru,s3_fifo"]),
        (["replay", "t", "--evict", "lru(a=1,s3"], []),
        (["replay", "t", "--alloc", "first"], ["first_fit"]),
        (["replay", "t", "--trace-format", "la"], ["lackey"]),
        (["policy", "set", "1", "--oom", "re"], ["refuse"]),
        (["policy", "set", "1", "--cond", "swap"], ["swap_back"]),
        (["policies", "--sort", "er"], ["errors"]),
        (["swap", "--sort", "in"], ["in-flight"]),
        (["watch", "--kind", "process_killed,swap_e"], ["process_killed,swap_error"]),
        (["status", "--format", ""], ["table", "json"]),
        (["map", "--by", "o"], ["owner"]),
    ],
    ids=" ".join,
)
def test_names_are_offered(offered, words, values):
    assert offered(*words) == values


def test_processes_and_regions_are_asked_of_the_daemon(daemon, monkeypatch, offered):
    monkeypatch.setenv("USM_ADMIN_ADDRESS", daemon.address)
    assert offered("regions", "") == ["indexer", "cache"]
    assert offered("regions", "ind") == ["indexer"]
    assert offered("shadow", "c") == ["cache"]
    assert offered("record", "--process", "i") == ["indexer"]
    assert offered("watch", "--process", "cache,i") == ["cache,indexer"]
    assert offered("explain", "indexer", "in") == ["index+"]
    assert offered("explain", "indexer", "") == ["index+", "2+"]  # a region without a name has its number
    assert offered("hints", "indexer", "--clear", "i") == ["index"]
    assert offered("swap", "retire", "f") == ["file0"]
    assert offered("regions", "--address", "unix:/nowhere", "") == []
    assert offered("--address", "unix:/nowhere", "swap", "retire", "") == []


def test_a_name_that_two_processes_have_is_offered_as_their_numbers(daemon, monkeypatch, offered):
    monkeypatch.setenv("USM_ADMIN_ADDRESS", daemon.address)
    daemon.admin.processes = [pb.Process(process_id=n, name=name) for n, name in ((4, "app"), (5, "app"), (6, "a,b"))]
    assert offered("regions", "") == ["4", "5", "6"]


@pytest.mark.parametrize("address", ["unix:/nowhere.sock", "nonsense"])
def test_a_daemon_that_is_away_offers_nothing_and_says_nothing(monkeypatch, offered, address):
    monkeypatch.setenv("USM_ADMIN_ADDRESS", address)
    assert offered("regions", "") == []


def test_the_last_word_of_a_list_is_completed():
    assert in_list(["ab", "ac", "b"], "x,a") == ["x,ab", "x,ac"]
    assert in_list(["ab"], "p(q=1),a") == ["p(q=1),ab"]


SHELLS = ("bash", "zsh", "fish")
ASKED = {
    "bash": {"COMP_WORDS": "usmctl stat", "COMP_CWORD": "1"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "usmctl stat"},
    "fish": {"_TYPER_COMPLETE_ARGS": "usmctl stat", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}
"""How each shell asks what may follow `usmctl stat`."""


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_answered(monkeypatch, capsys, shell):
    monkeypatch.setenv("_USMCTL_COMPLETE", f"complete_{shell}")
    for name, value in ASKED[shell].items():
        monkeypatch.setenv(name, value)
    assert cli.main([]) == 0
    assert "status" in capsys.readouterr().out


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


PLACES = {
    "bash": (".bash_completions/usmctl.sh", ".bashrc"),
    "zsh": (".zfunc/_usmctl", ".zshrc"),
    "fish": (".config/fish/completions/usmctl.fish", None),
}
"""The script, and the file that has the shell read it."""


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_installed_where_each_shell_looks(home, monkeypatch, capsys, shell):
    monkeypatch.setattr(shellingham, "detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    assert cli.main(["--install-completion"]) == 0
    place, reader = PLACES[shell]
    script = (home / place).read_text()
    assert f"complete_{shell}" in script
    assert reader is None or str((home / place).parent).removeprefix(str(home)) in (home / reader).read_text()
    assert cli.main(["--show-completion"]) == 0
    assert "_USMCTL_COMPLETE" in capsys.readouterr().out
    found = shutil.which(shell)
    if found is not None:  # the others' syntax is typer's
        assert (
            subprocess.run([found, "-n", str(home / place)], capture_output=True, text=True, check=False).stderr == ""
        )


def test_bash_itself_completes(home, monkeypatch, tmp_path):
    """With `usmctl` on its path, and the script that was installed."""
    monkeypatch.setattr(shellingham, "detect_shell", lambda *_: ("bash", "/bin/bash"))
    assert cli.main(["--install-completion"]) == 0
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "usmctl"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom usmd.ctl.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    script = f"""
        source {home}/.bash_completions/usmctl.sh
        COMP_WORDS=(usmctl swap --sort err); COMP_CWORD=3
        $(complete -p usmctl | sed 's/.*-F \\([^ ]*\\).*/\\1/') usmctl err --sort
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["errors"], "")
