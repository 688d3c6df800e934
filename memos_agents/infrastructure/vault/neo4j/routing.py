"""Routing: which server and database a tenant lives in, from a table that several processes read.

No relationship crosses tenants, so many servers hold many tenants with nothing between them but this table. Moving one
is `exchange.moving`: the table says at every moment which single place may be written to.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from memos_agents.cube.scope import check_name
from memos_agents.errors import BackendUnavailable, InvalidRequest, NotFound

if TYPE_CHECKING:
    from memos_agents.infrastructure.vault.blobs import BlobStore
    from memos_agents.infrastructure.vault.neo4j.vault import Neo4jVault

LOCK_SECONDS = 10.0


class Options(TypedDict, total=False):
    """What `Neo4jVault` takes beside the place."""

    auth: tuple[str, str] | None
    allow_insecure: bool
    readonly: bool
    blobs: BlobStore | None


@dataclass(frozen=True, slots=True)
class Route:
    """A place: a server, a database of it, and a store in that. Never a login."""

    uri: str
    database: str | None = None
    store: str | None = None

    def to_json(self) -> dict[str, str]:
        """Without what is not set."""
        named = {"uri": self.uri, "database": self.database, "store": self.store}
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def of_json(cls, value: object) -> Route:
        """Inverse of `to_json`; `InvalidRequest` for anything else."""
        if not isinstance(value, Mapping) or not isinstance(value.get("uri"), str):
            raise InvalidRequest("a route needs a uri, and can have a database and a store")
        unknown = sorted(value.keys() - {"uri", "database", "store"})
        if unknown or not all(isinstance(part, str) for part in value.values()):
            raise InvalidRequest(f"a route has uri, database and store, all text, not {', '.join(map(str, unknown))}")
        return cls(**value)

    def __str__(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A move that is not finished. `stage` says which place counts: "copying" the old one, "turned" the new one."""

    source: Route
    to: Route
    stage: Literal["copying", "turned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Where tenants live; `default` is for those that are not named. `version` counts changes."""

    tenants: Mapping[str, Route] = field(default_factory=dict)
    moves: Mapping[str, Move] = field(default_factory=dict)
    default: Route | None = None
    version: int = 0

    def route(self, tenant: str) -> Route:
        """Where the tenant lives; `NotFound` if nothing says so."""
        found = self.tenants.get(tenant, self.default)
        if found is None:
            raise NotFound(f"no route leads to tenant {tenant!r}; assign one, or give the table a default")
        return found


class Router:
    """Opens tenants where a table says they live: a JSON or TOML file, read at every call, or a mapping.

    A file is changed under a lock and replaced as a whole, so readers never see half of one. A TOML file is written by
    people and only read here.
    """

    def __init__(self, table: str | Path | Mapping[str, Route], *, default: Route | None = None) -> None:
        self._path = Path(table) if isinstance(table, str | Path) else None
        self._given = None if self._path is not None else Table(tenants=dict(table), default=default)  # type: ignore[arg-type]  # a mapping, as just asked
        self._default = default

    def table(self) -> Table:
        """The table as it is now; empty if there is no file yet."""
        if self._given is not None:
            return self._given
        assert self._path is not None  # one of both
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Table(default=self._default)
        return _parsed(text, self._path, self._default)

    def route(self, tenant: str) -> Route:
        """Where the tenant lives."""
        return self.table().route(tenant)

    def open(self, tenant: str, **options: Unpack[Options]) -> Neo4jVault:
        """The tenant's vault. `options` are those of `Neo4jVault` (auth, allow_insecure, readonly, blobs)."""
        return open_at(self.route(tenant), tenant, **options)

    def assign(self, tenant: str, route: Route) -> None:
        """Say where a new tenant lives. `InvalidRequest` if it lives elsewhere already: that takes a move."""
        check_name(tenant, what="tenant")

        def edit(table: Table) -> Table:
            known = table.tenants.get(tenant)
            if known not in (None, route):
                raise InvalidRequest(f"tenant {tenant!r} lives at {known} already; move it there instead")
            return Table(tenants={**table.tenants, tenant: route}, moves=table.moves, default=table.default)

        self.change(edit)

    def change(self, edit: Callable[[Table], Table]) -> Table:
        """Replace the table by what `edit` makes of it, while nobody else does; returns it, durable."""
        path = self._path
        if path is None:
            raise InvalidRequest("a router that was given a mapping cannot change it; give it a JSON file")
        if path.suffix == ".toml":
            raise InvalidRequest(
                f"{str(path)!r} is TOML, which is only read; use a JSON file to assign and move tenants"
            )
        with _locked(path.with_name(f"{path.name}.lock")):
            before = self.table()
            after = edit(before)
            after = Table(tenants=after.tenants, moves=after.moves, default=after.default, version=before.version + 1)
            _replace(path, _text_of(after))
        return after


def open_at(route: Route, tenant: str, **options: Unpack[Options]) -> Neo4jVault:
    """A tenant's vault at one place."""
    from memos_agents.infrastructure.vault.neo4j.vault import Neo4jVault

    return Neo4jVault(route.uri, tenant=tenant, database=route.database, store=route.store, **options)


def _parsed(text: str, path: Path, default: Route | None) -> Table:
    try:
        value = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"the routes in {str(path)!r} cannot be read: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("tenants", {}), dict):
        raise InvalidRequest(f"the routes in {str(path)!r} must be a table of tenants")
    moves = {
        name: Move(source=Route.of_json(move["from"]), to=Route.of_json(move["to"]), stage=move["stage"])
        for name, move in value.get("moves", {}).items()
    }
    return Table(
        tenants={name: Route.of_json(route) for name, route in value.get("tenants", {}).items()},
        moves=moves,
        default=Route.of_json(value["default"]) if "default" in value else default,
        version=int(value.get("version", 0)),
    )


def _text_of(table: Table) -> str:
    value: dict[str, object] = {
        "version": table.version,
        "tenants": {name: route.to_json() for name, route in table.tenants.items()},
    }
    if table.moves:
        value["moves"] = {
            name: {"from": move.source.to_json(), "to": move.to.to_json(), "stage": move.stage}
            for name, move in table.moves.items()
        }
    if table.default is not None:
        value["default"] = table.default.to_json()
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the system releases the lock when its holder dies."""
    try:
        import fcntl
    except ImportError as error:
        raise InvalidRequest("routes are changed on Linux and macOS only; elsewhere they are read") from error
    deadline = time.monotonic() + LOCK_SECONDS
    with path.open("a", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BackendUnavailable(f"another process holds {str(path)!r}; try again") from None
                time.sleep(0.05)
            else:
                yield
                return


def _replace(path: Path, text: str) -> None:
    """Write beside, sync, and put in place: a reader sees the old text or the new one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
