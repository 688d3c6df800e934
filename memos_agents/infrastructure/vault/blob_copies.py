"""CopiedBlobs: a store of bytes far away, with copies of what was read lately in a local folder, within a budget.

The copies are only a shorter way: every byte is checked against its name, what is deleted is deleted in both places,
and what another machine deleted meanwhile is removed when the store is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from memos_agents.cube.payload import BlobRef
from memos_agents.errors import BackendUnavailable, IntegrityError, NotFound
from memos_agents.infrastructure.vault.blobs import BlobStore, FolderBlobs

_AT_ONCE: Final = 16
DISK_BYTES: Final = 4 * 2**30
"""Default budget of the copies."""


class CopiedBlobs:
    """`far` decides what exists. Safe for threads; several processes may share the folder."""

    def __init__(self, far: BlobStore, folder: Path, budget_bytes: int = DISK_BYTES) -> None:
        self._far, self._near, self.budget_bytes = far, FolderBlobs(folder), budget_bytes
        self._folder = folder
        self._lock = threading.Lock()
        self._near.clear_staging()
        here = list(self._near.names())
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                is_there = list(pool.map(far.has, here))
        except OSError as error:
            raise BackendUnavailable(f"the store of payload bytes cannot be reached: {error}") from error
        self._near.delete([name for name, is_kept in zip(here, is_there, strict=True) if not is_kept])

    def put(self, data: bytes) -> BlobRef:
        ref = self._far.put(data)
        self._keep(ref.sha256, data)
        return ref

    def get(self, sha256: str) -> bytes:
        try:
            data = self._near.get(sha256)
        except NotFound:
            data = self._far.get(sha256)
            self._keep(sha256, data)
        except IntegrityError:
            self._near.delete([sha256])
            data = self._far.get(sha256)
        return data

    def checked_file(self, sha256: str) -> Path | None:
        """See `blobs.checked_file`: the copy, fetched if it is not here; None if it does not fit the budget."""
        for _ in range(2):
            try:
                path = self._near.checked_file(sha256)
            except IntegrityError:
                self._near.delete([sha256])
                path = None
            if path is not None:
                path.touch()
                return path
            self._keep(sha256, self._far.get(sha256))
        return None

    def is_near(self, sha256: str) -> bool:
        """Whether there is a copy on this machine."""
        return self._near.has(sha256)

    def has(self, sha256: str) -> bool:
        return self._far.has(sha256)

    def names(self) -> Iterator[str]:
        return self._far.names()

    def delete(self, names: Iterable[str]) -> None:
        gone = list(names)
        self._near.delete(gone)
        self._far.delete(gone)

    def size_bytes(self) -> int:
        return self._far.size_bytes()

    def _keep(self, sha256: str, data: bytes) -> None:
        """A copy that cannot be written is none; the longest unused ones make room."""
        if len(data) > self.budget_bytes:
            return
        with self._lock:
            told = {path: path.stat() for path in self._folder.glob("??/*") if path.name != sha256}
            size = sum(each.st_size for each in told.values())
            for path in sorted(told, key=lambda each: told[each].st_mtime_ns):
                if size + len(data) <= self.budget_bytes:
                    break
                path.unlink(missing_ok=True)
                size -= told[path].st_size
            try:
                self._near.put(data)
            except BackendUnavailable:  # a full disk: the far store has it
                return
