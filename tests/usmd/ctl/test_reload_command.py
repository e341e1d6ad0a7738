import json

from usm_wire.pb.usm.v1 import admin_pb2 as pb


def test_what_is_in_force_and_what_needs_a_restart_is_shown_with_both_values(daemon):
    code, text, err = daemon.ctl("reload")
    assert (code, err) == (0, "")
    assert [line.split() for line in text.splitlines()] == [
        ["In", "force", "from", "now", "on"],
        ["KEY", "BEFORE", "NOW"],
        ["memory.low_watermark", '"3%"', '"5%"'],
        [],
        ["Needs", "a", "restart", "of", "usmd"],
        ["KEY", "IN", "FORCE", "AFTER", "A", "RESTART"],
        ["server.trace_events", "-", '"/var/log/events"'],
    ]


def test_json_has_the_values_as_they_are(daemon):
    assert json.loads(daemon.ctl("reload", "--format", "json")[1]) == {
        "applied": [{"key": "memory.low_watermark", "before": "3%", "after": "5%"}],
        "needs_restart": [{"key": "server.trace_events", "before": None, "after": "/var/log/events"}],
    }


def test_a_configuration_that_is_the_same_is_said(daemon):
    daemon.admin.reloaded = pb.ReloadResponse()
    assert daemon.ctl("reload")[1] == "the configuration is as it was\n"
