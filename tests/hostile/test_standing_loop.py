"""A loop that stands, whatever the reason: the log says where, and the service manager hears nothing good."""

import os
import socket

from tests.support.daemon import environment, running_daemon
from tests.support.standing_daemon import VARIABLE
from tests.support.waiting import SECONDS

ALIVE = b"WATCHDOG=1"


def test_a_loop_that_stands_is_told_of_and_the_service_manager_hears_no_word_that_all_is_well(tmp_path):
    fifo = tmp_path / "fifo"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SECONDS)
        environ = environment(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="100000", **{VARIABLE: str(fifo)})

        def hear(wanted):
            """Messages up to one that begins so; all of them, without it."""
            heard = []
            while not (message := manager.recv(4096)).startswith(wanted):
                heard.append(message)
            return heard

        with running_daemon(tmp_path, environ=environ, changes=("tests.support.standing_daemon:stand",)) as daemon:
            hear(ALIVE)
            os.mkfifo(fifo)
            line = daemon.wait_for("loop_stands", level="warning")
            assert "stand.<locals>.wait (standing_daemon.py:" in line["stack"]
            hear(b"STATUS=the event loop stands at")
            manager.setblocking(False)
            try:
                said = manager.recv(4096)
            except BlockingIOError:
                said = b""
            assert said == b""
            manager.settimeout(SECONDS)
            writer = os.open(fifo, os.O_WRONLY)
            fifo.unlink()
            os.close(writer)
            assert hear(b"STATUS=the event loop goes round again").count(ALIVE) > 0
            daemon.expect("loop_stands")
