"""Which texts the memories of a call stand for, and which stored caches there are for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from memos_agents.cube.canonical import JSON
from memos_agents.cube.identity import checked_id
from memos_agents.cube.memcube import MemCube, VersionRef, is_current
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest
from memos_agents.interface import arguments
from memos_agents.interface.store import Store

if TYPE_CHECKING:
    from memos_agents.memories.kv_codec import Precision
    from memos_agents.models.fingerprints import Fingerprint

Memories: TypeAlias = "Iterable[str | MemCube]"

CACHES = "activations"
"""The collection in which caches lie, each under a key that names its sources, model and precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedMemory:
    """One memory of a reply: the plaintext cube whose text the model saw, and how it got there.

    `form` is "activation" if its keys and values were injected, "plaintext" if its text was run, "none" if it was left
    out. `asked_id` is what the caller named: another one than `id` for a cache.
    """

    id: str
    version: int
    asked_id: str
    form: Literal["plaintext", "activation", "none"]
    reason: str


@dataclass(slots=True)
class Asked:
    """A text that a call named, and the cache that may stand for it. `is_named`: the caller named that cache.

    A cache of several texts is with the first of them.
    """

    cube: MemCube
    asked_id: str
    cache: MemCube | None = None
    is_named: bool = False
    reason: str = "asked for as text"


def cache_key(sources: Sequence[MemCube], model: Fingerprint, precision: Precision) -> str:
    """The key of the cache of these texts, in the order of ids."""
    return f"{'+'.join(source.id for source in sources)}:{model.key[:32]}:{precision}"


def source_versions(cube: MemCube) -> list[VersionRef]:
    """The plaintext versions that a cache says it was made from, in order; none for any other cube."""
    if cube.memory_type is not MemoryType.ACTIVATION or not isinstance(cube.payload, ArtefactPayload):
        return []
    return [VersionRef(str(cube_id), int(number)) for cube_id, number in _sources(cube.payload.manifest)]


def _sources(manifest: Mapping[str, JSON]) -> Sequence[tuple[Any, Any]]:
    return cast("Sequence[tuple[Any, Any]]", manifest.get("sources") or ())


def precision_of(cache: MemCube) -> str:
    """As its manifest says."""
    assert isinstance(cache.payload, ArtefactPayload)
    return str(cache.payload.manifest.get("precision"))


def resolve(store: Store, bound: Scope | None, memories: Memories) -> tuple[list[Asked], list[UsedMemory]]:
    """The texts that the memories stand for, in the order of ids and each once; and what is left out.

    Raises `NotFound` for an id that is not there, or not for this scope.
    """
    if isinstance(memories, str | MemCube):
        raise InvalidRequest("memories must be a list of ids or cubes")
    scope = arguments.for_ids(bound, store.tenant)
    ids = list(dict.fromkeys(each.id if isinstance(each, MemCube) else checked_id(each) for each in memories))
    heads = store.vault.get(ids, scope)
    wanted = dict.fromkeys(ref.cube_id for head in heads.values() for ref in source_versions(head))
    texts = store.vault.get(list(wanted), scope) if wanted else {}
    now = store.now()
    asked: dict[str, Asked] = {}
    left_out: list[UsedMemory] = []
    for cube_id in ids:
        head = heads.get(cube_id)
        if head is None:
            raise arguments.no_cube(cube_id)
        refs = source_versions(head)
        cubes = [texts.get(ref.cube_id) for ref in refs] if refs else [head]
        current = [cube for cube in cubes if cube is not None and cube.text and is_current(cube, now)]
        if not current:
            why = "it was erased" if head.state is MemoryState.ERASED else "its text is no longer current"
            left_out.append(UsedMemory(id=head.id, version=head.version, asked_id=cube_id, form="none", reason=why))
            continue
        is_fresh = [cube.ref for cube in current] == refs and _is_usable(head)
        for place, cube in enumerate(current):
            each = asked.setdefault(cube.id, Asked(cube, cube_id))
            if not refs:
                continue
            each.asked_id = cube_id
            if not is_fresh:
                each.reason = "the cache is stale: its source has changed"
            elif not place:
                each.cache, each.is_named = head, True
    return [asked[cube_id] for cube_id in sorted(asked)], left_out


def _is_usable(cache: MemCube) -> bool:
    return not cache.is_stale and cache.state is MemoryState.ACTIVATED


def stored_cache(store: Store, source: MemCube, model: Fingerprint) -> MemCube | None:
    """The exact cache of a text's current version, if one is kept for this model."""
    found = store.vault.find_key(source.scope, CACHES, cache_key([source], model, "exact"))
    if found is None or not _is_usable(found) or source_versions(found) != [source.ref]:
        return None
    return found
