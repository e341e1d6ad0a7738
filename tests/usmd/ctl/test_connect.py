import os
import socket
import threading
from contextlib import ExitStack

import grpc
import pytest
from google.rpc import status_pb2

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usm_wire.pb.usm.v1 import admin_pb2_grpc
from usmd.ctl import connect
from usmd.ctl.connect import Admin, AdminError
from usmd.ctl.targets import Address, Place
from usmd.errors import InvalidArgument, NotFound


@pytest.fixture
def admin(daemon):
    with Admin(daemon.path) as connected:
        yield connected


def test_lists_of_several_pages_are_joined(daemon, admin):
    daemon.admin.page_items = 1
    assert [process.process_id for process in admin.processes()] == [1, 2]
    assert [region.region_id for region in admin.regions(0)] == [1, 2, 3]
    assert [region.region_id for region in admin.regions(1)] == [1, 2]
    hints = admin.hints(0)
    assert ([hint.hint_id for hint in hints.hint_ranges], hints.deny_budget) == ([7, 8], 512)
    assert [request.page_token for request in daemon.admin.requests[-2:]] == ["", "1"]


def test_a_process_is_found_by_number_without_asking_and_by_name_on_any_page(daemon, admin):
    assert admin.process_id(None) == 0
    assert admin.process_id("583912") == 583_912
    assert not daemon.admin.requests
    daemon.admin.page_items = 1
    assert admin.process_id("cache") == 2
    assert admin.process_id("17") == 17


def test_a_process_that_is_not_there_is_said_to_be_not_there(admin):
    with pytest.raises(NotFound, match="'nobody'"):
        admin.process_id("nobody")
    with pytest.raises(InvalidArgument):
        admin.process_id("0")


def test_a_page_is_asked_for_by_address_or_by_place(daemon, admin):
    admin.explain(1, Address(0))
    assert daemon.admin.explained.WhichOneof("page") == "address"
    admin.explain(1, Place(0, "index", 65536))
    assert daemon.admin.explained.region_offset.region_name == "index"
    assert daemon.admin.explained.region_offset.offset == 65536


def test_evictions_are_asked_for_of_all_pages_or_of_one(daemon, admin):
    assert admin.evictions(1, None, 20).total == 910
    assert daemon.admin.requests[-1] == pb.ListEvictionsRequest(process_id=1, limit=20)
    admin.evictions(1, Address(0), 0)
    assert daemon.admin.requests[-1].WhichOneof("page") == "address"
    admin.evictions(1, Place(7, "", 5), 0)
    assert daemon.admin.requests[-1].region_offset == pb.RegionOffset(region_id=7, offset=5)


def test_what_is_not_said_of_a_change_is_not_sent(daemon, admin):
    assert admin.set_policy(2, {"evict": "arc"}).changes[0].after == "arc"
    assert daemon.admin.requests[-1] == pb.SetPolicyRequest(process_id=2, evict="arc")
    admin.clear_hints(1, Place(0, "index", 0), None)
    assert not daemon.admin.requests[-1].HasField("length")
    admin.clear_hints(1, Place(0, "index", 4096), 0)
    assert (daemon.admin.requests[-1].HasField("length"), daemon.admin.requests[-1].start.offset) == (True, 4096)


def test_the_daemons_own_message_is_passed_on_without_decoration(daemon, admin):
    daemon.admin.failure = (grpc.StatusCode.NOT_FOUND, "process 9 does not exist")
    with pytest.raises(AdminError) as caught:
        admin.status()
    assert str(caught.value) == "process 9 does not exist"


def test_even_unavailable_is_passed_on_when_the_daemon_itself_says_it(daemon, admin):
    daemon.admin.failure = (grpc.StatusCode.UNAVAILABLE, "usmd is draining")
    with pytest.raises(AdminError, match=r"^usmd is draining$"):
        list(admin.events())


def test_a_missing_daemon_is_said_to_be_missing(tmp_path):
    expected = f"no usmd at unix:{tmp_path}/none.sock: start it with 'usmd serve', or name it with --address"
    with Admin(tmp_path / "none.sock") as admin, pytest.raises(AdminError) as caught:
        admin.status()
    assert str(caught.value) == expected


