"""AsyncMemOS: `MemOS` for an event loop, method by method.

Logic is written once, in `MemOS`; here each call runs on a thread of the front's own bounded pool, so the loop is never
blocked and no other library's threads are taken. Rejected: a second, asynchronous implementation, and `asyncio`'s
default executor, which name look-ups and file reads of the whole program share.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, Self, TypeVar

from memos_agents.cube.scope import Scope
from memos_agents.errors import BackendUnavailable
from memos_agents.infrastructure.vault.base import MemVault
from memos_agents.interface.api import MemOS
from memos_agents.interface.views import Front, ScopedMemOS
from memos_agents.models.base import Embedder

F = TypeVar("F", bound=Front)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MAX_THREADS = 16
"""Calls of one `AsyncMemOS` that run at once; more wait. Concurrent writers share the vault's fsyncs."""


class _Threads:
    """A bounded pool for the calls of one store."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=MAX_THREADS, thread_name_prefix="memos")

    async def run(self, call: Callable[[], R]) -> R:
        context = contextvars.copy_context()
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, context.run, call)
        except RuntimeError as error:  # the pool was shut down
            raise BackendUnavailable("this store is closed; open it again with AsyncMemOS.open(...)") from error
        return await future

    def finish(self) -> None:
        """Take no more calls, and wait for those that run."""
        self._pool.shutdown(wait=True)


def _mirrored(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[AsyncFront[Any], P], Coroutine[object, None, R]]:
    """The same call, run on a thread of the front's pool: same name, arguments, words and errors."""

    @functools.wraps(method)
    async def call(self: AsyncFront[Any], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._threads.run(functools.partial(method, self._sync, *args, **kwargs))

    return call


class Pieces(AsyncIterator[T]):
    """What a stream yields, each taken on a thread of the front's pool; `aclose` abandons the rest."""

    def __init__(self, pieces: Iterator[T], threads: _Threads) -> None:
        self._pieces, self._threads = pieces, threads

    async def __anext__(self) -> T:
        found = await self._threads.run(lambda: next(self._pieces, _END))
        if isinstance(found, _End):
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """End the stream where it is."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            await self._threads.run(close)


class _End:
    """Behind the last piece."""


_END = _End()


def _streaming(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[AsyncFront[Any], P], Coroutine[object, None, Any]]:
    """As `_mirrored`; an iterator that the call returns becomes an asynchronous one, for `async for`."""
    mirrored = _mirrored(method)

    @functools.wraps(method)
    async def call(self: AsyncFront[Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        result = await mirrored(self, *args, **kwargs)
        return Pieces(result, self._threads) if isinstance(result, Iterator) else result

    return call


class Opening:
    """A store that is about to be opened: `await` it, or enter it with `async with`, which also closes it."""

    def __init__(self, call: Callable[[], MemOS]) -> None:
        self._call = call
        self._opened: AsyncMemOS | None = None

    def __await__(self) -> Generator[Any, None, AsyncMemOS]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncMemOS:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"the store is not open yet, so it has no {name!r}: write `async with AsyncMemOS.open(...) as memos:` or "
            "`memos = await AsyncMemOS.open(...)`"
        )

    async def _open(self) -> AsyncMemOS:
        memos = AsyncMemOS(await asyncio.to_thread(self._call))
        memos._owns_sync = True
        return memos


def _opened(method: Callable[P, MemOS]) -> Callable[P, Opening]:
    """The same call, as something to wait for."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Opening:
        return Opening(functools.partial(method, *args, **kwargs))

    return call


class AsyncFront(Generic[F]):
    """What both `AsyncMemOS` and a view of it can do. See `MemOS` for what each call means.

    A call that is cancelled stops being waited for; what its thread has begun it finishes, all or nothing. `progress`
    callbacks are called on that thread.
    """

    def __init__(self, sync: F, threads: _Threads) -> None:
        self._sync = sync
        self._threads = threads

    @property
    def sync(self) -> F:
        """The synchronous front of the same store."""
        return self._sync

    @property
    def embedder(self) -> Embedder | None:
        """What turns texts into vectors."""
        return self._sync.embedder

    @property
    def tenant(self) -> str:
        """The tenant that the store was opened for."""
        return self._sync.tenant

    def scoped(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> AsyncScopedMemOS:
        """A view that carries the scope in every call; made at once, without waiting."""
        view = self._sync.scoped(user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
        return AsyncScopedMemOS(view, self._threads)

    add = _mirrored(Front.add)
    search = _mirrored(Front.search)
    list = _mirrored(Front.list)
    get = _mirrored(Front.get)
    history = _mirrored(Front.history)
    relations = _mirrored(Front.relations)
    provenance = _mirrored(Front.provenance)
    log = _mirrored(Front.log)
    stats = _mirrored(Front.stats)
    export = _mirrored(Front.export)
    update = _mirrored(Front.update)
    rollback = _mirrored(Front.rollback)
    relate = _mirrored(Front.relate)
    unrelate = _mirrored(Front.unrelate)
    archive = _mirrored(Front.archive)
    activate = _mirrored(Front.activate)
    freeze = _mirrored(Front.freeze)
    unfreeze = _mirrored(Front.unfreeze)
    erase = _mirrored(Front.erase)
    undo = _mirrored(Front.undo)
    model = _mirrored(Front.model)
    prompt = _mirrored(Front.prompt)
    migrate = _mirrored(Front.migrate)
    chat = _streaming(Front.chat)


class AsyncScopedMemOS(AsyncFront[ScopedMemOS]):
    """A store as one user, agent or session may see it; from `AsyncMemOS.scoped`."""

    def __repr__(self) -> str:
        return f"Async{self._sync!r}"

    @property
    def scope(self) -> Scope:
        """What every call is bound to."""
        return self._sync.scope


class AsyncMemOS(AsyncFront[MemOS]):
    """An open store for an event loop. `AsyncMemOS(memos)` wraps one that stays yours to close; `sync` gives it back.

    async with AsyncMemOS.open("memos.db") as memos:      # or: memos = await AsyncMemOS.open("memos.db")
        await memos.add("I moved to Lisbon in May.", user_id="mara")
        hits = await memos.search("Where does Mara live?", user_id="mara")
    """

    def __init__(self, memos: MemOS) -> None:
        super().__init__(memos, _Threads())
        self._owns_sync = False

    open = staticmethod(_opened(MemOS.open))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Async{repr(self._sync)[1:]}"

    @property
    def vault(self) -> MemVault:
        """The vault underneath, for receipts and checks; it answers for the whole tenant, so no view hands it out."""
        return self._sync.vault

    async def close(self) -> None:
        """Let running calls end, then close the store if `open` opened it; closing twice is fine."""
        await asyncio.to_thread(self._threads.finish)
        if self._owns_sync:
            await asyncio.to_thread(self._sync.close)

    load = _mirrored(MemOS.load)
    backup = _mirrored(MemOS.backup)
    copy_to = _mirrored(MemOS.copy_to)
    reembed = _mirrored(MemOS.reembed)
    verify = _mirrored(MemOS.verify)
    scrub = _mirrored(MemOS.scrub)
    snapshot = _mirrored(MemOS.snapshot)
    snapshots = _mirrored(MemOS.snapshots)
