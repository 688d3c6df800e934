"""Recall: what every connector needs to hand memories to somebody else's prompt, and to know whose they are.

Shared by the connectors, which may not import each other. Two things live here. *Whose*: `view_of` turns what a caller
passed into a scoped view and its asynchronous mirror, and refuses a store without a scope. *How it is said*: recalled
text is quoted data with its time and source, one JSON line a memory, so that nothing in it can end the quotation, and
the same version is always the same bytes. No framework is imported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef, is_current
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest
from memos_agents.interface.aio import AsyncFront, AsyncMemOS, AsyncScopedMemOS, _Threads
from memos_agents.interface.api import MemOS
from memos_agents.interface.fitting import MAX_TOKENS, estimate_tokens, fitting
from memos_agents.interface.quoting import PREAMBLE, framed, quote, quoted_json, source_of, time_of
from memos_agents.interface.results import Hit
from memos_agents.interface.views import ScopedMemOS

__all__ = [
    "MAX_TOKENS", "AnyAsync", "AnyMemOS", "AnySync", "Fronts", "Views", "estimate_tokens", "fitting",
    "fronts_of", "on_thread", "render", "still_current", "told", "tool_answer", "view_of",
]  # fmt: skip

AnyMemOS: TypeAlias = "MemOS | AsyncMemOS | ScopedMemOS | AsyncScopedMemOS"
"""What a connector takes as `memos`."""
AnySync: TypeAlias = "MemOS | ScopedMemOS"
AnyAsync: TypeAlias = "AsyncMemOS | AsyncScopedMemOS"

P = ParamSpec("P")
R = TypeVar("R")


class Fronts(NamedTuple):
    """A front of a store, synchronous and asynchronous."""

    sync: AnySync
    aio: AnyAsync


class Views(NamedTuple):
    """A scoped view of a store, synchronous and asynchronous."""

    sync: ScopedMemOS
    aio: AsyncScopedMemOS


def fronts_of(memos: AnyMemOS) -> Fronts:
    """Both fronts of what the caller passed; of an asynchronous one its own pool of threads is used.

    Raises `InvalidRequest` for anything else. For connectors that learn the scope later (`aio.scoped(...)` shares the
    pool); the others want `view_of`.
    """
    if isinstance(memos, AsyncMemOS | AsyncScopedMemOS):
        return Fronts(memos.sync, memos)
    if isinstance(memos, MemOS):
        return Fronts(memos, AsyncMemOS(memos))
    if isinstance(memos, ScopedMemOS):
        return Fronts(memos, AsyncScopedMemOS(memos, _Threads()))
    raise InvalidRequest(f"memos must be a MemOS, an AsyncMemOS or a scoped view of one, not {type(memos).__name__}")


def view_of(
    memos: AnyMemOS,
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    session_id: str | None = None,
    scope: Scope | None = None,
) -> Views:
    """The view that a connector works on: of a scoped view itself, narrowed by what the call names.

    Raises `InvalidRequest` for a plain `MemOS` without a scope (never "everyone"), and for a scope outside the view.
    """
    fronts = fronts_of(memos)
    aio = fronts.aio.scoped(user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
    return Views(aio.sync, aio)


async def on_thread(aio: AsyncFront[Any], call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run synchronous work on the threads of `aio`'s own pool: several calls in one hop, the loop never blocked.

    If the waiting task is cancelled, what its thread has begun it finishes.
    """
    return await aio._threads.run(functools.partial(call, *args, **kwargs))


def render(
    found: Iterable[Hit | MemCube],
    *,
    max_tokens: int | None = MAX_TOKENS,
    count_tokens: Callable[[str], int] | None = None,
) -> str:
    """A block for a prompt: what it is, then one quotation a line; "" if there is nothing to say.

    Lines are taken in order while the whole stays within `max_tokens` (None: all); one that does not fit is passed
    over. Appending to `found` appends to the block: its lines do not change, only its end moves.
    """
    return framed([quote(cube) for cube in fitting(found, max_tokens=max_tokens, count_tokens=count_tokens)])


def still_current(view: AnySync, refs: Iterable[str]) -> list[MemCube]:
    """The versions named by `refs` ("id/v2", as `str(cube.ref)` writes it) that are still to be believed, in order.

    Left out: what was erased, replaced, archived or outlived since, what became stale, and what lies outside the view.
    Keep refs between turns, never texts: then what is erased cannot come back.
    """
    wanted = [ref for name in refs if (ref := _ref_of(name)) is not None]
    if not wanted:
        return []
    store = view._store
    scope = view.scope if isinstance(view, ScopedMemOS) else Scope.everything(view.tenant)
    heads, now = store.vault.get([ref.cube_id for ref in wanted], scope), store.now()
    return [
        cube
        for ref in wanted
        if (cube := heads.get(ref.cube_id)) is not None and cube.version == ref.version and is_current(cube, now)
    ]


def told(found: Hit | MemCube) -> dict[str, JSON]:
    """One memory as a tool returns it: id, version, time, source, text, and metadata, score and trust where known.

    Metadata keys that begin with "_" are a front's own bookkeeping and left out.
    """
    cube = found.cube if isinstance(found, Hit) else found
    fields: dict[str, JSON] = {
        "id": cube.id,
        "version": cube.version,
        "time": time_of(cube),
        "source": source_of(cube),
        "text": cube.text,
    }
    metadata = {key: value for key, value in cube.metadata.items() if not key.startswith("_")}
    if metadata:
        fields["metadata"] = metadata
    if isinstance(found, Hit):
        fields["score"] = round(found.score, 4)
    if cube.governance.trust < 1:
        fields["trust"] = cube.governance.trust
    return fields


def tool_answer(found: Iterable[Hit | MemCube]) -> str:
    """What a search tool tells a model: the preamble, then one JSON line for each memory as `told` gives it."""
    lines = [quoted_json(told(entry)) for entry in found]
    return "\n".join([PREAMBLE, *lines]) if lines else "No memory was found."


def _ref_of(name: str) -> VersionRef | None:
    cube_id, slash, version = name.rpartition("/v")
    return VersionRef(cube_id, int(version)) if slash and version.isdecimal() else None