def test_the_socket_of_a_dead_daemon_is_no_daemon(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(tmp_path / "dead.sock"))
    with Admin(tmp_path / "dead.sock") as admin, pytest.raises(AdminError, match="no usmd at"):
        admin.status()


def test_a_socket_that_does_not_admit_the_user_is_said_to_do_so(tmp_path, monkeypatch):
    class Refused(socket.socket):
        def connect(self, address):
            raise PermissionError(13, "Permission denied", address)

    monkeypatch.setattr(connect.socket, "socket", Refused)
    with Admin(tmp_path / "none.sock") as admin, pytest.raises(AdminError, match="permission denied at unix:"):
        admin.status()


def test_a_daemon_that_does_not_answer_is_not_waited_for_forever(tmp_path, monkeypatch):
    monkeypatch.setattr(connect, "ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(os.fspath(tmp_path / "mute.sock"))
        mute.listen()
        with Admin(tmp_path / "mute.sock") as admin, pytest.raises(AdminError, match=r"did not answer within 0\.2 s"):
            admin.status()


@pytest.mark.parametrize(
    ("says", "message"),
    [(b"", "does not answer as usmd does"), (b"!user 7 has too many\n", r"takes no connection: user 7 has too many$")],
)
def test_a_listener_that_does_not_answer_calls_is_asked_why(tmp_path, monkeypatch, says, message):
    with Admin(tmp_path / "none.sock") as admin, socket.socket(socket.AF_UNIX) as other, ExitStack() as opened:
        original = admin._why_unreachable

        def answers():
            opened.enter_context(other.accept()[0]).send(says)

        def appears_meanwhile():
            other.bind(os.fspath(tmp_path / "none.sock"))
            other.listen()
            thread = threading.Thread(target=answers)
            thread.start()
            try:
                return original()
            finally:
                thread.join()

        monkeypatch.setattr(connect, "PROBE_SECONDS", 0.01 if not says else 60.0)
        monkeypatch.setattr(admin, "_why_unreachable", appears_meanwhile)
        with pytest.raises(AdminError, match=message):
            admin.status()


def test_a_grpc_server_without_the_admin_service_is_not_the_admin_socket(serve_admin):
    path = serve_admin(admin_pb2_grpc.AdminServiceServicer(), "client.sock")
    with Admin(path) as admin, pytest.raises(AdminError, match="is not the admin socket of this version of usmd"):
        admin.status()


def test_a_daemon_that_goes_away_while_watched_is_a_lost_connection(daemon, admin, servers):
    daemon.admin.hold_events.clear()
    events = admin.events()
    assert next(events).kind == "process_attached"
    assert next(events).kind == "swap_error"
    servers[0].stop(grace=None)
    with pytest.raises(AdminError, match=r"connection to usmd at unix:.* was lost"):
        next(events)


@pytest.mark.parametrize("name", ["a%41b.sock", "with space.sock", "caf\u00e9?#.sock"])
def test_a_socket_path_is_taken_as_it_is(serve_admin, daemon, tmp_path, name):
    plain = serve_admin(daemon.admin, "plain.sock")
    (tmp_path / name).symlink_to(plain)
    with Admin(tmp_path / name) as admin:
        assert admin.status().pid == 4711


def test_an_error_that_does_not_come_from_usmd_itself_is_told_as_far_as_it_goes(serve_admin):
    class Strange(admin_pb2_grpc.AdminServiceServicer):
        def GetStatus(self, request, context):  # noqa: N802 - the wire contract names the method
            contradiction = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="something else")
            context.set_trailing_metadata((("grpc-status-details-bin", contradiction.SerializeToString()),))
            context.abort(grpc.StatusCode.INTERNAL, "the details")

        def ListPolicies(self, request, context):  # noqa: N802 - the wire contract names the method
            context.abort(grpc.StatusCode.INTERNAL, "")

    with Admin(serve_admin(Strange(), "strange.sock")) as admin:
        with pytest.raises(AdminError, match=r"^the details$"):
            admin.status()
        with pytest.raises(AdminError, match=r"^usmd at unix:.*strange\.sock answered INTERNAL$"):
            admin.policies()
