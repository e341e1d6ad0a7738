"""What sessions ask, whichever way: the core is asked, and the answer is that of the proto."""

import pytest

from tests.support.session_bench import PAGE, run
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usmd.errors import InvalidHint, LimitExceeded, NotFound
from usmd.server.descriptors import OF_A_REGION, Shares
from usmd.server.session_calls import FIRST_NUMBER, SessionCalls


def with_a_session(test, shares=None):
    async def conversation(bench):
        test(SessionCalls(bench.engine, shares), bench.sessions.attach("app", ""))

    run(conversation)


def test_a_region_has_a_number_that_was_drawn():
    def test(calls, session):
        one, two = (calls.map(session, pb.MapRegionRequest(length=PAGE + 1, name="data")) for _ in range(2))
        assert (one.length, one.page_count, one.name) == (PAGE + 1, 2, "data")
        assert min(one.region_id, two.region_id) >= FIRST_NUMBER
        assert set(calls.process(session).regions) == {one.region_id, two.region_id}

    with_a_session(test)


def test_a_region_beyond_the_share_of_descriptors_is_refused():
    def test(calls, session):
        calls.map(session, pb.MapRegionRequest(length=1))
        with pytest.raises(LimitExceeded, match="descriptors"):
            calls.map(session, pb.MapRegionRequest(length=1))

    with_a_session(test, Shares(2 * OF_A_REGION, 1, 1, 1))


def test_a_region_that_was_given_back_is_none_any_more_and_holds_nothing():
    def test(calls, session):
        number = calls.map(session, pb.MapRegionRequest(length=1)).region_id
        calls.unmap(session, number)
        assert calls.is_emptied(number)
        with pytest.raises(NotFound):
            calls.unmap(session, number)

    with_a_session(test)


def test_a_hint_is_text_or_fields_and_covers_pages():
    def test(calls, session):
        number = calls.map(session, pb.MapRegionRequest(length=4 * PAGE)).region_id
        answer = calls.hint(
            session, pb.HintRegionRequest(region_id=number, offset=1, length=PAGE, text="PRIORITY=HIGH")
        ).result()
        assert (answer.first_page, answer.page_count) == (0, 2)
        fields = pb.HintRegionRequest(region_id=number)
        fields.fields.priority = common_pb2.HintFields.PRIORITY_LOW
        assert calls.hint(session, fields).result().page_count == 4
        with pytest.raises(InvalidHint, match="NO"):
            calls.hint(session, pb.HintRegionRequest(region_id=number, text="NO=1"))

    with_a_session(test)
