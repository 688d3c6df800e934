"""Erasing: what every deletion of this connector comes down to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from memos_agents.cube.memcube import MemCube
from memos_agents.errors import NotFound
from memos_agents.interface.arguments import MAX_LIMIT
from memos_agents.interface.views import ScopedMemOS

_ATTEMPTS = 50


def erase_all(view: ScopedMemOS, find: Callable[[], Sequence[str]], *, agent: str) -> None:
    """Erase the cubes that `find` names, with all that was derived from them; nothing happens if there are none.

    What somebody else erased in the meantime is gone, as asked.
    """
    for attempt in range(_ATTEMPTS):
        found = find()
        if not found:
            return
        living = found if attempt == 0 else [cube_id for cube_id in found if _lives(view, cube_id)]
        if not living:
            return
        try:
            view.erase(living, agent=agent)
        except NotFound:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        return


def everything_in(view: ScopedMemOS, collection: str) -> Iterator[MemCube]:
    """Every cube of a collection that the view admits, stale and outlived ones too: what an erasure must reach."""
    cursor = None
    while True:
        page = view.list(collection=collection, limit=MAX_LIMIT, cursor=cursor, include_hidden=True)
        yield from page
        cursor = page.cursor
        if cursor is None:
            return


def _lives(view: ScopedMemOS, cube_id: str) -> bool:
    try:
        view.get(cube_id)
    except NotFound:
        return False
    return True
