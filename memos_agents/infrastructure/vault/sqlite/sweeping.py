"""What a mirror has to be told that the log does not say (see `vault.changes`).

Three steps, each taken when the one before has nothing left: sources that no commit is known by; a walk through every
cube, when vectors were changed or records were loaded, whose edges can join cubes that were there before; use facts.
Spaces and snapshots travel with everything, or alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from memos_agents.cube.moment import from_microseconds
from memos_agents.infrastructure.provenance.values import Relation, RelationKind
from memos_agents.infrastructure.vault.changes import Changes, RelationState, Uses
from memos_agents.infrastructure.vault.records import RelationLine, SourceLine
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.transfer import Records

MAX_TOUCHED: Final = 2_000
"""Cubes in one batch, unless a single commit touched more."""
SWEPT_AT_ONCE: Final = 500
_FEW_USES: Final = 1_000
_SLACK_US: Final = 3_600_000_000
_PHASES: Final = ("activity:", "source:", "cube:")

RELATION = (
    "SELECT c.id, r.kind, b.id, r.properties, r.recorded_us, r.removed_us, x.id, y.id FROM relation r "
    "JOIN cube c ON c.rid = r.source JOIN cube b ON b.rid = r.target JOIN activity x ON x.rid = r.activity "
    "LEFT JOIN activity y ON y.rid = r.removed_by WHERE "
)


class Sweep:
    """Reads over one connection's moment, in which the log has nothing more to tell."""

    def __init__(self, connection: sqlite3.Connection, tenant: int, everything: Records) -> None:
        self._db, self._tenant, self._all = connection, tenant, everything

    def next(self, empty: Changes, epoch: int) -> Changes | None:
        """What comes after `empty.after`, put into `empty`; None if nothing is left. `epoch` is the store's."""
        found = self._new_sources(empty)
        if found is None and (empty.after.sweeping is not None or empty.after.epoch != epoch):
            found = self._swept(empty, epoch)
        found = found or self._uses(empty)
        return empty if found is None and empty.upto != empty.after else found

    def _new_sources(self, empty: Changes) -> Changes | None:
        """Sources may be stated without anything that derives from them."""
        rows = self._db.execute(
            "SELECT rid, id FROM source WHERE rid > ? AND tenant = ? ORDER BY rid LIMIT ?",
            (empty.after.source_row, self._tenant, MAX_TOUCHED),
        ).fetchall()
        if not rows:
            return None
        lines = list(self._sources([name for _, name in rows]))
        return replace(empty, upto=replace(empty.upto, source_row=rows[-1][0]), sources=lines)

    def _swept(self, empty: Changes, epoch: int) -> Changes | None:
        """The next page of a walk through everything. A change meanwhile starts another walk after this one."""
        after = empty.upto
        if after.sweeping is None:
            after = replace(after, sweeping=epoch, cursor=_PHASES[0])
        phase, _, last = after.cursor.partition(":")
        if phase == "activity":
            loaded = self._all.activities("AND x.seq IS NULL AND x.id > ?", (last,))
            lines = list(islice(loaded, MAX_TOUCHED))
            upto = replace(after, cursor=f"activity:{lines[-1].activity.id}" if lines else _PHASES[1])
            return replace(empty, upto=upto, activities=lines)
        if phase == "source":
            sources = list(islice(self._all.sources("AND s.id > ?", (last,)), MAX_TOUCHED))
            upto = replace(after, cursor=f"source:{sources[-1].source.id}" if sources else _PHASES[2])
            return replace(empty, upto=upto, sources=sources)
        ids = [
            row[0]
            for row in self._db.execute(
                "SELECT id FROM cube WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?",
                (self._tenant, last, SWEPT_AT_ONCE),
            )
        ]
        if not ids:
            return replace(empty, upto=replace(after, epoch=after.sweeping or 0, sweeping=None, cursor=""))
        only, values = f"AND c.id IN ({','.join('?' * len(ids))})", (*ids,)
        relations = self._db.execute(f"{RELATION} c.tenant = ? {only}", (self._tenant, *values))
        return replace(
            empty,
            upto=replace(after, cursor=f"cube:{ids[-1]}"),
            swept=ids,
            touched=list(touched_by_loads(self._db, self._tenant, ids)),
            derivations=list(self._all.derivations(only, values)),
            relations=[relation_of(row) for row in relations],
            vectors=list(self._all.vectors(only, values)),
            uses=list(self._used(only, values)),
        )

    def _uses(self, empty: Changes) -> Changes | None:
        """What was used since, if anything was.

        Of many use facts only those since the last time, and an hour before it, in case clocks differ.
        """
        rows, count, times, last_us = self._db.execute(
            "SELECT count(*), total(u.count), total(u.last_us), max(u.last_us) FROM cube c "
            "CROSS JOIN usage u ON u.cube = c.rid WHERE c.tenant = ?",
            (self._tenant,),
        ).fetchone()
        mark = f"{rows} {count:.0f} {times:.0f}" if rows else ""
        if mark == empty.after.uses:
            return None
        since = 0 if rows <= _FEW_USES else empty.after.used_us - _SLACK_US
        return replace(
            empty,
            upto=replace(empty.upto, uses=mark, used_us=last_us or 0),
            uses=list(self._used("AND u.last_us >= ?", (since,))),
        )

    def _used(self, only: str, values: tuple[object, ...]) -> Iterator[Uses]:
        rows = self._db.execute(
            "SELECT c.id, u.count, u.last_us FROM cube c CROSS JOIN usage u ON u.cube = c.rid "
            f"WHERE c.tenant = ? {only}",
            (self._tenant, *values),
        )
        for cube_id, count, last_us in rows:
            yield Uses(cube_id=cube_id, count=count, last_at=from_microseconds(last_us))

    def _sources(self, names: Sequence[str]) -> Iterator[SourceLine]:
        for marks, piece in chunks(sorted(set(names))):
            yield from self._all.sources(f"AND s.id IN ({marks})", (*piece,))


def touched_by_loads(connection: sqlite3.Connection, tenant: int, ids: list[str]) -> Iterator[tuple[str, str]]:
    """What activities that came with records touched: it decides who may read their parameters."""
    for marks, piece in chunks(ids):
        yield from connection.execute(
            "SELECT x.id, c.id FROM cube c CROSS JOIN touched t ON t.cube = c.rid JOIN activity x "
            f"ON x.rid = t.activity WHERE c.tenant = ? AND c.id IN ({marks}) AND x.seq IS NULL",
            (tenant, *piece),
        )


def relation_of(row: tuple[str, str, str, str, int, int | None, str, str | None]) -> RelationState:
    """A row of `RELATION`."""
    source_id, kind, target_id, properties, recorded_us, removed_us, activity_id, removed_by = row
    line = RelationLine(
        relation=Relation(
            source_id=source_id, kind=RelationKind(kind), target_id=target_id, properties=json.loads(properties)
        ),
        recorded_at=from_microseconds(recorded_us),
        removed_at=None if removed_us is None else from_microseconds(removed_us),
        activity_id=activity_id,
    )
    return RelationState(line=line, removed_by=removed_by)
