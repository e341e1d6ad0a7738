"""A policy's view of memory for tests of one policy alone: it has what the test says, and nothing else."""

from usmd.core.view import MemoryView


def fake_view(**given):
    """A view with these attributes and functions. Attributes can be set."""

    def attribute(name):
        return property(lambda self: given[name], lambda self, value: given.update({name: value}))

    members = {name: staticmethod(each) if callable(each) else attribute(name) for name, each in given.items()}
    view = type("FakeView", (MemoryView,), members)
    return view.__new__(view)
