"""Isolation: whatever somebody asks, the answer is the same whether or not other people's memories exist.

One law, checked by attack: the same store is built twice, with and without the victim, with the same clock and ids.
What the attacker gets, cubes, scores, counts, cursors, errors and their words, must be equal letter by letter.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_agents import InvalidRequest, MemOS, NotFound, Scope, ScopedMemOS, VersionRef
from memos_agents.cube.identity import IdSource
from memos_agents.errors import MemOSError
from memos_agents.infrastructure.vault.base import ListQuery, MemVault
from memos_agents.testing import FixedClock, HashEmbedder

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECRET = "zanzibar"
MISSING = "0190a0b0-0000-7000-8000-000000000000"


@dataclass
class World:
    """A store, the attacker's view of it, and ids of the victim (of nothing, where there is no victim)."""

    memos: MemOS
    tom: ScopedMemOS
    mine: str
    foreign: str
    folder: Path


def front(vault: MemVault, seed: int, clock: FixedClock) -> MemOS:
    bits = itertools.count(seed << 40)
    return MemOS(vault, embedder=HashEmbedder(dimension=64), clock=clock, ids=IdSource(lambda _: next(bits)))


def build(folder: Path, kind: str, has_victim: bool) -> World:
    folder.mkdir()
    owner = MemOS.open(":memory:" if kind == "memory" else folder / "memos.db", embedder=HashEmbedder(dimension=64))
    # What the victim does lies in time between two acts of the attacker, so that it moves none of their times.
    now, theirs = FixedClock(START + MINUTE, step=MINUTE), FixedClock(START, step=timedelta(milliseconds=1))
    attacker, victim = front(owner.vault, 1, now), front(owner.vault, 2, theirs)
    foreign = MISSING
    if has_victim:
        cubes = victim.add(
            [f"The {SECRET} password is swordfish", "alpacas graze in Lisbon", "I live in Lisbon with alpacas"],
            user_id="mara", session_id="s1", metadata={"vault": SECRET}, tags=[SECRET],
        )  # fmt: skip
        foreign = cubes[0].id
        victim.add(f"{SECRET} key", user_id="mara", key="home")
    first, second = attacker.add(["alpacas graze in Porto", "I live in Porto"], user_id="tom", session_id="s1")
    theirs.advance(MINUTE)
    if has_victim:
        victim.update(foreign, f"The {SECRET} password is now trout")
        victim.relate(foreign, "MENTIONS", cubes[1].id, properties={"why": SECRET})
        victim.add(f"summary of {SECRET}", user_id="mara", derived_from=foreign)
        for name in ("to", "tom2", "TOM", "tom ", "t\u043em", "tom%", "to_", "*"):
            victim.add(f"{SECRET} alpacas of a look-alike in Lisbon", user_id=name)
        victim.add("alpacas graze in Faro", user_id="mara", session_id="s1", occurred_at=START)
        victim.archive(cubes[2].id)
    attacker.relate(first, "RELATES_TO", second, properties={"n": 1})
    attacker.update(second.id, "I live in Porto now")
    theirs.advance(2 * MINUTE)
    if has_victim:
        victim.erase(victim.add(f"gone {SECRET}", user_id="mara")[0].id)
    now.advance(timedelta(days=1))
    return World(attacker, attacker.scoped(user_id="tom"), first.id, foreign, folder)


def opened(folder: Path, kind: str) -> Iterator[tuple[World, World]]:
    pair = build(folder / "with", kind, True), build(folder / "without", kind, False)
    yield pair
    for world in pair:
        world.memos.vault.close()


@pytest.fixture(params=["memory", "file"])
def worlds(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[World, World]]:
    yield from opened(tmp_path, request.param)


@pytest.fixture(scope="module", params=["memory", "file"])
def lasting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, World]]:
    """For attacks that only read; both worlds see the same ones in the same order."""
    yield from opened(tmp_path_factory.mktemp("worlds"), request.param)


def answer(world: World, attack: Callable[[World], object]) -> str:
    """What the attack shows, ids that it brought itself made equal."""
    try:
        shown = repr(attack(world))
    except MemOSError as error:
        shown = f"{type(error).__name__}: {error} {error.details}"
    return shown.replace(world.foreign, "<foreign>").replace(str(world.folder), "<folder>")


def why(hits: Any) -> object:
    return [(hit.cube, hit.score, dict(hit.why), str(hit.why)) for hit in hits]


def bundle(world: World) -> object:
    path = world.folder / "tom.memcube"
    report = world.tom.export(path)
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=64)) as other:
        other.load(path)
        everything = Scope.everything()
        return report.counts, list(other.list(scope=everything)), other.stats(scope=everything)


