"""What a channel must define; tests/contracts/test_channels.py has what it must do."""

import pytest

from usmd.swap.channel import Channel


def test_a_channel_submits_tells_what_has_completed_and_can_be_closed():
    class Half(Channel):
        pass

    with pytest.raises(TypeError, match=r"abstract methods '?close'?, '?completed'?, '?submit'?"):
        Half()
