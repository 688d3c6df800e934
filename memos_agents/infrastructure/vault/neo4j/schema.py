"""The schema: constraints and indexes, made one after the other, once, and marked with their version.

Community edition is enough: uniqueness constraints, range, full-text and vector indexes. `MemosMeta` says which schema
a database has, so that opening one costs a single question.
"""

from __future__ import annotations

from typing import Final, LiteralString

from memos_agents.errors import IntegrityError, InvalidRequest
from memos_agents.infrastructure.vault.neo4j import cypher
from memos_agents.infrastructure.vault.neo4j.link import Link

SCHEMA_VERSION: Final = 1

CONSTRAINTS: Final[tuple[LiteralString, ...]] = (
    "CREATE CONSTRAINT memos_meta IF NOT EXISTS FOR (m:MemosMeta) REQUIRE m.key IS UNIQUE",
    "CREATE CONSTRAINT memos_tenant IF NOT EXISTS FOR (t:Tenant) REQUIRE t.id IS UNIQUE",
    "CREATE CONSTRAINT memos_cube IF NOT EXISTS FOR (c:MemCube) REQUIRE (c.tenant, c.id) IS UNIQUE",
    "CREATE CONSTRAINT memos_version IF NOT EXISTS FOR (v:CubeVersion) REQUIRE (v.tenant, v.cube_id, v.n) IS UNIQUE",
    "CREATE CONSTRAINT memos_activity IF NOT EXISTS FOR (a:Activity) REQUIRE (a.tenant, a.id) IS UNIQUE",
    "CREATE CONSTRAINT memos_agent IF NOT EXISTS FOR (g:Agent) REQUIRE (g.tenant, g.id) IS UNIQUE",
    "CREATE CONSTRAINT memos_source IF NOT EXISTS FOR (s:Source) REQUIRE (s.tenant, s.id) IS UNIQUE",
    "CREATE CONSTRAINT memos_space IF NOT EXISTS FOR (p:Space) REQUIRE (p.tenant, p.fingerprint) IS UNIQUE",
    "CREATE CONSTRAINT memos_lease IF NOT EXISTS FOR (l:Lease) REQUIRE (l.tenant, l.name) IS UNIQUE",
    "CREATE CONSTRAINT memos_snapshot IF NOT EXISTS FOR (s:Snapshot) REQUIRE (s.tenant, s.name) IS UNIQUE",
    "CREATE CONSTRAINT memos_blob IF NOT EXISTS FOR (b:Blob) REQUIRE (b.tenant, b.sha256) IS UNIQUE",
)
INDEXES: Final[tuple[LiteralString, ...]] = (
    "CREATE INDEX memos_cube_user IF NOT EXISTS FOR (c:MemCube) ON (c.tenant, c.user_id, c.created_us)",
    "CREATE INDEX memos_cube_session IF NOT EXISTS FOR (c:MemCube) ON (c.tenant, c.session_id)",
    "CREATE INDEX memos_cube_agent IF NOT EXISTS FOR (c:MemCube) ON (c.tenant, c.agent_id)",
    "CREATE INDEX memos_cube_created IF NOT EXISTS FOR (c:MemCube) ON (c.tenant, c.created_us)",
    "CREATE INDEX memos_cube_same IF NOT EXISTS FOR (c:MemCube) ON (c.same)",
    "CREATE INDEX memos_cube_place IF NOT EXISTS FOR (c:MemCube) ON (c.place)",
    "CREATE INDEX memos_activity_seq IF NOT EXISTS FOR (a:Activity) ON (a.tenant, a.seq)",
    "CREATE INDEX memos_activity_key IF NOT EXISTS FOR (a:Activity) ON (a.tenant, a.key)",
    "CREATE INDEX memos_blob_name IF NOT EXISTS FOR (b:Blob) ON (b.sha256)",
    "CREATE INDEX memos_blob_doomed IF NOT EXISTS FOR (b:Blob) ON (b.tenant, b.is_doomed)",
    "CREATE FULLTEXT INDEX memos_text IF NOT EXISTS FOR (c:MemCube) ON EACH [c.text] "  # noqa: ISC004  # one statement
    "OPTIONS {indexConfig: {`fulltext.analyzer`: 'standard-no-stop-words', `fulltext.eventually_consistent`: false}}",
)


def ensure(link: Link) -> None:
    """Bring the database to this release's schema; `InvalidRequest` if a newer release made it.

    Idempotent, and safe when several processes start at once.
    """
    found = version_of(link)
    if found == SCHEMA_VERSION:
        return
    if found is not None and found > SCHEMA_VERSION:
        raise InvalidRequest(
            f"a newer release made the schema of this database (version {found}, this one knows {SCHEMA_VERSION}); "
            "upgrade memos-agents"
        )
    if link.is_readonly:
        raise InvalidRequest("this database holds no store yet; open it without readonly=True to make one")
    for statement in (*CONSTRAINTS, *INDEXES):
        link.define(statement)
    link.autocommit(cypher.AWAIT_INDEXES)
    link.autocommit(cypher.SET_META, key="schema", value=SCHEMA_VERSION)


def version_of(link: Link) -> int | None:
    """The version of the schema in the database; None if there is none."""
    found = link.rows_outside(cypher.GET_META, key="schema")
    if not found:
        return None
    if not isinstance(found[0][0], int):
        raise IntegrityError("the database's schema version is not a number; restore it from a backup")
    return found[0][0]
