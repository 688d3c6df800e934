"""Layout: where in a prompt recalled memories stand, so that a server's prefix cache keeps hitting.

Servers reuse what they computed for the longest common beginning of two prompts (vLLM, SGLang, OpenAI and others). In a
conversation the history only grows, so a prompt stays a continuation of the one before if memories stay too: those of
the first message at the end of the system text, later ones in front of the message that they were recalled for, each
block the same bytes for as long as its memories are current. What was erased or changed leaves its block at once; then
the common beginning ends there, and that is right. No framework is imported. Rejected: one block that grows at its end
before the history (each new memory moves the whole history), system messages in between (many chat templates refuse
them), and texts kept between turns (an erased one could come back).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from memos_agents.cube.memcube import MemCube
from memos_agents.errors import InvalidRequest
from memos_agents.interface.quoting import framed, quote
from memos_agents.interface.recall import MAX_TOKENS, AnySync, estimate_tokens, fitting, render, still_current
from memos_agents.interface.results import Hit

Layout: TypeAlias = Literal["append", "fresh"]
"""What a prompt holds: "append", all that was shown in the conversation, where it was shown; "fresh", what was recalled
for the last message alone, in front of it."""

_LAYOUTS: tuple[Layout, ...] = get_args(Layout)

START = ""
"""The place at the end of the system text; every other place is the name of a message, and means: in front of it."""


class Shown(NamedTuple):
    """A version of a memory, as `str(cube.ref)` writes it, and the place where it was shown. To keep between turns."""

    ref: str
    place: str = START


class Placed(NamedTuple):
    """A memory and the place where it stands."""

    cube: MemCube
    place: str

    @property
    def shown(self) -> Shown:
        """What to keep of it until the next turn."""
        return Shown(str(self.cube.ref), self.place)


def check_layout(layout: str) -> Layout:
    """Return `layout` if there is such a one, else raise `InvalidRequest`."""
    for known in _LAYOUTS:
        if layout == known:
            return known
    raise InvalidRequest(f"layout is {layout!r}; it must be one of {', '.join(map(repr, _LAYOUTS))}")


def place_of(names: Sequence[str], *, layout: Layout) -> str:
    """Where the memories for the last of the user's messages go; `names` are the places of all of them, in order."""
    if not names or (layout == "append" and len(names) == 1):
        return START
    return names[-1]


def still_placed(view: AnySync, shown: Iterable[Shown], *, places: Collection[str]) -> list[Placed]:
    """Of what was shown, what is still to be believed (see `still_current`), in order.

    `places` are the messages that are still there; what stood in front of another one moves to the start.
    """
    entries = {entry.ref: entry.place for entry in shown}
    return [
        Placed(cube, place if (place := entries[str(cube.ref)]) in places else START)
        for cube in still_current(view, entries)
    ]


def extend(
    placed: Sequence[Placed],
    found: Iterable[Hit | MemCube],
    *,
    at: str,
    max_tokens: int | None = MAX_TOKENS,
    count_tokens: Callable[[str], int] | None = None,
) -> list[Placed]:
    """What the next prompt holds: all that is `placed`, then at the place `at` what is new in `found`.

    Once all blocks together do not fit `max_tokens` any more, the memory of the conversation begins anew with `found`
    alone, which costs one miss of the cache from the first block on and forgets nothing that was asked for now.
    """
    count = count_tokens or estimate_tokens
    fitting((), max_tokens=max_tokens)  # refuses what is no budget
    new = list(found)
    known = {entry.cube.id for entry in placed}
    added = [Placed(cube, at) for cube in fitting(new, max_tokens=None) if cube.id not in known]
    both = [*placed, *added]
    if max_tokens is None or _cost(both, count) <= max_tokens:
        return both
    return [Placed(cube, at) for cube in fitting(new, max_tokens=max_tokens, count_tokens=count_tokens)]


def blocks_of(placed: Iterable[Placed]) -> dict[str, str]:
    """The rendered block of each place that has one."""
    cubes: dict[str, list[MemCube]] = {}
    for entry in placed:
        cubes.setdefault(entry.place, []).append(entry.cube)
    return {place: render(there, max_tokens=None) for place, there in cubes.items()}


def in_front_of(content: object, block: str, *, kind: str = "text") -> object:
    """The content of a message, a text or a list of parts, with `block` in front; `kind` is the type of a text part."""
    if isinstance(content, str):
        return f"{block}\n\n{content}"
    parts = list(content) if isinstance(content, Iterable) and not isinstance(content, Mapping | bytes) else []
    return [{"type": kind, "text": f"{block}\n\n"}, *parts]


def _cost(placed: Sequence[Placed], count: Callable[[str], int]) -> int:
    frames = len({entry.place for entry in placed}) * count(framed([""]))
    return frames + sum(count(quote(entry.cube) + "\n") for entry in placed)
