"""Mirroring: a store that stays the truth, and another one that follows it, batch by batch.

The source never waits: it is only read. Where the mirror stands is kept in the mirror, with what was written, so a
follower can be killed, doubled or cut off from its server at any point, and whoever comes next goes on from there.
Rejected: a queue beside the source (a second thing to keep durable), and telling operations (what was erased since
cannot be told any more, and must not be).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeAlias, runtime_checkable

from memos_agents.errors import BackendUnavailable, InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.exchange.bundle_reading import blobs_of
from memos_agents.infrastructure.provenance.values import Activity, Agent
from memos_agents.infrastructure.vault.base import MemVault
from memos_agents.infrastructure.vault.blobs import BlobStore
from memos_agents.infrastructure.vault.capabilities import SupportsChanges, SupportsMirroring
from memos_agents.infrastructure.vault.changes import Changes, Position
from memos_agents.infrastructure.vault.commit import Commit, CommitResult

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (commits mirrored, commits there are)."""

SYSTEM: Final = Agent(id="memos", kind="system", name="memos mirror")
FIRST_WAIT_SECONDS: Final = 0.1
LONGEST_WAIT_SECONDS: Final = 5.0
_MOST_BEATEN: Final = 100
"""How often in a row another follower may be faster before that is taken for a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorReport:
    """How a mirror stands. `applied` counts commits that this run brought over, `retries` how often it had to wait.

    `lag` counts commits of the source that the mirror does not have, `lag_seconds` the time between the newest of them
    and the newest that it has; both are of the moment the source was last asked.
    """

    applied: int
    position: int
    lag: int
    lag_seconds: float
    payloads: int
    retries: int


@runtime_checkable
class Followed(SupportsChanges, Protocol):
    """What a mirror reads: changes, and the payload files that they name."""

    @property
    def blobs(self) -> BlobStore: ...


class Mirror:
    """Keeps `target` a mirror of `source`. Use one object from one thread; several, in any processes, are safe.

    `target` must be an empty tenant, or a mirror of the same tenant already. While it follows, it refuses commits of
    its own; open it with `readonly=True` to read it. `batch` commits go in one transaction, fewer if they touch
    thousands of cubes. Raises `InvalidRequest` for vaults that cannot do it.
    """

    def __init__(self, source: Followed, target: MemVault, *, batch: int = 100, patience_seconds: float = 60.0) -> None:
        if not isinstance(source, SupportsChanges):
            raise InvalidRequest(f"{type(source).__name__} does not tell its changes, so nothing can mirror it")
        if not isinstance(target, SupportsMirroring):
            raise InvalidRequest(f"{type(target).__name__} cannot mirror another store; use a Neo4j server")
        if target.is_readonly:
            raise InvalidRequest("the mirror was opened with readonly=True; open it without to bring it up to date")
        if batch < 1:
            raise InvalidRequest(f"a batch of {batch} commits makes no sense")
        self._source, self._changes = source, source.changes
        self._target, self._mirror = target, target
        self._batch, self._patience = batch, patience_seconds
        self._applied = self._payloads = self._retries = 0
        self._position, self._lag, self._lag_seconds = Position(), 0, 0.0
        self._has_looked = False

    def catch_up(
        self, progress: Progress | None = None, *, is_stopped: Callable[[], bool] = lambda: False
    ) -> MirrorReport:
        """Bring the mirror to where the source stands. Ends early, between two batches, when `is_stopped`.

        A server that does not answer is tried again, for `patience_seconds` in a row at most; then
        `BackendUnavailable`, and the same call goes on later. Raises `InvalidRequest` if the target is not this
        source's mirror, `VersionConflict` if the source's log does not go on from where the mirror stands.
        """
        waits, beaten = _Waits(self._patience, is_stopped), 0
        while not is_stopped():
            try:
                changes = self._next()
                if changes is None:
                    break
                self._send(changes)
            except BackendUnavailable as error:
                self._retries += 1
                self._measure()
                waits.wait(error)
            except _Moved as error:
                beaten += 1
                if beaten > _MOST_BEATEN:
                    raise error.why from error
            else:
                waits.reset()
                beaten = 0
                if progress is not None:
                    progress(self._position.seq, max(changes.end_seq, self._position.seq))
        return self.report()

    def follow(
        self,
        stop: threading.Event,
        interval_seconds: float = 1.0,
        *,
        progress: Progress | None = None,
        told: Callable[[MirrorReport], None] = lambda report: None,
    ) -> MirrorReport:
        """Catch up again and again until `stop` is set; `told` hears how things stand after each time.

        A server that is away is waited for, however long.
        """
        while not stop.is_set():
            try:
                told(self.catch_up(progress, is_stopped=stop.is_set))
            except BackendUnavailable:
                told(self.report())
            stop.wait(interval_seconds)
        return self.report()

    def report(self) -> MirrorReport:
        """How things stand, as far as is known."""
        return MirrorReport(
            applied=self._applied, position=self._position.seq, lag=self._lag, lag_seconds=self._lag_seconds,
            payloads=self._payloads, retries=self._retries,
        )  # fmt: skip

    def cut_over(self, now: datetime, *, force: bool = False) -> CommitResult:
        """Make the mirror an ordinary store that goes on by itself; its log continues the source's.

        Refused while the source has something that the mirror lacks, unless `force`, as when the source is lost. Stop
        writing to the source before: what is written there afterwards is not taken over.
        """
        standing = self._mirror.mirror_position()
        if standing is None:
            raise InvalidRequest("the target is not a mirror")
        source_id, position = standing
        if not force and self._changes(position, 1) is not None:
            raise VersionConflict("the source has changes that the mirror lacks; catch up first, or force it")
        activity = Activity(
            id=f"adopt-{position.chain[:32]}",
            kind="adopt",
            started_at=now,
            agent=SYSTEM,
            parameters={"source": source_id, "seq": position.seq, "chain": position.chain, "forced": force},
        )
        return self._mirror.unmirror(position, Commit(activity=activity))

    def _next(self) -> Changes | None:
        """What to send now; None when the mirror has everything."""
        standing = self._mirror.mirror_position()
        self._position = standing[1] if standing is not None else Position()
        changes = self._changes(self._position, self._batch)  # `VersionConflict` if the target mirrors something else
        if changes is None:
            self._lag, self._lag_seconds = 0, 0.0
        if standing is not None and not self._has_looked:
            self._drop_leftovers()
            self._has_looked = True
        return changes

    def _measure(self) -> None:
        """How far behind the mirror is, while it cannot be asked."""
        with suppress(BackendUnavailable):
            changes = self._changes(self._position, 1)
            if changes is not None:
                self._note_lag(changes, at=changes.after.seq)

    def _note_lag(self, changes: Changes, *, at: int) -> None:
        self._lag = changes.end_seq - at
        self._lag_seconds = max((changes.end_at - changes.at).total_seconds(), 0.0)

    def _send(self, changes: Changes) -> None:
        fresh: list[str] = []
        try:
            self._put_payloads(changes, fresh)
            is_new = self._mirror.mirror(changes, changes.source_id)
        except VersionConflict as error:
            raise _Moved(error) from error  # another follower was faster; its batch names the same payloads
        except (InvalidRequest, NotFound):
            self._mirror.drop_payloads(fresh)
            raise
        if is_new:
            self._applied += len(changes.entries)
            self._payloads += len(fresh)
        self._position = changes.upto
        self._note_lag(changes, at=changes.upto.seq)

    def _put_payloads(self, changes: Changes, fresh: list[str]) -> None:
        """Payload files travel before the versions that name them."""
        for sha256 in dict.fromkeys(_payloads(changes)):
            if self._target.blobs.has(sha256):
                continue
            try:
                content = self._source.blobs.get(sha256)
            except NotFound:
                # Erased since the changes were read: the source, asked again, will not name it. If it does, it is
                # damaged, and `verify` says so there and here.
                continue
            fresh.append(sha256)
            self._target.blobs.put(content)

    def _drop_leftovers(self) -> None:
        """A follower that was killed may have put files of memories that were erased before it could name them."""
        gone = [name for name in self._target.blobs.names() if not self._source.blobs.has(name)]
        if gone:
            self._mirror.drop_payloads(gone)


def _payloads(changes: Changes) -> Iterator[str]:
    for line in changes.versions:
        if line.body is not None and '"blobs"' in line.body:
            yield from blobs_of(line.to_record())


class _Moved(Exception):
    """Somebody else sent what was about to be sent."""

    def __init__(self, why: VersionConflict) -> None:
        super().__init__()
        self.why = why


class _Waits:
    """Longer and longer waits while a server is away."""

    def __init__(self, patience_seconds: float, is_stopped: Callable[[], bool]) -> None:
        self._patience, self._is_stopped = patience_seconds, is_stopped
        self.reset()

    def reset(self) -> None:
        self._pause = FIRST_WAIT_SECONDS
        self._since: float | None = None

    def wait(self, error: BackendUnavailable) -> None:
        """Wait, or raise `error` if it has gone on for too long."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > self._patience:
            raise error
        end = now + self._pause
        while time.monotonic() < end and not self._is_stopped():
            time.sleep(min(0.05, self._pause))
        self._pause = min(self._pause * 2, LONGEST_WAIT_SECONDS)
