"""Laws of records in parts: what some cubes need, no more, and all parts together are the whole."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Protocol, cast

import numpy as np
import pytest

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.base import LogQuery, Record
from memos_agents.infrastructure.vault.capabilities import SupportsMoments, SupportsRecordsOf
from memos_agents.infrastructure.vault.commit import Commit, Invalidation, Write
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, MARA, NOAH, FullVault, Scribe, VaultLaws
from memos_agents.testing.vault_transfer_laws import lines_of, story

CONTEXT = ("activity", "source", "cube", "version")


class PartedVault(FullVault, SupportsRecordsOf, Protocol):
    """A vault that gives itself out in parts."""


def tangle(scribe: Scribe) -> list[str]:
    """`story`, and cubes that are knotted in every direction; returns the ids of all cubes, rising."""
    vault = scribe.vault
    story(scribe)
    book = Source(id="book", kind="file", locator="book.txt")
    knot = [scribe.cube(f"knot {number}", scope=(MARA, NOAH)[number == 3]) for number in range(5)]
    scribe.commit(
        activity=scribe.activity("knot", about="all five"),
        writes=[Write(cube=cube, vectors={"m": np.ones(2, np.float32)}) for cube in knot],
        sources=[book],
        derivations=[
            Derivation(derived=knot[1].ref, source=knot[0].ref),
            Derivation(derived=knot[2].ref, source="book", kind="quote"),
            Derivation(derived=knot[4].ref, source=knot[1].ref),
            Derivation(derived=knot[4].ref, source="book"),
        ],
    )
    ring = [knot[number] for number in (0, 1, 2, 4)]
    for cube, following in zip(ring, [*ring[1:], ring[0]], strict=True):  # the last one closes a cycle
        scribe.relate(cube, following, RelationKind.NEXT)
    scribe.relate(knot[4], knot[0], RelationKind.MENTIONS)
    taken = scribe.relate(knot[2], knot[0], RelationKind.MENTIONS, why="a mistake")
    scribe.commit(unrelations=[taken])
    scribe.relate(knot[2], knot[0], RelationKind.MENTIONS)
    late = scribe.add("derived from what is older, into a version of what is older still", sources=[knot[4].ref])
    scribe.revise(scribe.head(knot[0]), "a version made of something younger than its cube", sources=[late.ref])
    scribe.commit(invalidations=[Invalidation(ref=knot[2].ref)])
    vault.touch([knot[0].id, late.id], scribe.now)
    return sorted(str(record["id"]) for record in vault.records(EVERYTHING) if record["kind"] == "cube")


def expected_of(records: Sequence[Record], asked: Iterable[str]) -> list[Record]:
    """What the law says, told from all records of the scope."""
    asked = set(asked)
    own: list[Record] = []
    cubes: set[str] = set()
    for record in records:
        match record["kind"]:
            case "cube" | "version":
                name = cast(str, record.get("id", record.get("cube")))
                if name in asked:
                    cubes.add(name)
            case "derivation":
                derived, source = cast("list[str]", record["derived"]), record["source"]
                if derived[0] in asked:
                    own.append(record)
                    cubes.update([] if isinstance(source, str) else cast("list[str]", source)[:1])
            case "relation":
                ends = {cast(str, record["source"]), cast(str, record["target"])}
                if max(ends) in asked:
                    own.append(record)
                    cubes.update(ends)
            case "vector":
                if record["cube"] in asked:
                    own.append(record)
            case _:
                pass
    told = [
        *(record for record in records if record["kind"] == "cube" and record["id"] in cubes),
        *(record for record in records if record["kind"] == "version" and record["cube"] in cubes),
        *own,
    ]
    activities = {cast("str | None", record.get(name)) for record in told for name in ("activity", "ended_by")}
    sources = {
        cast("str | None", r["source"]) for r in own if r["kind"] == "derivation" and isinstance(r["source"], str)
    }
    named = [r for r in records if r["kind"] == "activity" and r["id"] in activities]
    return [*named, *(r for r in records if r["kind"] == "source" and r["id"] in sources), *told]


def same_lines(found: Iterable[Record], expected: Iterable[Record]) -> None:
    """Compare as text, which is what travels."""
    assert [canonical_json(record) for record in found] == [canonical_json(record) for record in expected]


def restore_in_parts(vault: PartedVault, target: FullVault, parts: Iterable[Sequence[str]], scope: Scope) -> Scribe:
    """Each part in a load of its own."""
    reader = Scribe(target, seed=1, start=LATER)
    for part in parts:
        target.restore(vault.records_of(part, scope), Commit(activity=reader.activity("load")))
    return reader


class RecordsOfLaws(VaultLaws):
    """Parts of a store. `make_vault` gives vaults that support records and `SupportsRecordsOf`."""

    @pytest.fixture
    def parted(self, vault: FullVault) -> PartedVault:
        """The vault, which must have the capability."""
        assert isinstance(vault, SupportsRecordsOf)
        return cast(PartedVault, vault)

    def test_ids_come_in_pages_that_leave_nobody_out(self, parted: PartedVault, scribe: Scribe) -> None:
        assert parted.cube_ids(EVERYTHING, limit=10) == []
        ids = tangle(scribe)
        assert len(ids) == 12
        for size in (1, 2, 5, 100):
            found: list[str] = []
            while page := parted.cube_ids(EVERYTHING, limit=size, after=found[-1] if found else None):
                assert len(page) == min(size, len(ids) - len(found))
                found += page
            assert found == ids
        assert parted.cube_ids(NOAH, limit=100) == [r["id"] for r in parted.records(NOAH) if r["kind"] == "cube"]
        assert parted.cube_ids(Scope.everything("elsewhere"), limit=100) == []
        assert parted.cube_ids(Scope(user_id="nobody"), limit=100) == []

    @pytest.mark.parametrize("scope", [EVERYTHING, MARA, NOAH, Scope(user_id="noah", agent_id="a"), Scope()])
    def test_a_part_is_what_the_cubes_need_and_no_more(self, parted: PartedVault, scribe: Scribe, scope: Scope) -> None:
        ids = tangle(scribe)
        records = list(parted.records(scope))
        for cube_id in ids:
            same_lines(parted.records_of([cube_id], scope), expected_of(records, [cube_id]))
        chance = random.Random(7)  # noqa: S311  # repeatable, not secret
        for size in (2, 3, 5, 8, len(ids)):
            part = chance.sample(ids, size)
            same_lines(parted.records_of(part, scope), expected_of(records, part))
        same_lines(parted.records_of(ids, scope), expected_of(records, ids))

    def test_every_edge_and_vector_is_in_exactly_one_part(self, parted: PartedVault, scribe: Scribe) -> None:
        ids = tangle(scribe)
        random.Random(3).shuffle(ids)  # noqa: S311  # repeatable, not secret
        found = [
            canonical_json(record)
            for start in range(0, len(ids), 3)
            for record in parted.records_of(ids[start : start + 3], EVERYTHING)
            if record["kind"] not in CONTEXT
        ]
        whole = [canonical_json(r) for r in parted.records(EVERYTHING) if r["kind"] not in CONTEXT]
        assert sorted(found) == sorted(whole)

    def test_who_is_not_there_or_not_admitted_is_passed_over(self, parted: PartedVault, scribe: Scribe) -> None:
        ids = tangle(scribe)
        nobody = "00000000-0000-7000-8000-000000000000"
        assert list(parted.records_of([], EVERYTHING)) == []
        assert list(parted.records_of([nobody, "no id at all"], EVERYTHING)) == []
        assert list(parted.records_of(ids, Scope.everything("elsewhere"))) == []
        assert list(parted.records_of(ids, Scope(user_id="nobody"))) == []
        same_lines(parted.records_of([ids[0], nobody, ids[0]], EVERYTHING), parted.records_of(ids[:1], EVERYTHING))
        maras = [r["id"] for r in parted.records(MARA) if r["kind"] == "cube"]
        assert list(parted.records_of([str(name) for name in maras], NOAH)) == []

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
    def test_parts_restored_in_any_order_are_the_whole(
        self, parted: PartedVault, other: FullVault, scribe: Scribe, size: int
    ) -> None:
        ids = tangle(scribe)
        parted_at = [ids[start : start + size] for start in range(0, len(ids), size)]
        random.Random(size).shuffle(parted_at)  # noqa: S311  # repeatable, not secret
        other.open_space("m", 2)
        reader = restore_in_parts(parted, other, parted_at, EVERYTHING)
        named = {canonical_json(record) for record in parted.records_of(ids, EVERYTHING)}
        assert lines_of(other) == [line for line in lines_of(parted) if line in named]
        for cube_id in ids:
            assert other.history(cube_id, EVERYTHING) == parted.history(cube_id, EVERYTHING)
            ref = VersionRef(cube_id, 1)
            assert other.lineage(ref, "both", None, EVERYTHING) == parted.lineage(ref, "both", None, EVERYTHING)
        assert other.verify() == parted.verify() == []
        before = lines_of(other)
        counts = other.restore(parted.records_of(ids, EVERYTHING), Commit(activity=reader.activity("load")))
        assert set(counts.values()) == {0}
        assert lines_of(other) == before

    def test_what_an_activity_did_to_others_stays_hidden_in_parts(
        self, parted: PartedVault, other: FullVault, scribe: Scribe
    ) -> None:
        """Its parameters may speak of every cube that it touched, also of one that came in another part."""
        hers = scribe.cube("hers")
        his = scribe.cube("his", scope=NOAH)
        scribe.commit(activity=scribe.activity("write", about="both"), writes=[hers, his])
        scribe.commit(
            activity=scribe.activity("relate", about="all three"),
            writes=[scribe.cube("alone", scope=NOAH)],
            relations=[Relation(source_id=hers.id, kind=RelationKind.NEXT, target_id=scribe.add("more").id)],
        )
        ids = parted.cube_ids(EVERYTHING, limit=10)
        restore_in_parts(parted, other, [[cube_id] for cube_id in ids], EVERYTHING)
        assert "both" in repr(list(other.records(EVERYTHING)))
        for scope in (MARA, NOAH):
            assert "both" not in repr(list(other.records(scope)))
            assert "all three" not in repr(list(other.records(scope)))
            assert lines_of(other, scope) == lines_of(parted, scope)
        assert "both" not in repr(other.lineage(hers.ref, "both", None, MARA))

    def test_a_user_takes_only_what_is_theirs(self, parted: PartedVault, other: FullVault, scribe: Scribe) -> None:
        ids = tangle(scribe)
        restore_in_parts(parted, other, [[cube_id] for cube_id in ids], NOAH)
        assert lines_of(other) == lines_of(parted, NOAH)
        assert "all five" not in repr(list(other.records(EVERYTHING)))
        assert other.verify() == []

    def test_one_moment_is_held_while_others_write(self, parted: PartedVault, scribe: Scribe) -> None:
        if not isinstance(parted, SupportsMoments):
            return  # a capability of its own
        ids = tangle(scribe)
        before = list(parted.records(EVERYTHING))
        head = scribe.head(ids[0])
        with parted.moment() as moment:
            scribe.add("written meanwhile")
            scribe.erase(scribe.head(ids[-1]))
            parted.touch([head.id], scribe.now)
            assert moment.cube_ids(EVERYTHING, limit=100) == ids
            same_lines(moment.records(EVERYTHING), before)
            same_lines(moment.records_of(ids, EVERYTHING), expected_of(before, ids))
            assert moment.lineage(VersionRef(ids[-1], 1), "up", 0, EVERYTHING).entities[0].label
        with parted.moment() as moment:
            assert len(moment.cube_ids(EVERYTHING, limit=100)) == len(ids) + 1
            assert len(list(moment.records(EVERYTHING))) > len(before)
        assert parted.log(LogQuery(scope=EVERYTHING, limit=1))[0].kind == "erase"
