"""Planning what a conversation leaves behind: the user's turn and the answer to it, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from memos_agents.cube.identity import IdSource
from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.provenance.values import Derivation
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.operation.organization import Addition, Embedded, NewMemory, plan_add
from memos_agents.operation.resemblance import Resemblance


def plan_turns(
    turns: Sequence[NewMemory],
    embedded: Embedded | None,
    addition: Addition,
    *,
    shown: Sequence[VersionRef],
    ids: IdSource,
    now: datetime,
) -> Commit:
    """Plan one new cube for each turn, in order; the assistant's are derived from the memories that it was `shown`.

    So an answer is stale when such a memory changes, and is erased with it: what was erased cannot come back out of
    the mouth of the model that once saw it. Nothing is linked to near duplicates: people and models repeat themselves.
    """
    commit = plan_add(turns, embedded, addition, searcher=None, resemblance=Resemblance(), ids=ids, now=now)
    answers = [write.cube for write in commit.writes if write.cube.descriptive.role == "assistant"]
    return replace(
        commit, derivations=tuple(Derivation(derived=cube.ref, source=ref) for cube in answers for ref in shown)
    )
