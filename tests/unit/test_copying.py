"""Copying between vaults: nothing is lost, nothing is there twice, and the proof sees what is wrong."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.errors import (
    BackendUnavailable,
    IncompatibleModel,
    IntegrityError,
    InvalidRequest,
    MemOSError,
    VersionConflict,
)
from memos_agents.infrastructure.exchange.bundle import read_bundle, write_bundle
from memos_agents.infrastructure.exchange.comparing import (
    Sample,
    compare_lines,
    digest_of,
    first_difference,
    name_of,
    without_marks,
)
from memos_agents.infrastructure.exchange.copying import CopyReport, copy_records
from memos_agents.infrastructure.exchange.replaying import Replay
from memos_agents.infrastructure.provenance.graph import ProvenanceGraph
from memos_agents.infrastructure.provenance.values import RelationKind, Source
from memos_agents.infrastructure.vault.base import Direction, LogQuery, MemVault, Record
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.infrastructure.vault.records import KINDS
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing.vault_random import PARTS, VECTORS, RandomCommit
from memos_agents.testing.vault_records_of_laws import tangle
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, MARA, NOAH, FullVault, Scribe

SIZES = st.integers(1, 7)


def copy(source: MemVault, target: MemVault, scope: Scope | None = None, **options: object) -> CopyReport:
    wanted = scope or Scope.everything(source.tenant)
    return copy_records(source, target, wanted, clock=lambda: LATER, **options)  # type: ignore[arg-type]


def lines(vault: FullVault, scope: Scope | None = None) -> list[str]:
    """What a vault holds, in whichever tenant."""
    records = without_marks(vault.records(scope or Scope.everything(vault.tenant)))
    return [canonical_json(record).replace(f'"tenant":"{vault.tenant}"', '"tenant":""') for record in records]


def digest(vault: FullVault, scope: Scope | None = None) -> str:
    return digest_of(vault.records(scope or Scope.everything(vault.tenant)))


def random_store(data: st.DataObject, vault: FullVault) -> Scribe:
    """A history of commits, mostly legal, then uses."""
    scribe, ids = Scribe(vault), []
    vault.open_space("m", 2)
    for _ in range(data.draw(st.integers(1, 8))):
        growing = RandomCommit(data.draw, scribe, vault, ids)
        for kind in data.draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4)):
            growing.add(kind)
        try:
            vault.commit(growing.commit)
        except MemOSError:
            continue
        made = (write.cube.id for write in growing.commit.writes if write.replaces is None)
        ids.extend(cube_id for cube_id in made if vault.get([cube_id], EVERYTHING))
    vault.open_space("n", 3)
    vault.add_vectors("n", {VersionRef(cube_id, 1): VECTORS[3] for cube_id in ids[::2]})
    vault.touch(ids[::3], scribe.now)
    return scribe


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SqliteVault]:
    with closing(SqliteVault(tmp_path / "source.db", durability="relaxed")) as vault:
        yield vault


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SqliteVault]:
    with closing(SqliteVault(tmp_path / "target.db", durability="relaxed")) as vault:
        yield vault


# -- nothing is lost


@settings(max_examples=60)
@given(data=st.data(), there=SIZES, back=SIZES)
def test_a_store_its_copy_and_the_copys_copy_are_equal(data: st.DataObject, there: int, back: int) -> None:
    first = MemoryVault()
    random_store(data, first)
    with tempfile.TemporaryDirectory() as folder:
        second = SqliteVault(Path(folder) / "memos.db", tenant="second", durability="relaxed")
        third = MemoryVault(tenant="third")
        with closing(second):
            for one, other, part in ((first, second, there), (second, third, back)):
                report = copy(one, other, part=part)
                assert report.ok and report.differences == ()
                assert report.counts == report.found == {k: n for k, n in report.counts.items() if n}
                assert report.digest == report.found_digest == digest(first)
                assert report.more == {} and report.skipped == 0 and not report.source_moved
                assert report.uses[0] == report.uses[1]
                assert lines(other) == lines(first)
                assert other.verify() == []
                again = copy(one, other, part=part)
                assert again.ok and again.skipped == again.parts and not sum(again.written.values())
            assert second.spaces() == third.spaces() == first.spaces()


@settings(max_examples=40)
@given(data=st.data(), part=SIZES, scope=st.sampled_from((MARA, NOAH, Scope(user_id="mara", session_id="s"))))
def test_a_users_copy_holds_what_is_theirs_and_nothing_else(data: st.DataObject, part: int, scope: Scope) -> None:
    first, second = MemoryVault(), MemoryVault(tenant="second")
    random_store(data, first)
    report = copy(first, second, scope, part=part)
    assert report.ok and report.more == {}
    assert lines(second) == lines(second, replace(scope, tenant="second")) == lines(first, scope)
    assert report.digest == digest(second)
    assert second.verify() == []


class Dying(SqliteVault):
    """Fails as a killed process or a lost connection does: at the n-th part, before or after it is durable."""

    dies_at, is_durable, restored = 0, False, 0

    def restore(self, records: Iterable[Record], commit: Commit) -> dict[str, int]:
        self.restored += 1
        if self.restored == self.dies_at:
            if self.is_durable:
                super().restore(records, commit)
            raise BackendUnavailable("the connection was lost")
        return super().restore(records, commit)


@settings(max_examples=40)
@given(data=st.data(), sizes=st.lists(SIZES, min_size=2, max_size=4), is_durable=st.booleans())
def test_a_copy_that_dies_goes_on_where_it_was(data: st.DataObject, sizes: list[int], is_durable: bool) -> None:
    first = MemoryVault()
    random_store(data, first)
    with tempfile.TemporaryDirectory() as folder, closing(Dying(Path(folder) / "memos.db")) as second:
        second.is_durable = is_durable
        for part in sizes:
            second.restored, second.dies_at = 0, data.draw(st.integers(1, 4))
            try:
                copy(first, second, part=part)
            except BackendUnavailable:
                assert second.verify() == []
        second.restored = second.dies_at = 0
        done = {entry.activity_id for entry in second.log(LogQuery(scope=EVERYTHING, limit=1000))}
        report = copy(first, second, part=sizes[-1])
        assert report.ok and report.more == {} and report.digest == digest(first)
        assert lines(second) == lines(first)
        entries = second.log(LogQuery(scope=EVERYTHING, limit=1000))
        assert len(entries) == len(done) + report.parts - report.skipped
        assert second.verify() == []


def test_parts_that_were_sent_are_known_without_being_sent_again(source: SqliteVault, tmp_path: Path) -> None:
    tangle(Scribe(source))
    with closing(Dying(tmp_path / "dying.db")) as target:
        target.dies_at = 4
        with pytest.raises(BackendUnavailable):
            copy(source, target, part=2)
        target.restored = target.dies_at = 0
        report = copy(source, target, part=2)
        assert (report.ok, report.skipped, target.restored) == (True, 3, report.parts - 3)


def test_a_vault_without_parts_is_copied_whole(target: SqliteVault) -> None:
    class Whole(MemoryVault):
        """Only what `SupportsRecords` asks for."""

        records_of = None  # type: ignore[assignment]  # how Python says that a class lacks what its base has

    vault = Whole()
    tangle(Scribe(vault))
    report = copy(vault, target)
    assert report.ok and report.parts == 1 and lines(target) == lines(vault)


def test_what_no_cube_names_is_copied_too(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    cube = scribe.add("a")
    scribe.step(cube, frozen=True)
    scribe.commit(activity=scribe.activity("only a source"), sources=[Source(id="lonely", kind="file", locator="x")])
    report = copy(source, target, part=1)
    assert report.ok and lines(target) == lines(source)
    assert report.counts["activity"] == 3 and report.counts["source"] == 1
    assert not copy(source, MemoryVault(), MARA).counts.get("source")


def test_a_hub_does_not_pull_everybody_into_its_part(source: SqliteVault) -> None:
    scribe = Scribe(source)
    hub = scribe.add("hub")
    for number in range(20):
        spoke = scribe.add(f"spoke {number}")
        scribe.relate(hub, spoke, RelationKind.MENTIONS)
    assert [record["kind"] for record in source.records_of([hub.id], EVERYTHING)] == ["activity", "cube", "version"]


def test_more_than_fits_in_memory_is_sent_in_halves(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    scribe.commit(writes=[scribe.cube("big", metadata={"data": "x" * 1_000_000}) for _ in range(35)])
    report = copy(source, target, part=1000)
    assert report.ok and report.parts == 4 + 1  # 35 -> 17 + 18 -> 8 + 9 + 9 + 9, and what no cube names
    assert target.stats(EVERYTHING).cubes == 35


def test_uses_and_the_default_space_travel(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    source.open_space("z", 2)
    source.open_space("a", 2)
    cube = scribe.add("used", vectors={"a": VECTORS[2], "z": VECTORS[2]})
    source.touch([cube.id], scribe.now)
    source.touch([cube.id], scribe.now)
    report = copy(source, target)
    assert report.uses == (2, 2)
    assert target.get([cube.id], EVERYTHING)[cube.id].behavioural.use_count == 2
    assert target.spaces() == source.spaces()
    assert target.spaces()[0].fingerprint == "z"


def test_progress_counts_every_cube_twice(source: SqliteVault, target: SqliteVault) -> None:
    ids = tangle(Scribe(source))
    told: list[tuple[int, int]] = []
    copy(source, target, part=5, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told][:3] == [5, 10, 12]
    assert told[-1] == (2 * len(ids), 2 * len(ids)) and told == sorted(told)
    assert {total for _, total in told} == {2 * len(ids)}


# -- tenants, files


def test_a_tenant_moves_to_another_one_of_the_same_file(source: SqliteVault) -> None:
    tangle(Scribe(source))
    with closing(SqliteVault(source.path, tenant="other")) as other:
        report = copy(source, other, part=3)
        assert report.ok and lines(other) == lines(source)
        assert other.verify() == source.verify() == []
    assert report.digest == digest(source)


def artefact(vault: FullVault, scribe: Scribe, data: bytes) -> MemCube:
    cube = scribe.cube(payload=ArtefactPayload(blobs={"kv": vault.blobs.put(data)}), memory_type=MemoryType.ACTIVATION)
    scribe.commit(writes=[cube])
    return cube


def test_files_come_before_the_memories_that_name_them(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    for number in range(5):
        artefact(source, scribe, bytes([number % 3]) * 1000)
    report = copy(source, target, part=2)
    assert report.ok and report.blobs == 3
    assert set(target.blobs.names()) == set(source.blobs.names())
    assert target.verify() == []
    name = next(target.blobs.names())
    target.blobs.delete([name])
    report = copy(source, target, part=2)
    assert not report.ok and name in report.differences[0] and report.blobs == 0


def test_a_part_that_is_refused_leaves_no_file(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    cube = artefact(source, scribe, b"old")
    copy(source, target)
    new = ArtefactPayload(blobs={"kv": source.blobs.put(b"new")})
    scribe.commit(writes=[replace(scribe.next_of(cube), cube=replace(cube, version=2, payload=new))])
    before = list(target.blobs.names())
    with pytest.raises(VersionConflict):
        copy(source, target)
    assert list(target.blobs.names()) == before
    source.blobs.delete([new.blobs["kv"].sha256])
    with pytest.raises(VersionConflict, match="missing in the source"):
        copy(source, MemoryVault())


# -- while somebody writes


def test_a_copy_is_one_moment_though_others_write(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    ids = tangle(scribe)
    before, expected = lines(source), digest(source)

    def write(done: int, total: int) -> None:
        if done == 2:
            scribe.add("new")
            living = [head for head in source.get(ids, EVERYTHING).values() if head.text and not head.frozen]
            scribe.revise(living[0], "changed meanwhile")
            scribe.erase(living[-1])

    report = copy(source, target, part=1, progress=write)
    assert report.ok and report.source_moved and report.digest == expected
    assert lines(target) == before != lines(source)


def test_a_source_without_moments_that_moves_is_noticed(target: SqliteVault) -> None:
    vault = MemoryVault()
    scribe = Scribe(vault)
    first, second = scribe.add("first"), scribe.add("second")

    def write(done: int, total: int) -> None:
        if done == 1:
            scribe.revise(first, "changed meanwhile")

    report = copy(vault, target, part=1, progress=write)
    assert report.source_moved and not report.ok
    assert report.differences[0] == f"version 1 of cube {first.id} differs in superseded_at"
    scribe.relate(second, scribe.head(first))
    with pytest.raises(VersionConflict, match=f"version 1 of cube {first.id} differs in superseded_at.*empty tenant"):
        copy(vault, target, part=1)


def test_what_is_new_since_is_added_and_what_has_changed_is_refused(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    one, two = scribe.add("xylograph one"), scribe.add("xylograph two")
    copy(source, target)
    scribe.add("derived of them", sources=[one.ref, two.ref])
    scribe.relate(two, one)
    report = copy(source, target)
    assert report.ok and report.written["cube"] == 1 and report.written["relation"] == 1
    assert lines(target) == lines(source)
    scribe.step(scribe.head(one), frozen=True)
    before = lines(target)
    with pytest.raises(VersionConflict, match=f"cube {one.id} differs in frozen") as caught:
        copy(source, target)
    assert "xylograph" not in str(caught.value)
    assert lines(target) == before


def test_a_memory_erased_in_the_target_stays_erased(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    cube = scribe.add("xylograph")
    scribe.add("beside")
    copy(source, target)
    Scribe(target, seed=1, start=LATER).erase(cube)
    report = copy(source, target)
    assert not report.ok and report.found_digest != report.digest
    assert f"cube {cube.id} differs in state" in report.differences
    with pytest.raises(VersionConflict):
        copy(source, target, part=1)
    assert "xylograph" not in repr(lines(target))


def test_a_target_with_memories_of_its_own_keeps_them(source: SqliteVault, target: SqliteVault) -> None:
    own = Scribe(target, seed=5, start=LATER)
    mine = own.add("mine, in the target")
    tangle(Scribe(source))
    report = copy(source, target, part=4)
    assert report.ok and report.more == {"activity": 1, "cube": 1, "version": 1}
    assert report.digest == report.found_digest == digest(source) != digest(target)
    assert target.get([mine.id], EVERYTHING)[mine.id].text == "mine, in the target"
    assert target.verify() == []


def test_erased_memories_travel_as_tombstones(source: SqliteVault, target: SqliteVault) -> None:
    scribe = Scribe(source)
    cube = scribe.revise(scribe.add("xylograph"), "xylograph again")
    erasure = scribe.erase(cube)
    report = copy(source, target)
    assert report.ok and report.counts["version"] == 2
    assert [version.state for version in target.history(cube.id, EVERYTHING)] == ["erased", "erased"]
    assert source.tombstones(erasure.activity_id) and not target.tombstones(erasure.activity_id)
    assert "xylograph" not in repr(lines(target))


def test_marks_that_came_with_a_bundle_do_not_stop_a_copy(
    source: SqliteVault, target: SqliteVault, tmp_path: Path
) -> None:
    """A copy's log entries are part of its bundles; where such a bundle was loaded, they are no log entries."""
    tangle(Scribe(source))
    with closing(SqliteVault(tmp_path / "middle.db")) as middle:
        copy(source, middle, part=3)
        write_bundle(tmp_path / "middle.memcube", middle, EVERYTHING, now=LATER)
    loader = Scribe(target, seed=3, start=LATER)
    target.open_space("m", 2)
    with read_bundle(tmp_path / "middle.memcube") as bundle:
        target.restore(bundle.records(), Commit(activity=loader.activity("load")))
    report = copy(source, target, part=3)
    assert report.ok and not sum(report.written.values()) and report.skipped == 0
    again = copy(source, target, part=3)
    assert again.ok and again.skipped == again.parts


