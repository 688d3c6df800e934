"""MemoryModel: a local model that the memories of one store can enter, as text or as keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.identity import checked_id
from memos_agents.cube.memcube import MemCube, VersionRef, is_current
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import IncompatibleModel, IntegrityError, InvalidRequest, NotFound
from memos_agents.infrastructure.vault.blobs import checked_file
from memos_agents.interface import arguments
from memos_agents.interface.quoting import framed, quote
from memos_agents.interface.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memos_agents.models.huggingface import LocalModel, Prefilled, Timings
    from memos_agents.models.prompts import Message, Prompt, Tool

Memories: TypeAlias = "Iterable[str | MemCube]"


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


@dataclass(slots=True, kw_only=True)
class Reply:
    """What a model answered. `timings` are in seconds, with the tokens that were reused and computed."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    timings: Timings | None = None
    memories: list[UsedMemory] = field(default_factory=list)


@dataclass(slots=True)
class Asked:
    """A memory that a call named: the text it stands for, and the cache that was named for it."""

    cube: MemCube
    asked_id: str
    cache: MemCube | None
    reason: str


class MemoryModel:
    """A local model that the memories of one store can enter. From `memos.model(...)`."""

    def __init__(self, local: LocalModel, store: Store, bound: Scope | None) -> None:
        from memos_agents.memories.prefix_cache import PrefixCache

        self.local = local
        self._store, self._bound = store, bound
        self._cache = PrefixCache()
        self._is_closed = False
        store.on_erase.append(self._cache.clear)

    def __repr__(self) -> str:
        return f"MemoryModel({self.local!r})"

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self.local.name

    def prompt(self, prompt: str | Sequence[Message], *, memories: Memories = (), tools: Sequence[Tool] = ()) -> str:
        """The exact text, special tokens included; tokenise it with `add_special_tokens=False`."""
        return self.built(prompt, self._asked(memories)[0], tools).text

    def logits(
        self,
        prompt: str | Sequence[Message],
        *,
        memories: Memories = (),
        reuse: bool = False,
        tools: Sequence[Tool] = (),
    ) -> NDArray[np.float32]:
        """The next token's, float32, shape (vocabulary,); equal to the last bit whatever form the memories have."""
        asked, _ = self._asked(memories)
        state, _ = self._run(self.built(prompt, asked, tools), asked, reuse=reuse)
        found: NDArray[np.float32] = state.logits.cpu().numpy()
        return found

    @overload
    def generate(
        self, prompt: str | Sequence[Message], *, memories: Memories = ..., max_new_tokens: int = ...,
        temperature: float = ..., top_p: float = ..., stop: Sequence[str] = ..., seed: int | None = ...,
        stream: Literal[False] = ..., reuse: bool = ..., tools: Sequence[Tool] = ...,
    ) -> Reply: ...  # fmt: skip
    @overload
    def generate(
        self, prompt: str | Sequence[Message], *, memories: Memories = ..., max_new_tokens: int = ...,
        temperature: float = ..., top_p: float = ..., stop: Sequence[str] = ..., seed: int | None = ...,
        stream: Literal[True], reuse: bool = ..., tools: Sequence[Tool] = ...,
    ) -> Iterator[str | Reply]: ...  # fmt: skip
    def generate(
        self,
        prompt: str | Sequence[Message],
        *,
        memories: Memories = (),
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int | None = None,
        stream: bool = False,
        reuse: bool = False,
        tools: Sequence[Tool] = (),
    ) -> Reply | Iterator[str | Reply]:
        """Answer, with `memories` (ids or cubes in any form) as quoted data before the caller's own system text.

        Greedy unless `temperature` is above 0, whatever the model's own configuration says. A cache among the memories
        is injected where it is exact: at the beginning of the block, in the order of ids. What cannot be injected is
        run as text, with the reason in `.memories`. `reuse` also keeps and finds the beginnings of prompts in memory.
        `stream` yields pieces of text and last the `Reply`. `tools` (functions with their schemas, as OpenAI writes
        them) are shown by the model's template, and `InvalidRequest` if it has none; calls are part of the text, for
        the caller to read. Raises `NotFound` for a memory that is not there,
        `IncompatibleModel` for a cache of another model.
        """
        from memos_agents.models.huggingface import Sampling

        self._check_open()
        sampling = Sampling(
            max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, stop=tuple(stop), seed=seed
        )
        pieces = self._generate(prompt, memories, sampling, reuse=reuse, tools=tools)
        if stream:
            return pieces
        *_, reply = pieces
        return cast("Reply", reply)

    def cache_stats(self) -> Any:
        """See `prefix_cache.CacheStats`."""
        return self._cache.stats()

    def close(self) -> None:
        """Let go of the weights and caches; every later call raises `InvalidRequest`."""
        if not self._is_closed:
            self._is_closed = True
            self._cache.clear()
            self._store.on_erase.remove(self._cache.clear)
            self.local.close()

    def _generate(
        self,
        prompt: str | Sequence[Message],
        memories: Memories,
        sampling: Any,
        *,
        reuse: bool,
        tools: Sequence[Tool],
    ) -> Iterator[str | Reply]:
        from memos_agents.models.huggingface import Generated

        asked, left_out = self._asked(memories)
        built = self.built(prompt, asked, tools)
        into, found = Generated(), list[UsedMemory]()

        def prefill() -> Prefilled:
            state, used = self._run(built, asked, reuse=reuse)
            found.extend(used)
            return state

        yield from self.local.generate(built, sampling, into, prefill)
        yield Reply(text=into.text, token_ids=into.token_ids, timings=into.timings, memories=[*found, *left_out])

    def _check_open(self) -> None:
        if self._is_closed:
            raise InvalidRequest("this model is closed; load it again with memos.model(...)")

    def _asked(self, memories: Memories) -> tuple[list[Asked], list[UsedMemory]]:
        """The texts that the memories stand for, in the order of ids and each once; and what is left out."""
        self._check_open()
        if isinstance(memories, str | MemCube):
            raise InvalidRequest("memories must be a list of ids or cubes")
        scope = arguments.for_ids(self._bound, self._store.tenant)
        ids = list(dict.fromkeys(each.id if isinstance(each, MemCube) else checked_id(each) for each in memories))
        heads = self._store.vault.get(ids, scope)
        sources = {
            ref.cube_id: ref
            for head in heads.values()
            if (ref := source_version(head)) is not None
        }  # fmt: skip
        texts = self._store.vault.get(list(sources), scope) if sources else {}
        now = self._store.now()
        asked: dict[str, Asked] = {}
        left_out: list[UsedMemory] = []
        for cube_id in ids:
            head = heads.get(cube_id)
            if head is None:
                raise arguments.no_cube(cube_id)
            ref = source_version(head)
            cube = head if ref is None else texts.get(ref.cube_id)
            if cube is None or not cube.text or not is_current(cube, now):
                why = "it was erased" if head.state is MemoryState.ERASED else "its text is no longer current"
                left_out.append(UsedMemory(id=head.id, version=head.version, asked_id=cube_id, form="none", reason=why))
            elif ref is None:
                asked.setdefault(cube.id, Asked(cube, cube_id, None, "asked for as text"))
            elif head.is_stale or cube.version != ref.version or head.state is not MemoryState.ACTIVATED:
                asked.setdefault(cube.id, Asked(cube, cube_id, None, "the cache is stale: its source has changed"))
            else:
                asked[cube.id] = Asked(cube, cube_id, head, "")
        return [asked[cube_id] for cube_id in sorted(asked)], left_out

    def built(self, prompt: str | Sequence[Message], asked: Sequence[Asked], tools: Sequence[Tool] = ()) -> Prompt:
        lines = [quote(each.cube) for each in asked]
        block = framed(lines)
        place = block.index(lines[0]) if lines else 0
        marks = [place] if lines else []
        for line in lines:
            place += len(line) + 1
            marks.append(place)
        return self.local.prompt(prompt, block=block, marks=marks, tools=tools)

    def _run(self, prompt: Prompt, asked: Sequence[Asked], *, reuse: bool) -> tuple[Prefilled, list[UsedMemory]]:
        """Inject what can be, compute the rest; and what became of each memory."""
        if reuse or any(each.cache for each in asked):
            self.local.check_unchanged()
        key, owner = self.local.fingerprint.key, self._owner(asked)
        for each in asked:  # every named cache is checked, also one that this prompt cannot use
            if each.cache is not None:
                each.reason = self._load(each, key, owner)
        usable, allowed = 0, {"exact"}
        for each, mark in zip(asked, prompt.marks, strict=True):
            if mark is None or not (reuse or each.cache):
                break
            usable = mark
            allowed.add(_precision_of(each.cache))
        held, precision = None, "exact"
        for kind in sorted(allowed) if usable else ():  # int8 and int4 are used only for who named such a cache
            found = self._cache.find(f"{key}:{kind}", owner, prompt, usable)
            if found is not None and (held is None or len(found.ids) > len(held.ids)):
                held, precision = found, kind
        state = self.local.prefill(prompt, held, keep=usable if usable > (len(held.ids) if held else 0) else 0)
        if state.kept is not None:
            self._cache.put(f"{key}:{precision}", owner, state.kept)
        used = []
        for each, mark in zip(asked, prompt.marks, strict=True):
            is_injected = mark is not None and mark <= state.tokens_reused
            reason = each.reason or ("its text was run: nothing is cached of what stands before it")
            used.append(
                UsedMemory(
                    id=each.cube.id,
                    version=each.cube.version,
                    asked_id=each.asked_id,
                    form="activation" if is_injected else "plaintext",
                    reason="its keys and values were injected" if is_injected else reason,
                )
            )
        return state, used

    def _owner(self, asked: Sequence[Asked]) -> str:
        """Whose prompts share cached beginnings: those with memories of the same users."""
        return canonical_json([self._store.tenant, *sorted({each.cube.scope.user_id or "" for each in asked})])

    def _load(self, each: Asked, key: str, owner: str) -> str:
        """Bring a named cache into memory; returns why it cannot be used, if it cannot."""
        from memos_agents.memories import activation

        assert each.cache is not None
        payload = each.cache.payload
        assert isinstance(payload, ArtefactPayload)
        why_not = activation.check(payload.manifest, self.local.fingerprint)
        if why_not is not None:
            each.cache = None
            return why_not
        key, told = f"{key}:{_precision_of(each.cache)}", payload.manifest
        if self._cache.has(
            key, owner, str(told.get("ids_sha256")), tuple(cast("Sequence[int]", told.get("ends") or ()))
        ):
            return ""
        ref = payload.blobs.get(activation.FILE)
        if ref is None:
            raise IncompatibleModel("this cache has no file", field="file")
        try:
            blobs = self._store.vault.blobs
            data = checked_file(blobs, ref.sha256) or blobs.get(ref.sha256)
        except (IntegrityError, NotFound) as error:
            raise IncompatibleModel(
                "the stored cache is damaged or gone; migrate the memory again", field="file"
            ) from error
        self._cache.put(key, owner, activation.decode(data, told, self.local.model.dtype))
        return ""


def _precision_of(cache: MemCube | None) -> str:
    is_artefact = cache is not None and isinstance(cache.payload, ArtefactPayload)
    return str(cache.payload.manifest.get("precision")) if is_artefact else "exact"  # type: ignore[union-attr]


def source_version(cube: MemCube) -> VersionRef | None:
    """The plaintext version that a cache says it was made from; None for any other cube."""
    if cube.memory_type is not MemoryType.ACTIVATION or not isinstance(cube.payload, ArtefactPayload):
        return None
    from memos_agents.memories.activation import source_of

    return source_of(cube.payload.manifest) if "source" in cube.payload.manifest else None
