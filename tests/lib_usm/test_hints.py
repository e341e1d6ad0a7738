"""What a hint asks of the daemon, and which warnings it brings."""

import asyncio

import grpc
import pytest

import lib_usm


def test_a_hint_covers_the_range_and_tells_what_became_of_it(daemon, client):
    region = client.mmap(64)
    assert client.usm_hint(region, "PRIORITY=HIGH", 3, 20) == lib_usm.Hint(3, 1, 2, 0)
    client.usm_hint(region, "", offset=60)
    requests = daemon.requests("HintRegion")
    assert [(r.region_id, r.offset, r.length, r.text) for r in requests] == [
        (region.region_id, 3, 20, "PRIORITY=HIGH"),
        (region.region_id, 60, 4, ""),
    ]
    assert requests[1].WhichOneof("hint") == "text"


def test_a_key_that_no_policy_acts_on_and_pages_that_deny_cannot_keep_are_warned_of_at_the_callers_line(client):
    region = client.mmap(64, name="index")
    with pytest.warns(
        UserWarning, match="no policy of this process acts on X_ONE or X_TWO of the hint .* 'index'"
    ) as seen:
        answer = client.usm_hint(region, "X_ONE=1; X_TWO=2; PRIORITY=LOW")
    assert answer.unheeded_keys == ("X_ONE", "X_TWO")
    assert [each.filename for each in seen] == [__file__]
    with pytest.warns(UserWarning, match="^1 page asked for EVICTION=DENY beyond the budget") as seen:
        assert lib_usm.usm_hint(region, "EVICTION=DENY").over_budget_pages == 1
    assert [each.filename for each in seen] == [__file__]


def test_pages_that_came_in_beyond_the_budget_since_are_told_of_by_the_next_call(daemon, client):
    region = client.mmap(64)
    daemon.over_budget = 7
    with pytest.warns(UserWarning, match="7 pages asked for EVICTION=DENY") as seen:
        assert client.kept() == lib_usm.Kept(1, 2, 10, 7, 5)
    assert [each.filename for each in seen] == [__file__]
    client.usm_hint(region, "PRIORITY=LOW")


@pytest.mark.parametrize("way", ["thread", "greenlet", "coroutine", "asyncio"])
def test_pages_beyond_the_budget_are_told_of_by_the_read_that_finds_them_so(daemon, client, way):
    region = client.mmap(64)
    lm = lib_usm.LocalManager(client)

    async def read():
        return await region.read_async(0, 1)

    def use():
        if way == "thread":
            region.read(0, 1)
        elif way == "asyncio":
            asyncio.run(read())
        else:
            handle = lm.spawn(lambda: region.read(0, 1)) if way == "greenlet" else lm.spawn_async(read)
            lm.run()
            handle.result()

    daemon.over_budget = 7
    with pytest.warns(UserWarning, match="7 pages asked for EVICTION=DENY") as seen:
        use()
    assert [each.filename for each in seen] == [__file__]
    region.read(0, 1)


def test_a_bad_hint_raises_the_daemons_text(daemon, client, wire):
    text = "hint key 'COLOUR' is unknown"
    daemon.refusals["HintRegion"] = wire.rich_status(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_HINT", text)
    with pytest.raises(lib_usm.InvalidHint, match="COLOUR"):
        client.usm_hint(client.mmap(5), "COLOUR=RED")
