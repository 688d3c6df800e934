"""What of a file is remembered already, so that reading a folder again adds only what is new in it.

`MemOS.add` never merges what has evidence (the new evidence would be lost). For a file that is read again the evidence
is the same place, so the command line passes over what it finds unchanged.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from memos_agents import MemOS
    from memos_agents.cube.memcube import MemCube
    from memos_agents.cube.metadata import Descriptive
    from memos_agents.cube.scope import Scope
    from memos_agents.operation.organization import NewMemory

_Content: TypeAlias = "tuple[Scope, str, str, Descriptive]"


class Known:
    """The current memories of a scope by what they say. Reads the whole scope once, when it is first asked."""

    def __init__(self, memos: MemOS, scope: Scope) -> None:
        self._memos = memos
        self._scope = scope
        self._cubes: dict[_Content, list[MemCube]] | None = None

    def take(self, owner: Scope, item: NewMemory) -> MemCube | None:
        """A memory of exactly `owner` that says the same, each only once: a text that stands twice was added twice."""
        from memos_agents.cube.canonical import canonical_json

        if self._cubes is None:
            self._cubes = self._read()
        found = self._cubes.get((owner, item.text, canonical_json(item.metadata), item.descriptive))
        return found.pop() if found else None

    def _read(self) -> dict[_Content, list[MemCube]]:
        from memos_agents.cube.canonical import canonical_json

        cubes: dict[_Content, list[MemCube]] = defaultdict(list)
        cursor: str | None = None
        while True:
            page = self._memos.list(scope=self._scope, states=["activated"], limit=1_000, cursor=cursor)
            for cube in page:
                cubes[cube.scope, cube.text, canonical_json(cube.metadata), cube.descriptive].append(cube)
            cursor = page.cursor
            if cursor is None:
                return dict(cubes)
