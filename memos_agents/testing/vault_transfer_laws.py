"""Laws of records: everything goes out, comes back equal elsewhere, and nothing is overwritten."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import (
    IncompatibleModel,
    IntegrityError,
    InvalidRequest,
    MemOSError,
    NotFound,
    VersionConflict,
)
from memos_agents.infrastructure.provenance.values import RelationKind, Source
from memos_agents.infrastructure.vault.base import LogQuery, Record, ViewQuery
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.infrastructure.vault.records import KINDS
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, MARA, NOAH, FullVault, Scribe, VaultLaws

Spoil = Callable[[Record], None]


def lines_of(vault: FullVault, scope: Scope = EVERYTHING) -> list[str]:
    """An export without the activities of loads, which the loading vault adds."""
    return [canonical_json(record) for record in vault.records(scope) if record.get("activity") != "load"]


def load(scribe: Scribe, records: Iterable[Record]) -> dict[str, int]:
    """Restore under an activity of the scribe's own."""
    return scribe.vault.restore(records, Commit(activity=scribe.activity("load")))


def story(scribe: Scribe) -> dict[str, MemCube]:
    """A bit of everything."""
    vault = scribe.vault
    vault.open_space("m", 2)
    vault.open_space("n", 3)
    letter = Source(id="letter", kind="file", locator="letter.txt", sha256="ab" * 32)
    unit = np.array([0.6, 0.8], np.float32)
    first = scribe.add(
        "Übergröße 👩‍🔬",
        sources=[letter],
        vectors={"m": unit},
        metadata={"n": 1.5, "deep": {"a": [None, True]}},
        descriptive=Descriptive(key="k", tags=("a",), occurred_at=LATER),
        governance=Governance(readers=("noah",), ttl_seconds=1e9),
    )
    derived = scribe.add("derived", sources=[first.ref], vectors={"m": unit, "n": np.ones(3, np.float32)})
    noahs = scribe.add("noah's", scope=Scope(user_id="noah", agent_id="a", session_id="s"), sources=[first.ref])
    scribe.relate(first, derived, weight=1)
    scribe.relate(first, derived, weight=2)
    scribe.relate(noahs, first, RelationKind.MENTIONS, private="x")
    first = scribe.revise(first, "changed")
    ended = scribe.add("concluded")
    scribe.invalidate(ended)
    frozen = scribe.add("frozen", state=MemoryState.GENERATED)
    scribe.step(frozen, frozen=True)
    erased = scribe.revise(scribe.add("erased", descriptive=Descriptive(key="gone")), "erased, too")
    scribe.relate(first, erased, why="y")
    scribe.erase(erased)
    vault.touch([first.id], scribe.now)
    cubes = {"first": first, "derived": derived, "noahs": noahs, "ended": ended, "frozen": frozen, "erased": erased}
    return {name: scribe.head(cube) for name, cube in cubes.items()}


def _of(kind: str, records: list[Record], **values: JSON) -> Record:
    return next(r for r in records if r["kind"] == kind and all(r[name] == value for name, value in values.items()))


def _set(kind: str, name: str, value: JSON) -> Callable[[list[Record]], None]:
    return lambda records: _of(kind, records).update({name: value})


def _drop(kind: str) -> Callable[[list[Record]], None]:
    return lambda records: records.remove(_of(kind, records))


def _text(records: list[Record]) -> None:
    version = next(record for record in records if record["kind"] == "version" and record["body"] is not None)
    body = json.loads(canonical_json(version["body"]))
    body["payload"]["text"] = "forged"
    version["body"] = body


