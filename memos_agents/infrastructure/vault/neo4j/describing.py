"""The graph described for people: what every label, property, relationship and index is for, as one Markdown page.

Indexes are read from the statements that make them; `vocabulary` has the rest in words, and a test compares it with
what a server really holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from memos_agents.infrastructure.vault.neo4j import cypher_nearest, schema
from memos_agents.infrastructure.vault.neo4j import cypher_useful as useful
from memos_agents.infrastructure.vault.neo4j.vocabulary import LABELS, RELATIONSHIPS, STATED


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What one statement of the schema makes."""

    name: str
    kind: str
    label: str
    on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsefulQuery:
    """A question, its statement, and what its parameters are beside `tenant`."""

    asks: str
    statement: LiteralString
    parameters: Mapping[str, str]


USEFUL: Final[Mapping[str, UsefulQuery]] = {
    "HOLDS_NOW": UsefulQuery(
        asks="What does a user's memory hold now?",
        statement=useful.HOLDS_NOW,
        parameters={"user": "whose", "now_us": "now, in microseconds"},
    ),
    "WHY_BELIEVED": UsefulQuery(
        asks="Why do we believe this?", statement=useful.WHY_BELIEVED, parameters={"id": "the memory"}
    ),
    "WOULD_GO": UsefulQuery(
        asks="What would go if this were erased?", statement=useful.WOULD_GO, parameters={"id": "the memory"}
    ),
    "WROTE_MOST": UsefulQuery(
        asks="Who wrote most since last week?",
        statement=useful.WROTE_MOST,
        parameters={"since_us": "a week ago, in microseconds"},
    ),
    "OPEN_CONTRADICTIONS": UsefulQuery(
        asks="Which contradictions are open?", statement=useful.OPEN_CONTRADICTIONS, parameters={}
    ),
    "BELIEVED_AT": UsefulQuery(
        asks="What was believed at a time?",
        statement=useful.BELIEVED_AT,
        parameters={"user": "whose", "at_us": "the time, in microseconds"},
    ),
}

_MADE: Final = re.compile(
    r"CREATE (?P<kind>CONSTRAINT|FULLTEXT INDEX|VECTOR INDEX|INDEX) (?P<name>\w+) IF NOT EXISTS FOR "
    r"\(\w:(?P<label>\w+)\) (?:REQUIRE|ON EACH|ON) (?P<on>[(\[]?[\w., ]+[)\]]?)"
)
_KINDS: Final = {"CONSTRAINT": "unique", "INDEX": "range", "FULLTEXT INDEX": "full text", "VECTOR INDEX": "vector"}


def indexes() -> list[Index]:
    """All that the schema makes, and what is made when a tenant grows large; one vector index stands for all sizes."""
    later = (cypher_nearest.CREATE_TEXT_INDEX, cypher_nearest.CREATE_TURN_INDEX)
    found = [_index_of(statement) for statement in (*schema.CONSTRAINTS, *schema.INDEXES, *later)]
    size, vector = next(iter(cypher_nearest.CREATE_VECTOR_INDEX.items()))
    one = _index_of(vector)
    name, on = (text.replace(str(size), "<dim>") for text in (one.name, one.on))
    return [*found, Index(name=name, kind=one.kind, label=one.label, on=on)]


def describe() -> str:
    """The schema page, in Markdown: docs/neo4j_schema.md holds exactly this."""
    return "\n".join(_lines()) + "\n"


def _index_of(statement: str) -> Index:
    made = _MADE.search(statement)
    assert made is not None, "every definition has the form that the test of this module checks"
    on = re.sub(r"\b\w\.", "", made["on"]).strip("()[] ").removesuffix(" IS UNIQUE")
    return Index(name=made["name"], kind=_KINDS[made["kind"]], label=made["label"], on=on)


def _lines() -> Iterable[str]:
    yield from _INTRODUCTION.strip().split("\n")
    yield "\n## Nodes"
    for name, label in LABELS.items():
        yield f"\n### {name}\n\n{label.means}\n"
        yield from _table(("property", "what it says"), ((f"`{key}`", text) for key, text in label.properties.items()))
    yield "\n## Relationships\n"
    yield from _table(
        ("type", "from → to", "W3C PROV", "what it says", "properties"),
        (
            (f"`{name}`", kind.ends, kind.prov, kind.means, ", ".join(f"`{key}`" for key in kind.properties))
            for name, kind in RELATIONSHIPS.items()
        ),
    )
    yield (
        "\nWhat their properties say: `n` the number of the version or piece; `kind` how it was derived; "
        + "; ".join(f"`{key}` {text}" for key, text in STATED.items())
    )
    yield f"\n## Constraints and indexes\n\nSchema version {schema.SCHEMA_VERSION}. {_ON_INDEXES}\n"
    yield from _table(
        ("name", "kind", "label", "on"), ((f"`{one.name}`", one.kind, one.label, one.on) for one in indexes())
    )
    yield f"\n## Six useful queries\n\n{_ON_QUERIES}"
    for query in USEFUL.values():
        yield f"\n### {query.asks}\n"
        yield "Parameters: " + ", ".join(f"`${key}` {text}" for key, text in {**_ASKED, **query.parameters}.items())
        yield "\n```cypher\n" + query.statement.strip() + "\n```"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


_ASKED: Final = {"tenant": "the stored tenant"}
_INTRODUCTION: Final = """
# The graph in Neo4j

Generated from the code by `memos neo4j schema`; a test compares it with what a server holds. How to use a server:
[neo4j.md](neo4j.md).

A **MemCube** is a memory's identity; each **CubeVersion** is what it said for a while. Provenance hangs on versions: an
**Activity** by an **Agent** made them, from other versions and from **Sources**. Relations that people state stand
between cubes. Read it, with Neo4j Browser or anything else; write it only through `memos_agents`: whatever is changed
beside it, `memos verify` finds.

Every node but `MemosMeta` belongs to one tenant. Times end with `_us` and are whole microseconds since 1970, UTC:
`datetime({epochMillis: v.recorded_us / 1000})` shows one. A property that says nothing is absent.
"""
_ON_INDEXES: Final = "The last three are made when a scope first outgrows exact search."
_ON_QUERIES: Final = """They return no embeddings and begin at an index; `memos provenance ID --neo4j` prints more of
them with their parameters filled in. In a named store (`?store=NAME`) `$tenant` is `"NAME\\u001fTENANT"`."""
