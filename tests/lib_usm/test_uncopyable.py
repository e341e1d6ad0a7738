"""What can be neither copied nor pickled says so, as one error."""

import copy
import pickle

import pytest

import lib_usm

WAYS = [copy.copy, copy.deepcopy, pickle.dumps, lambda it: pickle.dumps([it], 0)]


@pytest.mark.parametrize("way", WAYS, ids=["copy", "deepcopy", "pickle", "pickle 0"])
@pytest.mark.parametrize("kind", ["client", "region"])
def test_a_client_and_a_region_can_be_neither_copied_nor_pickled(client, kind, way):
    region = client.mmap(50)
    with pytest.raises(lib_usm.NotCopyable, match=r"can be neither copied nor pickled: .*connect") as caught:
        way(client if kind == "client" else region)
    assert isinstance(caught.value, TypeError)
    region[:2] = b"it"
    assert region[:2] == b"it"


def test_what_a_region_holds_can_be_copied(client):
    region = client.mmap(5)
    region[:] = b"hello"
    assert pickle.loads(pickle.dumps(bytes(region))) == b"hello"


def test_errors_can_be_pickled_with_their_page():
    error = lib_usm.DataLoss("gone")
    error.page = 7
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.page) == (lib_usm.DataLoss, "gone", 7)
