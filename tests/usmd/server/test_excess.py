"""Which connections are too many, and how long they stay."""

from collections import Counter
from math import inf

from usmd.server.excess import A_SESSION, GRACE_SECONDS, MOST_IN_GRACE, Excess, Peer, Sessions, too_many


def peers(*owners):
    """Connections in the order of their making, of (pid, uid)."""
    return [Peer(10 + number, 100 + number, pid, uid, float(number)) for number, (pid, uid) in enumerate(owners)]


def sessions(*owners):
    return Sessions(frozenset(pid for pid, _ in owners), Counter(uid for _, uid in owners), 0)


def closed(there, holders, of_user, in_all):
    return sorted(peer.descriptor - 10 for peer, _ in too_many(there, holders, of_user, in_all))


def test_a_user_loses_its_youngest_beyond_what_it_may_have():
    there = peers((1, 7), (1, 7), (2, 8), (1, 7))
    assert closed(there, sessions(), 2, 100) == [3]
    assert closed(there, sessions(), 3, 100) == []


def test_connections_of_sessions_go_last_and_each_session_allows_some_more():
    there = peers(*[(1, 7)] * 10, (2, 7))
    assert closed(there, sessions((2, 7)), 2, 100) == [2 + A_SESSION - 1 + n for n in range(10 - A_SESSION - 1)]


def test_a_process_of_one_connection_keeps_it_beside_another_of_many():
    there = peers((1, 7), (1, 7), (1, 7), (2, 7))
    assert closed(there, sessions(), 2, 100) == [1, 2]


def test_beyond_what_all_may_have_the_user_with_most_loses_some():
    there = peers((1, 7), (2, 8), (1, 7), (1, 7))
    assert closed(there, sessions(), 10, 2) == [2, 3]


def test_the_reason_names_the_limit_and_its_number():
    [(_, why)] = too_many(peers((1, 7), (1, 7)), sessions(), 1, 100)
    assert why == "user 7 may have 1 (server.max_user_connections, and 4 a session)"


def found(*owners):
    return [(peer, f"why {peer.inode}") for peer in peers(*owners)]


def test_what_is_too_many_stays_for_a_while_in_which_a_call_of_its_process_is_refused_once():
    excess = Excess()
    assert excess.next_end == inf
    assert excess.overdue(found((1, 7)), 10.0) == []
    assert excess.next_end == 10.0 + GRACE_SECONDS
    assert excess.overdue(found((1, 7)), 10.1) == []
    assert [excess.take_refusal(pid) for pid in (2, 1, 1)] == [None, "why 100", None]
    assert [peer.inode for peer, _ in excess.overdue(found((1, 7)), 10.0 + GRACE_SECONDS)] == [100]
    assert excess.next_end == inf


def test_a_connection_that_its_process_closed_has_no_call_refused():
    excess = Excess()
    excess.overdue(found((1, 7), (2, 7)), 10.0)
    excess.overdue(found((1, 7)), 10.1)
    assert [excess.take_refusal(pid) for pid in (1, 2)] == ["why 100", None]


def test_a_connection_that_is_too_many_no_more_begins_anew_when_it_is_again():
    excess = Excess()
    excess.overdue(found((1, 7)), 10.0)
    excess.overdue([], 10.1)
    assert excess.take_refusal(1) is None
    assert excess.overdue(found((1, 7)), 10.0 + GRACE_SECONDS) == []


def test_of_very_many_most_are_closed_at_once():
    closed = Excess().overdue(found(*[(1, 7)] * (MOST_IN_GRACE + 3)), 10.0)
    assert [peer.inode for peer, _ in closed] == [100 + MOST_IN_GRACE + n for n in range(3)]