READS: dict[str, Callable[[World], object]] = {
    "search common words": lambda w: why(w.tom.search("alpacas graze in Lisbon", limit=50)),
    "search the secret": lambda w: why(w.tom.search(SECRET, limit=50)),
    "search keyword scope": lambda w: why(w.memos.search("alpacas in Lisbon", user_id="tom", limit=50)),
    "search a shared session": lambda w: why(w.tom.search("alpacas", session_id="s1")),
    "search as of": lambda w: why(w.tom.search("alpacas Lisbon", as_of=START + 1.5 * MINUTE)),
    "search valid at": lambda w: why(w.tom.search("alpacas Lisbon", valid_at=START)),
    "search every state": lambda w: why(w.tom.search("alpacas Lisbon", states=["activated", "archived", "expired"])),
    "search every collection": lambda w: why(w.tom.search("alpacas Lisbon", collection=None)),
    "search by a foreign filter": lambda w: why(w.tom.search("alpacas", filter={"vault": SECRET})),
    "search by a negated filter": lambda w: why(w.tom.search("alpacas", filter={"vault": {"$ne": 1}})),
    "search dates": lambda w: why(w.tom.search("What happened in January 2026?")),
    "search everything in a view": lambda w: why(w.tom.search("alpacas", scope=Scope.everything())),
    "list": lambda w: (w.tom.list(), w.tom.list().cursor),
    "list pages": lambda w: (page := w.tom.list(limit=1), page.cursor, w.tom.list(limit=1, cursor=page.cursor)),
    "list hidden": lambda w: w.tom.list(include_hidden=True, order="-occurred"),
    "list everything in a view": lambda w: w.tom.list(scope=Scope.everything()),
    "get a foreign id": lambda w: w.tom.get(w.foreign),
    "get a foreign version": lambda w: w.tom.get(w.foreign, version=1),
    "get with keyword scope": lambda w: w.memos.get(w.foreign, user_id="tom"),
    "get a foreign key": lambda w: w.tom.get(key="home"),
    "history": lambda w: w.tom.history(w.foreign),
    "relations": lambda w: w.tom.relations(w.foreign),
    "my relations": lambda w: w.tom.relations(w.mine, removed=True),
    "provenance up": lambda w: w.tom.provenance(w.foreign),
    "provenance of mine": lambda w: w.tom.provenance(w.mine, direction="both"),
    "log": lambda w: w.tom.log(limit=1_000),
    "log of a foreign cube": lambda w: w.tom.log(cube_id=w.foreign),
    "log everything in a view": lambda w: w.tom.log(scope=Scope.everything()),
    "stats": lambda w: w.tom.stats(),
    "export": bundle,
    "another user in a view": lambda w: w.tom.search("alpacas", user_id="mara"),
    "another user's scope in a view": lambda w: w.tom.list(scope=Scope(user_id="mara")),
    "a view of a view": lambda w: w.tom.scoped(user_id="mara"),
    "another tenant": lambda w: w.tom.list(scope=Scope(tenant="other", user_id="tom")),
}  # fmt: skip
LOOK_ALIKES = (
    "",
    " ",
    "to\u200bm",
    "\x00",
    "tom\n",
    "' OR '1'='1",
    "%",
    "t_m",
    "tom' --",
    'tom" OR user:mara',
    "ｔｏｍ",
)
SYNTAX = (
    f"* OR {SECRET}", f'"{SECRET}"', f"NEAR({SECRET} password)", f"{SECRET}*", "' UNION SELECT body FROM version --",
    "user:mara", "a\ue000b", "mara", f"NOT alpacas {SECRET}", "^alpacas", "alpacas) OR (1=1",
)  # fmt: skip
WRITES: dict[str, Callable[[World], object]] = {
    "update": lambda w: w.tom.update(w.foreign, "mine now"),
    "update with a guessed version": lambda w: w.tom.update(w.foreign, "mine now", expected_version=2),
    "rollback": lambda w: w.tom.rollback(w.foreign, to_version=1),
    "archive": lambda w: w.tom.archive(w.foreign),
    "activate": lambda w: w.tom.activate(w.foreign),
    "freeze": lambda w: w.tom.freeze(w.foreign),
    "unfreeze": lambda w: w.tom.unfreeze(w.foreign),
    "relate to": lambda w: w.tom.relate(w.mine, "MENTIONS", w.foreign),
    "relate from": lambda w: w.tom.relate(w.foreign, "MENTIONS", w.mine),
    "unrelate": lambda w: w.tom.unrelate(w.foreign, "MENTIONS", w.mine),
    "derive": lambda w: w.tom.add("copy", derived_from=w.foreign),
    "derive from a version": lambda w: w.tom.add("copy", derived_from=VersionRef(w.foreign, 1)),
    "erase": lambda w: w.tom.erase(w.foreign),
    "erase with mine": lambda w: w.tom.erase([w.mine, w.foreign]),
    "erase a key": lambda w: w.tom.erase(key="home"),
    "erase a user": lambda w: w.tom.erase(user_id="mara"),
    "take a key": lambda w: w.tom.add("mine", key="home"),
    "add a known text": lambda w: w.tom.add("alpacas graze in Lisbon", session_id="s1"),
    "add a near duplicate": lambda w: (
        cube := w.tom.add(f"The {SECRET} password is now trout!", session_id="s1")[0], w.tom.relations(cube)
    ),
    "write outside": lambda w: w.tom.add("x", user_id="mara"),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_a_read_shows_nothing_of_others(lasting: tuple[World, World], name: str) -> None:
    with_victim, without = lasting
    shown = answer(with_victim, READS[name])
    assert shown == answer(without, READS[name])


def test_the_law_would_notice_a_leak(lasting: tuple[World, World]) -> None:
    with_victim, without = lasting
    for leak in (
        lambda world: world.memos.list(scope=Scope.everything()),
        lambda world: why(world.memos.search("alpacas graze", scope=Scope.everything())),
        lambda world: world.memos.get(world.foreign),
        lambda world: world.memos.stats(scope=Scope.everything()),
    ):
        assert answer(with_victim, leak) != answer(without, leak)


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_look_alike_of_a_user_is_somebody_else(lasting: tuple[World, World], name: str) -> None:
    with_victim, without = lasting
    shown = answer(with_victim, lambda world: world.memos.list(user_id=name))
    assert shown == answer(without, lambda world: world.memos.list(user_id=name))
    assert shown == "[]" or shown.startswith("InvalidRequest")


@pytest.mark.parametrize("text", SYNTAX)
def test_no_syntax_in_a_query_reaches_further(lasting: tuple[World, World], text: str) -> None:
    with_victim, without = lasting
    shown = answer(with_victim, lambda world: why(world.tom.search(text, limit=50)))
    assert shown == answer(without, lambda world: why(world.tom.search(text, limit=50)))


@pytest.mark.parametrize("name", WRITES)
def test_a_write_reaches_and_shows_nothing_of_others(worlds: tuple[World, World], name: str) -> None:
    with_victim, without = worlds
    query = ListQuery(scope=Scope(user_id="mara"), include_hidden=True)
    before = with_victim.memos.vault.list(query)
    assert answer(with_victim, WRITES[name]) == answer(without, WRITES[name])
    assert with_victim.memos.vault.list(query) == before
    assert answer(with_victim, READS["list"]) == answer(without, READS["list"])


def test_undo_reaches_only_what_is_wholly_ones_own(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    for entry in world.memos.log(scope=Scope.everything(), limit=100):
        if "mara" in {world.memos.vault.get([cube], Scope.everything())[cube].scope.user_id for cube in entry.cubes}:
            with pytest.raises(NotFound, match="activity"):
                world.tom.undo(entry.activity_id)


def test_a_view_cannot_reach_the_store_as_a_whole(worlds: tuple[World, World]) -> None:
    for name in ("verify", "backup", "load", "reembed", "scrub", "snapshot", "snapshots", "close", "open"):
        assert not hasattr(worlds[0].tom, name)


def test_a_receipt_in_a_view_names_only_what_the_view_may_know(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    shared = world.memos.add("shared thing", user_id="tom", readers=["mara"])[0]
    theirs = world.memos.add("made from it", user_id="mara", derived_from=shared)[0]
    receipt = world.tom.erase(shared.id)
    assert {stone.ref.cube_id for stone in receipt.tombstones} == {shared.id}
    with pytest.raises(NotFound):
        world.memos.get(theirs.id)


def test_a_foreign_id_takes_as_long_as_a_missing_one(worlds: tuple[World, World]) -> None:
    world, _ = worlds

    def fastest(cube_id: str) -> float:
        best = float("inf")
        for _ in range(200):
            start = time.perf_counter()
            with pytest.raises(NotFound):
                world.tom.get(cube_id)
            best = min(best, time.perf_counter() - start)
        return best

    foreign, missing = fastest(world.foreign), fastest(MISSING)
    assert 1 / 3 < foreign / missing < 3  # wide, for machines that do other things meanwhile


def test_everything_is_only_for_those_who_say_so(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    for call in (world.memos.list, world.memos.log, world.memos.stats, world.memos.erase):
        with pytest.raises(InvalidRequest):
            call()
        with pytest.raises(InvalidRequest):
            call(scope=Scope())
    assert len(world.memos.list(scope=Scope.everything())) > len(world.tom.list())
