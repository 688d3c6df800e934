"""Laws of isolation, as attacks: nothing of another tenant or user shows in a read, a count, a score or an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import AccessDenied, NotFound
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind
from memos_agents.infrastructure.vault.base import ListQuery, LogQuery, ViewQuery
from memos_agents.infrastructure.vault.commit import Write
from memos_agents.testing.vault_scribe import (
    EVERYTHING,
    LATER,
    MARA,
    NOAH,
    START,
    FullVault,
    Scribe,
    VaultLaws,
    everything_in,
)

WORD = "xylograph"
NOWHERE = "00000000-0000-7000-8000-000000000000"
LOOK_ALIKES = (
    "mar",  # a prefix
    "mara ",
    " mara",
    "Mara",
    "MARA",
    "mara%",
    "m_ra",
    "%",
    "*",
    "mara*",
    "м\u0430r\u0430",  # Cyrillic
    "mara\u0301",  # a combining accent
    "ｍａｒａ",  # full width
    "mara' OR '1'='1",
    "mara'; DROP TABLE cube; --",
    'mara" OR ""="',
    "mara\\",
    "mara/../noah",
    "0",
    "None",
    "null",
    "default",
    "m" * 512,
)
STRANGERS = [*(Scope(user_id=name) for name in LOOK_ALIKES), Scope(agent_id="mara"), Scope(session_id="mara"), NOAH]


def brief(scope: Scope) -> str:
    """A scope as the name of a test."""
    named = [f"{field}={value[:12]}" for field, value in scope.to_json().items() if value and field != "tenant"]
    return ascii(" ".join(named) or scope.tenant)


def secrets(scribe: Scribe) -> list[MemCube]:
    """What Mara has: of every kind of trace, one, and the word in every field."""
    header = Descriptive(key=WORD, title=WORD, name=WORD, tags=(WORD,), collection=WORD, role=WORD)
    cube = scribe.add(f"{WORD} one", metadata={WORD: WORD}, descriptive=header)
    cube = scribe.revise(cube, f"{WORD} two")
    derived = scribe.add(f"{WORD} derived", sources=[cube.ref])
    scribe.relate(cube, derived, why=WORD)
    ended = scribe.add(f"{WORD} ended")
    scribe.invalidate(ended)
    erased = scribe.add(f"{WORD} erased")
    scribe.erase(erased)
    scribe.step(derived, MemoryState.ARCHIVED)
    scribe.vault.touch([cube.id], scribe.now)
    scribe.commit(activity=scribe.activity("secret", word=WORD), writes=[scribe.next_of(cube, f"{WORD} three")])
    return [cube, derived, ended, erased]


def seen_by(vault: FullVault, scope: Scope, cubes: list[MemCube]) -> list[object]:
    """Everything that a stranger who knows all ids and words can get out of the read methods."""
    ids = [cube.id for cube in cubes]
    every = frozenset(MemoryState)
    listing = ListQuery(scope=scope, include_hidden=True, states=every, limit=1000)
    query = ViewQuery(scope=scope, now=LATER, states=every)
    views = [vault.search_view(query), vault.search_view(replace(query, as_of=cubes[0].recorded_at))]
    views.append(vault.search_view(replace(query, valid_at=START, collection=WORD)))
    activities = [entry.activity_id for entry in vault.log(LogQuery(scope=EVERYTHING, limit=1000))]
    seen: list[object] = [
        *vault.get(ids, scope).values(),
        *vault.versions([VersionRef(cube_id, number) for cube_id in ids for number in (1, 2, 3)], scope).values(),
        *(vault.history(cube_id, scope) for cube_id in ids),
        vault.find_key(scope, WORD, WORD),
        *vault.list(listing),
        *vault.list(replace(listing, order="occurred", descending=True)),
        *vault.list(replace(listing, after=(0, ids[0]))),
        *vault.list(replace(listing, after=(2**60, ids[0]), descending=True)),
        *vault.list(replace(listing, collection=WORD)),
        *vault.relations(ids, scope, removed=True),
        *vault.log(LogQuery(scope=scope)),
        *(vault.log(LogQuery(scope=scope, cube_id=cube_id)) for cube_id in ids),
        *(vault.log(LogQuery(scope=scope, activity_id=activity)) for activity in activities),
        *vault.log(LogQuery(scope=scope, since=START, until=LATER)),
        *vault.records(scope),
        *(view.view.refs for view in views),
        *(view.view.speakers for view in views),
        *(view.metadata() for view in views),
        *(view.postings([WORD, "xylograph", "one", "two", "three", "deriv", "end"]) for view in views),
    ]
    return [item for item in seen if item]


class UserIsolationLaws(VaultLaws):
    """One user against another."""

    @pytest.mark.parametrize("stranger", STRANGERS, ids=brief)
    def test_a_stranger_sees_nothing(self, vault: FullVault, scribe: Scribe, stranger: Scope) -> None:
        cubes = secrets(scribe)
        assert seen_by(vault, MARA, cubes)  # there is something to see
        assert seen_by(vault, stranger, cubes) == []
        stats = vault.stats(stranger)
        counted = (stats.cubes, stats.versions, stats.relations, stats.stale, stats.uses, stats.pending_scrubs)
        assert counted == (0, 0, 0, 0, 0, 0)
        assert (stats.commits, stats.size_bytes, stats.blob_bytes) == (None, None, None)
        assert not stats.by_state
        assert not stats.by_type

    @pytest.mark.parametrize("stranger", STRANGERS, ids=brief)
    def test_a_stranger_is_told_what_somebody_is_told_who_asks_for_nothing(
        self, vault: FullVault, scribe: Scribe, stranger: Scope
    ) -> None:
        cube = secrets(scribe)[0]
        activity = vault.log(LogQuery(scope=MARA))[0].activity_id

        def answer(attempt: Callable[[], object], name: str) -> str:
            with pytest.raises(NotFound) as caught:
                attempt()
            return f"{type(caught.value)} {caught.value}".replace(name, "X")

        for known, unknown in (
            (
                answer(lambda: vault.lineage(cube.ref, "both", None, stranger), cube.id),
                answer(lambda: vault.lineage(VersionRef(NOWHERE, 2), "both", None, stranger), NOWHERE),
            ),
            (
                answer(lambda: vault.effects(activity, stranger), activity),
                answer(lambda: vault.effects(NOWHERE, stranger), NOWHERE),
            ),
            (
                answer(lambda: scribe.commit(writes=[_claimed(cube, cube.id, stranger)]), cube.id),
                answer(lambda: scribe.commit(writes=[_claimed(cube, NOWHERE, stranger)]), NOWHERE),
            ),
        ):
            assert known == unknown

    def test_names_with_syntax_are_names(self, vault: FullVault, scribe: Scribe) -> None:
        scopes = [Scope(user_id=name, agent_id=name, session_id=name) for name in LOOK_ALIKES]
        cubes = {
            scribe.add(
                name,
                scope=scope,
                metadata={name: name},
                descriptive=Descriptive(key=name, collection=name, tags=(name,)),
            ).id: scope
            for name, scope in zip(LOOK_ALIKES, scopes, strict=True)
        }
        for cube_id, scope in cubes.items():
            name = str(scope.user_id)
            assert scribe.listed(scope) == scribe.found(scope) == [cube_id]
            found = vault.find_key(scope, name, name)
            assert found is not None
            assert (found.id, found.text, found.metadata) == (cube_id, name, {name: name})
        assert vault.verify() == []

    def test_shared_cubes_show_only_themselves(self, vault: FullVault, scribe: Scribe) -> None:
        """Reading a grant is a policy; a vault shows what the scope names, even where an edge leads on."""
        shared = scribe.add("shared", governance=Governance(readers=("noah",)))
        mine = scribe.add("noah's", scope=NOAH, sources=[shared.ref])
        scribe.relate(mine, shared, why=WORD)
        secret = scribe.add(f"{WORD} behind", sources=[shared.ref])
        graph = vault.lineage(mine.ref, "both", None, NOAH)
        assert [node.ref for node in graph.entities] == [mine.ref]
        assert not (graph.derivations or graph.relations or graph.revisions)
        assert len(graph.activities) == 1
        assert vault.relations([mine.id, shared.id], NOAH, removed=True) == []
        down = vault.lineage(shared.ref, "down", None, MARA)
        assert {node.ref for node in down.entities} == {shared.ref, secret.ref}
        assert vault.stats(NOAH).relations == vault.stats(MARA).relations == 0
        text = repr((graph, list(vault.records(NOAH)), vault.log(LogQuery(scope=NOAH))))
        for hidden in (shared.id, secret.id, WORD, "shared", "mara"):
            assert hidden not in text

    def test_an_activity_for_two_users_shows_each_their_part(self, vault: FullVault, scribe: Scribe) -> None:
        mine, theirs = scribe.cube("mine"), scribe.cube("theirs", scope=NOAH)
        activity = scribe.activity("import", path=f"/home/{WORD}")
        scribe.commit(activity=activity, writes=[mine, theirs])
        for scope, cube in ((MARA, mine), (NOAH, theirs)):
            (entry,) = vault.log(LogQuery(scope=scope))
            assert (entry.cubes, dict(entry.parameters), entry.seq, entry.chain) == ((cube.id,), {}, None, None)
            with pytest.raises(NotFound):
                vault.effects(activity.id, scope)
            unseen = theirs if cube is mine else mine
            assert vault.log(LogQuery(scope=scope, cube_id=unseen.id)) == []
            assert vault.lineage(cube.ref, "up", None, scope).activities[0].parameters == {}
            assert WORD not in repr(list(vault.records(scope)))
        assert vault.log(LogQuery(scope=EVERYTHING))[0].parameters == {"path": f"/home/{WORD}"}
        assert vault.effects(activity.id, EVERYTHING).writes == ((mine.ref, 0), (theirs.ref, 0))

    def test_positions_in_the_log_do_not_count_others_commits(self, vault: FullVault, scribe: Scribe) -> None:
        scribe.add("mine")
        scribe.add("theirs", scope=NOAH)
        for scope in (MARA, Scope()):
            assert all((entry.seq, entry.chain) == (None, None) for entry in vault.log(LogQuery(scope=scope)))

    def test_an_erasure_by_another_user_shows_only_what_it_took_here(self, vault: FullVault, scribe: Scribe) -> None:
        source = scribe.add(WORD, governance=Governance(readers=("noah",)))
        derived = scribe.add("noah's", scope=NOAH, sources=[source.ref])
        scribe.commit(activity=scribe.activity("erase", reason=WORD), erasures=[source.id])
        entry = vault.log(LogQuery(scope=NOAH))[0]
        assert (entry.kind, entry.cubes, dict(entry.parameters)) == ("erase", (derived.id,), {})
        with pytest.raises(NotFound):
            vault.effects(entry.activity_id, NOAH)
        text = repr((list(vault.records(NOAH)), vault.lineage(derived.ref, "both", None, NOAH)))
        assert source.id not in text
        assert WORD not in text

    def test_a_duplicate_of_another_users_memory_is_none(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add(WORD)
        for scope in STRANGERS:
            result = scribe.commit(writes=[Write(cube=scribe.cube(WORD, scope=scope), merge_duplicate=True)])
            assert not result.outcomes[0].is_duplicate
        assert scribe.head(cube).behavioural.use_count == 0
        assert vault.stats(MARA).uses == 0

    def test_edges_to_what_is_not_granted_are_refused_whichever_way(self, scribe: Scribe) -> None:
        theirs, mine = scribe.add("theirs", scope=NOAH), scribe.add("mine")
        attempts: list[dict[str, list[object]]] = []
        for source, target in ((theirs, mine), (mine, theirs)):
            relation = Relation(source_id=source.id, kind=RelationKind.PART_OF, target_id=target.id)
            new = scribe.cube("new", scope=source.scope)
            attempts.append({"relations": [relation]})
            attempts.append({"writes": [new], "derivations": [Derivation(derived=new.ref, source=target.ref)]})
            version = scribe.next_of(source, "next")
            attempts.append(
                {"writes": [version], "derivations": [Derivation(derived=version.cube.ref, source=target.ref)]}
            )
        before = everything_in(scribe.vault)
        for parts in attempts:
            with pytest.raises(AccessDenied):
                scribe.commit(**parts)  # type: ignore[arg-type]  # parts of a commit
        assert everything_in(scribe.vault) == before

    def test_neighbours_in_a_session_are_those_of_its_owner(self, vault: FullVault, scribe: Scribe) -> None:
        """Two users, or two agents, may give their sessions the same name."""
        scopes = [
            Scope(user_id="mara", session_id="s"),
            Scope(user_id="noah", session_id="s"),
            Scope(user_id="mara", agent_id="a", session_id="s"),
        ]
        for number in range(6):
            scribe.add(str(number), scope=scopes[number % 3])
        view = vault.search_view(ViewQuery(scope=EVERYTHING, now=scribe.now)).view
        assert view.following.tolist() == [3, 4, 5, -1, -1, -1]
        assert len(set(view.session.tolist())) == 3
        view = vault.search_view(ViewQuery(scope=MARA, now=scribe.now)).view
        assert view.following.tolist() == [2, 3, -1, -1]


def _claimed(cube: MemCube, cube_id: str, scope: Scope) -> Write:
    return Write(cube=replace(cube, id=cube_id, version=4, scope=scope), replaces=3)
