"""When the next write is foreseen, and when it is waited for."""

import pytest

from usmd.core.write_order import IN_ORDER, LOOKED_AT, LOOKED_AT_THEN, MOSTLY, PROBE, WriteOrder


def ordered(pages=IN_ORDER + 1):
    order = WriteOrder()
    assert [order.written(page) for page in range(pages)] == [page >= IN_ORDER for page in range(pages)]
    return order


def test_writes_in_a_row_make_an_order_and_the_next_page_is_foreseen():
    order = ordered()
    assert order.foresees(IN_ORDER + 1, alone=False)


def test_another_page_than_the_next_is_not_foreseen():
    order = ordered()
    assert not any(order.foresees(page, alone=False) for page in (0, IN_ORDER, IN_ORDER + 2))


def test_a_write_elsewhere_ends_the_order():
    order = ordered()
    assert not order.written(50)
    assert not order.foresees(51, alone=False)
    assert not order.written(51)
    assert order.written(52)


def test_the_next_write_is_expected_beyond_what_is_writable_already():
    order = ordered()
    for page in range(IN_ORDER + 1, 20):
        order.opened(page)
    assert order.foresees(20, alone=False)
    for page in (5, 19, 30):
        order.opened(page)
    assert order.foresees(20, alone=False)


def test_now_and_then_a_write_is_waited_for_and_reading_on_without_it_ends_the_order():
    order = ordered()
    page = IN_ORDER + 1
    foreseen = 0
    while order.foresees(page, alone=False):
        order.opened(page)
        foreseen += 1
        page += 1
    assert foreseen == PROBE - 1
    assert not order.foresees(page + 1, alone=False), "nothing was written to the page before"
    assert order.written(page), "it was, and the order goes on"
    assert order.foresees(page + 1, alone=False)


def came_and_were_written(order, writes, pages=LOOKED_AT, *, alone=True):
    """Pages come in protected, far from each other, and `writes` of them are written to."""
    foreseen = 0
    for page in range(0, pages * 10, 10):
        foreseen += order.foresees(page, alone=alone)
        if page < writes * 10:
            order.written_later()
            order.written(page)
    return foreseen


@pytest.mark.parametrize(("writes", "expected"), [(0, False), (MOSTLY - 1, False), (MOSTLY, True), (LOOKED_AT, True)])
def test_where_most_pages_are_written_to_after_they_were_read_the_next_come_in_writable(writes, expected):
    order = WriteOrder()
    assert came_and_were_written(order, writes) == 0
    assert order.foresees(7, alone=True) == expected


def test_pages_beside_another_one_tell_nothing_and_are_not_foreseen():
    order = WriteOrder()
    assert came_and_were_written(order, LOOKED_AT, alone=False) == 0
    assert not order.foresees(7, alone=True)
    came_and_were_written(order, LOOKED_AT)
    assert order.foresees(7, alone=True)
    assert not order.foresees(7, alone=False)


def test_pages_that_come_in_protected_now_and_then_show_when_no_more_are_written_to():
    order = WriteOrder()
    came_and_were_written(order, LOOKED_AT)
    pages = PROBE * LOOKED_AT_THEN
    guesses = [order.foresees(5, alone=True) for _ in range(pages)]
    assert guesses == [number % PROBE != 0 for number in range(1, pages + 1)]
    assert not order.foresees(5, alone=True)


def test_while_half_of_those_are_written_to_the_others_come_in_writable():
    order = WriteOrder()
    came_and_were_written(order, LOOKED_AT)
    protected = 0
    for number in range(1, 10 * PROBE * LOOKED_AT_THEN + 1):
        foreseen = order.foresees(5, alone=True)
        assert foreseen == (number % PROBE != 0)
        if not foreseen:
            protected += 1
            if protected % 2:
                order.written_later()


def test_while_writes_are_in_order_no_other_page_is_foreseen():
    order = ordered()
    for _ in range(LOOKED_AT):
        assert not order.foresees(100, alone=True)
        order.written_later()
    assert not order.foresees(100, alone=True)
    assert order.foresees(IN_ORDER + 1, alone=True)
