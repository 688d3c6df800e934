"""Reading: one cube, its versions, its edges, and what was done."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import (
    Direction,
    LogEntry,
    LogQuery,
    RelationRecord,
    SupportsRecords,
)
from memos_agents.interface import arguments
from memos_agents.interface.results import Stats
from memos_agents.interface.store import Progress
from memos_agents.interface.surface import Surface

if TYPE_CHECKING:
    from memos_agents.infrastructure.exchange.bundle import BundleReport
    from memos_agents.infrastructure.provenance.graph import ProvenanceGraph

FilePath: TypeAlias = "str | PathLike[str]"


class Reading(Surface):
    """What can be asked about cubes by id, and about a scope as a whole."""

    def get(
        self,
        id: str | MemCube | None = None,
        *,
        key: str | None = None,
        version: int | None = None,
        collection: str = DEFAULT_COLLECTION,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> MemCube:
        """Return one cube by its id, or by its key in exactly this scope; its newest version unless told.

        Raises `NotFound`, in the same words, if there is none, if it was erased and if it lies outside the scope.
        """
        number = arguments.version_of(version, what="version")
        named = self._named(user_id, agent_id, session_id, scope)
        if key is not None and id is None:
            id = self._by_key(key, collection, named)
        elif key is not None or id is None:
            raise InvalidRequest("get() takes either an id or key=, not both and not neither")
        return self._version(arguments.cube_id_of(id), number, arguments.for_ids(named, self.tenant))

    def history(
        self,
        id: str | MemCube,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> list[MemCube]:
        """Return every version of one cube, oldest first."""
        named = arguments.for_ids(self._named(user_id, agent_id, session_id, scope), self.tenant)
        cube_id = arguments.cube_id_of(id)
        versions = self._store.vault.history(cube_id, named)
        if not versions or versions[-1].state is MemoryState.ERASED:
            raise arguments.no_cube(cube_id)
        return versions

    def relations(
        self,
        id: str | MemCube,
        *,
        removed: bool = False,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> list[RelationRecord]:
        """Return the relations of one cube, both ways, oldest first; with `removed` also those that no longer hold."""
        named = arguments.for_ids(self._named(user_id, agent_id, session_id, scope), self.tenant)
        cube = self._head(arguments.cube_id_of(id), named)
        return self._store.vault.relations([cube.id], named, removed=removed)

    def provenance(
        self,
        id: str | MemCube,
        *,
        direction: Direction = "up",
        depth: int | None = None,
        version: int | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> ProvenanceGraph:
        """Return where a cube came from ("up"), what came of it ("down") or both, as a W3C PROV graph.

        `depth` counts steps (None: all). Works for an erased cube too: its tombstones are shown, without content.
        """
        if direction not in ("up", "down", "both"):
            raise InvalidRequest(f"direction is {direction!r}; it must be 'up', 'down' or 'both'")
        steps = None if depth is None else arguments.count_of(depth, what="depth", least=0, most=10_000)
        number = arguments.version_of(version, what="version")
        named = arguments.for_ids(self._named(user_id, agent_id, session_id, scope), self.tenant)
        cube_id, vault = arguments.cube_id_of(id), self._store.vault
        head = vault.get([cube_id], named).get(cube_id)
        if head is None:
            raise arguments.no_cube(cube_id)
        return vault.lineage(VersionRef(cube_id, number or head.version), direction, steps, named)

    def log(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        cube_id: str | MemCube | None = None,
        limit: int = 100,
    ) -> list[LogEntry]:
        """Return who did what and when to the memories of a scope, newest first; `since` <= time < `until`."""
        query = LogQuery(
            scope=arguments.for_reading(self._named(user_id, agent_id, session_id, scope), what="log"),
            since=arguments.time_of(since, what="since"),
            until=arguments.time_of(until, what="until"),
            cube_id=None if cube_id is None else arguments.cube_id_of(cube_id),
            limit=arguments.count_of(limit, what="limit", most=100_000),
        )
        return self._store.vault.log(query)

    def stats(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> Stats:
        """Count what a scope holds; a view is told only of the models that were opened through one like it."""
        named = arguments.for_reading(self._named(user_id, agent_id, session_id, scope), what="stats")
        found = self._store.vault.stats(named)
        models = tuple(model.stats() for model in self._store.models if self._bound in (None, model.bound))
        return Stats(**{field.name: getattr(found, field.name) for field in fields(found)}, models=models)

    def export(
        self,
        path: FilePath,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        progress: Progress | None = None,
    ) -> BundleReport:
        """Write everything of a scope to one file that `MemOS.load` reads back without loss.

        Cubes, versions, provenance, vectors and blobs, with digests. An existing file is replaced at the end, at once.
        """
        vault = self._store.vault
        named = arguments.for_reading(self._named(user_id, agent_id, session_id, scope), what="export")
        if not isinstance(vault, SupportsRecords):
            raise InvalidRequest(f"{type(vault).__name__} cannot export")
        from memos_agents.infrastructure.exchange.bundle import write_bundle

        target, store = local_path(path), getattr(vault, "path", None)
        if store is not None and any(_is_same_file(target, Path(f"{store}{end}")) for end in ("", "-wal", "-shm")):
            raise InvalidRequest(f"{str(target)!r} is the store itself, which would be lost; name another file")
        return write_bundle(target, vault, named, now=self._store.now(), progress=progress)


def local_path(path: FilePath) -> Path:
    """Return `path` as a `pathlib.Path`; `InvalidRequest` for what is none."""
    if not isinstance(path, str | PathLike) or not str(path) or "\x00" in str(path):
        raise InvalidRequest(f"path must name a file, not {path!r}")
    return Path(path)


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
