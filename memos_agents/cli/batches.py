"""Adding what was read, batch by batch: everything checked first, evidence recorded, nothing added twice."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from memos_agents.cli.intake import Batch, Item
from memos_agents.cli.known import Known
from memos_agents.cli.session import Session
from memos_agents.cli.showing import cube_json, show_cube
from memos_agents.errors import InvalidRequest

if TYPE_CHECKING:
    from memos_agents import MemOS
    from memos_agents.cube.canonical import JSON
    from memos_agents.cube.memcube import MemCube
    from memos_agents.cube.metadata import Descriptive
    from memos_agents.cube.scope import Scope
    from memos_agents.infrastructure.provenance.values import Source

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What the options say about every item."""

    occurred_at: datetime | None
    metadata: dict[str, JSON] | None
    title: str | None
    tags: tuple[str, ...]
    key: str | None
    role: str | None
    name: str | None
    kind: str | None
    collection: str
    valid_from: datetime | None
    valid_to: datetime | None
    ttl_seconds: float | None
    merge: bool

    def descriptive(self) -> Descriptive:
        """The header that an item gets which says nothing about itself."""
        from memos_agents.cube.metadata import Descriptive

        return Descriptive(
            role=self.role,
            name=self.name,
            title=self.title,
            tags=self.tags,
            collection=self.collection,
            key=self.key,
            occurred_at=self.occurred_at,
            valid_from=self.valid_from,
            valid_to=self.valid_to,
        )


def check_all(batches: Sequence[Batch], given: Headers) -> None:
    """Refuse what cannot be added, naming file and place, before a store is made or anything is written."""
    from memos_agents.interface.reader import read_items

    base = given.descriptive()
    for batch in batches:
        items = batch.items[0] if batch.place is None and len(batch.items) == 1 else batch.items
        try:
            read_items(items, base=base, semantic_type=given.kind, metadata=given.metadata or {})
        except InvalidRequest as error:
            raise InvalidRequest(f"{batch.place}: {error}" if batch.place else str(error)) from error


def add_all(session: Session, memos: MemOS, batches: Sequence[Batch], scope: Scope, given: Headers) -> None:
    """Add batch after batch; what is committed stays when a later one fails or is interrupted."""
    total = sum(len(batch.items) for batch in batches)
    counts: dict[str, int] = dict.fromkeys(("added", "updated", "known"), 0)
    shown: list[MemCube] = []
    known = Known(memos, scope)
    done = 0
    with session.out.progress("adding") as advance:
        for batch in batches:
            started = datetime.now(UTC)
            cubes: list[MemCube] = []
            items = list(batch.items)
            owner = scope
            if batch.session_id is not None and scope.session_id is None:
                owner = replace(scope, session_id=batch.session_id)
            before = done
            if batch.locator is not None and given.merge and given.key is None and given.ttl_seconds is None:
                cubes, items = _pass_over_known(known, owner, items, given)
            before += len(cubes)

            def report(part: int, _: int, before: int = before) -> None:
                advance(before + part, total)

            if items:
                cubes += _add_items(memos, items, owner, given, _evidence(batch), report)
            done += len(batch.items)
            advance(done, total)
            for cube in cubes:
                outcome = _outcome(cube, started)
                counts[outcome] += 1
                session.out.document({"outcome": outcome, "cube": cube_json(cube)})
            if total <= _SHOWN:
                shown += cubes
    for cube in shown:
        show_cube(session.out, cube)
    session.out.line(", ".join(f"{number:,} {outcome}" for outcome, number in counts.items() if number))


def _pass_over_known(
    known: Known, owner: Scope, items: Sequence[Item], given: Headers
) -> tuple[list[MemCube], list[Item]]:
    """Part the items into the memories that say the same already, and those that are new."""
    from memos_agents.interface.reader import read_items

    base = given.descriptive()
    cubes: list[MemCube] = []
    fresh: list[Item] = []
    for item in items:
        read = read_items([item], base=base, semantic_type=given.kind, metadata=given.metadata or {})
        cube = known.take(owner, read[0]) if read else None
        if cube is None:
            fresh.append(item)
        else:
            cubes.append(cube)
    return cubes, fresh


def _add_items(
    memos: MemOS,
    items: Sequence[Item],
    owner: Scope,
    given: Headers,
    evidence: Sequence[Source],
    progress: Callable[[int, int], None],
) -> list[MemCube]:
    return memos.add(
        items,
        scope=owner,
        occurred_at=given.occurred_at,
        metadata=given.metadata,
        key=given.key,
        title=given.title,
        tags=given.tags,
        semantic_type=given.kind,
        collection=given.collection,
        role=given.role,
        name=given.name,
        valid_from=given.valid_from,
        valid_to=given.valid_to,
        ttl_seconds=given.ttl_seconds,
        derived_from=evidence,
        merge=given.merge,
        progress=progress,
    )


def _evidence(batch: Batch) -> list[Source]:
    """The file as prov:Entity; the same bytes at the same place are the same source."""
    from memos_agents.infrastructure.provenance.values import Source

    if batch.locator is None:
        return []
    identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{batch.locator}#{batch.sha256}"))
    return [Source(id=identifier, kind="file", locator=batch.locator, sha256=batch.sha256)]


def _outcome(cube: MemCube, started: datetime) -> str:
    """What became of an item: the store returns the cube that already knew it."""
    if cube.created_at >= started:
        return "added"
    return "updated" if cube.recorded_at >= started else "known"
