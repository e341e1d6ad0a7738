from usmd.core.commands import Notice
from usmd.server.policy_changes import CAME_BACK, PolicyChange, PolicyChanges

SET = {"policy_kind": "evict", "policy": "arc", "before": "lru"}
REPLACED = {"policy_kind": "evict", "policy": "arc", "errors": "101", "did": "hung", "replaced_by": "hint_aware"}


def test_the_last_change_of_each_kind_is_remembered_until_the_session_ends():
    now = [1.0]
    changes = PolicyChanges(lambda: now[0])
    assert changes.last(7, "evict") is None
    changes.hear(Notice("policy_set", 7, "", SET))
    assert changes.last(7, "evict") == PolicyChange("evict", "lru", "arc", 1.0)
    changes.hear(Notice("policy_restored", 7, "", SET))
    assert changes.last(7, "evict") == PolicyChange("evict", "lru", "arc", 1.0, did=CAME_BACK)
    now[0] = 2.0
    changes.hear(Notice("policy_replaced", 7, "", REPLACED))
    assert changes.last(7, "evict") == PolicyChange("evict", "arc", "hint_aware", 2.0, True, 101, "hung")
    assert changes.last(7, "alloc") is None
    assert changes.last(8, "evict") is None
    changes.hear(Notice("pages_evicted", 0, "", {}))
    for end in ("process_detached", "process_killed"):
        changes.hear(Notice("policy_set", 7, "", SET))
        changes.hear(Notice(end, 7, "", {}))
        assert changes.last(7, "evict") is None
