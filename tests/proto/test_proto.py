"""The wire contract: everything in it is explained, calls say how they fail, and names follow the package's version."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from usm_wire.conventions import REASON_PREFIX
from usm_wire.pb.usm.v1 import common_pb2
from usmd import errors

PROTO = Path(__file__).resolve().parents[2] / "proto"
FILES = sorted(PROTO.rglob("*.proto"))
REASONS = {name.removeprefix(REASON_PREFIX) for name in common_pb2.FailureReason.keys()}  # noqa: SIM118 - no mapping
Elements = Iterator[tuple[str, tuple[int, ...]]]


def described(paths, folder, root=PROTO):
    """The descriptors of proto files, with their comments."""
    to = folder / "descriptors"
    options = [f"-I{root}", "--include_source_info", f"--descriptor_set_out={to}"]
    assert protoc.main(["protoc", *options, *map(str, paths)]) == 0
    return descriptor_pb2.FileDescriptorSet.FromString(to.read_bytes()).file


def of_enum(enum, name, path) -> Elements:
    yield f"{name}{enum.name}", path
    for number, value in enumerate(enum.value):
        yield f"{name}{enum.name}.{value.name}", (*path, 2, number)


def of_message(message, name, path) -> Elements:
    name += message.name
    yield name, path
    for number, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, 2, number)
    made_up = {field.oneof_index for field in message.field if field.proto3_optional}
    for number, oneof in enumerate(message.oneof_decl):
        if number not in made_up:
            yield f"{name}.{oneof.name}", (*path, 8, number)
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from of_message(nested, f"{name}.", (*path, 3, number))
    for number, enum in enumerate(message.enum_type):
        yield from of_enum(enum, f"{name}.", (*path, 4, number))


def of_service(service, path) -> Elements:
    yield service.name, path
    for number, method in enumerate(service.method):
        yield f"{service.name}.{method.name}", (*path, 2, number)


def comments(file):
    """The comment before each service, call, message, field, oneof, enum and value of a file, by name."""
    found = {tuple(each.path): " ".join(each.leading_comments.split()) for each in file.source_code_info.location}
    elements = chain(
        *(of_message(each, "", (4, number)) for number, each in enumerate(file.message_type)),
        *(of_enum(each, "", (5, number)) for number, each in enumerate(file.enum_type)),
        *(of_service(each, (6, number)) for number, each in enumerate(file.service)),
    )
    return {name: found.get(path, "") for name, path in elements}


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    """All comments of the contract, by name."""
    return dict(chain(*(comments(file).items() for file in described(FILES, tmp_path_factory.mktemp("proto")))))


def test_everything_has_a_comment(contract):
    assert {"ClientService", "ClientService.Load", "LoadRequest.offset", "Outcome.outcome", "HintFields.Priority",
            "HintFields.Priority.PRIORITY_LOW", "Process.uid"} <= contract.keys()  # fmt: skip
    assert [name for name, comment in contract.items() if not comment] == []


def test_what_has_no_comment_is_found(tmp_path):
    bare = tmp_path / "bare.proto"
    bare.write_text("""
        syntax = "proto3";
        message Thing { enum Kind { NONE = 0; } oneof which { uint32 size = 1; Kind kind = 2; } optional bool set = 3;
                        map<string, string> fields = 4; }
        service Service { rpc Make(Thing) returns (Thing); }
    """)
    (file,) = described([bare], tmp_path, tmp_path)
    assert [name for name, comment in comments(file).items() if not comment] == [
        "Thing", "Thing.size", "Thing.kind", "Thing.set", "Thing.fields", "Thing.which", "Thing.Kind",
        "Thing.Kind.NONE", "Service", "Service.Make",
    ]  # fmt: skip


def test_each_call_says_which_errors_it_has(contract):
    services = [name for name in contract if name.endswith("Service")]
    calls = {name: comment for name, comment in contract.items() if name.partition(".")[0] in services and "." in name}
    assert len(calls) > 25
    assert [name for name, comment in calls.items() if not re.search(r" Errors: .*\.$", comment)] == []
    for name, comment in calls.items():
        named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", comment.partition(" Errors: ")[2]))
        assert named <= REASONS, name


def test_each_reason_says_the_status_of_a_failed_call(contract):
    kinds, statuses = [errors.UsmdError], {}
    for kind in kinds:
        kinds += kind.__subclasses__()
        statuses.setdefault(kind.reason, set()).add(kind.code)
    told = {
        name.rpartition(REASON_PREFIX)[2]: set(re.findall(r"Status ([A-Z_]+)\.", comment))
        for name, comment in contract.items()
        if name.startswith("FailureReason.")
    }
    assert told.pop("UNSPECIFIED") == set()
    assert {reason for reason, status in told.items() if not status <= statuses[reason] or len(status) != 1} == set()


def test_the_package_is_versioned_and_is_the_folder():
    assert FILES
    for path in FILES:
        folder = ".".join(path.parent.relative_to(PROTO).parts)
        assert folder == "usm.v1"
        assert f"package {folder};" in path.read_text()
