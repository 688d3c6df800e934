"""One at a time across processes: a lock on a file, which the system releases when its holder dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from memos_agents.errors import BackendUnavailable, MemOSError

_SECONDS_BETWEEN_TRIES = 0.1


@contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock on `path` (made if missing) for the block; `BackendUnavailable` after waiting `seconds`.

    Whoever removes the file must hold it and do nothing after that; who waited for it notices and takes the new one.
    """
    try:
        import fcntl
    except ImportError as error:
        raise MemOSError(
            "servers are started here on Linux and macOS only; on Windows use WSL, or start one with Docker "
            "(docker run -d -p 127.0.0.1:7687:7687 -e NEO4J_AUTH=none neo4j:2026.09.0-community)"
        ) from error
    deadline = time.monotonic() + seconds
    while True:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BackendUnavailable(
                        f"another process holds {str(path)!r} for more than {seconds:.0f} s; wait for it or end it"
                    ) from None
            else:
                if _is_still(file, path):
                    yield
                    return
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _is_still(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
