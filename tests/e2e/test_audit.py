"""Who attached, was refused, left, and steered, is in the log of a real daemon; no token is, whatever happens."""

import os

import grpc
import pytest

import lib_usm
from tests.support.daemon import environment, running_daemon
from tests.support.fuzz import Fuzz
from tests.support.raw_client import RawClient
from tests.support.real_daemon import real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.recorded_tokens import VARIABLE
from tests.usmd.server.raw_memory import Peer, attach_packet, connect, receive, send
from usm_wire.userfaultfd import open_userfaultfd
from usmd.ctl.connect import AdminError

STEPS = 60
ME = {"pid": str(os.getpid()), "uid": str(os.getuid())}
"""As in the fields of notices."""


def test_the_log_says_who_attached_was_refused_left_and_steered(tmp_path):
    with running_daemon(tmp_path, "--memory", "256KiB", config="", exit_code=None) as daemon:
        with lib_usm.connect(daemon.address, name="app") as client:
            attached = daemon.expect("process_attached", name="app", **ME)
            number = attached["process_id"]
            client.mmap(4096)
            daemon.admin.set_policy(number, {"evict": "lru"})
            with pytest.raises(AdminError):
                daemon.admin.set_policy(number, {"evict": "nope"})
            daemon.admin.reload()
            with pytest.raises(lib_usm.UsmError):
                lib_usm.connect(daemon.address, name="other", evict="/etc/passwd.py:X")
        daemon.wait_for("process_detached", name="app", reason="detached", **ME)
        with pytest.raises(grpc.RpcError):
            RawClient(daemon.address, "thief", ticket="forged")
        draining = daemon.start_usmctl("drain", "--yes")
        assert draining.wait() == 0
        draining.close()
        assert daemon.wait_exit() == 0
    refused = [(each["uid"], each["pid"], each["attaches"]) for each in daemon.events("attach_refused")]
    assert refused == [(os.getuid(), os.getpid(), 1), (None, None, 1)]
    me = {"pid": os.getpid(), "uid": os.getuid()}
    steered = [
        {name: each.get(name) for name in ("event", "call", "pid", "uid", "request", "reason")}
        for each in daemon.read_log()
        if each["event"].startswith("operator_")
    ]
    evict = f"process_id: {number} evict: "
    assert steered == [
        {"event": "operator_acted", "call": "SetPolicy", **me, "request": f'{evict}"lru"', "reason": None},
        {
            "event": "operator_refused",
            "call": "SetPolicy",
            **me,
            "request": f'{evict}"nope"',
            "reason": "INVALID_ARGUMENT",
        },
        {"event": "operator_acted", "call": "Reload", **me, "request": "", "reason": None},
        {"event": "operator_acted", "call": "Drain", **me, "pid": draining.pid, "request": "", "reason": None},
    ]


def test_no_token_is_in_the_log_or_the_event_log_whatever_happens(tmp_path):
    require_real_memory()
    events, tokens = tmp_path / "events.jsonl", tmp_path / "tokens"
    with real_daemon(
        tmp_path, "--trace-events", str(events), environ=environment(**{VARIABLE: str(tokens)}),
        changes=["tests.support.recorded_tokens:record"],
    ) as daemon:  # fmt: skip
        with Peer(daemon, "peer") as peer:
            peer.works()
            peers_token = peer.session.token
            descriptor, _ = open_userfaultfd()
            with connect(daemon.address) as thief:
                send(thief, attach_packet(peers_token), [descriptor])
                assert receive(thief).reason == "UNKNOWN_SESSION"
            os.close(descriptor)
        fuzzing = Fuzz(daemon, "tokens")
        try:
            for _ in range(STEPS):
                fuzzing.step()
        finally:
            fuzzing.close()
        assert daemon.wait_for("attach_refused", pid=os.getpid(), uid=os.getuid())
    written = f"{daemon.read_log()} {events.read_text()}"
    made = tokens.read_text().split()
    assert peers_token in made  # how many sessions a fuzzer begins is a matter of timing
    assert [token for token in made if token in written] == []
