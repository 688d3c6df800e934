"""A lineage as Cypher to paste into Neo4j Browser: one line of parameters, then one statement for each question.

Text only: nothing here speaks to a server, and the driver is not needed. The statements are constants; every value
stands in the line of parameters, escaped, so that nothing stored can become a part of a statement.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString
from urllib.parse import parse_qsl, urlsplit

from memos_agents.cube.memcube import VersionRef

STORE_END: Final = "\x1f"
"""Between store and tenant in the graph's `tenant`; no name can hold it."""

_ABOVE: Final[LiteralString] = """
MATCH path = (:CubeVersion {tenant: $tenant, cube_id: $id, n: $n})
  -[:WAS_DERIVED_FROM|WAS_REVISION_OF*0..]->(found {tenant: $tenant})
WITH found, min(length(path)) AS steps WHERE $depth IS NULL OR steps <= $depth
"""
_BELOW: Final[LiteralString] = """
MATCH path = (:CubeVersion {tenant: $tenant, cube_id: $id, n: $n})
  <-[:WAS_DERIVED_FROM|WAS_REVISION_OF*0..]-(found:CubeVersion {tenant: $tenant})
WITH found, min(length(path)) AS steps WHERE $depth IS NULL OR steps <= $depth
"""
_TEXT: Final[LiteralString] = (
    '[text IN split(v.body, \'"payload":{"text":"\')[1..][-1..] | left(left(text, size(text) - 3), 100)][0] AS text'
)
"""The text that ends a version's JSON, as JSON writes it; null for other payloads and for what was erased."""
_STATUS: Final[LiteralString] = """CASE WHEN v.body IS NULL THEN 'erased' WHEN v.is_stale THEN 'stale'
    WHEN ended IS NOT NULL THEN 'taken back' WHEN v.superseded_us IS NOT NULL THEN 'replaced' ELSE 'believed' END
  AS status"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person wants to see, and the statement that shows it."""

    asks: str
    statement: LiteralString


QUESTIONS: Final[Mapping[str, Question]] = {
    "up": Question(
        asks="Where did it come from? Draws every version and outside source behind it.",
        statement=_ABOVE.strip()
        + """
OPTIONAL MATCH (found)-[edge:WAS_DERIVED_FROM|WAS_REVISION_OF]->(origin {tenant: $tenant})
WHERE $depth IS NULL OR steps < $depth
RETURN found, edge, origin""",
    ),
    "down": Question(
        asks="What became of it? Draws every version made from it.",
        statement=_BELOW.strip()
        + """
OPTIONAL MATCH (found)<-[edge:WAS_DERIVED_FROM|WAS_REVISION_OF]-(made:CubeVersion {tenant: $tenant})
WHERE $depth IS NULL OR steps < $depth
RETURN found, edge, made""",
    ),
    "who": Question(
        asks="Who made each version behind it, and when (UTC)? A table, newest first.",
        statement=_ABOVE.strip()
        + """
WITH found AS v
MATCH (v:CubeVersion {tenant: $tenant})-[:WAS_GENERATED_BY]->(a:Activity {tenant: $tenant})
OPTIONAL MATCH (v)-[:WAS_INVALIDATED_BY]->(ended:Activity {tenant: $tenant})
RETURN datetime({epochMillis: v.recorded_us / 1000}) AS recorded, coalesce(a.agent_name, a.agent_id) AS who,
  a.agent_kind AS kind, a.kind AS did, v.cube_id AS memory, v.n AS version,
  """
        + _STATUS
        + ",\n  "
        + _TEXT
        + """
ORDER BY v.recorded_us DESC, memory, version DESC""",
    ),
    "log": Question(
        asks="Who did anything to it, and when (UTC)? A table, newest first.",
        statement="""MATCH (c:MemCube {tenant: $tenant, id: $id})<-[:TOUCHED]-(a:Activity {tenant: $tenant})
WITH DISTINCT a
RETURN datetime({epochMillis: a.at_us / 1000}) AS at, coalesce(a.agent_name, a.agent_id) AS who,
  a.agent_kind AS kind, a.kind AS did, a.id AS activity
ORDER BY a.at_us DESC, activity""",
    ),
    "relations": Question(
        asks="What is it related to now? A table with the newest version of each other memory.",
        statement="""MATCH (c:MemCube {tenant: $tenant, id: $id})
  -[edge:MERGED_INTO|SUPERSEDED_BY|CONTRADICTS|RELATES_TO|NEXT|PART_OF|MENTIONS]-(o:MemCube {tenant: $tenant})
  -[:CURRENT]->(v:CubeVersion {tenant: $tenant})
WHERE edge.removed_us IS NULL
OPTIONAL MATCH (v)-[:WAS_INVALIDATED_BY]->(ended:Activity {tenant: $tenant})
RETURN DISTINCT startNode(edge).id AS from, type(edge) AS relation, endNode(edge).id AS to, v.cube_id AS memory,
  v.n AS version,
  """
        + _STATUS
        + ",\n  "
        + _TEXT,
    ),
}
"""By name. With `min(length(path))` and nothing else of the paths, the server walks breadth first and visits each
version once; all paths, and `ANY SHORTEST` too, take for ever in a graph with joins. The lineage comes as nodes with
their edges: paths would repeat a long chain for each of its links."""

