"""The work that `connectors.py` times for LangChain: how often a retriever finds the answer, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from memos_agents import MemOS
from memos_agents.connectors.langchain import MemOSEmbeddings, MemOSRetriever, MemOSVectorStore
from memos_agents.testing.retrieval_data import Case, read_cases

DEPTH = 10
Retrieve: TypeAlias = Callable[[str], Sequence[Document]]


@dataclass(slots=True)
class Found:
    """Over all questions: any gold turn in the first 5, all in the first 10, milliseconds of CPU for one question."""

    questions: int = 0
    any_5: int = 0
    all_10: int = 0
    cpu_ms: float = 0.0
    add_ms: float = 0.0


class Remembered(Embeddings):
    """One model for all, which embeds each text once: what is compared is the store, not the model."""

    def __init__(self) -> None:
        self._model = MemOSEmbeddings()
        self.embedder = self._model.embedder
        self._rows: dict[str, list[float]] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        new = list(dict.fromkeys(text for text in texts if text not in self._rows))
        if new:
            self._rows.update(zip(new, self._model.embed_documents(new), strict=True))
        return [self._rows[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def measure(path: Path, folder: Path, *, conversations: int | None, questions: int | None) -> dict[str, Found]:
    """Ask every question of the conversations in `path` (LoCoMo as published) of each retriever."""
    model, results = Remembered(), dict[str, Found]()
    for case in read_cases(path)[:conversations]:
        with (
            TemporaryDirectory(dir=folder) as place,
            MemOS.open(Path(place) / "memos.db", clock=partial(getattr, case, "now")) as memos,
        ):
            for name, retrieve, seconds in _retrievers(case, memos, model):
                found = results.setdefault(name, Found())
                found.add_ms += 1e3 * seconds
                for question in case.questions[:questions]:
                    model.embed_query(question.text)
                    begun = time.process_time()
                    documents = retrieve(question.text)
                    found.cpu_ms += 1e3 * (time.process_time() - begun)
                    sources = [str(document.metadata["source"]) for document in documents]
                    found.questions += 1
                    found.any_5 += not question.gold.isdisjoint(sources[:5])
                    found.all_10 += question.gold <= set(sources[:DEPTH])
    return results


def _retrievers(case: Case, memos: MemOS, model: Remembered) -> list[tuple[str, Retrieve, float]]:
    """Each retriever with the case in it, and the CPU seconds that took."""
    documents = [
        Document(page_content=f"{turn['name']}: {turn['content']}", metadata=dict(turn["metadata"]))  # type: ignore[call-overload]
        for turns in case.sessions.values()
        for turn in turns
    ]
    made: list[tuple[str, Retrieve, float]] = []
    begun = time.process_time()
    upstream = InMemoryVectorStore(model)
    upstream.add_documents(documents)
    made.append(("InMemoryVectorStore", partial(upstream.similarity_search, k=DEPTH), time.process_time() - begun))
    if find_spec("langchain_chroma"):
        from langchain_chroma import Chroma  # type: ignore[import-not-found,unused-ignore]

        begun = time.process_time()
        chroma = Chroma(case.name, model, collection_metadata={"hnsw:space": "cosine"})  # in memory
        chroma.add_documents(documents)
        made.append(("Chroma", partial(chroma.similarity_search, k=DEPTH), time.process_time() - begun))
    begun = time.process_time()
    ours = MemOSVectorStore(memos, model, user_id=case.name, collection="vectors")
    ours.add_documents(documents)
    made.append(("MemOSVectorStore", partial(ours.similarity_search, k=DEPTH), time.process_time() - begun))
    begun = time.process_time()
    for session, turns in case.sessions.items():
        memos.add(list(turns), user_id=case.name, session_id=session)
    retriever = MemOSRetriever(memos=memos, user_id=case.name, k=DEPTH)
    made.append(("MemOSRetriever", retriever.invoke, time.process_time() - begun))
    return made
