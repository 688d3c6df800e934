"""What a SqliteVault tells of its changes: the present state of what commits touched, in batches that fit together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from memos_agents.errors import IntegrityError, VersionConflict
from memos_agents.infrastructure.vault.changes import Changes, Position
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.infrastructure.vault.records import DerivationLine, VectorLine, VersionLine
from memos_agents.infrastructure.vault.sqlite import SqliteVault, sweeping
from memos_agents.testing.vault_records_of_laws import tangle
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, NOAH, Scribe


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[SqliteVault]:
    vault = SqliteVault(tmp_path / "memos.db", durability="relaxed")
    vault.open_space("m", 2)
    yield vault
    vault.close()


BEGINNING = Position()


def told(vault: SqliteVault, after: Position = BEGINNING, limit: int = 100) -> list[Changes]:
    found: list[Changes] = []
    while (changes := vault.changes(found[-1].upto if found else after, limit)) is not None:
        assert len(found) < 200, "it never ends"
        found.append(changes)
    return found


def test_nothing_is_told_of_a_store_that_was_never_written_to(vault: SqliteVault) -> None:
    assert vault.changes(Position(), 10) is None


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_batches_follow_each_other_and_tell_each_thing_that_was_written_once(vault: SqliteVault, limit: int) -> None:
    tangle(Scribe(vault))
    batches = told(vault, limit=limit)
    for before, following in pairwise(batches):
        assert following.after == before.upto
    seqs = [entry.seq for batch in batches for entry in batch.entries]
    assert seqs == list(range(1, len(seqs) + 1))
    assert all(len(batch.entries) <= limit for batch in batches)
    records = list(vault.records(EVERYTHING))
    lines: dict[str, list[VersionLine | DerivationLine | VectorLine]] = {
        "version": [line for batch in batches for line in batch.versions],
        "derivation": [line for batch in batches for line in batch.derivations],
        "vector": [line for batch in batches for line in batch.vectors],
    }
    for kind, found in lines.items():
        expected = sorted(repr(record) for record in records if record["kind"] == kind)
        assert sorted(repr(line.to_record()) for line in found) == expected
    assert told(vault, batches[-1].upto) == []


def test_everything_that_a_batch_names_was_told_before_or_with_it(vault: SqliteVault) -> None:
    tangle(Scribe(vault))
    cubes: set[str] = set()
    versions: set[object] = set()
    activities: set[str] = set()
    for batch in told(vault, limit=1):
        activities |= {entry.line.activity.id for entry in batch.entries}
        activities |= {line.activity.id for line in batch.activities}
        cubes |= {line.id for line in batch.cubes}
        versions |= {line.ref for line in batch.versions}
        for line in batch.versions:
            assert line.ref.cube_id in cubes
            assert {line.activity_id, line.ended_by} - {None} <= activities
        for edge in batch.derivations:
            assert edge.derivation.derived in versions
            assert isinstance(edge.derivation.source, str) or edge.derivation.source in versions
        for relation in batch.relations:
            assert {relation.line.relation.source_id, relation.line.relation.target_id} <= cubes
            assert {relation.line.activity_id, relation.removed_by} - {None} <= activities
        assert {pair[0] for pair in batch.touched} <= activities
        assert {pair[1] for pair in batch.touched} <= cubes


def test_what_was_erased_is_never_told_and_what_it_staled_is(vault: SqliteVault) -> None:
    scribe = Scribe(vault)
    secret = scribe.add("a secret word")
    base = scribe.add("a base")
    made = scribe.add("made of the base", sources=[base.ref])
    far = scribe.add("made of that", sources=[made.ref])
    position = told(vault)[-1].upto
    scribe.erase(secret)
    scribe.revise(base, "another base")
    (batch,) = told(vault, position)
    assert "secret" not in repr(batch)
    assert "secret" not in repr(told(vault))
    stale = {flags.ref for flags in batch.flags if flags.is_stale}
    assert stale == {made.ref, far.ref}  # neither was touched
    assert {line.id for line in batch.cubes} == {secret.id, base.id}


def test_another_history_is_refused(vault: SqliteVault, tmp_path: Path) -> None:
    scribe = Scribe(vault)
    scribe.add("one")
    vault.backup(tmp_path / "backup.db")
    scribe.add("two")
    position = told(vault)[-1].upto
    assert Position.of_text(position.to_text()) == position
    backup = SqliteVault(tmp_path / "backup.db")
    with pytest.raises(VersionConflict, match="backup"):
        backup.changes(position, 1)
    Scribe(backup, seed=4, start=LATER).add("another second")
    with pytest.raises(VersionConflict, match="backup"):
        backup.changes(position, 1)
    backup.close()
    empty = SqliteVault(tmp_path / "empty.db")
    with pytest.raises(VersionConflict):
        empty.changes(position, 1)
    empty.close()
    for text in ("", "[]", '{"seq": 1, "unknown": 2}'):
        with pytest.raises(IntegrityError):
            Position.of_text(text)


def test_what_the_log_does_not_say_is_told_too(vault: SqliteVault, tmp_path: Path) -> None:
    scribe = Scribe(vault)
    cube = scribe.add("one")
    position = told(vault)[-1].upto
    vault.add_vectors("m", {cube.ref: np.ones(2, np.float32)})
    batches = told(vault, position)
    assert [line.ref for batch in batches for line in batch.vectors] == [cube.ref]
    position = batches[-1].upto
    vault.touch([cube.id], scribe.now)
    (used,) = told(vault, position)
    assert [(use.cube_id, use.count) for use in used.uses] == [(cube.id, 1)]
    vault.set_snapshot("here", scribe.now)
    (marked,) = told(vault, used.upto)
    assert [each.name for each in marked.snapshots] == ["here"]
    other = SqliteVault(tmp_path / "other.db")
    reader = Scribe(other, start=LATER)
    other.restore(vault.records(EVERYTHING), Commit(activity=reader.activity("load")))
    loaded = told(other)
    assert {line.activity.id for batch in loaded for line in batch.activities} >= set(_made(vault))
    assert [line.ref for batch in loaded for line in batch.versions] == [cube.ref]
    other.close()


def _made(vault: SqliteVault) -> Iterator[str]:
    for record in vault.records(EVERYTHING):
        if record["kind"] == "activity":
            yield str(record["id"])


def test_a_batch_is_small_and_one_commit_is_never_cut(vault: SqliteVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memos_agents.infrastructure.vault.sqlite.changes.MAX_TOUCHED", 5)
    monkeypatch.setattr(sweeping, "SWEPT_AT_ONCE", 3)
    scribe = Scribe(vault)
    for size in (2, 2, 9, 1, 4, 4):
        scribe.commit(writes=[scribe.cube(str(number), scope=NOAH) for number in range(size)])
    assert [len(batch.versions) for batch in told(vault)] == [4, 9, 5, 4]
    position = told(vault)[-1].upto
    vault.drop_space("m")
    assert [len(batch.swept) for batch in told(vault, position) if batch.swept] == [3] * 7 + [1]


def test_tenants_of_one_file_are_not_told_of_each_other(vault: SqliteVault) -> None:
    other = SqliteVault(vault.path, tenant="other")
    scribe, neighbour = Scribe(vault), Scribe(other, seed=3)
    for number in range(3):
        scribe.add(f"mine {number}")
        cube = neighbour.cube(f"theirs {number}", scope=NOAH.__class__(tenant="other", user_id="noah"))
        neighbour.commit(writes=[cube])
    assert "theirs" not in repr(told(vault, limit=1))
    assert "mine" not in repr(told(other, limit=1))
    with pytest.raises(VersionConflict):
        other.changes(told(vault)[-1].upto, 1)
    other.close()