_HEADER: Final = """// The provenance of one memory, for Neo4j Browser: paste all of it, or the line of parameters first
// and then a statement at a time. Nothing is changed.
// Neo4j knows nothing of scopes: whoever may log in there reads every user's memory."""
_COPY: Final = """// This store is a file: the statements are for its copy or mirror on a server (`memos copy`,
// `memos mirror`), under the same tenant; for one with ?store=NAME, write NAME\\u001f before the tenant."""


def to_browser(
    ref: VersionRef, *, tenant: str, store: str | None = None, depth: int | None = None, is_copy: bool = False
) -> str:
    """The text to paste for one version. `is_copy`: the graph is not this store, but one that holds the same."""
    parts = [
        _HEADER + ("\n" + _COPY if is_copy else ""),
        ":params " + cypher_map(parameters(ref, tenant=tenant, store=store, depth=depth)) + ";",
        *("// " + question.asks + "\n" + question.statement + ";" for question in QUESTIONS.values()),
    ]
    return "\n\n".join(parts) + "\n"


def parameters(
    ref: VersionRef, *, tenant: str, store: str | None = None, depth: int | None = None
) -> dict[str, str | int | None]:
    """What the statements are asked with. `tenant` there is the graph's name for the tenant, which holds the store."""
    stored = tenant if store is None else f"{store}{STORE_END}{tenant}"
    return {"tenant": stored, "id": ref.cube_id, "n": ref.version, "depth": depth}


def store_of(target: str) -> str | None:
    """The store that a server's address names (`…?store=NAME`), None if it names none or is a file's path."""
    if "://" not in target:
        return None
    return dict(parse_qsl(urlsplit(target).query, keep_blank_values=True)).get("store")


def cypher_map(values: Mapping[str, str | int | None]) -> str:
    r"""A map in Cypher's spelling, on one line. Keys are names of ours; texts may hold anything.

    >>> cypher_map({"id": 'a"b\\', "n": 1, "depth": None})
    '{id: "a\\"b\\\\", n: 1, depth: null}'
    """
    return "{" + ", ".join(f"{key}: {_literal(value)}" for key, value in values.items()) + "}"


def _literal(value: str | int | None) -> str:
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else '"' + "".join(map(_character, value)) + '"'


def _character(character: str) -> str:
    r"""One character of a text. Whatever a terminal or an editor may swallow is written as \uXXXX, but never a quote:
    before version 25, Cypher turns such escapes into characters before it looks for the end of the text.
    """
    if character in '"\\':
        return "\\" + character
    if unicodedata.category(character)[0] == "C" or character in "\u2028\u2029":
        units = character.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[start] << 8 | units[start + 1]:04x}" for start in range(0, len(units), 2))
    return character
