"""A folder that is replaced while usmd runs: at its end it removes what it made, wherever that is, and nothing else."""

import socket

from tests.support.daemon import running_daemon


def end(daemon):
    """Its operators' socket cannot be reached any more, so it is only told to end."""
    daemon.signal()
    assert daemon.wait_exit() == 0


def test_a_daemon_removes_what_it_made_and_nothing_in_the_folder_that_took_its_folders_place(tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    folder.mkdir()
    with running_daemon(folder, "--memory", "1MiB", "--swap", f"file:{folder}/swap0:1MiB", exit_code=None) as daemon:
        made = sorted(entry.name for entry in folder.iterdir())
        assert {"usmd.sock", "admin.sock", "usmd.sock.identity", "usmd.sock.lock", "swap0"} <= set(made)
        assert daemon.admin.status().processes == 0
        folder.rename(moved)
        folder.mkdir()
        for name in made:
            with socket.socket(socket.AF_UNIX) as theirs:
                theirs.bind(str(folder / name))
        end(daemon)
    assert sorted(entry.name for entry in folder.iterdir()) == made
    assert list(moved.iterdir()) == []


def test_files_that_took_the_place_of_its_own_are_left_alone(tmp_path):
    with running_daemon(
        tmp_path, "--memory", "1MiB", "--swap", f"file:{tmp_path}/swap0:1MiB", exit_code=None
    ) as daemon:
        made = sorted(entry.name for entry in tmp_path.iterdir())
        for name in made:
            (tmp_path / name).rename(tmp_path / f"{name}.moved")
            (tmp_path / name).write_text("theirs")
        end(daemon)
    assert [(tmp_path / name).read_text() for name in made] == ["theirs"] * len(made)
