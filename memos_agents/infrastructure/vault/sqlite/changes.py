"""What changed since a position of the log (see `vault.changes`), read in one moment of the file.

First the commits of the log, then what changes beside it (`sqlite.sweeping`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import VersionConflict
from memos_agents.infrastructure.provenance.values import Activity, Agent
from memos_agents.infrastructure.vault.base import Snapshot
from memos_agents.infrastructure.vault.changes import Changes, Entry, Flags, Position, RelationState, digest_beside
from memos_agents.infrastructure.vault.records import ActivityLine, DerivationLine, SourceLine
from memos_agents.infrastructure.vault.sqlite import spaces
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.sweeping import (
    MAX_TOUCHED,
    RELATION,
    Sweep,
    relation_of,
    touched_by_loads,
)
from memos_agents.infrastructure.vault.sqlite.transfer import Records

_LINE = "x.id, x.kind, x.agent_id, x.agent_kind, x.agent_name, x.started_us, x.at_us, x.parameters"


class Feed:
    """Reads changes over one connection's moment."""

    def __init__(self, reader: Reader, connection: sqlite3.Connection) -> None:
        self._db, self._reader = connection, reader
        self._tenant = reader.names.tenant(connection)
        self._all = Records(reader, connection, Scope.everything(reader.tenant), by_id=True)

    def after(self, position: Position, limit: int) -> Changes | None:
        """See `SupportsChanges`."""
        row = self._db.execute(
            "SELECT t.seq, t.at_us, t.vector_epoch, x.chain FROM tenant t JOIN activity x ON x.tenant = t.rid "
            "WHERE t.rid = ? AND x.seq IS NOT NULL ORDER BY x.rid LIMIT 1",
            (self._tenant,),
        ).fetchone()
        if row is None:
            if position.seq:
                raise _other_history()
            return None  # nothing was ever written here
        seq, at_us, epoch, first = row
        self._check(position)
        told, snapshots = spaces.known(self._db, self._reader.names), self._snapshots()
        empty = Changes(
            source_id=first.hex(),
            after=position,
            upto=replace(position, beside=digest_beside(told, snapshots)),
            end_seq=seq,
            end_at=from_microseconds(at_us),
            at=from_microseconds(at_us),
            spaces=told,
            snapshots=snapshots,
        )
        if position.seq < seq:
            return self._commits(empty, limit)
        return Sweep(self._db, self._tenant, self._all).next(empty, epoch)

    def _check(self, position: Position) -> None:
        if position.seq == 0:
            return
        row = self._db.execute(
            "SELECT seq, chain FROM activity WHERE rid = ? AND tenant = ?", (position.row, self._tenant)
        ).fetchone()
        if row is None or (row[0], row[1].hex()) != (position.seq, position.chain):
            raise _other_history()

    def _snapshots(self) -> list[Snapshot]:
        rows = self._db.execute("SELECT name, seq, at_us FROM snapshot WHERE tenant = ? ORDER BY name", (self._tenant,))
        return [Snapshot(name=name, seq=seq, at=from_microseconds(at_us)) for name, seq, at_us in rows]

    # -- commits

    def _commits(self, empty: Changes, limit: int) -> Changes:
        batch = _Batch()
        rows = self._db.execute(
            f"SELECT x.rid, x.seq, x.chain, x.effects, x.reshapes, x.key, x.result, {_LINE} FROM activity x "
            "WHERE x.rid > ? AND x.tenant = ? AND x.seq IS NOT NULL ORDER BY x.rid LIMIT ?",
            (empty.after.row, self._tenant, limit),
        )
        for rid, seq, chain, effects, reshapes, key, result, *line in rows:
            cubes = [
                row[0]
                for row in self._db.execute(
                    "SELECT c.id FROM touched t JOIN cube c ON c.rid = t.cube WHERE t.activity = ?", (rid,)
                )
            ]
            if batch.entries and len(batch.touched) + len(cubes) > MAX_TOUCHED:
                break
            changed = json.loads(effects)
            entry = Entry(
                line=_activity(line), seq=seq, chain=chain.hex(), effects=effects, reshapes=bool(reshapes), key=key,
                result=result, has_erased="erased" in changed,
            )  # fmt: skip
            batch.add(rid, entry, cubes, changed)
        return self._told(empty, batch)

    def _told(self, empty: Changes, batch: _Batch) -> Changes:
        last = batch.entries[-1]
        everything = self._all
        ids = sorted({cube_id for _, cube_id in batch.touched})
        cubes = [line for marks, piece in chunks(ids) for line in everything.cubes(f"AND c.id IN ({marks})", (*piece,))]
        written = self._rids(batch.written)
        erased = [line.id for line in cubes if line.state is MemoryState.ERASED]
        flags = list(self._flags(self._changed(batch, erased) - written))
        versions = [line for only, rids in _of_versions(written) for line in everything.versions(only, rids)]
        derivations = [line for only, rids in _of_versions(written) for line in everything.derivations(only, rids)]
        relations = list(self._relations_of(batch.rids))
        new = [ref.cube_id for ref in batch.written if ref.version == 1]
        touched = [*batch.touched, *touched_by_loads(self._db, self._tenant, new)]
        named = {name for line in versions for name in (line.activity_id, line.ended_by)}
        named.update(each.ended_by for each in flags)
        named.update(name for each in relations for name in (each.line.activity_id, each.removed_by))
        named.update(line.activity_id for line in derivations)
        named.update(name for name, _ in touched)
        named.difference_update(entry.line.activity.id for entry in batch.entries)
        row = batch.rids[-1]
        return replace(
            empty,
            upto=replace(empty.upto, seq=last.seq, chain=last.chain, row=row),
            at=last.line.at,
            entries=batch.entries,
            touched=touched,
            activities=list(self._activities((name for name in named if name is not None), after=row)),
            sources=list(self._sources({*_outside(derivations), *self._sources_of(erased)})),
            cubes=cubes,
            versions=versions,
            flags=flags,
            derivations=derivations,
            relations=relations,
            vectors=[line for only, rids in _of_versions(written) for line in everything.vectors(only, rids)],
        )

    def _rids(self, refs: Iterable[VersionRef]) -> set[int]:
        """Rowids of versions, as far as they are there."""
        statement = (
            "SELECT v.rid FROM cube c JOIN version v ON v.cube = c.rid WHERE c.tenant = ? AND c.id = ? AND v.n = ?"
        )
        found = (self._db.execute(statement, (self._tenant, *ref)).fetchone() for ref in set(refs))
        return {row[0] for row in found if row is not None}

    def _changed(self, batch: _Batch, erased: list[str]) -> set[int]:
        """Versions of which something may have changed: what the commits ended or lifted, all that comes of it where
        marks were moved, and everything of what is erased now.
        """
        found = self._rids(batch.ended)
        for marks, piece in chunks(sorted(self._rids(batch.reshaped))):
            rows = self._db.execute(
                f"WITH RECURSIVE below(rid) AS (SELECT derived FROM derivation WHERE source IN ({marks}) "
                "UNION SELECT derived FROM derivation JOIN below ON source = below.rid) SELECT rid FROM below",
                piece,
            )
            found.update(row[0] for row in rows)
        for marks, names in chunks(erased):
            rows = self._db.execute(
                f"SELECT v.rid FROM cube c JOIN version v ON v.cube = c.rid WHERE c.tenant = ? AND c.id IN ({marks})",
                (self._tenant, *names),
            )
            found.update(row[0] for row in rows)
        return found

    def _flags(self, rids: set[int]) -> Iterator[Flags]:
        for marks, piece in chunks(sorted(rids)):
            rows = self._db.execute(
                "SELECT c.id, v.n, v.superseded_us, v.stale, e.id FROM version v JOIN cube c ON c.rid = v.cube "
                f"LEFT JOIN activity e ON e.rid = v.ended_by WHERE v.rid IN ({marks})",
                piece,
            )
            for cube_id, number, superseded_us, is_stale, ended_by in rows:
                yield Flags(
                    ref=VersionRef(cube_id, number),
                    superseded_at=None if superseded_us is None else from_microseconds(superseded_us),
                    is_stale=bool(is_stale),
                    ended_by=ended_by,
                )

    def _relations_of(self, activities: list[int]) -> Iterator[RelationState]:
        """Relations that these commits opened or closed."""
        for marks, piece in chunks(activities):
            rows = self._db.execute(
                f"{RELATION} r.rid IN (SELECT rid FROM relation WHERE activity IN ({marks}) "
                f"UNION SELECT rid FROM relation WHERE removed_by IS NOT NULL AND removed_by IN ({marks}))",
                (*piece, *piece),
            )
            yield from map(relation_of, rows)

    def _activities(self, names: Iterable[str], *, after: int) -> Iterator[ActivityLine]:
        """Those that the log up to row `after` does not tell: they were loaded, or come later."""
        for marks, piece in chunks(sorted(set(names))):
            yield from self._all.activities(f"AND x.id IN ({marks}) AND (x.seq IS NULL OR x.rid > ?)", (*piece, after))

    def _sources(self, names: Iterable[str]) -> Iterator[SourceLine]:
        for marks, piece in chunks(sorted(set(names))):
            yield from self._all.sources(f"AND s.id IN ({marks})", (*piece,))

    def _sources_of(self, erased: list[str]) -> Iterator[str]:
        """Sources that may have been blanked with these cubes."""
        for marks, piece in chunks(erased):
            rows = self._db.execute(
                "SELECT DISTINCT s.id FROM cube c CROSS JOIN version v ON v.cube = c.rid CROSS JOIN evidence e "
                f"ON e.derived = v.rid JOIN source s ON s.rid = e.source WHERE c.tenant = ? AND c.id IN ({marks})",
                (self._tenant, *piece),
            )
            yield from (row[0] for row in rows)


