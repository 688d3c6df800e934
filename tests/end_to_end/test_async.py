"""`AsyncMemOS`: the same calls as `MemOS`, and a loop that is never blocked."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memos_agents import AsyncMemOS, AsyncScopedMemOS, BackendUnavailable, InvalidRequest, MemOS, NotFound, Scope
from memos_agents.interface.views import Front, ScopedMemOS
from memos_agents.testing import HashEmbedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOT_MIRRORED = {"open", "close", "scoped", "vault", "embedder", "tenant"}  # looked at one by one below


class SlowEmbedder(HashEmbedder):
    """Takes its time, and says so, like a model does."""

    def __init__(self, seconds: float) -> None:
        super().__init__(dimension=64)
        self.seconds = seconds
        self.running = self.most = 0
        self._count = threading.Lock()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._count:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        with self._count:
            self.running -= 1
        return super().embed(texts)


def memory() -> MemOS:
    return MemOS.open(":memory:", embedder=HashEmbedder(dimension=64))


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "mirror"), [(MemOS, AsyncMemOS), (ScopedMemOS, AsyncScopedMemOS)])
def test_every_call_has_a_mirror_with_the_same_signature(sync: type, mirror: type) -> None:
    assert public(sync) - {"cache_dir"} <= public(mirror)
    assert public(mirror) - public(sync) == {"sync"}
    for name in public(sync) - NOT_MIRRORED:
        here, there = getattr(mirror, name), getattr(sync, name)
        if not callable(there):
            continue
        assert inspect.iscoroutinefunction(here), name
        assert inspect.signature(here) == inspect.signature(there), name
        assert here.__doc__ == there.__doc__
    assert inspect.signature(mirror.scoped).parameters == inspect.signature(sync.scoped).parameters  # type: ignore[attr-defined]


def test_open_takes_the_same_arguments() -> None:
    assert inspect.signature(AsyncMemOS.open).parameters == inspect.signature(MemOS.open).parameters


def test_a_store_is_opened_with_async_with_and_by_awaiting(tmp_path: Path) -> None:
    async def go() -> None:
        path = tmp_path / "memos.db"
        async with AsyncMemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
            cube = (await memos.add("I moved to Lisbon.", user_id="mara"))[0]
            assert (await memos.update(cube.id, "I moved to Porto.", expected_version=1)).version == 2
        with pytest.raises(BackendUnavailable, match="closed"):
            await memos.get(cube.id)
        with pytest.raises(BackendUnavailable, match="closed"):
            memos.sync.get(cube.id)
        await memos.close()
        again = await AsyncMemOS.open(path, embedder=HashEmbedder(dimension=64))
        assert (await again.search("Porto", user_id="mara"))[0].cube.text == "I moved to Porto."
        await again.close()
        with pytest.raises(InvalidRequest):
            await AsyncMemOS.open("redis://x", embedder=HashEmbedder(dimension=64))

    asyncio.run(go())


def test_a_wrapped_store_stays_its_owners() -> None:
    async def go(memos: MemOS) -> None:
        wrapped = AsyncMemOS(memos)
        assert wrapped.sync is memos
        assert wrapped.vault is memos.vault
        async with wrapped:
            await wrapped.add("alpacas graze", user_id="mara")
        assert memos.search("alpacas", user_id="mara")

    with memory() as memos:
        asyncio.run(go(memos))


def test_a_view_carries_its_scope() -> None:
    async def go(memos: MemOS) -> None:
        async with AsyncMemOS(memos) as wrapped:
            view = wrapped.scoped(user_id="mara")
            assert view.scope == Scope(user_id="mara")
            mine = (await view.add("alpacas graze"))[0]
            theirs = (await wrapped.add("llamas graze", user_id="tom"))[0]
            assert [hit.cube.id for hit in await view.search("graze")] == [mine.id]
            with pytest.raises(NotFound):
                await view.get(theirs.id)
            assert isinstance(view.sync, Front)
            narrower = view.scoped(session_id="s1")
            assert await narrower.list() == []
            with pytest.raises(InvalidRequest):
                view.scoped(user_id="tom")

    with memory() as memos:
        asyncio.run(go(memos))


def test_the_loop_goes_on_while_calls_run_beside_each_other() -> None:
    embedder = SlowEmbedder(seconds=0.2)

    async def go(memos: MemOS) -> tuple[float, float]:
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.005)
                longest = max(longest, time.perf_counter() - before)

        async with AsyncMemOS(memos) as wrapped:
            await wrapped.list(user_id="mara")  # imports and threads are there
            watching = asyncio.create_task(watch())
            start = time.perf_counter()
            await asyncio.gather(*(wrapped.add(f"fact {number}", user_id="mara") for number in range(8)))
            spent = time.perf_counter() - start
            watching.cancel()
        return longest, spent

    with MemOS.open(":memory:", embedder=embedder) as memos:
        longest, spent = asyncio.run(go(memos))
        assert memos.stats(user_id="mara").cubes == 8
    assert longest < 0.15, "the loop stood still while an embedder worked"
    assert embedder.most > 1
    assert spent < 8 * 0.2, "calls waited for each other"


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        async with AsyncMemOS.open(tmp_path / "memos.db", embedder=HashEmbedder(dimension=64)) as memos:
            batches = await asyncio.gather(
                *(memos.add([f"fact {number} a", f"fact {number} b"], user_id="mara") for number in range(40))
            )
            assert (await memos.stats(user_id="mara")).cubes == 80
            assert len({cube.id for batch in batches for cube in batch}) == 80
            report = await memos.verify()
            assert report.ok, report.problems

    asyncio.run(go())


def test_errors_arrive_as_they_are() -> None:
    async def go(memos: MemOS) -> None:
        async with AsyncMemOS(memos) as wrapped:
            with pytest.raises(InvalidRequest):
                await wrapped.add("", user_id="mara")
            with pytest.raises(TypeError):
                await wrapped.add("x", user="mara")  # type: ignore[call-arg]

    with memory() as memos:
        asyncio.run(go(memos))


def test_a_store_that_was_not_awaited_says_what_to_write() -> None:
    with pytest.raises(AttributeError, match="async with"):
        AsyncMemOS.open(":memory:").add  # noqa: B018  # what people write first
