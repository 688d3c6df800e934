"""Parts of a copy on their way: collected, named by their digest, restored by the target once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import cast

from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.exchange.bundle_reading import blobs_of
from memos_agents.infrastructure.exchange.comparing import COPY, COPY_MARK, first_difference, told_of
from memos_agents.infrastructure.provenance.values import Activity, Agent
from memos_agents.infrastructure.vault.base import LogQuery, MemVault, Record, SupportsRecords
from memos_agents.infrastructure.vault.capabilities import Moment, SupportsRecordsOf
from memos_agents.infrastructure.vault.commit import Commit

MAX_PART_CHARACTERS = 16 << 20
"""A part with more than this is halved, unless it is a single cube's."""


@dataclass(frozen=True, slots=True)
class Part:
    """Lines that can be restored by themselves. The same lines have the same name."""

    lines: list[Record]
    name: str


class Sending:
    """Sends parts to the target, each once."""

    def __init__(self, source: MemVault, target: MemVault, clock: Callable[[], datetime], agent: Agent) -> None:
        self._source, self._target, self._clock, self._agent = source, target, clock, agent
        self._everything = Scope.everything(target.tenant)
        self.written: Counter[str] = Counter()
        self.parts = self.skipped = self.blobs = 0

    def send_cubes(self, moment: Moment, scope: Scope, ids: Sequence[str]) -> None:
        """Send these cubes; more than fit in memory are sent in halves."""
        part = read_part(moment.records_of(ids, scope), MAX_PART_CHARACTERS if len(ids) > 1 else None)
        if part is None:
            middle = len(ids) // 2
            self.send_cubes(moment, scope, ids[:middle])
            self.send_cubes(moment, scope, ids[middle:])
        else:
            self.send(part)

    def send_lines(self, lines: Iterator[Record], size: int) -> None:
        """Send lines that need nothing, so many at a time."""
        while piece := [*islice(lines, size)]:
            part = read_part(piece, None)
            assert part is not None  # there is no limit
            self.send(part)

    def send(self, part: Part) -> None:
        """Let the target restore a part, unless its log says that it did."""
        self.parts += 1
        fault: InvalidRequest | None = None
        for name in (part.name, f"{part.name}-2"):
            if self._target.log(LogQuery(scope=self._everything, activity_id=name, limit=1)):
                self.skipped += 1
                return
            try:
                self._restore(part.lines, name)
            except InvalidRequest as error:
                if error.details.get("activity_id") != name:
                    raise
                fault = error  # an entry of this name came in with a bundle: it is not one of this log
            else:
                return
        assert fault is not None
        raise fault

    def _restore(self, lines: list[Record], name: str) -> None:
        cubes = sum(record["kind"] == "cube" for record in lines)
        activity = Activity(
            id=name,
            kind=COPY,
            started_at=self._clock(),
            agent=self._agent,
            parameters={"tenant": self._source.tenant, "cubes": cubes},
        )
        target = self._target
        assert isinstance(target, SupportsRecords)
        fresh: list[str] = []
        try:
            for sha256 in dict.fromkeys(name for record in lines for name in blobs_of(record)):
                if not target.blobs.has(sha256):
                    fresh.append(sha256)
                    target.blobs.put(self._blob(sha256))
            self.written.update(target.restore(lines, Commit(activity=activity, key=name)))
        except BaseException as error:
            target.blobs.delete(fresh)  # no memory names them; they may even be of one that was erased there
            if isinstance(error, VersionConflict):
                raise self._explained(error, lines) from error
            raise
        self.blobs += len(fresh)

    def _blob(self, sha256: str) -> bytes:
        try:
            return self._source.blobs.get(sha256)
        except NotFound as error:
            raise VersionConflict(
                f"the file {sha256!r} is missing in the source, as when its memory was erased during the copy; copy "
                "again, and if that does not help, see what verify() says",
                sha256=sha256,
            ) from error

    def _explained(self, error: VersionConflict, lines: list[Record]) -> VersionConflict:
        target, told = self._target, str(error)
        if isinstance(target, SupportsRecordsOf):
            ids = [cast(str, record["id"]) for record in lines if record["kind"] == "cube"]
            told = first_difference(lines, target.records_of(ids, self._everything)) or told
        return VersionConflict(
            f"the target holds something else under a name of the source: {told}. Either side was written to since an "
            "earlier copy, and a copy never overwrites; copy into an empty tenant or store instead",
            **error.details,
        )


def read_part(records: Iterable[Record], limit: int | None) -> Part | None:
    """Collect a part; None if it has more than `limit` characters."""
    digest, size, lines = hashlib.sha256(), 0, []
    for record in records:
        told = told_of(record)
        size += len(told)
        if limit is not None and size > limit:
            return None
        digest.update(told.encode() + b"\n")
        lines.append(record)
    return Part(lines, COPY_MARK + digest.hexdigest())
