"""Two processes' worth of vaults on one file: what each of them keeps in memory is what the file says."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from memos_agents import MemoryState, MemOS, MemOSError, Scope
from memos_agents.infrastructure.vault.base import ViewQuery
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing import FixedClock, HashEmbedder
from memos_agents.testing.vault_machine import columns

EMBEDDER = HashEmbedder(16)
SCOPES = (Scope.everything(), Scope(user_id="mara"), Scope(user_id="mara", session_id="s1"), Scope(session_id="s0"))
STATES = (frozenset({MemoryState.ACTIVATED}), frozenset({MemoryState.ARCHIVED}))


def step(memos: MemOS, chance: random.Random, known: list[str], number: int) -> None:
    """One random change; those that the life cycle does not allow are as good as none."""
    owner = {"user_id": chance.choice(["mara", "noah"]), "session_id": f"s{chance.randrange(3)}"}
    text = " ".join(chance.choices("one two three deriv Mara moved end".split(), k=4)) + f" {number}"
    pick = chance.choice(known) if known else None
    kind = chance.choice("add add key update archive activate freeze derive undo erase vectors".split())
    try:
        if kind == "add" or pick is None:
            known.append(memos.add(text, name=chance.choice(["Ana", None]), metadata={"n": number}, **owner)[0].id)
        elif kind == "key":
            collection = chance.choice(["memories", "notes"])
            known.append(memos.add(text, key=f"k{chance.randrange(3)}", collection=collection, **owner)[0].id)
        elif kind == "update":
            memos.update(pick, text)
        elif kind == "derive":
            source = memos.get(pick)
            known.append(memos.add(text, derived_from=source, user_id=source.scope.user_id)[0].id)
        elif kind == "undo":
            memos.undo(chance.choice(memos.log(scope=Scope.everything(), limit=6)).activity_id)
        elif kind == "erase":
            memos.erase(pick, scrub=False)
        elif kind == "vectors":
            vector = np.ones(16, np.float32) / np.float32(4)
            memos.vault.add_vectors(EMBEDDER.fingerprint, {memos.get(pick).ref: vector})  # type: ignore[attr-defined]
        else:
            getattr(memos, kind)(pick)
    except MemOSError:
        pass


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_cached_view_is_what_a_newcomer_reads_from_the_file(tmp_path: Path, seed: int) -> None:
    path, chance, clock, known = tmp_path / "memos.db", random.Random(seed), FixedClock(), []
    with (
        MemOS.open(path, embedder=EMBEDDER, clock=clock, durability="relaxed") as first,
        MemOS.open(path, embedder=EMBEDDER, clock=clock, durability="relaxed") as second,
    ):
        for number in range(120):
            step(chance.choice([first, second]), chance, known, number)
            if number % 3:  # let several changes of both gather before somebody looks
                continue
            newcomer = SqliteVault(path, readonly=True)
            for scope in SCOPES:
                for states in STATES:
                    query = ViewQuery(scope=scope, now=clock(), space=EMBEDDER.fingerprint, states=states)
                    read = columns(newcomer.search_view(query))
                    for memos in (first, second):
                        assert columns(memos.vault.search_view(query)) == read, (number, scope)  # type: ignore[attr-defined]
            newcomer.close()
        assert first.verify().ok
        assert second.stats(scope=Scope.everything()).cubes > 10
