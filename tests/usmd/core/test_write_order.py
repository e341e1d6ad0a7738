"""When the next write is foreseen, and when it is waited for."""

from usmd.core.write_order import IN_ORDER, PROBE, WriteOrder


def ordered(pages=IN_ORDER + 1):
    order = WriteOrder()
    assert [order.written(page) for page in range(pages)] == [page >= IN_ORDER for page in range(pages)]
    return order


def test_writes_in_a_row_make_an_order_and_the_next_page_is_foreseen():
    order = ordered()
    assert order.foresees(IN_ORDER + 1)


def test_another_page_than_the_next_is_not_foreseen():
    order = ordered()
    assert not any(order.foresees(page) for page in (0, IN_ORDER, IN_ORDER + 2))


def test_a_write_elsewhere_ends_the_order():
    order = ordered()
    assert not order.written(50)
    assert not order.foresees(51)
    assert not order.written(51)
    assert order.written(52)


def test_the_next_write_is_expected_beyond_what_is_writable_already():
    order = ordered()
    for page in range(IN_ORDER + 1, 20):
        order.opened(page)
    assert order.foresees(20)
    for page in (5, 19, 30):
        order.opened(page)
    assert order.foresees(20)


def test_now_and_then_a_write_is_waited_for_and_reading_on_without_it_ends_the_order():
    order = ordered()
    page = IN_ORDER + 1
    foreseen = 0
    while order.foresees(page):
        order.opened(page)
        foreseen += 1
        page += 1
    assert foreseen == PROBE - 1
    assert not order.foresees(page + 1), "nothing was written to the page before"
    assert order.written(page), "it was, and the order goes on"
    assert order.foresees(page + 1)