DAMAGE: dict[str, tuple[type[MemOSError], Callable[[list[Record]], None]]] = {
    "a forged text": (IntegrityError, _text),
    "a version without its cube": (IntegrityError, _drop("cube")),
    "a cube without a version": (IntegrityError, _drop("version")),
    "a missing source": (IntegrityError, _drop("source")),
    "a missing activity": (IntegrityError, _drop("activity")),
    "an erased cube that says it lives": (
        IntegrityError,
        lambda records: _of("cube", records, state="erased").update({"state": "activated"}),
    ),
    "a stale mark taken off": (
        IntegrityError,
        lambda records: _of("version", records, is_stale=True).update({"is_stale": False}),
    ),
    "an unknown kind": (InvalidRequest, _set("cube", "kind", "cubes")),
    "a line twice": (InvalidRequest, lambda records: records.append(copy.deepcopy(_of("cube", records)))),
    "a relation twice": (InvalidRequest, lambda records: records.append(copy.deepcopy(_of("relation", records)))),
    "no id": (InvalidRequest, lambda records: records.append({"kind": "cube"})),
    "an id of another kind": (InvalidRequest, _set("cube", "id", "'; DROP TABLE cube; --")),
    "a state that there is not": (InvalidRequest, _set("cube", "state", "undead")),
    "an empty user": (InvalidRequest, _set("cube", "scope", {"user_id": ""})),
    "a number for a user": (InvalidRequest, _set("cube", "scope", {"user_id": 5})),
    "a time without a zone": (InvalidRequest, _set("version", "recorded_at", "2026-01-01T00:00:00")),
    "a number for a time": (InvalidRequest, _set("version", "recorded_at", 5)),
    "a relation that there is not": (InvalidRequest, _set("relation", "relation", "OWNS")),
    "a list for properties": (InvalidRequest, _set("relation", "properties", [])),
    "an agent of no kind": (InvalidRequest, _set("activity", "agent", {"id": "x", "kind": "god", "name": None})),
    "a vector that is no base64": (InvalidRequest, _set("vector", "data", "äöü")),
    "a vector of another size": (InvalidRequest, _set("vector", "dimension", 7)),
    "a vector with infinity": (InvalidRequest, _set("vector", "data", "AHwAfA==")),
    "a vector of nobody": (IntegrityError, _set("vector", "version", 99)),
    "a count below zero": (InvalidRequest, _set("cube", "uses", {"count": -1, "last_at": None})),
}


