"""Documents: cubes as LangChain documents, with what a reader must know to judge them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from langchain_core.documents import Document

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.moment import iso
from memos_agents.cube.scope import Scope
from memos_agents.interface.nearest import scope_of
from memos_agents.interface.quoting import quote, source_of
from memos_agents.interface.recall import AnySync
from memos_agents.interface.results import Hit

ABOUT = "memos"
"""The metadata key under which a recalled document says where it comes from."""


def plain_document(cube: MemCube, owner: Scope) -> Document:
    """The document as it was added: its own text and metadata, and the id under which `owner` finds it."""
    return Document(id=document_id(cube, owner), page_content=cube.text, metadata=deepcopy(dict(cube.metadata)))


def told_document(found: Hit | MemCube, *, quoted: bool) -> Document:
    """A recalled memory: its text, or its quotation for a prompt, and its id, version, time, source and score."""
    cube = found.cube if isinstance(found, Hit) else found
    about: dict[str, Any] = {
        "id": cube.id,
        "version": cube.version,
        "time": iso(cube.happened_at),
        "source": source_of(cube),
        "user_id": cube.scope.user_id,
        "session_id": cube.scope.session_id,
    }
    if isinstance(found, Hit):
        about["score"] = found.score
        about["why"] = str(found.why)
    own = {key: deepcopy(value) for key, value in cube.metadata.items() if not key.startswith("_")}
    metadata = {**own, ABOUT: about}  # what begins with "_" is a front's own bookkeeping
    return Document(id=cube.id, page_content=quote(cube) if quoted else cube.text, metadata=metadata)


def document_id(cube: MemCube, owner: Scope) -> str:
    """Its key where `owner` can look that up, else the cube's own id."""
    key = cube.descriptive.key
    return key if key is not None and cube.scope == owner else cube.id


def owner_of(front: AnySync) -> Scope:
    """The scope that what is added through this front belongs to: a view's, or nobody's for the whole tenant."""
    scope = scope_of(front)
    return Scope(tenant=scope.tenant) if scope.is_everything else scope
