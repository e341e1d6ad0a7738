from usm_wire.residency import ABSENT_BYTE, RESIDENT, RESIDENT_BYTE, map_bytes, reason_at


def test_the_state_and_the_reason_of_each_page_have_a_byte_of_their_own():
    pages = range(5)
    places = [*pages, *(reason_at(5, page) for page in pages)]
    assert sorted(places) == list(range(map_bytes(5)))


def test_a_fresh_map_has_no_resident_page():
    residency = bytearray(map_bytes(3))
    assert residency.find(RESIDENT_BYTE) == -1
    assert residency.find(ABSENT_BYTE) == 0
    residency[1] = RESIDENT
    assert residency.find(RESIDENT_BYTE) == 1