class RecordLaws(VaultLaws):
    """Export and load."""

    def test_a_round_trip_loses_nothing(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        cubes = story(scribe)
        records = list(vault.records(EVERYTHING))
        kinds = [str(record["kind"]) for record in records]
        assert kinds == sorted(kinds, key=KINDS.index)
        assert set(kinds) == set(KINDS)
        counts = load(Scribe(other, seed=1, start=LATER), json.loads(json.dumps(records)))
        assert counts == {kind: kinds.count(kind) for kind in KINDS}
        assert lines_of(other) == lines_of(vault)
        for cube in cubes.values():
            assert other.history(cube.id, EVERYTHING) == vault.history(cube.id, EVERYTHING)
            ids = [cube.id]
            assert other.relations(ids, EVERYTHING, removed=True) == vault.relations(ids, EVERYTHING, removed=True)
            assert other.lineage(cube.ref, "both", None, EVERYTHING) == vault.lineage(
                cube.ref, "both", None, EVERYTHING
            )
        query = ViewQuery(scope=MARA, now=scribe.now, space="m")
        ours, theirs = vault.search_view(query), other.search_view(query)
        assert ours.view.refs == theirs.view.refs
        assert np.array_equal(ours.view.vectors, theirs.view.vectors)
        assert other.find_key(MARA, "memories", "k") == cubes["first"]
        assert other.find_key(MARA, "memories", "gone") is None
        assert other.verify() == vault.verify() == []

    def test_a_load_is_one_entry_in_the_log(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        cubes = story(scribe)
        reader = Scribe(other, seed=1, start=LATER)
        load(reader, vault.records(EVERYTHING))
        (entry,) = other.log(LogQuery(scope=EVERYTHING))
        assert (entry.kind, entry.seq, entry.cubes) == ("load", 1, tuple(sorted(cube.id for cube in cubes.values())))
        with pytest.raises(NotFound):
            other.effects(vault.log(LogQuery(scope=EVERYTHING))[0].activity_id, EVERYTHING)
        assert reader.revise(cubes["derived"], "goes on").version == 2
        assert other.verify() == []

    def test_what_is_there_and_equal_is_skipped(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        story(scribe)
        records = list(vault.records(EVERYTHING))
        reader = Scribe(other, seed=1, start=LATER)
        load(reader, records)
        before = lines_of(other)
        assert set(load(reader, records).values()) == {0}
        assert lines_of(other) == before
        assert other.log(LogQuery(scope=EVERYTHING))[0].cubes == ()
        vault.touch([scribe.add("more").id], scribe.now)
        assert load(reader, vault.records(EVERYTHING))["cube"] == 1

    def test_with_the_same_key_a_load_is_done_once(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        scribe.add("one")
        reader = Scribe(other, seed=1, start=LATER)
        for number in (1, 0):
            commit = Commit(activity=reader.activity("load"), key="k")
            assert other.restore(vault.records(EVERYTHING), commit)["cube"] == number
        assert other.stats(EVERYTHING).commits == 1

    def test_what_differs_stops_all_of_it(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        cubes = story(scribe)
        reader = Scribe(other, seed=1, start=LATER)
        load(reader, vault.records(EVERYTHING))
        scribe.add("new here")
        reader.revise(cubes["derived"], "changed there")
        before = lines_of(other)
        with pytest.raises(VersionConflict):
            load(reader, vault.records(EVERYTHING))
        assert lines_of(other) == before

    def test_a_relation_stated_in_both_places_is_not_stated_twice(
        self, vault: FullVault, other: FullVault, scribe: Scribe
    ) -> None:
        one, two = scribe.add("one"), scribe.add("two")
        reader = Scribe(other, seed=1, start=LATER)
        load(reader, vault.records(EVERYTHING))
        for writer in (scribe, reader):
            writer.relate(one, two)
        with pytest.raises(VersionConflict):
            load(reader, vault.records(EVERYTHING))
        assert len(other.relations([one.id], EVERYTHING)) == 1

    def test_what_was_erased_there_does_not_come_back(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("xylograph")
        records = list(vault.records(EVERYTHING))
        reader = Scribe(other, seed=1, start=LATER)
        load(reader, records)
        reader.erase(cube)
        with pytest.raises(VersionConflict):
            load(reader, records)
        assert "xylograph" not in repr(lines_of(other))

    def test_a_taken_key_stops_all_of_it(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        reader = Scribe(other, seed=1, start=LATER)
        for writer in (scribe, reader):
            writer.add("keyed", descriptive=Descriptive(key="k"))
        scribe.add("beside")
        before = lines_of(other)
        with pytest.raises(VersionConflict):
            load(reader, vault.records(EVERYTHING))
        assert lines_of(other) == before

    def test_a_space_of_another_size_stops_all_of_it(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        story(scribe)
        other.open_space("m", 5)
        with pytest.raises(IncompatibleModel):
            load(Scribe(other, seed=1), vault.records(EVERYTHING))
        assert lines_of(other) == []
        assert other.spaces()[0].dimension == 5

    def test_a_user_takes_only_what_is_theirs(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        cubes = story(scribe)
        text = repr(list(vault.records(NOAH)))
        for word in ("Über", "changed", "derived:", "letter", "private", "mara", cubes["first"].id, "concluded"):
            assert word not in text
        load(Scribe(other, seed=1, start=LATER), vault.records(NOAH))
        assert lines_of(other) == lines_of(vault, NOAH)
        assert other.stats(EVERYTHING).cubes == 1
        assert other.verify() == []

    def test_cubes_move_into_the_tenant_that_loads_them(self, neighbour: FullVault, scribe: Scribe) -> None:
        cubes = story(scribe)
        load(Scribe(neighbour, seed=1, start=LATER), scribe.vault.records(EVERYTHING))
        mine = Scope.everything("other")
        assert neighbour.get([cubes["noahs"].id], mine)[cubes["noahs"].id].scope.tenant == "other"
        assert neighbour.stats(mine).cubes == 5
        assert neighbour.verify() == scribe.vault.verify() == []

    def test_a_load_carries_nothing_else(self, vault: FullVault, other: FullVault, scribe: Scribe) -> None:
        cube = scribe.add()
        reader = Scribe(other, seed=1)
        for commit in (
            Commit(activity=reader.activity(), erasures=(cube.id,)),
            Commit(activity=reader.activity(), sources=(Source(id="x", kind="y", locator="z"),)),
            Commit(activity=replace(reader.activity(), id=vault.log(LogQuery(scope=EVERYTHING))[0].activity_id)),
        ):
            with pytest.raises(InvalidRequest):
                other.restore(vault.records(EVERYTHING), commit)
        assert lines_of(other) == []

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_damaged_records_are_refused(self, vault: FullVault, other: FullVault, scribe: Scribe, damage: str) -> None:
        story(scribe)
        records: list[Record] = json.loads(json.dumps(list(vault.records(EVERYTHING))))
        error, spoil = DAMAGE[damage]
        spoil(records)
        with pytest.raises(error):
            load(Scribe(other, seed=1), records)
        assert lines_of(other) == []
        assert other.log(LogQuery(scope=EVERYTHING)) == []
