import json

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb


def test_policies_are_listed_with_those_in_force(daemon):
    code, text, _ = daemon.ctl("policies")
    assert code == 0
    assert "2 cache  evict  lru" in text
    document = json.loads(daemon.ctl("policies", "--format", "json")[1])
    assert document["processes"][0]["policies"][0] == {"kind": "evict", "policy": "lru", "errors": 3, "change": None}


def test_policies_are_set_for_a_process_by_name_and_what_was_is_told(daemon):
    code, text, err = daemon.ctl("policy", "set", "cache", "--evict", "arc", "--oom", "refuse")
    assert (code, err) == (0, "")
    assert daemon.admin.requests[-1] == pb.SetPolicyRequest(process_id=2, evict="arc", oom="refuse")
    assert text.splitlines()[2].split() == ["evict", "old", "arc"]
    document = json.loads(daemon.ctl("policy", "set", "2", "--alloc", "first_fit", "--format", "json")[1])
    assert [(each["kind"], each["before"], each["after"]) for each in document["changes"]] == [
        ("alloc", "old", "first_fit")
    ]


def test_a_file_is_named_from_where_the_operator_is(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    daemon.ctl("policy", "set", "1", "--evict", "hint_aware(fallback=./mine.py:Mine)")
    assert daemon.admin.requests[-1].evict == f"hint_aware(fallback={tmp_path}/mine.py:Mine)"


@pytest.mark.parametrize("arguments", [[], ["--evict", ""], ["--evict"]])
def test_nothing_to_set_is_bad_usage_and_asks_the_daemon_nothing(daemon, arguments):
    code, out, err = daemon.ctl("policy", "set", "1", *arguments)
    assert (code, out) == (2, "")
    assert err
    assert not daemon.admin.requests
