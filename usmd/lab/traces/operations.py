"""What an operation of a cache, a store or a block device does to the page or object that it names.

The words are those of memcached, Redis, HTTP, YCSB, SCSI, Meta's and Twitter's traces and blktrace, in either case. An
operation that changes part of a value is a write, and so is one that both reads and writes. One that removes the
object, or names none, is not an access.
"""

from __future__ import annotations

import re
from typing import Final

READ, WRITE, NO_ACCESS = range(3)

OPERATIONS: Final[dict[str, int]] = {
    **dict.fromkeys(
        (
            *("r", "read", "get", "l", "load", "0", "false", "gets", "getk", "getq", "getkq", "mg", "mget", "multiget"),
            *("get_multi", "get_lease", "lease_get", "getrange", "fetch", "lookup", "find", "head", "exists", "scan"),
            *(
                "touch",
                "gat",
                "gats",
                "gatq",
                "peek",
                "query",
                "select",
                "strlen",
                "hget",
                "hgetall",
                "hmget",
                "lrange",
                "llen",
                "smembers",
            ),
            *("sismember", "zrange", "zscore", "ttl", "ra", "rs", "rm", "rsm", "ram", "ras"),
            *("28", "0x28", "88", "0x88"),  # SCSI
        ),
        READ,
    ),
    **dict.fromkeys(
        (
            *("w", "write", "set", "put", "add", "replace", "store", "s", "1", "true", "cas", "incr", "decr", "append"),
            *("prepend", "increment", "decrement", "incrby", "decrby", "incrbyfloat", "setq", "addq", "replaceq"),
            *("appendq", "prependq", "incrementq", "decrementq", "ms", "ma", "mset", "setex"),
            *("psetex", "setnx", "setrange", "getset", "set_lease", "lease_set", "insert", "update", "upsert"),
            *("modify", "m", "rmw", "read_modify_write", "readmodifywrite", "post", "patch", "create", "hset", "hmset"),
            *("hincrby", "lpush", "rpush", "lpop", "rpop", "sadd", "srem", "zadd", "zrem", "expire", "ws", "wa", "wm"),
            *("wsm", "wf", "wfs", "wsma", "fw", "fws", "fwfs", "fwf"),
            *("2a", "0x2a", "8a", "0x8a"),  # SCSI
        ),
        WRITE,
    ),
    **dict.fromkeys(
        (
            *("delete", "del", "deleteq", "d", "md", "remove", "rem", "unlink", "evict", "invalidate", "purge", "trim"),
            *("discard", "ds", "flush", "flush_all", "flushall", "f", "n", "nop", "noop", "mn", "ping", "stats"),
            *("version", "quit", "options", "open", "close", "none"),
        ),
        NO_ACCESS,
    ),
}
"""Operations by name in lower case."""

ALLOWED: Final = (
    "get, set, delete and what memcached, Redis, HTTP, YCSB and blktrace call theirs, or r and w, or 0 and 1"
)

_PREFIX: Final = re.compile(r"(?:op|cmd|memcached|mc|req|request|io)_")
_SEPARATORS: Final = re.compile(r"[\s-]+")


def kind_of(text: str) -> int | None:
    """READ, WRITE or NO_ACCESS; None for an unknown word."""
    name = _SEPARATORS.sub("_", text.strip().lower())
    found = OPERATIONS.get(name)
    return OPERATIONS.get(_PREFIX.sub("", name, count=1)) if found is None else found
