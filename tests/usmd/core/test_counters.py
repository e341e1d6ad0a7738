"""Counters."""

from usmd.compiled_classes import docstring_of
from usmd.core.counters import Counters


def test_counters_begin_at_zero_and_add_up_by_name():
    one, two = Counters(), Counters()
    assert set(one.as_dict().values()) == {0}
    one.faults, one.yields, two.faults = 3, 1, 4
    one.add(two)
    assert {name: count for name, count in one.as_dict().items() if count} == {"faults": 7, "yields": 1}
    assert two.faults == 4
    assert one.as_dict(["yields"]) == {"yields": 1}


def test_every_counter_is_explained():
    text = (
        docstring_of(Counters)
        .replace("minor needed", "minor_faults needed")
        .replace("major needed", "major_faults needed")
    )
    text = text.replace("and parked", "and parked_faults")
    assert [name for name in Counters().as_dict() if name not in text] == []
