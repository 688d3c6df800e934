"""Telling: which memories a request tells the model, and where in it they stand.

A conversation on the server (`previous_response_id`, `conversation`) keeps its input, so there memories go into
`instructions`, which nobody keeps, as one block that grows at its end. Where each request carries the whole history
(Chat Completions, and Responses with `store=False`), they stand where they were first shown (see `interface.layout`).
Such a conversation is known by a digest of it up to each message of the user, so that it needs no name, and one that
branches off knows what the trunk was told.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memos_agents.connectors.openai.conversation import Request, text_of, value_of
from memos_agents.interface import recall
from memos_agents.interface.arguments import MAX_LIMIT
from memos_agents.interface.layout import (
    START,
    Layout,
    Shown,
    blocks_of,
    extend,
    place_of,
    still_placed,
)

_KEPT = 5_000
"""Turns for which the memories that were told are kept in mind; the oldest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What one request tells: blocks by the index of the entry that they stand in front of, and what to keep in mind.

    `start` is the block at the end of the system text.
    """

    start: str
    before: Mapping[int, str]
    shown: tuple[Shown, ...]
    names: tuple[str, ...]


class Teller:
    """Recalls for one view, and knows what each conversation was told: references of versions, never texts."""

    def __init__(
        self, views: recall.Views, session_id: str | None, *, limit: int, max_tokens: int, layout: Layout
    ) -> None:
        self._views, self._session_id = views, session_id
        self._limit, self._max_tokens, self._layout = limit, max_tokens, layout
        self._told: OrderedDict[str, tuple[Shown, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def tell(self, request: Request, *, recalls: bool = True) -> Telling:
        """What to tell the model with `request`; without `recalls` only what its conversation was told before."""
        view, places = self._views.sync, _places(request.entries)
        turns = list(places.values())
        conversation, continued = _named(request.arguments)
        earlier = turns[:-1] if request.asks else turns  # a question that is asked again is recalled for again
        known, shown = self._known([conversation, continued, *reversed(earlier), self._session_id])
        keeps = turns if request.has_history else []
        placed = still_placed(view, shown, places=keeps) if self._layout == "append" else []
        goes_on = not request.asks and known in turns[-1:]  # with what tools answered: its question is recalled for
        if request.question and recalls and not (goes_on and self._layout == "append"):
            limit = min(self._limit + len(request.said), MAX_LIMIT)  # what is said in it anyway takes no place
            found = view.search(request.question, limit=limit)
            new = [hit for hit in found if hit.cube.text not in request.said][: self._limit]
            at = place_of(keeps, layout=self._layout)
            placed = extend(placed, new, at=at, max_tokens=self._max_tokens)
        blocks = blocks_of(placed)
        names = (conversation or (None if continued else self._session_id), *turns[-1:])
        return Telling(
            start=blocks.get(START, ""),
            before={index: blocks[place] for index, place in places.items() if place in blocks},
            shown=tuple(entry.shown for entry in placed),
            names=tuple(name for name in names if name is not None),
        )

    def keep(self, telling: Telling, response_id: str | None) -> None:
        """Keep in mind what was told, for the requests that go on from here."""
        with self._lock:
            for name in (*telling.names, *([response_id] if response_id else [])):
                self._told[name] = telling.shown
                self._told.move_to_end(name)
            while len(self._told) > _KEPT:
                self._told.popitem(last=False)

    def _known(self, names: Sequence[str | None]) -> tuple[str, tuple[Shown, ...]]:
        """The first of `names` under which something is kept, and that."""
        with self._lock:
            return next(((name, self._told[name]) for name in names if name and name in self._told), ("", ()))


def _named(arguments: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """By what the server knows the conversation that a request goes on with: its id, the id of its last response."""
    conversation = arguments.get("conversation")
    names = (conversation, value_of(conversation, "id"))
    found = next((name for name in names if isinstance(name, str) and name), None)
    continued = arguments.get("previous_response_id")
    return found, continued if isinstance(continued, str) and continued else None


def _places(entries: Sequence[object]) -> dict[int, str]:
    """For each message of the user its index and a digest of the conversation up to it, system text left out."""
    digest, places = hashlib.sha256(), {}
    for index, entry in enumerate(entries):
        role = value_of(entry, "role")
        if role in ("system", "developer"):
            continue
        digest.update(json.dumps([str(role), text_of(entry)]).encode())
        if role == "user":
            places[index] = digest.hexdigest()
    return places