@dataclass(slots=True)
class _Batch:
    """Commits and what they say they changed."""

    entries: list[Entry] = field(default_factory=list)
    rids: list[int] = field(default_factory=list)
    touched: list[tuple[str, str]] = field(default_factory=list)
    written: set[VersionRef] = field(default_factory=set)
    ended: set[VersionRef] = field(default_factory=set)
    """Superseded, invalidated or lifted."""
    reshaped: set[VersionRef] = field(default_factory=set)
    """Those of `ended` of commits that moved stale marks."""

    def add(self, rid: int, entry: Entry, cubes: Iterable[str], changed: dict[str, list[list[object]]]) -> None:
        """Take one more; `changed` is what its effects say."""
        self.entries.append(entry)
        self.rids.append(rid)
        self.touched.extend((entry.line.activity.id, cube_id) for cube_id in cubes)
        ended: set[VersionRef] = set()
        for told in changed["chain"]:
            words = str(told).split(" ")
            if words[0] == "write":
                self.written.add(VersionRef(words[1], int(words[2])))
        for cube_id, number, replaced in changed.get("writes", ()):
            if replaced:
                ended.add(VersionRef(str(cube_id), int(str(number)) - 1))
        for kind in ("invalidated", "lifted"):
            ended.update(VersionRef(str(cube_id), int(str(number))) for cube_id, number in changed.get(kind, ()))
        self.ended |= ended
        if entry.reshapes:
            self.reshaped |= ended


def _of_versions(rids: set[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for marks, piece in chunks(sorted(rids)):
        yield f"AND v.rid IN ({marks})", (*piece,)


def _outside(edges: Iterable[DerivationLine]) -> Iterator[str]:
    for edge in edges:
        if isinstance(edge.derivation.source, str):
            yield edge.derivation.source


def _activity(row: Sequence[object]) -> ActivityLine:
    activity_id, kind, agent_id, agent_kind, agent_name, started_us, at_us, parameters = row
    activity = Activity(
        id=str(activity_id),
        kind=str(kind),
        started_at=from_microseconds(int(str(started_us))),
        agent=Agent(id=str(agent_id), kind=agent_kind, name=None if agent_name is None else str(agent_name)),  # type: ignore[arg-type]  # typed by the schema
        parameters=json.loads(str(parameters)),
    )
    return ActivityLine(activity=activity, at=from_microseconds(int(str(at_us))))


def _other_history() -> VersionConflict:
    return VersionConflict(
        "the store's log does not go on from where the mirror stands: it is another store, or was restored from a "
        "backup; mirror into an empty tenant"
    )
