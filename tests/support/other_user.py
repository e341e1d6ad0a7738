"""Connections of another process and user: it makes them, and the kernel vouches for it to the daemon.

Only root can start one of another user. The descriptors come to the test process, which uses them as its own.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import threading
from pathlib import Path

from tests.support.forked import ForkedProcess

UID = 54321
"""Of a user that no machine has."""


def _connect_as(uid: int, door: socket.socket) -> None:
    """In the other process: become the user, and connect wherever the test asks, until it closes the door."""
    if uid != os.getuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    while request := door.recv(4096):
        path, kind = pickle.loads(request)
        with socket.socket(socket.AF_UNIX, kind) as made:
            code = made.connect_ex(path)
            socket.send_fds(door, [str(code).encode()], [made.fileno()])


class OtherUser:
    """A process of a user, until the block ends."""

    def __init__(self, uid: int) -> None:
        self._undo = contextlib.ExitStack()
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = ForkedProcess(_connect_as, uid, theirs, environ=os.environ)
        theirs.close()
        self._asking = threading.Lock()

    def __enter__(self) -> OtherUser:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()
        self._door.close()
        self._process.wait()
        self._process.close()

    def connect(self, path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A connection of that user; raises OSError as its process gets it."""
        with self._asking:
            self._door.send(pickle.dumps((path, kind)))
            data, (descriptor,), _, _ = socket.recv_fds(self._door, 100, 1, socket.MSG_CMSG_CLOEXEC)
        made = socket.socket(fileno=descriptor)
        if code := int(data):
            made.close()
            raise OSError(code, os.strerror(code), path)
        return made

    def relay(self, path: str, place: Path) -> str:
        """The address of a socket at `place`, from which each connection goes on to `path` as one of that user."""
        listener = self._undo.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=self._accept, args=(listener, path))
        thread.start()
        self._undo.callback(thread.join)
        self._undo.callback(listener.shutdown, socket.SHUT_RDWR)
        return f"unix:{place}"

    def _accept(self, listener: socket.socket, path: str) -> None:
        threads = []
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                break  # the block has ended
            threads.append(threading.Thread(target=_pass_on, args=(ours, self.connect(path))))
            threads[-1].start()
        for each in threads:
            each.join()


def _pass_on(ours: socket.socket, theirs: socket.socket) -> None:
    """Pass bytes on both ways until one end closes."""
    others = {ours: theirs, theirs: ours}
    with ours, theirs, contextlib.suppress(OSError):
        while True:
            for each in select.select([ours, theirs], [], [])[0]:
                data = each.recv(1 << 16)
                if not data:
                    return
                others[each].sendall(data)
