"""Injecting: how each memory of a prompt enters the model, at what price, and what stays in memory for the next one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.cube.scope import Scope
from memos_agents.errors import IncompatibleModel, IntegrityError, NotFound
from memos_agents.infrastructure.vault.blobs import SupportsFiles, checked_file
from memos_agents.interface.asked import Asked, UsedMemory, precision_of, source_versions, stored_cache
from memos_agents.interface.store import Store

if TYPE_CHECKING:
    from memos_agents.memories.costs import Tier
    from memos_agents.models.composing import Piece, Strategy
    from memos_agents.models.held import Held, Prefilled
    from memos_agents.models.huggingface import LocalModel
    from memos_agents.models.prompts import Prompt

INJECTED, COMPOSED = "its keys and values were injected", "its keys and values were composed with others': not exact"
_NOT_FIRST = "its text was run: nothing is cached of what stands before it"


class Injector:
    """The caches of one model and one store: in memory within `ram_bytes`, and as artefacts of the store."""

    def __init__(self, local: LocalModel, store: Store, bound: Scope | None, ram_bytes: int) -> None:
        from memos_agents.memories.costs import Costs
        from memos_agents.memories.prefix_cache import PrefixCache

        self.local, self.cache, self.costs = local, PrefixCache(ram_bytes), Costs()
        self.uses: Counter[str] = Counter()
        """How often each stored cache was injected."""
        self._store, self._bound = store, bound

    def run(
        self, prompt: Prompt, asked: Sequence[Asked], *, reuse: bool, epoch: int, strategy: Strategy | None = None
    ) -> tuple[Prefilled, list[UsedMemory]]:
        """Inject what can be, compute the rest; and what became of each memory.

        `reuse`: texts may be served from what is cached of them, and what is computed stays for the next prompt.
        `epoch`: of `cache`, before the texts were read. `strategy`: caches that are not at the beginning are composed,
        which is not exact.
        """
        if reuse or strategy is not None or any(each.cache for each in asked):
            self.local.check_unchanged()
        model, owner = self.local.fingerprint, self._owner(asked)
        for each in asked:
            if each.cache is None and reuse and (strategy is not None or each is asked[0]):
                each.cache = stored_cache(self._store, each.cube, model)
            if each.cache is not None:  # a cache of another model is refused, also where this prompt has no use for it
                self._check(each)
        if strategy is not None:
            pieces = self._pieces(prompt, asked, model.key, owner, epoch)
            if len(pieces) > 1:
                return self._compose(prompt, asked, pieces, strategy)
        return self._inject(prompt, asked, model.key, owner, epoch, reuse=reuse)

    def _inject(
        self, prompt: Prompt, asked: Sequence[Asked], model: str, owner: str, epoch: int, *, reuse: bool
    ) -> tuple[Prefilled, list[UsedMemory]]:
        from memos_agents.memories.prefix_cache import size_of
        from memos_agents.models.huggingface import reusable

        usable, allowed = self._usable(prompt, asked, reuse=reuse)
        found = [(kind, self.cache.find(f"{model}:{kind}", owner, prompt, usable)) for kind in allowed if usable]
        known = max((reusable(prompt, held) for _, held in found if held is not None), default=0)
        if usable and asked and (asked[0].is_named or not known) and asked[0].cache is not None:
            stored = self._load(asked[0], model, owner, epoch)
            found.append((precision_of(asked[0].cache), stored))
        precision, held = max(
            ((kind, held) for kind, held in found if held is not None),
            key=lambda each: reusable(prompt, each[1]), default=("exact", None),
        )  # fmt: skip
        begin = reusable(prompt, held)
        keep = usable if usable > begin else 0
        if keep and self.cache.budget_bytes < keep * _bytes_a_token(held, size_of):
            keep = 0
        started = time.perf_counter()
        state = self.local.prefill(prompt, held, keep=keep)
        self.costs.prefilled(state.tokens_computed, time.perf_counter() - started)
        if state.kept is not None:
            self.cache.put(f"{model}:{precision}", owner, state.kept, epoch)
        return state, [
            self._used(each, mark is not None and mark <= state.tokens_reused, INJECTED)
            for each, mark in zip(asked, prompt.marks, strict=True)
        ]

    def _usable(self, prompt: Prompt, asked: Sequence[Asked], *, reuse: bool) -> tuple[int, list[str]]:
        """How many tokens may come from caches, and of which precisions: rough ones only for who named such a cache."""
        covered, mark, precisions = 0, 0, {"exact"}
        for place, each in enumerate(asked):
            if each.cache is not None and each.is_named:
                covered = max(covered, place + len(source_versions(each.cache)))
                precisions.add(precision_of(each.cache))
            if not reuse and place >= covered:
                break
            mark = prompt.marks[place] or 0
            if not mark:
                break
        return (prompt.lasting if reuse else prompt.cut_before(mark)), sorted(precisions)

    def _pieces(self, prompt: Prompt, asked: Sequence[Asked], model: str, owner: str, epoch: int) -> list[Piece]:
        """Those of the prompt's tokens that caches hold, wherever they stand."""
        from memos_agents.models.composing import Piece

        pieces: list[Piece] = []
        for number, each in enumerate(asked):
            place = prompt.begin if number == 0 else prompt.marks[number - 1]
            if each.cache is None or place is None or (pieces and place < pieces[-1].end):
                continue
            held = self._load(each, model, owner, epoch)
            if held is None:
                continue
            assert isinstance(each.cache.payload, ArtefactPayload)
            begin = cast("int", each.cache.payload.manifest["begin"])
            stop = begin + _alike(held.ids[begin:], prompt.ids[place:-1])
            if held.ids[:begin] != prompt.ids[: prompt.begin] or stop == begin:
                each.reason = "its tokens are others in this prompt"
                continue
            pieces.append(Piece(0, held, 0, stop) if number == 0 else Piece(place, held, begin, stop))
        return pieces

    def _compose(
        self, prompt: Prompt, asked: Sequence[Asked], pieces: Sequence[Piece], strategy: Strategy
    ) -> tuple[Prefilled, list[UsedMemory]]:
        from memos_agents.models.composing import composed

        state = composed(self.local, prompt, pieces, strategy)
        covered = [(piece.place, piece.end) for piece in pieces]
        used = []
        for each, mark in zip(asked, prompt.marks, strict=True):
            is_covered = mark is not None and any(begin < mark <= end for begin, end in covered)
            used.append(self._used(each, is_covered, COMPOSED))
        return state, used

    def _used(self, each: Asked, is_injected: bool, how: str) -> UsedMemory:
        reason = how if is_injected else each.reason
        if not is_injected and not reason:
            reason = _NOT_FIRST
        self.costs.decided(reason)
        if is_injected and each.cache is not None:
            self.uses[each.cache.id] += 1
        return UsedMemory(
            id=each.cube.id, version=each.cube.version, asked_id=each.asked_id,
            form="activation" if is_injected else "plaintext", reason=reason,
        )  # fmt: skip

    def _owner(self, asked: Sequence[Asked]) -> str:
        """Whose prompts share cached beginnings: those of one view, with memories of the same users."""
        users = sorted({each.cube.scope.user_id or "" for each in asked})
        return canonical_json([self._store.tenant, repr(self._bound), *users])

    def _check(self, each: Asked) -> None:
        from memos_agents.memories import activation

        assert each.cache is not None
        assert isinstance(each.cache.payload, ArtefactPayload)
        why_not = activation.check(each.cache.payload.manifest, self.local.fingerprint)
        each.reason = why_not or ("" if each.is_named else each.reason)
        if why_not is not None:
            each.cache = None

    def _load(self, each: Asked, model: str, owner: str, epoch: int) -> Held | None:
        """The keys and values of a cache, from memory or from where it is kept; None if reading it does not pay."""
        from memos_agents.memories import activation
        from memos_agents.models.room import with_room

        cache = each.cache
        assert cache is not None
        assert isinstance(cache.payload, ArtefactPayload)
        told, key = cache.payload.manifest, f"{model}:{precision_of(cache)}"
        ends = tuple(cast("Sequence[int]", told.get("ends") or ()))
        held = self.cache.get(key, owner, str(told.get("ids_sha256")), ends)
        if held is not None:
            return held
        ref = cache.payload.blobs.get(activation.FILE)
        if ref is None:
            raise IncompatibleModel("this cache has no file", field="file")
        blobs = self._store.vault.blobs
        started = time.perf_counter()
        try:
            is_near = isinstance(blobs, SupportsFiles) and blobs.is_near(ref.sha256)
            tier: Tier = "file" if is_near else "store"
            why_not = self.costs.why_not(tier, ref.size_bytes, cast("int", told.get("tokens") or 0))
            if why_not is not None and not each.is_named:
                each.reason = why_not
                return None
            data = checked_file(blobs, ref.sha256) or blobs.get(ref.sha256)
            held = with_room(activation.decode(data, told, self.local.model.dtype))
        except (IntegrityError, NotFound) as error:
            raise IncompatibleModel(
                "the stored cache is damaged or gone; migrate the memory again", field="file"
            ) from error
        self.costs.loaded(tier, ref.size_bytes, time.perf_counter() - started)
        self.cache.put(key, owner, held, epoch)
        return held


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _bytes_a_token(held: Held | None, size_of: Callable[[Held], int]) -> float:
    """0 if nothing says it yet."""
    return 0 if held is None else size_of(held) / len(held.ids)
