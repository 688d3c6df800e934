"""Store: what the fronts of one open store share (`MemOS`, its views, and their async mirrors)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from memos_agents.cube.identity import IdSource
from memos_agents.cube.moment import utc
from memos_agents.cube.scope import Scope
from memos_agents.errors import BackendUnavailable, IncompatibleModel, InvalidRequest
from memos_agents.infrastructure.vault.base import MemVault, SupportsSearch
from memos_agents.infrastructure.vault.capabilities import SupportsCandidates
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, SupportsPlanning, Vectors
from memos_agents.operation.organization import Searchable
from memos_agents.operation.resemblance import Resemblance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memos_agents.models.base import Embedder

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

EMBEDDED_AT_ONCE = 256


def system_clock() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


class Store:
    """An open vault with its embedder, clock and ids. `embedder` None: no vectors, search by words only."""

    def __init__(
        self,
        vault: MemVault,
        *,
        embedder: Embedder | None,
        clock: Callable[[], datetime] | None,
        ids: IdSource | None,
        owns_vault: bool,
    ) -> None:
        if clock is not None and not callable(clock):
            raise InvalidRequest(f"clock must be a function that returns an aware datetime, not {clock!r}")
        self._vault = vault
        self.owns_vault = owns_vault
        self._clock = clock
        self.clock: Callable[[], datetime] = clock or system_clock
        self.embedder = embedder
        self.ids = ids or IdSource()
        self.tenant = vault.tenant
        self.is_closed = False
        self.models: weakref.WeakSet[Any] = weakref.WeakSet()
        """Local models that are open on this store (`MemoryModel`): they forget what is erased, and tell `stats`."""
        self.resemblance = Resemblance()
        self._planner = vault if isinstance(vault, SupportsPlanning) else None
        self.searcher: Searchable | None = vault if isinstance(vault, SupportsSearch) else None
        """The vault, if it can search (asked once: such a question costs 15 microseconds)."""
        self.chooser: SupportsCandidates | None = vault if isinstance(vault, SupportsCandidates) else None
        """The vault, if its server can choose what a search of a large scope looks at."""

    @property
    def vault(self) -> MemVault:
        """The vault, while it is open."""
        if self.is_closed:
            raise BackendUnavailable("this store is closed; open it again with MemOS.open(...)")
        return self._vault

    @property
    def writable(self) -> MemVault:
        """The vault, while it is open and may be written."""
        vault = self.vault
        if vault.is_readonly:
            raise InvalidRequest("this store was opened with readonly=True; open it without to write")
        return vault

    def now(self) -> datetime:
        """The clock's time, aware and in UTC."""
        return datetime.now(UTC) if self._clock is None else utc(self._clock(), what="the clock's time")

    def embed(self, texts: Sequence[str]) -> tuple[str, NDArray[np.float32]] | None:
        """The embedder's fingerprint and one row for each text; None without an embedder."""
        embedder = self.embedder
        return None if embedder is None or not texts else (embedder.fingerprint, embedder.embed(texts))

    def vectors_of(self, text: str) -> Vectors:
        """The vectors of one text, by space."""
        embedded = self.embed([text])
        return {} if embedded is None else {embedded[0]: embedded[1][0]}

    def commit(self, commit: Commit) -> CommitResult:
        """Let the vault commit a plan, and take note of what it holds now."""
        result = self.writable.commit(commit)
        self.resemblance.follow(commit, result)
        return result

    def commit_planned(self, plan: Callable[[], Commit]) -> tuple[Commit, CommitResult]:
        """As `commit`, with a plan that is made when it is our turn, where the vault can do that."""
        vault, planner = self.writable, self._planner
        if planner is None:
            commit = plan()
            result = vault.commit(commit)
        else:
            commit, result = planner.commit_planned(plan)
        self.resemblance.follow(commit, result)
        return commit, result

    def close(self) -> None:
        """Close once; a vault that was handed to us belongs to the caller."""
        if not self.is_closed:
            self.is_closed = True
            if self.owns_vault:
                self._vault.close()


def bind_space(vault: MemVault, embedder: Embedder, where: str) -> bool:
    """Bind an empty store to `embedder`; `IncompatibleModel` if the store's vectors are another embedder's.

    False if the store is empty and cannot be written.
    """
    default = next((space for space in vault.spaces() if space.is_default), None)
    if default is None:
        if not vault.is_readonly:
            vault.open_space(embedder.fingerprint, embedder.dimension, make_default=True)
        return not vault.is_readonly
    if default.fingerprint != embedder.fingerprint:
        raise IncompatibleModel(
            f"the vectors in {where} were made by the embedder {default.fingerprint!r}, but this one is "
            f"{embedder.fingerprint!r}, and the two cannot be compared. Open it with that embedder "
            "(MemOS.open(..., embedder=...)), or convert it: MemOS.open(..., embedder=new, reembed=True), "
            "on the command line `memos reembed`",
            expected=default.fingerprint,
            found=embedder.fingerprint,
        )
    return True


def fill_space(vault: MemVault, embedder: Embedder, progress: Progress | None = None) -> int:
    """Embed every version that has no vector in `embedder`'s space; return how many.

    Works in batches that are durable one by one, so it can be killed and called again. One pass in id order: what is
    written meanwhile may be missed, so call it again until it returns 0.
    """
    if not isinstance(vault, SupportsSearch):
        return 0
    space, done, after = embedder.fingerprint, 0, None
    total = vault.stats(Scope.everything(vault.tenant)).versions if progress is not None else 0
    while batch := vault.missing_vectors(space, EMBEDDED_AT_ONCE, after):
        rows = embedder.embed([cube.text for cube in batch])
        vault.add_vectors(space, {cube.ref: row for cube, row in zip(batch, rows, strict=True)})
        done += len(batch)
        after = batch[-1].ref
        if progress is not None:
            progress(done, max(done, total))
    return done
