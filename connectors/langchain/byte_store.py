"""MemOSByteStore: LangChain's key-value store of bytes, as `CacheBackedEmbeddings` and document caches take it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import cast

from langchain_core.stores import BaseStore

from memos_agents.connectors.langchain.documents import owner_of
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import InvalidRequest
from memos_agents.interface.keyed import Keyed, Place, find_keyed, write_keyed
from memos_agents.interface.recall import AnyMemOS, on_thread, view_of

AGENT = "langchain.MemOSByteStore"
_READ_AT_ONCE = 200


class MemOSByteStore(BaseStore[str, bytes]):
    """Bytes by key, in a collection of their own: versioned, exported and erased like every memory, never searched.

    For values of up to some megabytes: they are kept in the cube itself. `mset` and `mdelete` are one commit each.
    """

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        collection: str = "bytes",
    ) -> None:
        self._views = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
        self._owner = owner_of(self._views.sync)
        self._collection = check_name(collection, what="collection")

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of `keys`, None where there is none."""
        places = [self._place(key) for key in keys]
        found = find_keyed(self._views.sync, places)
        return [_bytes_of(found[place].metadata) if place in found else None for place in places]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Write all pairs, or none."""
        writes = []
        for key, value in key_value_pairs:
            if not isinstance(value, bytes | bytearray):
                raise InvalidRequest(f"the value of {key!r} is {type(value).__name__}; a byte store keeps bytes")
            place = self._place(key)
            writes.append(
                Keyed(
                    scope=self._owner,
                    descriptive=Descriptive(
                        semantic_type="bytes", origin="langchain", collection=self._collection, key=place.key
                    ),
                    text="",
                    metadata={"key": key, "bytes": base64.b64encode(value).decode()},
                    embedded=False,
                )
            )
        if writes:
            write_keyed(self._views.sync, writes, agent=AGENT)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Erase these keys; those that are not there are passed over."""
        if keys:
            write_keyed(self._views.sync, [], erasures=[self._place(key) for key in keys], agent=AGENT)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """The keys, oldest first."""
        cursor: str | None = None
        while True:
            keys, cursor = self._page(prefix, cursor)
            yield from keys
            if cursor is None:
                return

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """As `mget`."""
        return await on_thread(self._views.aio, self.mget, keys)

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """As `mset`."""
        await on_thread(self._views.aio, self.mset, key_value_pairs)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """As `mdelete`."""
        await on_thread(self._views.aio, self.mdelete, keys)

    async def ayield_keys(  # pyright: ignore[reportIncompatibleMethodOverride]  # upstream's is a generator too
        self, *, prefix: str | None = None
    ) -> AsyncIterator[str]:
        """As `yield_keys`."""
        cursor: str | None = None
        while True:
            keys, cursor = await on_thread(self._views.aio, self._page, prefix, cursor)
            for key in keys:
                yield key
            if cursor is None:
                return

    def _page(self, prefix: str | None, cursor: str | None) -> tuple[list[str], str | None]:
        page = self._views.sync.list(collection=self._collection, limit=_READ_AT_ONCE, cursor=cursor)
        keys = [cast(str, cube.metadata["key"]) for cube in page if cube.scope == self._owner]
        return [key for key in keys if prefix is None or key.startswith(prefix)], page.cursor

    def _place(self, key: str) -> Place:
        if not isinstance(key, str):
            raise InvalidRequest(f"a key must be a str, not {type(key).__name__}")
        try:
            name = check_name(key, what="key")
        except InvalidRequest:  # too long, empty or with invisible characters: the cube's metadata keeps it as it is
            name = f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
        return Place(self._owner, self._collection, name)


def _bytes_of(metadata: object) -> bytes:
    return base64.b64decode(cast("dict[str, str]", metadata)["bytes"], validate=True)
