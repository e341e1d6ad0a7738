"""Tables of swap devices: nested ones too, and what an operator hears of a mistake in one."""

import pytest

from usmd.errors import ConfigError
from usmd.swap.file import FileKind
from usmd.swap.memory import MemoryKind
from usmd.swap.mirror import MirrorKind
from usmd.swap.tables import read_device, show_device

MIRROR = {
    "kind": "mirror",
    "name": "pair",
    "late": 0.5,
    "repair_rate": "1MiB",
    "far": {"kind": "memory", "size": "1MiB"},
    "local": {"kind": "file", "size": "2MiB", "path": "/x", "direct": True},
}


def test_a_table_becomes_a_device_and_a_device_the_table():
    spec = read_device(MIRROR, "swap[0]")
    far, local = MemoryKind(size=1 << 20), FileKind(size=2 << 20, path="/x", direct=True)
    assert spec == MirrorKind(name="pair", late=0.5, repair_rate=1 << 20, far=far, local=local)
    shown = show_device(spec)
    assert shown["size"] == "2MiB"
    assert shown["local"] == {"kind": "file", "size": "2MiB", "path": "/x", "direct": True, "io": "auto"}
    assert read_device(shown, "swap[0]") == spec


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"kind": "tape"}, "swap[0].kind", "swap[0].kind = 'tape' is not allowed; allowed is one of memory,"),
        ({"far": 3}, "swap[0].far", "swap[0].far = 3 is not allowed; allowed is a table with the keys kind, size"),
        ({"far": {"kind": "memory"}}, "swap[0].far.size", "swap[0].far: size is missing"),
        ({"far": {"size": "1MiB"}}, "swap[0].far.kind", "swap[0].far: kind is missing; allowed is one of memory,"),
        (
            {"far": {"kind": "memory", "size": "1MiB", "pth": "x"}},
            "swap[0].far.pth",
            "swap[0].far: pth is not a key; allowed are kind, size, name",
        ),
        ({"size": "1MiB"}, "swap[0]", "a mirror is as large as its parts, and not 1 MiB; leave out `size`"),
        ({"late": 0}, "swap[0].late", "swap[0].late = 0 is not allowed"),
    ],
)
def test_a_mistake_is_named_with_its_whole_key(changes, key, message):
    with pytest.raises(ConfigError) as caught:
        read_device({**MIRROR, **changes}, "swap[0]")
    assert caught.value.key == key
    assert str(caught.value).startswith(message)


def test_all_mistakes_of_a_nested_table_are_named():
    with pytest.raises(ConfigError) as caught:
        read_device({**MIRROR, "far": {"kind": "memory", "size": "x", "name": ""}}, "swap[0]")
    assert [each.key for each in caught.value.all] == ["swap[0].far.size", "swap[0].far.name"]
