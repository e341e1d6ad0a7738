"""A swap file is retired under a client that works on real memory: every byte is right, and the file is gone."""

import signal
import threading

import lib_usm
from tests.support.daemon import running_daemon, wait_until
from tests.support.real_memory import require_real_memory

PAGE = 4096
PAGES = 1024
CONFIG = """
[[swap]]
kind = "file"
path = "{folder}/old"
size = "8MiB"
"""


def work(words, over):
    """Write to one page after the other."""
    page = 0
    while not over.is_set():
        words[page * PAGE // 8] += 1 << 32
        page = (page + 7) % PAGES


def test_a_retired_file_is_gone_and_every_page_of_a_client_that_works_meanwhile_is_right(tmp_path):
    require_real_memory()
    config = CONFIG.format(folder=tmp_path)
    with (
        running_daemon(tmp_path, "--memory", "512KiB", config=config, mechanism="userfaultfd") as daemon,
        lib_usm.connect(daemon.address, name="app") as client,
    ):
        region = client.mmap(PAGES * PAGE, name="data")
        words = region.ndarray("u8")
        words[:] = range(len(words))
        over = threading.Event()
        worker = threading.Thread(target=work, args=(words, over))
        worker.start()
        try:
            assert daemon.usmctl("swap")["swap_devices"][0]["state"] == "active"
            done = daemon.run_usmctl("swap", "retire", "file0")
            assert (done.returncode, "are lacking; add a device first" in done.stderr) == (1, True)
            added = daemon.usmctl("swap", "add", f"file:{tmp_path / 'more'}:8MiB", "--name", "more")["swap_device"]
            assert (added["number"], added["state"]) == (1, "active")
            retired = daemon.usmctl("swap", "retire", "file0")
            assert (retired["end"], retired["pages_left"], retired["pages"] > PAGES // 2) == ("CLOSED", 0, True)
            assert not (tmp_path / "old").exists()
            # The configuration names another file, and no more the one that is gone.
            (tmp_path / "usmd.toml").write_text(config.replace("old", "new"))
            daemon.signal(signal.SIGHUP)
            daemon.expect("config_reloaded", applied=["swap"], needs_restart=[])
            assert [each["name"] for each in daemon.usmctl("swap")["swap_devices"]] == ["file0", "more"]
            daemon.usmctl("swap", "retire", "more", "--no-wait")
            wait_until(lambda: not (tmp_path / "more").exists(), "its file is removed")
        finally:
            over.set()
            worker.join()
        daemon.validate()
        assert ((words & 0xFFFFFFFF) == range(len(words))).all()
        del words
        daemon.never("defect")
        daemon.never("swap_error")
    assert [path.name for path in tmp_path.iterdir() if path.name in ("old", "new", "more")] == []
