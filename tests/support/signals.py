"""Signals for the main thread while it waits."""

import signal
import threading

import pytest


def interrupt():
    """What Ctrl-C does: a signal for the main thread, which waits."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.fixture
def on_signal():
    """Sets what the handler of SIGUSR2 does."""
    before = signal.getsignal(signal.SIGUSR2)
    yield lambda act: signal.signal(signal.SIGUSR2, lambda number, frame: act())
    signal.signal(signal.SIGUSR2, before)


def send_signal():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
