"""`usmctl top` in a terminal, beside a real daemon that ends, and another one that takes its place."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios

import lib_usm
from tests.support.daemon import USMCTL, environment, running_daemon

KEYS = 90.0


class Terminal:
    """A terminal of 80 columns in which a program runs, and all that it has written there."""

    def __init__(self, *arguments, **environ):
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            arguments,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment(TERM="xterm-256color", **environ),
        )
        os.close(follower)

    def press(self, key):
        os.write(self._leader, key.encode())

    def until(self, text):
        """Read until the program writes `text`."""
        seen = b""
        while text.encode() not in seen:
            assert select.select([self._leader], [], [], KEYS)[0], seen
            seen += os.read(self._leader, 65536)

    def end(self):
        """Read all that comes until the program ends; its exit code."""
        while select.select([self._leader], [], [], KEYS)[0]:
            try:
                if not os.read(self._leader, 65536):
                    break
            except OSError:  # nobody has the other end open
                break
        os.close(self._leader)
        return self.process.wait(KEYS)


def test_the_screen_outlasts_the_daemon_and_shows_the_next_one(tmp_path):
    with running_daemon(tmp_path) as daemon:
        terminal = Terminal(*USMCTL, "top", "--interval", "0.1", USM_ADMIN_ADDRESS=daemon.admin_address)
        with (
            lib_usm.connect(daemon.address, name="日本語サーバー") as client,
            client.mmap(1 << 20, name="index") as region,
        ):
            region.write(0, b"x" * (1 << 20))
            terminal.until("日本語")
            terminal.press("\r")
            terminal.until("1 MiB mapped in 1 regions")
            terminal.press("q")
            terminal.until("FAULTS/S")
    terminal.until("No answer: no usmd at")
    with running_daemon(tmp_path) as daemon:
        terminal.until(f"pid {daemon.process.pid}")
        terminal.press("q")
        assert terminal.end() == 0
