"""Recalling: a search that says nothing twice and, unless asked, nothing of another session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime

from memos_agents.connectors.llama_index.messages import UNSAID
from memos_agents.interface.arguments import MAX_LIMIT
from memos_agents.interface.results import Hit
from memos_agents.interface.views import ScopedMemOS


def recall(
    view: ScopedMemOS,
    question: str,
    *,
    limit: int,
    session_id: str | None,
    across_sessions: bool,
    collection: str | None,
    known: AbstractSet[str] = frozenset(),
) -> list[Hit]:
    """The memories that answer `question`, best first, at most `limit`; [] for a question without words.

    In a session only its own memories and those that belong to no session, unless `across_sessions`. Left out: texts in
    `known` (they stand in the prompt already), repetitions, and messages that say nothing themselves.
    """
    if not question.strip() or limit < 1:
        return []
    told: set[tuple[str | None, str]] = set()
    sessions = {None, session_id}

    def is_wanted(hit: Hit) -> bool:
        cube = hit.cube
        saying = (cube.descriptive.role, cube.text)
        if not across_sessions and session_id is not None and cube.scope.session_id not in sessions:
            return False
        if UNSAID in cube.metadata or cube.text in known or saying in told:
            return False
        told.add(saying)
        return True

    return search_until(
        view, question, limit=limit, is_wanted=is_wanted, collection=collection, begin=told.clear, spare=len(known)
    )


def search_until(
    view: ScopedMemOS,
    question: str,
    *,
    limit: int,
    is_wanted: Callable[[Hit], bool],
    collection: str | None,
    begin: Callable[[], None] = lambda: None,
    spare: int = 0,
    as_of: datetime | str | None = None,
    valid_at: datetime | str | None = None,
) -> list[Hit]:
    """Search wider and wider until `limit` hits are wanted or there are no more (1,000 are looked at, at most).

    `spare`: how many unwanted ones to reckon with from the start. `begin` is called before each round.
    """
    asked = min(MAX_LIMIT, 2 * limit + 8 + min(spare, 100))
    while True:
        begin()
        hits = view.search(question, limit=asked, collection=collection, as_of=as_of, valid_at=valid_at)
        wanted = [hit for hit in hits if is_wanted(hit)][:limit]
        if len(wanted) == limit or len(hits) < asked or asked == MAX_LIMIT:
            return wanted
        asked = min(MAX_LIMIT, 4 * asked)


def public(metadata: Mapping[str, object]) -> dict[str, object]:
    """Metadata without what fronts keep for themselves (keys that begin with "_")."""
    return {key: value for key, value in metadata.items() if not key.startswith("_")}
