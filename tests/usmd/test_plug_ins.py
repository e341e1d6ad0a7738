"""Files of policies: whose are executed, how often, and what stays as it was."""

import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from usmd import plug_ins
from usmd.errors import InvalidArgument

ROOT, DAEMON, OTHER = 0, 990, 1000


def status(owner, mode=0o644, kind=stat.S_IFREG, size=10):
    return SimpleNamespace(st_uid=owner, st_mode=kind | mode, st_size=size)


@pytest.fixture
def write(tmp_path):
    def write(source, name="policy.py", mode=0o644):
        path = tmp_path / name
        path.write_text(source)
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize(
    ("user", "owner", "mode", "relative"),
    [
        (ROOT, ROOT, 0o644, False),
        (ROOT, ROOT, 0o600, True),
        (DAEMON, ROOT, 0o644, False),
        (DAEMON, DAEMON, 0o644, False),
        (DAEMON, DAEMON, 0o400, True),
        (DAEMON, DAEMON, 0o664, True),
    ],
)
def test_a_file_of_root_or_of_the_daemons_user_that_nobody_else_writes_is_allowed(user, owner, mode, relative):
    plug_ins.check(Path("/p.py"), status(owner, mode), user, relative=relative)


@pytest.mark.parametrize(
    ("user", "owner", "mode", "relative", "said"),
    [
        (ROOT, OTHER, 0o644, False, r"belongs to user 1000 .*execute it as user 0.*`chown 0 /p.py`"),
        (DAEMON, OTHER, 0o600, False, r"belongs to user 1000 .*execute it as user 990.*`chown 990 /p.py`"),
        (ROOT, OTHER, 0o644, True, "belongs to user 1000"),
        (ROOT, ROOT, 0o646, False, r"mode 0646.*execute it as user 0.*`chmod go-w /p.py`"),
        (ROOT, ROOT, 0o664, False, "mode 0664"),
        (DAEMON, ROOT, 0o664, False, "mode 0664"),
        (DAEMON, DAEMON, 0o602, False, "mode 0602"),
        (DAEMON, ROOT, 0o644, True, r"relative path.*write the absolute path"),
    ],
)
def test_a_file_that_somebody_else_could_have_written_is_not(user, owner, mode, relative, said):
    with pytest.raises(InvalidArgument, match=said):
        plug_ins.check(Path("/p.py"), status(owner, mode), user, relative=relative)


def test_only_a_regular_file_of_a_sensible_size_is_read():
    with pytest.raises(InvalidArgument, match="not a regular file"):
        plug_ins.check(Path("/p.py"), status(ROOT, kind=stat.S_IFCHR), ROOT, relative=False)
    with pytest.raises(InvalidArgument, match="1,048,577 bytes; allowed are 1,048,576"):
        plug_ins.check(Path("/p.py"), status(ROOT, size=plug_ins.MAX_SIZE + 1), ROOT, relative=False)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.py", 0o600)
    with pytest.raises(InvalidArgument, match=r"pipe\.py is not a regular file"):
        plug_ins.load(str(tmp_path / "pipe.py"))


def test_what_is_refused_is_not_executed(write, tmp_path):
    trace = tmp_path / "ran"
    path = write(f"import os; os.mkdir({str(trace)!r})", mode=0o666)
    with pytest.raises(InvalidArgument, match="mode 0666"):
        plug_ins.load(str(path))
    assert not trace.exists()
    path.chmod(0o644)
    plug_ins.load(str(path))
    assert trace.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused_also_behind_a_link_of_ones_own(write, tmp_path):
    path = write("raise SystemExit", "theirs.py")
    os.chown(path, OTHER, OTHER)
    (tmp_path / "mine.py").symlink_to(path)
    for name in ("theirs.py", "mine.py"):
        with pytest.raises(InvalidArgument, match="belongs to user 1000"):
            plug_ins.load(str(tmp_path / name))


def test_a_file_is_executed_once_until_it_changes_and_who_has_the_old_module_keeps_it(write):
    path = write("VALUE = []")
    first = plug_ins.load(str(path))
    assert plug_ins.load(str(path)) is first
    write("VALUE = ['new']")
    second = plug_ins.load(str(path))
    assert (first.VALUE, second.VALUE) == ([], ["new"])
    os.utime(path, ns=(1, 1))
    third = plug_ins.load(str(path))
    assert third is not second
    assert plug_ins.load(str(path)) is third


def test_two_files_of_one_name_are_two_modules(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "policy.py").write_text(f"PLACE = {folder!r}")
    found = [plug_ins.load(str(tmp_path / folder / "policy.py")).PLACE for folder in ("a", "b")]
    assert found == ["a", "b"]


def test_a_relative_path_is_relative_to_the_working_directory_and_a_tilde_is_home(write, tmp_path, monkeypatch):
    path = write("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert {plug_ins.load(text).__file__ for text in ("policy.py", "./policy.py", "~/policy.py")} == {str(path)}
    with pytest.raises(InvalidArgument, match=r"~nobody_of_this_name/policy\.py: "):
        plug_ins.load("~nobody_of_this_name/policy.py")


def test_neither_the_import_path_nor_the_folder_changes_and_a_neighbour_is_no_module(write, tmp_path):
    write("", "usmd_test_neighbour.py")
    path = write("import usmd_test_neighbour")
    before = list(sys.path)
    with pytest.raises(ModuleNotFoundError, match="usmd_test_neighbour"):
        plug_ins.load(str(path))
    assert sys.path == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["policy.py", "usmd_test_neighbour.py"]


@pytest.mark.parametrize("source", ["raise SystemExit(0)", "raise KeyboardInterrupt", "class P(:", "1 / 0"])
def test_a_file_that_fails_leaves_no_module_and_is_tried_anew(write, source):
    path = write(source)
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises((SystemExit, KeyboardInterrupt, SyntaxError, ZeroDivisionError)):
            plug_ins.load(str(path))
    assert set(sys.modules) == before


def test_dataclasses_find_the_module_of_a_file(write):
    source = (
        "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 3\n"
    )
    assert plug_ins.load(str(write(source))).A().x == 3


@pytest.mark.parametrize(
    ("make", "said"), [(lambda path: None, "No such file"), (lambda path: path.mkdir(), "not a regular file")]
)
def test_what_is_no_file_says_so(tmp_path, make, said):
    make(tmp_path / "p.py")
    with pytest.raises(InvalidArgument, match=rf"{tmp_path}/p\.py .*{said}"):
        plug_ins.load(str(tmp_path / "p.py"))
