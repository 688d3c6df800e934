"""Shelf: what a vector store keeps and finds, synchronous and free of LangChain's many spellings of one search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from memos_agents.connectors.langchain.documents import owner_of, plain_document
from memos_agents.cube.canonical import JSON, checked_mapping
from memos_agents.cube.memcube import MemCube, is_current
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.scope import check_name
from memos_agents.errors import InvalidRequest
from memos_agents.interface.adding import COMMITTED_AT_ONCE
from memos_agents.interface.keyed import Keyed, Place, find_keyed, write_keyed
from memos_agents.interface.nearest import Near, nearest, open_space
from memos_agents.interface.views import ScopedMemOS
from memos_agents.models.adapters import as_embedder
from memos_agents.models.pooling import unit_rows
from memos_agents.operation.filters import compile_filter

AGENT = "langchain.MemOSVectorStore"
Filter: TypeAlias = "Mapping[str, Any] | Callable[[Document], bool] | None"
"""A condition on metadata as in `MemOS.search`, or, as in upstream's in-memory store, a function of the document."""


class NewDocument(NamedTuple):
    """One checked document to write."""

    id: str
    text: str
    metadata: dict[str, JSON]


class Space(NamedTuple):
    """A vector space, and whether it is the MemOS's own, which needs no vectors from us."""

    name: str
    dimension: int
    is_own: bool


class Shelf:
    """The documents of one scope and collection, and the vector space of one model."""

    def __init__(self, view: ScopedMemOS, embedding: Embeddings, collection: str) -> None:
        self.view = view
        self.owner = owner_of(view)
        self._embedding = embedding
        self._collection = check_name(collection, what="collection")
        self._space: Space | None = None

    def space(self) -> Space:
        """The space of the embedding; the first call embeds four probe texts to tell models apart, and may open it."""
        if self._space is None:
            mine = self.view.embedder
            model = as_embedder(getattr(self._embedding, "embedder", None) or self._embedding)
            is_own = mine is not None and mine.fingerprint == model.fingerprint
            name = model.fingerprint if is_own else open_space(self.view, model)
            self._space = Space(name, model.dimension, is_own)
        return self._space

    def write(self, items: Sequence[NewDocument], rows: Sequence[Sequence[float]] | None) -> None:
        """Write the documents, 500 in one commit, with the vectors `rows` of a model that is not the MemOS's own."""
        space = self.space()
        vectors = None
        if rows is not None:
            vectors = unit_rows(rows, rows=len(items), dimension=space.dimension, origin=type(self._embedding).__name__)
        for start in range(0, len(items), COMMITTED_AT_ONCE):
            writes = [
                Keyed(
                    scope=self.owner,
                    descriptive=Descriptive(
                        semantic_type="document", origin="langchain", collection=self._collection, key=item.id
                    ),
                    text=item.text,
                    metadata=item.metadata,
                    vectors={} if vectors is None else {space.name: vectors[start + offset]},
                )
                for offset, item in enumerate(items[start : start + COMMITTED_AT_ONCE])
            ]
            write_keyed(self.view, writes, agent=AGENT)

    def near(self, vector: Sequence[float], k: int, filter: Filter) -> list[Near]:
        """The nearest documents that `filter` accepts."""
        import numpy as np

        accepts: Callable[[MemCube], bool] | None = None
        if callable(filter):
            judge = filter
            accepts = lambda cube: bool(judge(plain_document(cube, self.owner)))  # noqa: E731
        elif filter is not None:
            holds = compile_filter(cast("Mapping[str, JSON]", filter))
            accepts = lambda cube: holds(cube.metadata)  # noqa: E731
        query = np.asarray(vector, dtype=np.float32)
        space = self.space().name
        return nearest(self.view, query, space=space, limit=k, collection=self._collection, accepts=accepts)

    def found(self, ids: Sequence[str]) -> dict[str, MemCube]:
        """What these ids name: keys of this scope, or cubes of it that came by another way."""
        if isinstance(ids, str) or not all(isinstance(key, str) for key in ids):
            raise InvalidRequest("ids must be a list of str")
        places = {key: Place(self.owner, self._collection, key) for key in dict.fromkeys(ids)}
        by_place = find_keyed(self.view, places.values())
        found = {key: by_place[place] for key, place in places.items() if place in by_place}
        others = [key for key in places if key not in found]
        if others:
            store = self.view._store
            heads = store.vault.get(others, self.view.scope)
            now = store.now()
            found.update((key, head) for key, head in heads.items() if is_current(head, now) and self._holds(head))
        return found

    def erase(self, ids: Sequence[str]) -> None:
        """Erase what these ids name, in one commit; those that are not there are passed over."""
        cubes = list(self.found(ids).values())
        if cubes:
            self.view.erase(list({cube.id: cube for cube in cubes}), agent=AGENT)

    def _holds(self, cube: MemCube) -> bool:
        return cube.descriptive.collection == self._collection


def checked_documents(documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[NewDocument]:
    """What to write, with an id for each; `InvalidRequest` names what cannot be kept."""
    documents = list(documents)
    if ids is not None and len(ids) != len(documents):
        raise InvalidRequest(f"ids must be as many as documents: {len(ids)} ids, {len(documents)} documents")
    chosen = ids if ids is not None else [document.id for document in documents]
    return [
        NewDocument(
            id=check_name(str(uuid4()) if key is None else key, what="a document's id"),
            text=document.page_content,
            metadata=checked_mapping(document.metadata, what=f"the metadata of document {number}"),
        )
        for number, (document, key) in enumerate(zip(documents, chosen, strict=True))
    ]


def documents_of(texts: Iterable[str], metadatas: Sequence[dict[str, Any]] | None) -> list[Document]:
    """Texts and metadata as documents."""
    listed = list(texts)
    if metadatas and len(metadatas) != len(listed):
        raise InvalidRequest(f"metadatas must be as many as texts: {len(metadatas)} metadatas, {len(listed)} texts")
    return [
        Document(page_content=text, metadata=metadata or {})
        for text, metadata in zip(listed, metadatas or repeat({}), strict=bool(metadatas))
    ]
