import json


def test_users_with_limits_are_listed(daemon):
    code, text, err = daemon.ctl("limits")
    assert (code, err) == (0, "")
    lines = text.splitlines()
    assert lines[0].split() == [
        "UID", "SESSIONS", "MAX_SESSIONS", "RES", "MEMORY_MAX", "MEMORY_MIN", "STORED", "SWAP_MAX", "WEIGHT",
        "REFUSED", "LIMITS",
    ]  # fmt: skip
    assert lines[1].split() == ["1000", "3", "8", "64", "(256", "KiB)", "128", "(512", "KiB)", "none", "0", "none",
                                "200", "0", "max_regions", "3/9,", "max_faults", "0/7"]  # fmt: skip
    document = json.loads(daemon.ctl("limits", "--format", "json", "--sort", "memory_min")[1])
    assert [each["uid"] for each in document["users"]] == [1001, 1000]
    assert document["users"][0]["limits"]["memory_max_pages"] is None


def test_limits_in_numbers_are_a_column_where_a_user_has_some(daemon):
    daemon.admin.users = daemon.admin.users[1:]
    assert daemon.ctl("limits")[1].splitlines()[0].split()[-1] == "REFUSED"


def test_without_any_it_says_how_to_set_them(daemon):
    daemon.admin.users = []
    assert "usmctl limit --uid sets them" in daemon.ctl("limits")[1]
