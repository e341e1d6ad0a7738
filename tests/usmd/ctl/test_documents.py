"""What documents are made from: one entry for each command that `usmctl schema` offers, in its order."""

from usmd.ctl.documents import DOCUMENTS
from usmd.ctl.schema_command import COMMANDS


def test_each_command_that_is_offered_has_a_document_and_no_other_has():
    assert tuple(DOCUMENTS) == COMMANDS
