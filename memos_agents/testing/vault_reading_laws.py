"""Laws of reading and of what stands beside the cubes: lists, counts, use, leases, snapshots, spaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import BackendUnavailable, IncompatibleModel, InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.vault.base import (
    ListQuery,
    LogQuery,
    MemVault,
    SupportsRecords,
    SupportsScrub,
    SupportsSearch,
    ViewQuery,
)
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, MARA, NOAH, START, FullVault, Scribe, VaultLaws


class ReadingLaws(VaultLaws):
    """Cubes, lists and counts."""

    def test_it_offers_what_it_says(self, vault: FullVault) -> None:
        for protocol in (MemVault, SupportsSearch, SupportsScrub, SupportsRecords):
            assert isinstance(vault, protocol)
        assert vault.tenant == "default"
        assert not vault.is_readonly

    def test_an_empty_vault_is_empty_and_sound(self, vault: FullVault) -> None:
        assert vault.get(["nobody"], EVERYTHING) == {}
        assert vault.history("nobody", EVERYTHING) == vault.list(ListQuery(scope=EVERYTHING)) == []
        assert not vault.log(LogQuery(scope=EVERYTHING))
        assert not vault.verify()
        assert not list(vault.records(EVERYTHING))
        assert vault.search_view(ViewQuery(scope=EVERYTHING, now=START)).view.refs == []
        stats = vault.stats(EVERYTHING)
        assert (stats.cubes, stats.versions, stats.commits, stats.relations) == (0, 0, 0, 0)

    def test_what_is_absent_is_left_out(self, vault: FullVault, scribe: Scribe) -> None:
        one, two = scribe.add("one"), scribe.add("two", scope=NOAH)
        assert vault.get([one.id, two.id, one.id, "nobody"], MARA) == {one.id: one}
        assert vault.get([], MARA) == {}
        refs = [one.ref, two.ref, VersionRef(one.id, 2), VersionRef(one.id, 0), VersionRef(one.id, -1)]
        assert vault.versions(refs, MARA) == {one.ref: one}

    def test_what_a_read_returns_is_the_callers_own(self, vault: FullVault, scribe: Scribe) -> None:
        given = {"list": [1]}
        cube = scribe.add(metadata=given)
        deep = {"a": 1}
        relation = scribe.relate(cube, scribe.add("other"), deep=deep)
        given["list"].append(2)
        deep["a"] = 2
        read = vault.get([cube.id], MARA)[cube.id]
        assert read.metadata == {"list": [1]}
        read.metadata["list"].append(3)  # type: ignore[union-attr]  # a caller may be careless
        assert scribe.head(cube).metadata == {"list": [1]}
        (record,) = vault.relations([relation.source_id], MARA)
        record.relation.properties["deep"]["a"] = 3  # type: ignore[index]  # as above
        assert vault.relations([relation.source_id], MARA)[0].relation.properties == {"deep": {"a": 1}}

    def test_pages_are_stable_while_others_write(self, vault: FullVault, scribe: Scribe) -> None:
        for descending in (False, True):
            cubes = [scribe.add(str(number)) for number in range(10)]
            known = {cube.id for cube in cubes}
            seen: list[str] = []
            after = None
            while page := vault.list(ListQuery(scope=MARA, limit=3, after=after, descending=descending)):
                seen.extend(cube.id for cube in page)
                after = (to_microseconds(page[-1].created_at), page[-1].id)
                if len(seen) < 7:
                    scribe.add("meanwhile")
                    scribe.revise(scribe.head(page[0]), "changed")
            assert len(seen) == len(set(seen))
            assert [cube_id for cube_id in seen if cube_id in known] == [
                cube.id for cube in (cubes[::-1] if descending else cubes)
            ]

    def test_order_is_by_time_then_id(self, vault: FullVault, scribe: Scribe) -> None:
        moments = [START + timedelta(days=days) for days in (3, 1, 1, 2)]
        cubes = [scribe.cube(str(number), descriptive=Descriptive(occurred_at=m)) for number, m in enumerate(moments)]
        scribe.commit(writes=cubes)  # all of them are recorded at the same moment
        unknown = scribe.add("occurred when it was recorded")
        by_event = vault.list(ListQuery(scope=MARA, order="occurred"))
        twins = sorted(cube.id for cube in cubes[1:3])
        assert [cube.id for cube in by_event] == [unknown.id, *twins, cubes[3].id, cubes[0].id]
        by_record = vault.list(ListQuery(scope=MARA))
        assert [cube.id for cube in by_record] == [*sorted(cube.id for cube in cubes), unknown.id]
        for order in ("created", "occurred"):
            query = ListQuery(scope=MARA, order=order)
            assert vault.list(replace(query, descending=True)) == vault.list(query)[::-1]
        middle = vault.list(ListQuery(scope=MARA, order="occurred", after=(to_microseconds(moments[1]), twins[0])))
        assert [cube.id for cube in middle] == [twins[1], cubes[3].id, cubes[0].id]

    def test_a_list_shows_what_is_asked_for(self, vault: FullVault, scribe: Scribe) -> None:
        blob = vault.blobs.put(b"kv")
        artefact = scribe.cube(payload=ArtefactPayload(blobs={"kv": blob}), memory_type=MemoryType.ACTIVATION)
        scribe.commit(writes=[artefact])
        note = scribe.add("note", descriptive=Descriptive(collection="notes"))
        archived = scribe.add("archived", state=MemoryState.ARCHIVED)
        brief = scribe.add("brief", governance=Governance(ttl_seconds=10))
        ended = scribe.add("ended")
        scribe.invalidate(ended)

        def ids(query: ListQuery) -> list[str]:
            return [cube.id for cube in vault.list(query)]

        every = ListQuery(scope=MARA)
        assert ids(every) == [artefact.id, note.id, archived.id, brief.id]
        assert ids(replace(every, collection="notes")) == [note.id]
        assert ids(replace(every, memory_types=frozenset({MemoryType.ACTIVATION}))) == [artefact.id]
        assert ids(replace(every, states=frozenset({MemoryState.ARCHIVED}))) == [archived.id]
        assert ids(replace(every, now=brief.recorded_at + timedelta(seconds=10))) == [artefact.id, note.id, archived.id]
        almost = brief.recorded_at + timedelta(seconds=10) - timedelta(microseconds=1)
        assert brief.id in ids(replace(every, now=almost))
        assert ids(replace(every, include_hidden=True, now=LATER)) == [
            artefact.id,
            note.id,
            archived.id,
            brief.id,
            ended.id,
        ]
        assert ids(replace(every, states=frozenset())) == ids(replace(every, limit=0)) == []

    def test_counts_count_the_scope(self, vault: FullVault, scribe: Scribe) -> None:
        one = scribe.revise(scribe.add("one"), "two")
        scribe.relate(one, scribe.add("three", state=MemoryState.GENERATED))
        scribe.add("noah's", scope=NOAH)
        scribe.erase(scribe.add("erased"))
        vault.touch([one.id], scribe.now)
        stats = vault.stats(MARA)
        assert (stats.cubes, stats.versions, stats.relations, stats.uses, stats.stale) == (2, 3, 1, 1, 0)
        assert stats.by_state == {"activated": 1, "generated": 1, "erased": 1}
        assert stats.by_type == {"plaintext": 2}
        assert (stats.commits, stats.size_bytes, stats.blob_bytes) == (None, None, None)
        whole = vault.stats(EVERYTHING)
        assert (whole.cubes, whole.commits) == (3, 7)

    def test_each_use_is_counted(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add()
        first, second = scribe.tick(), scribe.tick()
        vault.touch([cube.id, "nobody", cube.id], second)
        vault.touch([cube.id], first)
        behavioural = scribe.head(cube).behavioural
        assert (behavioural.use_count, behavioural.last_used_at) == (2, second)
        assert scribe.head(cube).version == 1
        assert vault.log(LogQuery(scope=EVERYTHING))[0].seq == 1
        assert scribe.revise(cube, "new").behavioural.use_count == 2  # written with the next commit, at the latest
        assert vault.list(ListQuery(scope=MARA))[0].behavioural.use_count == 2

    def test_a_closed_vault_says_so(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add()
        vault.close()
        vault.close()
        attempts: list[Callable[[], object]] = [
            lambda: vault.commit(Commit(activity=scribe.activity())),
            lambda: vault.get([cube.id], MARA),
            lambda: vault.history(cube.id, MARA),
            lambda: vault.list(ListQuery(scope=MARA)),
            lambda: vault.log(LogQuery(scope=MARA)),
            lambda: vault.touch([cube.id], scribe.now),
            lambda: vault.stats(MARA),
            vault.verify,
            lambda: vault.search_view(ViewQuery(scope=MARA, now=START)),
            lambda: list(vault.records(MARA)),
        ]
        for attempt in attempts:
            with pytest.raises(BackendUnavailable):
                attempt()


class CoordinationLaws(VaultLaws):
    """Leases, snapshots and vector spaces."""

    def test_a_lease_has_one_holder_and_its_token_grows(self, vault: FullVault) -> None:
        first = vault.acquire_lease("work", "a", 10, START)
        assert (first.name, first.owner, first.expires_at) == ("work", "a", START + timedelta(seconds=10))
        with pytest.raises(BackendUnavailable):
            vault.acquire_lease("work", "b", 10, START + timedelta(seconds=9))
        renewed = vault.acquire_lease("work", "a", 10, START + timedelta(seconds=9))
        assert (renewed.token, renewed.expires_at) == (first.token, START + timedelta(seconds=19))
        taken = vault.acquire_lease("work", "b", 10, START + timedelta(seconds=19))
        assert taken.token == first.token + 1
        vault.release_lease(first)  # no longer a's to give
        with pytest.raises(BackendUnavailable):
            vault.acquire_lease("work", "a", 10, START + timedelta(seconds=20))
        vault.release_lease(taken)
        vault.release_lease(taken)
        assert vault.acquire_lease("work", "a", 10, START + timedelta(seconds=20)).token == taken.token + 1
        again = vault.acquire_lease("work", "a", 10, START + timedelta(seconds=60))
        assert again.token == taken.token + 2  # its last one ran out: another may have worked since
        assert vault.acquire_lease("other", "b", 10, START).token == 1

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
    def test_a_lease_takes_time(self, vault: FullVault, seconds: float) -> None:
        with pytest.raises(InvalidRequest):
            vault.acquire_lease("work", "a", seconds, START)

    def test_a_commit_counts_only_while_its_lease_is_held(self, vault: FullVault, scribe: Scribe) -> None:
        lease = vault.acquire_lease("work", "a", 10, scribe.now)
        assert scribe.commit(lease=lease, writes=[scribe.cube("one")]).seq == 1
        scribe.tick(60)
        with pytest.raises(VersionConflict):  # it ran out
            scribe.commit(lease=lease, writes=[scribe.cube("two")])
        taken = vault.acquire_lease("work", "b", 10, scribe.now)
        for stale in (lease, replace(taken, owner="a"), replace(taken, token=lease.token), replace(taken, name="x")):
            with pytest.raises(VersionConflict):
                scribe.commit(lease=stale, writes=[scribe.cube("three")])
        assert scribe.commit(lease=taken).seq == 2
        vault.release_lease(taken)
        with pytest.raises(VersionConflict):
            scribe.commit(lease=taken)

    def test_a_renewed_lease_counts_until_its_new_end(self, vault: FullVault, scribe: Scribe) -> None:
        lease = vault.acquire_lease("work", "a", 10, scribe.now)
        vault.acquire_lease("work", "a", 100, scribe.now)
        scribe.tick(60)
        assert scribe.commit(lease=lease).seq == 1

    def test_a_snapshot_names_a_position_in_the_log(self, vault: FullVault, scribe: Scribe) -> None:
        empty = vault.set_snapshot("b", scribe.now)
        assert (empty.name, empty.seq, empty.at) == ("b", 0, scribe.now)
        scribe.add()
        snapshot = vault.set_snapshot("a", scribe.now)
        assert snapshot.seq == 1
        assert vault.snapshots() == [snapshot, empty]
        scribe.add("more")
        moved = vault.set_snapshot("b", scribe.now)
        assert vault.snapshots() == [snapshot, moved]
        assert moved.seq == 2

    def test_the_first_space_is_the_default_until_another_is_made_so(self, vault: FullVault) -> None:
        first = vault.open_space("m", 4)
        assert (first.fingerprint, first.dimension, first.is_default) == ("m", 4, True)
        second = vault.open_space("a", 3)
        assert not second.is_default
        assert vault.open_space("m", 4) == first
        assert vault.spaces() == [first, second]
        third = vault.open_space("z", 2, make_default=True)
        assert third.is_default
        assert vault.spaces() == [third, second, replace(first, is_default=False)]
        assert vault.open_space("a", 3, make_default=True).is_default
        assert [space.is_default for space in vault.spaces()] == [True, False, False]
        vault.drop_space("a")
        vault.drop_space("nobody")
        assert [space.fingerprint for space in vault.spaces()] == ["m", "z"]
        assert vault.open_space("new", 1).is_default

    def test_a_space_takes_the_place_of_another_with_all_its_vectors(self, vault: FullVault, scribe: Scribe) -> None:
        vault.open_space("old", 2)
        vault.open_space("side", 2)
        vectors = {name: np.array([1, 0], np.float32) for name in ("old", "side")}
        scribe.add("one", vectors=vectors)
        vault.open_space("new", 3)
        assert vault.open_space("new", 3, make_default=True, instead_of="old").is_default
        assert [space.fingerprint for space in vault.spaces()] == ["new", "side"]
        vault.open_space("old", 2)
        assert len(vault.missing_vectors("old", 10)) == 1
        assert vault.missing_vectors("side", 10) == []
        assert vault.open_space("new", 3, make_default=True, instead_of="new").is_default

    def test_a_space_keeps_its_dimension(self, vault: FullVault) -> None:
        vault.open_space("m", 4)
        with pytest.raises(IncompatibleModel):
            vault.open_space("m", 5)
        with pytest.raises(InvalidRequest):
            vault.open_space("n", 0)

    def test_vectors_are_added_later_and_gone_with_their_space(self, vault: FullVault, scribe: Scribe) -> None:
        vault.open_space("m", 2)
        vault.open_space("n", 3)
        one = scribe.add("one", vectors={"m": np.array([1, 0], np.float32)})
        two = scribe.revise(one, "two")
        scribe.add("", metadata={"text": "none"})
        artefact = scribe.cube(payload=ArtefactPayload(), memory_type=MemoryType.ACTIVATION)
        scribe.commit(writes=[artefact])
        three = scribe.add("three", scope=NOAH)
        erased = scribe.add("erased")
        scribe.erase(erased)
        assert [cube.ref for cube in vault.missing_vectors("m", 10)] == sorted([two.ref, three.ref])
        assert [cube.ref for cube in vault.missing_vectors("n", 2)] == sorted([one.ref, two.ref, three.ref])[:2]
        rest = vault.missing_vectors("n", 10, after=sorted([one.ref, two.ref, three.ref])[1])
        assert [cube.ref for cube in rest] == sorted([one.ref, two.ref, three.ref])[2:]
        unit = np.array([0, 1], np.float32)
        vault.add_vectors("m", {two.ref: unit, erased.ref: unit, VersionRef("nobody", 1): unit})
        vault.add_vectors("m", {two.ref: unit})
        assert [cube.ref for cube in vault.missing_vectors("m", 10)] == [three.ref]
        view = vault.search_view(ViewQuery(scope=MARA, now=scribe.now, space="m", memory_types=frozenset(MemoryType)))
        assert np.array_equal(view.view.vectors, [[0, 1], [0, 0], [0, 0]])
        vault.drop_space("m")
        vault.open_space("m", 2)
        assert len(vault.missing_vectors("m", 10)) == 3
        assert vault.verify() == []

    def test_a_wrong_vector_is_refused_with_all_beside_it(self, vault: FullVault, scribe: Scribe) -> None:
        vault.open_space("m", 2)
        one, two = scribe.add("one"), scribe.add("two")
        for bad in (np.ones(3), np.array([1, np.nan]), np.ones((1, 2)), np.array([1e9, 0])):
            with pytest.raises(InvalidRequest):
                vault.add_vectors("m", {one.ref: np.ones(2, np.float32), two.ref: bad.astype(np.float32)})
        assert len(vault.missing_vectors("m", 10)) == 2
        unknown: list[Callable[[], object]] = [
            lambda: vault.add_vectors("x", {one.ref: np.ones(2, np.float32)}),
            lambda: vault.missing_vectors("x", 10),
            lambda: vault.search_view(ViewQuery(scope=MARA, now=START, space="x")),
        ]
        for attempt in unknown:
            with pytest.raises(NotFound):
                attempt()

    def test_scopes_narrow_by_every_field(self, vault: FullVault, scribe: Scribe) -> None:
        owners = [
            Scope(user_id=user, agent_id=agent, session_id=session)
            for user in (None, "u")
            for agent in (None, "a")
            for session in (None, "s")
        ]
        cubes = {scribe.add("text", scope=owner).id: owner for owner in owners}
        for scope in owners:
            admitted = {cube_id for cube_id, owner in cubes.items() if scope.admits(owner)}
            assert set(scribe.listed(scope)) == set(scribe.found(scope)) == admitted
            assert vault.get(list(cubes), scope).keys() == admitted
            assert vault.stats(scope).cubes == len(admitted)
