"""Moving a tenant from one Neo4j place to another, with its log, chain, receipts and keys, and proving it.

At every moment the router's table names the one place that counts, and no other place can be written to: the old one is
sealed before the first line is read, the new one from before its first line until the table names it, and what is left
of the old one stays sealed. So a move that is killed anywhere leaves one tenant, and the same call goes on.

Rejected: `copying.copy_records` as the way over, which leaves the log and the receipts behind; it is what proves here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, Unpack

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.errors import IntegrityError, InvalidRequest, NotFound
from memos_agents.infrastructure.exchange.comparing import Sample, compare_lines
from memos_agents.infrastructure.exchange.mirroring import Mirror, Progress
from memos_agents.infrastructure.provenance.values import Activity, Agent
from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.blobs import BlobStore
from memos_agents.infrastructure.vault.changes import Changes, Position
from memos_agents.infrastructure.vault.commit import Commit

if TYPE_CHECKING:
    from memos_agents.infrastructure.vault.neo4j import Neo4jVault
    from memos_agents.infrastructure.vault.neo4j.relocating import Whole
    from memos_agents.infrastructure.vault.neo4j.routing import Move, Options, Route, Router, Table

Step: TypeAlias = Literal["noted", "sealed", "copied", "proven", "turned", "opened", "purged", "done"]
STEPS: Final[tuple[Step, ...]] = ("noted", "sealed", "copied", "proven", "turned", "opened", "purged", "done")
SYSTEM: Final = Agent(id="memos", kind="system", name="memos move")
MOVED: Final = "moved:"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReport:
    """What a move did. `lines` were compared one by one, `samples` lineages in both directions."""

    tenant: str
    lines: int
    digest: str
    samples: int
    commits: int
    seconds: float


def move_tenant(
    router: Router,
    tenant: str,
    to: Route,
    *,
    clock: Callable[[], datetime],
    samples: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
    reached: Callable[[Step], None] = lambda step: None,
    **options: Unpack[Options],
) -> MoveReport:
    """Move `tenant` to `to`; writes to it are refused meanwhile, reads go on. Interrupted, the same call goes on.

    `options` open both places (auth, allow_insecure; payload bytes in `blobs` outside stay there and serve both).
    `reached` hears each of `STEPS`. Costs about twice what a copy costs: everything is read again to prove it.

    Raises `InvalidRequest` (it is on its way somewhere else, the new place holds other memories), `IntegrityError` if
    the proof fails: then the old place is open again and counts. `BackendUnavailable`: run it again.
    """
    began = time.monotonic()
    source, is_turned = _note(router, tenant, to)
    if source == to and not is_turned:
        return MoveReport(tenant=tenant, lines=0, digest="", samples=0, commits=0, seconds=0.0)
    reached("noted")
    from memos_agents.infrastructure.vault.neo4j.routing import open_at

    old, new = open_at(source, tenant, **options), open_at(to, tenant, **options)
    try:
        moving = _Moving(router, tenant, old, new, f"{MOVED}{to}", reached)
        if not is_turned:
            moving.bring_over(progress, Sample(samples, seed))
        moving.turn(clock)
        return replace(moving.report, seconds=time.monotonic() - began)
    finally:
        old.close()
        new.close()


def abandon_move(router: Router, tenant: str, **options: Unpack[Options]) -> None:
    """Break off a move before the table was turned: the old place is open again, the new one is emptied."""
    move = router.table().moves.get(tenant)
    if move is None:
        return
    if move.stage == "turned":
        raise InvalidRequest(f"tenant {tenant!r} lives at its new place already; finish the move, then move it back")
    from memos_agents.infrastructure.vault.neo4j import cypher_routing as cypher
    from memos_agents.infrastructure.vault.neo4j.purging import purge
    from memos_agents.infrastructure.vault.neo4j.relocating import MOVING
    from memos_agents.infrastructure.vault.neo4j.routing import open_at

    old, new = open_at(move.source, tenant, **options), open_at(move.to, tenant, **options)
    try:
        standing = new.mirror_position()
        if standing is not None and standing[0].startswith(MOVING):
            purge(new.link, standing[0])
            new.link.write(lambda tx: tx.run(cypher.FORGET))
        old.link.write(lambda tx: tx.one(cypher.UNSEAL, op=tx.op, mark=f"{MOVED}{move.to}"))
    finally:
        old.close()
        new.close()
    router.change(lambda table: replace(table, moves=_without(table, tenant)))


def _note(router: Router, tenant: str, to: Route) -> tuple[Route, bool]:
    """Write down that the tenant is on its way; returns where it is, and whether the table was turned before."""
    from memos_agents.infrastructure.vault.neo4j.routing import Move

    found: list[tuple[Route, bool]] = []

    def edit(table: Table) -> Table:
        known = table.moves.get(tenant)
        if known is not None and known.to != to:
            raise InvalidRequest(f"tenant {tenant!r} is on its way to {known.to}; finish that move or abandon it")
        source = table.route(tenant) if known is None else known.source
        found[:] = [(source, known is not None and known.stage == "turned")]
        if source == to:
            return table
        move = known or Move(source=source, to=to, stage="copying")
        return replace(table, moves={**table.moves, tenant: move})

    router.change(edit)
    return found[0]


def _without(table: Table, tenant: str) -> dict[str, Move]:
    return {name: move for name, move in table.moves.items() if name != tenant}


class _Moving:
    """One move between two opened places."""

    def __init__(
        self,
        router: Router,
        tenant: str,
        old: Neo4jVault,
        new: Neo4jVault,
        mark: str,
        reached: Callable[[Step], None],
    ) -> None:
        self._router, self._tenant, self._old, self._new = router, tenant, old, new
        self._mark, self._reached = mark, reached
        self.report = MoveReport(tenant=tenant, lines=0, digest="", samples=0, commits=0, seconds=0.0)

    def bring_over(self, progress: Progress | None, sample: Sample) -> None:
        """Seal the old place, copy, prove."""
        from memos_agents.infrastructure.vault.neo4j import cypher_routing as cypher
        from memos_agents.infrastructure.vault.neo4j.relocating import Whole

        sealed = self._old.link.write(lambda tx: tx.one(cypher.SEAL, op=tx.op, mark=self._mark))
        if sealed is None:
            raise InvalidRequest(f"tenant {self._tenant!r} mirrors another store; end that before it moves")
        self._reached("sealed")
        self._new.link.write(lambda tx: tx.run(cypher.REOPEN, op=tx.op, mark=MOVED))
        whole = Whole(self._old.link, self._mark)
        Mirror(_Source(self._old, whole), self._new).catch_up(progress)
        rows = whole.leases()
        if rows:
            self._new.link.write(lambda tx: tx.run(cypher.PUT_LEASES, rows=rows))
        self._new.link.write(lambda tx: tx.run(cypher.SCRUBBED))  # what was erased never came here
        self._reached("copied")
        faults = self._faults(sample)
        if faults:
            self._old.link.write(lambda tx: tx.one(cypher.UNSEAL, op=tx.op, mark=self._mark))
            raise IntegrityError(
                f"tenant {self._tenant!r} stays where it was: its copy is not equal ({'; '.join(faults[:3])}); see "
                "what verify() says of both, then abandon the move"
            )
        self._reached("proven")

    def turn(self, clock: Callable[[], datetime]) -> None:
        """Let the table name the new place, open that, and empty the old one."""
        from memos_agents.infrastructure.vault.neo4j.purging import purge

        tenant, to = self._tenant, self._router.table().moves[self._tenant].to
        self._router.change(
            lambda table: replace(
                table,
                tenants={**table.tenants, tenant: to},
                moves={**table.moves, tenant: replace(table.moves[tenant], stage="turned")},
            )
        )
        self._reached("turned")
        standing = self._new.mirror_position()
        if standing is not None:
            position = standing[1]
            activity = Activity(
                id=f"move-{position.chain[:32]}",
                kind="move",
                started_at=clock(),
                agent=SYSTEM,
                parameters={"seq": position.seq, "chain": position.chain},
            )
            self._new.unmirror(position, Commit(activity=activity))
        self._reached("opened")
        purge(self._old.link, self._mark)
        self._reached("purged")
        self._router.change(lambda table: replace(table, moves=_without(table, tenant)))
        self._reached("done")

    def _faults(self, sample: Sample) -> list[str]:
        """What is not the same in both places."""
        everything = Scope.everything(self._tenant)
        found = compare_lines(self._old.records(everything), self._new.records(everything), visit=sample.see)
        faults = list(found.differences)
        if found.more.total():
            faults.append(f"{found.more.total()} lines that the old place does not have")
        faults.extend(
            f"the lineage of {ref} differs"
            for ref in sample.refs()
            if _lineage(self._old, ref, everything) != _lineage(self._new, ref, everything)
        )
        if _log_end(self._old, everything) != _log_end(self._new, everything):
            faults.append("the logs end differently")
        faults.extend(problem.what for problem in self._new.verify())
        self.report = replace(
            self.report,
            lines=found.ours.counts.total(),
            digest=found.ours.hexdigest(),
            samples=len(sample.refs()),
            commits=(_log_end(self._new, everything) or (0, ""))[0] or 0,
        )
        return faults


class _Source:
    """A sealed place as what a mirror follows."""

    def __init__(self, vault: Neo4jVault, whole: Whole) -> None:
        self._vault, self._whole = vault, whole

    @property
    def blobs(self) -> BlobStore:
        return self._vault.blobs

    def changes(self, after: Position, limit: int) -> Changes | None:
        """See `Whole`."""
        return self._whole.changes(after, limit)


def _lineage(vault: Neo4jVault, ref: VersionRef, scope: Scope) -> object:
    try:
        return vault.lineage(ref, "both", None, scope).to_prov_json()
    except NotFound:
        return None


def _log_end(vault: Neo4jVault, scope: Scope) -> tuple[int | None, str | None] | None:
    newest = vault.log(LogQuery(scope=scope, limit=1))
    return (newest[0].seq, newest[0].chain) if newest else None
