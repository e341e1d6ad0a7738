"""The key-value store, small: every value is checked, with and without asynchronous faults."""

import pytest

from examples import kv_store
from tests.support.real_memory import require_real_memory


@pytest.mark.parametrize("mechanism", ["simulated", "userfaultfd"])
def test_it_serves_the_same_requests_both_ways(mechanism, capsys):
    if mechanism == "userfaultfd":
        require_real_memory()
    plan = kv_store.Plan(memory=1 << 18, values=1 << 20, requests=100, concurrent=16, mechanism=mechanism)
    kept, goes_on, how = kv_store.run(plan)
    assert how == mechanism
    for measured in (kept, goes_on):
        assert len(measured.latencies) == 100
        assert measured.percentile(0.5) <= measured.percentile(0.99) <= measured.percentile(1.0)
    kv_store.console.print(kv_store.table(plan, kept, goes_on))
    assert "asynchronous" in capsys.readouterr().out


def test_a_damaged_value_is_noticed():
    class Region(bytearray):
        pass

    store = kv_store.Store(Region(4096), 24)
    store.put("a", b"x" * 24)
    assert store.get("a") == b"x" * 24
    store._region[10] ^= 1
    with pytest.raises(ValueError, match="'a' is damaged"):
        store.get("a")
    with pytest.raises(KeyError):
        store.get("b")
