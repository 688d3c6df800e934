"""MemoryModel: a local model that the memories of one store can enter, as text or as keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from memos_agents.cube.scope import Scope
from memos_agents.errors import IntegrityError, InvalidRequest
from memos_agents.interface.asked import Asked, Memories, UsedMemory, precision_of, resolve
from memos_agents.interface.calibrating import Calibration, calibrated, strategy_of
from memos_agents.interface.injecting import Injector
from memos_agents.interface.quoting import framed, quote
from memos_agents.interface.results import ModelStats
from memos_agents.interface.store import Progress, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memos_agents.memories.costs import CostReport
    from memos_agents.memories.prefix_cache import CacheStats
    from memos_agents.models.generation import Timings
    from memos_agents.models.held import Prefilled
    from memos_agents.models.huggingface import LocalModel
    from memos_agents.models.prompts import Message, Prompt, Tool


@dataclass(slots=True, kw_only=True)
class Reply:
    """What a model answered. `timings` are in seconds, with the tokens that were reused and computed."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    timings: Timings | None = None
    memories: list[UsedMemory] = field(default_factory=list)


class MemoryModel:
    """A local model that the memories of one store can enter. From `memos.model(...)`."""

    def __init__(
        self,
        local: LocalModel,
        store: Store,
        bound: Scope | None,
        *,
        ram_bytes: int,
        stored_bytes: int | None = None,
        debug: bool = False,
    ) -> None:
        self.local = local
        self.stored_bytes = stored_bytes
        self.debug = debug
        """Compare every injection with running the text, and with no memory: see `memos.model`."""
        self.calibration: Calibration | None = None
        self.bound = bound
        """The scope of the view that it was opened through."""
        self._store = store
        self._injector = Injector(local, store, bound, ram_bytes)
        self._is_closed = False
        store.models.add(self)

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
        compose: bool = False,
        tools: Sequence[Tool] = (),
    ) -> NDArray[np.float32]:
        """The next token's, float32, shape (vocabulary,); equal to the last bit whatever form the memories have.

        Not so with `compose`, see `generate`.
        """
        epoch = self._injector.cache.epoch
        asked, _ = self._asked(memories)
        built = self.built(prompt, asked, tools)
        state, _ = self._run(prompt, built, asked, epoch, reuse=reuse, compose=compose, tools=tools)
        found: NDArray[np.float32] = state.logits.cpu().numpy()
        return found

    @overload
    def generate(
        self, prompt: str | Sequence[Message], *, memories: Memories = ..., max_new_tokens: int = ...,
        temperature: float = ..., top_p: float = ..., stop: Sequence[str] = ..., seed: int | None = ...,
        stream: Literal[False] = ..., reuse: bool = ..., compose: bool = ..., tools: Sequence[Tool] = ...,
    ) -> Reply: ...  # fmt: skip
    @overload
    def generate(
        self, prompt: str | Sequence[Message], *, memories: Memories = ..., max_new_tokens: int = ...,
        temperature: float = ..., top_p: float = ..., stop: Sequence[str] = ..., seed: int | None = ...,
        stream: Literal[True], reuse: bool = ..., compose: bool = ..., tools: Sequence[Tool] = ...,
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
        compose: bool = False,
        tools: Sequence[Tool] = (),
    ) -> Reply | Iterator[str | Reply]:
        """Answer, with `memories` (ids or cubes in any form) as quoted data before the caller's own system text.

        Greedy unless `temperature` is above 0, whatever the model's own configuration says. A cache among the memories
        is injected where it is exact: at the beginning of the block, in the order of ids. What cannot be injected is
        run as text, with the reason in `.memories`. `reuse` finds and keeps the beginnings of prompts in memory, those
        of earlier turns too, and takes stored caches where reading them is faster than running their text.
        `compose` (approximate, after `calibrate`) injects caches that stand elsewhere, too. `stream` yields pieces of
        text and last the `Reply`. `tools` (functions with their schemas, as OpenAI writes them) are shown by the
        model's template, and `InvalidRequest` if it has none; calls are part of the text, for the caller to read.
        Raises `NotFound` for a memory that is not there, `IncompatibleModel` for a cache of another model.
        """
        from memos_agents.models.generation import Sampling

        self._check_open()
        sampling = Sampling(
            max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, stop=tuple(stop), seed=seed
        )
        pieces = self._generate(prompt, memories, sampling, reuse=reuse, compose=compose, tools=tools)
        if stream:
            return pieces
        *_, reply = pieces
        return cast("Reply", reply)

    def calibrate(
        self,
        memories: Memories,
        questions: Sequence[str] = (),
        *,
        together: int = 5,
        kl_at_most: float = 0.05,
        same_at_least: float = 0.95,
        progress: Progress | None = None,
    ) -> Calibration:
        """Measure, on memories of your own, how far composed caches are from running the texts; see `calibrating`.

        `compose=True` then uses the cheapest way within the bounds, and stays refused if there is none. Costs several
        runs of each group of `together` memories for each question: minutes for twenty memories on a CPU.
        """
        asked, _ = self._asked(memories)
        self.calibration = calibrated(
            self.local, self.built, [each.cube for each in asked], questions, together=together, kl_at_most=kl_at_most,
            same_at_least=same_at_least, progress=progress,
        )  # fmt: skip
        return self.calibration

    def cache_stats(self) -> CacheStats:
        """What lies in memory."""
        return self._injector.cache.stats()

    def stats(self) -> ModelStats:
        """For `memos.stats()`."""
        return ModelStats(name=self.name, cache=self.cache_stats(), costs=self.costs())

    def costs(self) -> CostReport:
        """What was measured of running and reading, and how often what was decided."""
        return self._injector.costs.report()

    def uses_of(self, cache_id: str) -> int:
        """How often a stored cache was injected since the model was opened."""
        return self._injector.uses[cache_id]

    def forget(self) -> None:
        """Drop everything that is kept in memory; called when something was erased."""
        self._injector.cache.clear()

    def close(self) -> None:
        """Let go of the weights and caches; every later call raises `InvalidRequest`."""
        if not self._is_closed:
            self._is_closed = True
            self.forget()
            self._store.models.discard(self)
            self.local.close()

    def _generate(
        self,
        prompt: str | Sequence[Message],
        memories: Memories,
        sampling: Any,
        *,
        reuse: bool,
        compose: bool,
        tools: Sequence[Tool],
    ) -> Iterator[str | Reply]:
        from memos_agents.models.generation import Generated

        epoch = self._injector.cache.epoch
        asked, left_out = self._asked(memories)
        built = self.built(prompt, asked, tools)
        into, found = Generated(), list[UsedMemory]()

        def prefill() -> Prefilled:
            state, used = self._run(prompt, built, asked, epoch, reuse=reuse, compose=compose, tools=tools)
            found.extend(used)
            return state

        yield from self.local.generate(built, sampling, into, prefill)
        yield Reply(text=into.text, token_ids=into.token_ids, timings=into.timings, memories=[*found, *left_out])

    def _run(
        self,
        prompt: str | Sequence[Message],
        built: Prompt,
        asked: Sequence[Asked],
        epoch: int,
        *,
        reuse: bool,
        compose: bool,
        tools: Sequence[Tool],
    ) -> tuple[Prefilled, list[UsedMemory]]:
        strategy = strategy_of(self.calibration, self.local.fingerprint.key) if compose else None
        state, used = self._injector.run(built, asked, reuse=reuse, epoch=epoch, strategy=strategy)
        if self.debug and state.tokens_reused and strategy is None:
            self._check(state, built, self.built(prompt, [], tools), is_rough=any(map(_is_rough, asked)))
        return state, used

    def _check(self, state: Prefilled, built: Prompt, without: Prompt, *, is_rough: bool) -> None:
        """The negative control: what was injected must equal its text, and must matter."""
        injected, plain, nothing = (
            each.logits.cpu().numpy() for each in (state, self.local.prefill(built), self.local.prefill(without))
        )
        if not is_rough and (injected != plain).any():
            raise IntegrityError(
                f"injected keys and values gave other logits than the text (by {abs(injected - plain).max():.2g}); "
                "report this with the versions of torch and transformers"
            )
        if (injected == nothing).all():
            raise IntegrityError("injected keys and values gave the logits of no memory at all; report this")

    def _check_open(self) -> None:
        if self._is_closed:
            raise InvalidRequest("this model is closed; load it again with memos.model(...)")

    def _asked(self, memories: Memories) -> tuple[list[Asked], list[UsedMemory]]:
        self._check_open()
        return resolve(self._store, self.bound, memories)

    def built(self, prompt: str | Sequence[Message], asked: Sequence[Asked], tools: Sequence[Tool] = ()) -> Prompt:
        lines = [quote(each.cube) for each in asked]
        block = framed(lines)
        place = block.index(lines[0]) if lines else 0
        marks = [place] if lines else []
        for line in lines:
            place += len(line) + 1
            marks.append(place)
        return self.local.prompt(prompt, block=block, marks=marks, tools=tools)


def _is_rough(asked: Asked) -> bool:
    return asked.cache is not None and asked.is_named and precision_of(asked.cache) != "exact"
