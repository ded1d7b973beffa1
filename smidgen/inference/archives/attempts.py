"""How often a shard was begun and not finished, so that a file that kills its worker ends its shard and not the run.

A note is left before a shard is begun and taken away after it, also by an error or Ctrl-C; a process that is killed
cannot take it away.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator

from smidgen.inference.archives.storage import Storage

FOLDER = "attempts"
MOST_ATTEMPTS = 5
"""Of a shard. Workers that are killed from outside rarely meet the same shard again and again."""


def deaths(storage: Storage, shard: str) -> int:
    """How many processes died while they had this shard."""
    return len([name for name in storage.names(FOLDER) if name.startswith(f"{shard}-")])


@contextlib.contextmanager
def attempt(storage: Storage, shard: str) -> Iterator[None]:
    """Note who has the shard while the block runs: host and process id, for whoever wants to look at it."""
    note = f"{FOLDER}/{shard}-{socket.gethostname()}-{os.getpid()}-{deaths(storage, shard)}.json"
    content = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
    storage.write(note, content.encode("ascii"), durable=False)
    try:
        yield
    finally:
        storage.remove(note)


def forget(storage: Storage, shard: str) -> None:
    """A finished shard needs no notes."""
    for name in storage.names(FOLDER):
        if name.startswith(f"{shard}-"):
            storage.remove(f"{FOLDER}/{name}")
