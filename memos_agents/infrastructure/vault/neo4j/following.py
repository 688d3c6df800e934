"""What a Neo4jVault can do besides being a store: be the mirror of another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from memos_agents.errors import BackendUnavailable
from memos_agents.infrastructure.vault.blobs import BlobStore
from memos_agents.infrastructure.vault.changes import Changes, Position
from memos_agents.infrastructure.vault.commit import Commit, CommitResult
from memos_agents.infrastructure.vault.neo4j import mirroring, spaces
from memos_agents.infrastructure.vault.neo4j.apply import Applier
from memos_agents.infrastructure.vault.neo4j.erasing import delete_doomed_blobs
from memos_agents.infrastructure.vault.neo4j.link import Link, Tx
from memos_agents.infrastructure.vault.neo4j.uses import PendingUses

T = TypeVar("T")


class Following(ABC):
    """See `SupportsMirroring`. A base of `Neo4jVault`, apart from it for its size."""

    @property
    @abstractmethod
    def link(self) -> Link: ...

    @property
    @abstractmethod
    def blobs(self) -> BlobStore: ...

    @abstractmethod
    def _forget(self) -> None:
        """Drop what this process keeps of scopes."""

    @abstractmethod
    def _write(self, work: Callable[[Tx], T]) -> T: ...

    def mirror(self, changes: Changes, source_id: str) -> bool:
        """Take a batch and its position in one transaction; False if it was taken before, which changes nothing."""
        done = self._write(lambda tx: mirroring.apply_changes(tx, self.link.tenant, changes, source_id))
        if done.dropped or done.has_erased:
            self._forget()
        if done.dropped:
            spaces.remove_vectors(self.link, list(done.dropped))
        if done.has_erased:
            with suppress(BackendUnavailable, OSError):  # as after a commit; `scrub` deletes what is left
                delete_doomed_blobs(self.link, self.blobs)
        return done.is_new

    def mirror_position(self) -> tuple[str, Position] | None:
        """Whose mirror this is, and how far it got; None if it is none."""
        return self.link.read(mirroring.position, whole=False)

    def unmirror(self, at: Position, commit: Commit) -> CommitResult:
        """Become an ordinary store whose log goes on with `commit`."""
        applier = Applier(self.link.tenant, self.blobs.has, PendingUses())
        return self._write(lambda tx: mirroring.release(tx, applier, at, commit))

    def drop_payloads(self, names: Sequence[str]) -> None:
        """Forget payload files that were put for a batch which was not taken, unless a version names them."""
        self._write(lambda tx: mirroring.doom(tx, names))
        delete_doomed_blobs(self.link, self.blobs)
