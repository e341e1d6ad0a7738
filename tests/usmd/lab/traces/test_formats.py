"""The names of formats are those of the readers."""

from usmd.lab.traces.formats import AUTO, FORMATS
from usmd.lab.traces.reading import READERS


def test_every_name_has_a_reader_and_every_reader_a_name():
    assert tuple(READERS) == FORMATS
    assert AUTO not in FORMATS
