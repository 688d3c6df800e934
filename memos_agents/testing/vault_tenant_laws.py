"""Laws of isolation between tenants that live in one place, as attacks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest, NotFound
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind
from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.commit import Commit, Write
from memos_agents.testing.vault_isolation_laws import WORD, brief, secrets, seen_by
from memos_agents.testing.vault_scribe import (
    EVERYTHING,
    MARA,
    START,
    FullVault,
    Scribe,
    VaultLaws,
    everything_in,
)

ELSEWHERE = [
    Scope(tenant="other"),
    Scope(tenant="other", user_id="mara"),
    Scope.everything("other"),
    Scope.everything("Default"),
    Scope.everything("defaul"),
]


class TenantIsolationLaws(VaultLaws):
    """One tenant against another in the same place."""

    @pytest.mark.parametrize("scope", ELSEWHERE, ids=brief)
    def test_a_scope_of_another_tenant_sees_nothing(self, vault: FullVault, scribe: Scribe, scope: Scope) -> None:
        cubes = secrets(scribe)
        assert seen_by(vault, scope, cubes) == []
        stats = vault.stats(scope)
        assert (stats.cubes, stats.versions, stats.relations, stats.uses) == (0, 0, 0, 0)
        assert (stats.commits, stats.size_bytes, stats.blob_bytes) == (None, None, None)
        with pytest.raises(NotFound):
            vault.lineage(cubes[0].ref, "both", None, scope)
        with pytest.raises(NotFound):
            vault.effects(vault.log(LogQuery(scope=EVERYTHING))[0].activity_id, scope)

    def test_a_neighbour_sees_nothing(self, neighbour: FullVault, scribe: Scribe) -> None:
        cubes = secrets(scribe)
        activities = [entry.activity_id for entry in scribe.vault.log(LogQuery(scope=EVERYTHING))]
        for scope in (Scope.everything("other"), Scope(tenant="other", user_id="mara"), EVERYTHING, MARA):
            assert seen_by(neighbour, scope, cubes) == []
            assert neighbour.stats(scope).cubes == 0
            for activity in activities:
                assert neighbour.tombstones(activity) == []
                with pytest.raises(NotFound):
                    neighbour.effects(activity, scope)
        assert neighbour.stats(Scope.everything("other")).commits == 0
        assert not (neighbour.snapshots() or neighbour.spaces())
        assert neighbour.verify() == scribe.vault.verify() == []

    def test_a_neighbour_cannot_touch_anything(self, neighbour: FullVault, scribe: Scribe) -> None:
        cube, *_ = secrets(scribe)
        before = everything_in(scribe.vault)
        theirs = Scribe(neighbour, seed=1)
        mine = theirs.cube("mine", scope=Scope(tenant="other", user_id="mara"))
        relation = Relation(source_id=mine.id, kind=RelationKind.NEXT, target_id=cube.id)
        attempts: list[dict[str, list[object]]] = [
            {"writes": [Write(cube=replace(cube, version=4, scope=mine.scope), replaces=3)]},
            {"erasures": [cube.id]},
            {"writes": [mine], "relations": [relation]},
            {"writes": [mine], "derivations": [Derivation(derived=mine.ref, source=cube.ref)]},
        ]
        for parts in attempts:
            with pytest.raises(NotFound):
                theirs.commit(**parts)  # type: ignore[arg-type]  # parts of a commit
        with pytest.raises(InvalidRequest):
            theirs.commit(writes=[scribe.next_of(cube)])
        neighbour.touch([cube.id], theirs.now)
        assert everything_in(scribe.vault) == before

    def test_names_are_free_in_each_tenant(self, neighbour: FullVault, scribe: Scribe) -> None:
        """Ids, keys and names of another tenant are not even known to be taken."""
        vault, theirs = scribe.vault, Scribe(neighbour)
        cube = scribe.cube(WORD, descriptive=Descriptive(key="k"))
        twin = replace(cube, scope=Scope(tenant="other", user_id="mara"))
        activity = scribe.activity()
        assert scribe.commit(activity=activity, key="once", writes=[cube]).seq == 1
        done = neighbour.commit(Commit(activity=activity, key="once", writes=(Write(cube=twin, merge_duplicate=True),)))
        assert (done.seq, done.is_repeated, done.outcomes[0].is_duplicate) == (1, False, False)
        assert neighbour.find_key(twin.scope, "memories", "k") == neighbour.get([cube.id], twin.scope)[cube.id]
        lease = vault.acquire_lease("work", "a", 60, START)
        assert neighbour.acquire_lease("work", "b", 60, START).token == lease.token == 1
        vault.set_snapshot("s", START)
        assert neighbour.snapshots() == []
        assert vault.open_space("m", 4).is_default
        assert neighbour.open_space("m", 3).is_default
        assert theirs.vault.spaces()[0].dimension == 3
        theirs.commit(erasures=[twin.id])
        assert scribe.head(cube).text == WORD
        assert vault.find_key(MARA, "memories", "k") == scribe.head(cube)
        assert vault.verify() == neighbour.verify() == []

    def test_blobs_of_a_neighbour_survive_an_erasure(self, neighbour: FullVault, scribe: Scribe) -> None:
        theirs = Scribe(neighbour, seed=1)
        cubes = []
        for writer, scope in ((scribe, MARA), (theirs, Scope(tenant="other", user_id="mara"))):
            blob = writer.vault.blobs.put(b"the same bytes")
            cube = writer.cube(payload=ArtefactPayload(blobs={"kv": blob}), scope=scope)
            writer.commit(writes=[cube])
            cubes.append((writer, cube, blob))
        scribe.erase(cubes[0][1])
        assert scribe.vault.scrub()
        assert neighbour.blobs.get(cubes[1][2].sha256) == b"the same bytes"
        assert neighbour.verify() == []

    def test_times_of_a_neighbour_do_not_move_ours(self, neighbour: FullVault, scribe: Scribe) -> None:
        theirs = Scribe(neighbour, seed=1, start=START + timedelta(days=1000))
        theirs.commit(writes=[theirs.cube(scope=Scope(tenant="other", user_id="mara"))])
        assert scribe.add().recorded_at == scribe.now