def test_copies_of_one_source_can_be_copied_into_each_other(
    source: SqliteVault, target: SqliteVault, tmp_path: Path
) -> None:
    tangle(Scribe(source))
    copy(source, target, part=3)
    with closing(SqliteVault(tmp_path / "third.db")) as third:
        copy(source, third, part=5)
        assert copy(target, third, part=4).ok
        assert copy(third, target, part=4).ok
        assert lines(target) == lines(third) == lines(source)


# -- the proof sees what is wrong

_HEAD = "(SELECT head FROM cube WHERE id = :id)"
DAMAGES: dict[str, tuple[str, str, bool]] = {
    "a changed word": (
        f"UPDATE version SET body = replace(body, 'knot', 'knob') WHERE rid = {_HEAD}",
        "version 1 of cube {id} differs in body",
        True,
    ),
    "a lost version": (f"DELETE FROM version WHERE rid = {_HEAD}", "version 1 of cube {id} is missing", True),
    "a lost derivation": (
        f"DELETE FROM derivation WHERE derived = {_HEAD}",
        "the derivation of {id}/v1 from",
        True,
    ),
    "lost evidence": (f"DELETE FROM evidence WHERE derived = {_HEAD}", "the derivation of {id}/v1 from book", True),
    "a derivation of another kind": (
        f"UPDATE derivation SET kind = 'invented' WHERE derived = {_HEAD}",
        "the derivation of {id}/v1 from",
        True,
    ),
    "a lost relation": (
        "DELETE FROM relation WHERE source = (SELECT rid FROM cube WHERE id = :id)",
        "the relation {id}",
        True,
    ),
    "a changed relation": (
        "UPDATE relation SET properties = '{\"a\":1}' WHERE source = (SELECT rid FROM cube WHERE id = :id)",
        "differs in properties",
        False,
    ),
    "a lost vector": (f"DELETE FROM vector WHERE version = {_HEAD}", "the vector of {id}/v1 in space 'm'", False),
    "a changed vector": (
        f"UPDATE vector SET data = x'003c003d' WHERE version = {_HEAD}",
        "the vector of {id}/v1 in space 'm' differs in data",
        False,
    ),
    "another owner": (
        "UPDATE cube SET user = (SELECT rid FROM name WHERE value = 'noah') WHERE id = :id",
        "cube {id} differs in scope",
        False,
    ),
    "another state": ("UPDATE cube SET state = 2 WHERE id = :id", "cube {id} differs in state", True),
    "a stale mark": (f"UPDATE version SET stale = 1 - stale WHERE rid = {_HEAD}", "differs in is_stale", True),
    "another time": (
        f"UPDATE version SET recorded_us = recorded_us + 1 WHERE rid = {_HEAD}",
        "version 1 of cube {id} differs in recorded_at",
        True,
    ),
    "another agent": ("UPDATE activity SET agent_id = 'eve' WHERE kind = 'knot'", "differs in agent", True),
    "another source": ("UPDATE source SET locator = 'forged.txt' WHERE id = 'book'", "source book differs", True),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_changes_behind_our_back_is_noticed(source: SqliteVault, target: SqliteVault, damage: str) -> None:
    ids = tangle(Scribe(source))
    copy(source, target, part=3)
    knot = next(cube for cube in source.get(ids, EVERYTHING).values() if cube.text == "knot 4")
    statement, told, is_in_lineage = DAMAGES[damage]
    with closing(sqlite3.connect(target.path)) as connection:
        assert connection.execute(statement, {"id": knot.id} if ":id" in statement else {}).rowcount
        connection.commit()
    report = copy(source, target, part=3)
    assert not report.ok and report.digest != report.found_digest and report.differing
    assert any(told.format(id=knot.id) in difference for difference in report.differences), report.differences
    assert report.skipped == report.parts and not report.written
    assert not is_in_lineage or any("lineage" in difference for difference in report.differences)
    assert "knot 4" not in repr(report.differences)


def test_a_body_that_cannot_be_read_is_damage(source: SqliteVault, target: SqliteVault) -> None:
    Scribe(source).add("a")
    copy(source, target)
    with closing(sqlite3.connect(target.path)) as connection:
        connection.execute("UPDATE version SET body = '{'")
        connection.commit()
    with pytest.raises(IntegrityError, match="target holds a line that cannot be read"):
        copy(source, target)


def test_a_lineage_that_differs_is_noticed_though_the_lines_are_equal(source: SqliteVault, tmp_path: Path) -> None:
    class Forgetful(SqliteVault):
        """Holds everything and shows nothing of what came of it."""

        def lineage(self, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
            return super().lineage(ref, "up", depth, scope)

    ids = tangle(Scribe(source))
    with closing(Forgetful(tmp_path / "forgetful.db")) as target:
        report = copy(source, target)
        assert not report.ok and report.digest == report.found_digest
        assert all(difference.startswith("the lineage of") for difference in report.differences)
        assert report.samples == sum(len(source.history(cube_id, EVERYTHING)) for cube_id in ids)
        assert copy(source, target, samples=0).ok


def test_a_walk_tells_missing_changed_and_surplus_lines(source: SqliteVault) -> None:
    tangle(Scribe(source))
    records: list[Record] = json.loads(json.dumps(list(source.records(EVERYTHING))))
    assert {str(record["kind"]) for record in records} == set(KINDS)
    found = compare_lines(records, records)
    assert (found.differing, found.more, found.ours.hexdigest()) == (0, {}, found.theirs.hexdigest())
    for number, record in enumerate(records):
        without = [*records[:number], *records[number + 1 :]]
        found = compare_lines(records, without)
        assert (found.differing, found.more) == (1, {}) and found.differences == [f"{name_of(record)} is missing"]
        assert found.ours.hexdigest() != found.theirs.hexdigest()
        found = compare_lines(without, records)
        assert (found.differing, found.more) == (0, {str(record["kind"]): 1})
        assert found.ours.hexdigest() == found.theirs.hexdigest() == digest_of(without)
        with pytest.raises(IntegrityError, match="twice or out of order"):
            compare_lines([*records[: number + 1], *records[number:]], records)
    assert first_difference(records, records) is None
    assert compare_lines([], records).differing == compare_lines([], []).differing == 0


@pytest.mark.parametrize("is_read_ahead", [False, True])
def test_an_export_of_which_the_beginning_was_read_tells_everything_once(is_read_ahead: bool) -> None:
    vault = MemoryVault()
    tangle(Scribe(vault))
    records = list(vault.records(EVERYTHING))
    asked: list[int] = []

    def export() -> Iterator[Record]:
        asked.append(1)
        return iter(records)

    with Replay(export) as replay:
        if is_read_ahead:
            assert [*replay.named()] == [record for record in records if record["kind"] in ("activity", "source")]
        assert [*replay] == records and asked == [1]
    with Replay(lambda: iter(records[:3])) as replay:  # nothing but activities
        assert [*replay.named()] == [*replay] == records[:3]


def test_what_a_line_says_is_in_the_digest_but_for_tenant_and_uses(source: SqliteVault) -> None:
    def changed(values: JSON) -> Iterator[JSON]:
        """Every value with one leaf changed."""
        if isinstance(values, dict):
            for name, value in values.items():
                for other in changed(value):
                    yield {**values, name: other}
        elif isinstance(values, list):
            for place, value in enumerate(values):
                for other in changed(value):
                    yield [*values[:place], other, *values[place + 1 :]]
        else:
            yield "changed" if values != "changed" else None

    tangle(Scribe(source))
    records: list[Record] = json.loads(json.dumps(list(source.records(EVERYTHING))))
    whole = digest_of(records)
    one_of_each = {str(record["kind"]): (number, record) for number, record in enumerate(records)}
    for number, record in one_of_each.values():
        for other in changed({name: value for name, value in record.items() if name not in ("kind", "uses")}):
            assert isinstance(other, dict)
            line = {**record, **other}
            is_kept = line.get("scope", {}) == {**record.get("scope", {}), "tenant": "changed"}  # type: ignore[dict-item]
            assert (digest_of([*records[:number], line, *records[number + 1 :]]) == whole) is is_kept, line


@given(size=st.integers(0, 30), count=st.integers(0, 60), seed=st.integers(0, 99))
def test_a_sample_is_of_versions_each_once(size: int, count: int, seed: int) -> None:
    sample = Sample(size, seed)
    for number in range(count):
        sample.see({"kind": "version", "cube": str(number), "version": 1})
        sample.see({"kind": "cube", "id": str(number)})
    refs = sample.refs()
    assert len(set(refs)) == len(refs) == min(size, count)
    assert all(0 <= int(ref.cube_id) < count for ref in refs)


def test_a_sample_favours_nobody() -> None:
    picked = [0] * 20
    for seed in range(2000):
        sample = Sample(5, seed)
        for number in range(20):
            sample.see({"kind": "version", "cube": str(number), "version": 1})
        for ref in sample.refs():
            picked[int(ref.cube_id)] += 1
    # each is picked with probability 1/4: 500 times, standard deviation 19.4; five of them on either side
    assert all(403 <= number <= 597 for number in picked), picked


# -- refusals


def test_what_makes_no_sense_is_refused_before_anything_is_written(
    source: SqliteVault, target: SqliteVault, tmp_path: Path
) -> None:
    tangle(Scribe(source))
    copy(source, target)
    with closing(SqliteVault(target.path, readonly=True)) as readonly:
        with pytest.raises(InvalidRequest, match="readonly"):
            copy(source, readonly)
        assert copy(readonly, MemoryVault()).ok
    with pytest.raises(InvalidRequest, match="same store"):
        copy(source, source)
    with closing(SqliteVault(source.path)) as again, pytest.raises(InvalidRequest, match="same store"):
        copy(source, again)
    for options in ({"part": 0}, {"samples": -1}):
        with pytest.raises(InvalidRequest):
            copy(source, target, **options)

    class Plain:
        tenant = "default"

    for pair in ((Plain(), target), (source, Plain())):
        with pytest.raises(InvalidRequest, match="has no records"):
            copy(*pair)  # type: ignore[arg-type]  # the point


def test_vectors_of_another_embedder_are_refused(source: SqliteVault, target: SqliteVault) -> None:
    tangle(Scribe(source))
    target.open_space("another", 2)
    with pytest.raises(IncompatibleModel, match="reembed"):
        copy(source, target)
    other = MemoryVault()
    other.open_space("m", 5)
    with pytest.raises(IncompatibleModel):
        copy(source, other)
    assert target.stats(EVERYTHING).cubes == other.stats(EVERYTHING).cubes == 0


def test_an_activity_that_came_without_its_parameters_is_no_full_copy(source: SqliteVault, target: SqliteVault) -> None:
    """Told to one user, an activity leaves out what it did to others; a later copy of everything cannot add it."""
    scribe = Scribe(source)
    scribe.commit(
        activity=scribe.activity("both", about="two people"),
        writes=[scribe.cube("hers"), scribe.cube("his", scope=NOAH)],
    )
    assert copy(source, target, MARA).ok
    assert "two people" not in repr(lines(target))
    assert copy(source, target, NOAH).ok
    report = copy(source, target)
    assert not report.ok and "differs in parameters" in report.differences[0]


def test_the_log_of_the_target_tells_who_filled_it(source: SqliteVault, target: SqliteVault) -> None:
    ids = tangle(Scribe(source))
    copy(source, target, part=100)
    entries = target.log(LogQuery(scope=EVERYTHING, limit=10))
    assert [entry.kind for entry in entries] == ["copy", "copy"]
    assert entries[1].cubes == tuple(ids) and entries[1].agent.kind == "system"
    assert entries[1].parameters == {"tenant": "default", "cubes": len(ids)}
    assert [entry.seq for entry in entries] == [2, 1] and entries[0].at > entries[1].at == LATER
