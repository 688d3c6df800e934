"""How a lineage is put into words, the same in every drawing."""

from __future__ import annotations

import unicodedata
from datetime import datetime

from memos_agents.cube.payload import MemoryType
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.parts import LABEL_LENGTH, EntityNode
from memos_agents.infrastructure.provenance.values import Activity, Source

_JOINERS = "\u200c\u200d"
"""Format characters that scripts and emoji need; the others hide text or turn its direction."""

STATUS_WORDS = {
    "erased": "content removed everywhere; only its hash is left",
    "stale": "something it was made from has changed since",
    "invalidated": "no longer believed",
    "superseded": "replaced by a newer version",
}


def clean(text: str, *, limit: int = LABEL_LENGTH) -> str:
    """One line of at most `limit` characters, without control, invisible and direction-changing ones."""
    shown = "".join(
        " " if character.isspace() else character
        for character in text[: 4 * limit]
        if character.isspace()
        or character in _JOINERS
        or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn")
    )
    line = " ".join(shown.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def title_of(node: EntityNode) -> str:
    """Its form and version, as 'Memory v2'."""
    form = "Memory" if node.memory_type is MemoryType.PLAINTEXT else f"{node.memory_type.value.capitalize()} memory"
    return f"{form} v{node.ref.version}"


def text_of(node: EntityNode) -> str:
    """What stands in its box; never the content of an erased one."""
    if node.state is MemoryState.ERASED:
        return "(erased)"
    return clean(node.label) or "(no text)"


def status_of(node: EntityNode) -> str:
    """The one thing that a reader must know before trusting it; empty for a current, activated version."""
    if node.state is MemoryState.ERASED:
        return "erased"
    if node.is_stale:
        return "stale"
    if node.invalidated_by is not None:
        return "invalidated"
    if node.superseded_at is not None:
        return "superseded"
    return "" if node.state is MemoryState.ACTIVATED else node.state.value


def deed_of(activity: Activity | None) -> str:
    """What made it and who did it: 'add by Mara'."""
    if activity is None:
        return ""
    return f"{clean(activity.kind)} by {clean(activity.agent.name or activity.agent.id)}"


def title_of_source(source: Source) -> str:
    """Its kind, as 'Source: file'."""
    return f"Source: {clean(source.kind) or 'unknown'}"


def moment(time: datetime | None) -> str:
    """A time to the minute, in UTC: '2026-05-01 12:00'."""
    return "" if time is None else time.isoformat(sep=" ")[:16]
