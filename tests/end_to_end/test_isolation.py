"""Isolation: whatever somebody asks, the answer is the same whether or not other people's memories exist.

One law, checked by attack: the same store is built twice, with and without the victim, with the same clock and ids.
What the attacker gets, cubes, scores, counts, cursors, errors and their words, must be equal letter by letter. The
victim is another user, another session or agent of the same user, or the same user of another tenant in the same file.
What needs no second world is in `test_isolation_edges.py`.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memos_agents import AsyncMemOS, InvalidRequest, MemOS, NotFound, Scope, ScopedMemOS, Source, VersionRef
from memos_agents.cli.application import app
from memos_agents.cube.identity import IdSource
from memos_agents.errors import MemOSError
from memos_agents.infrastructure.vault.base import ListQuery, LogQuery, MemVault
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.infrastructure.vault.sqlite import SqliteVault, engine
from memos_agents.operation.weights import Weights
from memos_agents.testing import FixedClock, HashEmbedder

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECRET = "zanzibar"
MISSING = "0190a0b0-0000-7000-8000-000000000000"
EVERYTHING = Scope.everything()

ATTACKER: Mapping[str, Mapping[str, str]] = {
    "user": {"user_id": "tom"},
    "session": {"user_id": "tom", "session_id": "s1"},
    "agent": {"user_id": "tom", "agent_id": "a1"},
    "tenant": {"user_id": "tom"},
}
VICTIM: Mapping[str, Mapping[str, str]] = {
    "user": {"user_id": "mara"},
    "session": {"user_id": "tom", "session_id": "s2"},
    "agent": {"user_id": "tom", "agent_id": "a2"},
    "tenant": {"user_id": "tom"},
}
"""Whose memory the attacker may see, and whose the victim's is, by what divides them."""


@dataclass
class World:
    """A store, the attacker's view of it, and ids of the victim (of nothing, where there is no victim)."""

    memos: MemOS
    tom: ScopedMemOS
    scope: dict[str, str]
    other: dict[str, str]
    mine: str
    folder: Path
    foreign: str = MISSING
    activity: str = MISSING
    vaults: list[MemVault] = field(default_factory=list)


def front(vault: MemVault, seed: int, clock: FixedClock) -> MemOS:
    bits = itertools.count(seed << 40)
    return MemOS(vault, embedder=HashEmbedder(), clock=clock, ids=IdSource(lambda _: next(bits)))


def vault_of(folder: Path, kind: str, tenant: str = "default") -> MemVault:
    """A vault in `folder`; `kind` is "memory", "file" or the address of a Neo4j server."""
    if kind == "memory":
        return MemoryVault(tenant=tenant)
    if kind == "file":
        return SqliteVault(folder / "memos.db", tenant=tenant, durability="relaxed")
    from memos_agents.infrastructure.vault.neo4j import Neo4jVault

    return Neo4jVault(kind, tenant=tenant, store=f"{folder.parent.name}-{folder.name}-{os.getpid()}")


def build(folder: Path, kind: str, has_victim: bool, divided_by: str = "user") -> World:
    folder.mkdir()
    vaults: list[MemVault] = [vault_of(folder, kind)]
    if divided_by == "tenant":
        vaults.append(vault_of(folder, kind, "other"))
    # What the victim does lies in time between two acts of the attacker, so that it moves none of their times.
    now, theirs = FixedClock(START + MINUTE, step=MINUTE), FixedClock(START, step=timedelta(milliseconds=1))
    attacker, victim = front(vaults[0], 1, now), front(vaults[-1], 2, theirs)
    mine, own = dict(ATTACKER[divided_by]), dict(VICTIM[divided_by])
    world = World(attacker, attacker.scoped(**mine), mine, own, MISSING, folder, vaults=vaults)
    shared = {"session_id": "s1"} if divided_by == "user" else {}
    together, theirs_together = {**shared, **mine}, {**shared, **own}
    if has_victim:
        cubes = victim.add(
            [f"The {SECRET} password is swordfish", "alpacas graze in Lisbon", "I live in Lisbon with alpacas"],
            **theirs_together, metadata={"vault": SECRET}, tags=[SECRET], commit_key="job-7",
        )  # fmt: skip
        world.foreign = cubes[0].id
        world.activity = victim.vault.log(LogQuery(scope=Scope.everything(victim.tenant), limit=1))[0].activity_id
        victim.add(f"{SECRET} key", **own, key="home")
    first, second = attacker.add(["alpacas graze in Porto", "I live in Porto"], **together)
    world.mine = first.id
    theirs.advance(MINUTE)
    if has_victim:
        victim.update(world.foreign, f"The {SECRET} password is now trout")
        victim.relate(world.foreign, "MENTIONS", cubes[1].id, properties={"why": SECRET})
        victim.add(f"summary of {SECRET}", **own, derived_from=world.foreign)
        for name in ("to", "tom2", "TOM", "tom ", "t\u043em", "tom%", "to_", "*"):
            victim.add(f"{SECRET} alpacas of a look-alike in Lisbon", user_id=name)
        victim.add("alpacas graze in Faro", **theirs_together, occurred_at=START)
        victim.archive(cubes[2].id)
    attacker.relate(first, "RELATES_TO", second, properties={"n": 1})
    attacker.update(second.id, "I live in Porto now")
    theirs.advance(2 * MINUTE)
    if has_victim:
        victim.erase(victim.add(f"gone {SECRET}", **own)[0].id)
    now.advance(timedelta(days=1))
    return world


def opened(folder: Path, kind: str, divided_by: str = "user") -> Iterator[tuple[World, World]]:
    pair = build(folder / "with", kind, True, divided_by), build(folder / "without", kind, False, divided_by)
    yield pair
    for world in pair:
        for vault in world.vaults:
            vault.close()


SERVER = pytest.param("neo4j", marks=pytest.mark.neo4j)


@pytest.fixture(params=["memory", "file", SERVER])
def worlds(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[World, World]]:
    yield from opened(tmp_path, place_of(request, request.param))


LASTING = [(kind, by) for by in ("user", "session", "agent") for kind in ("memory", "file")] + [("file", "tenant")]
SERVED = [pytest.param(("neo4j", by), marks=pytest.mark.neo4j) for by in ("user", "tenant")]


@pytest.fixture(scope="module", params=[*LASTING, *SERVED], ids="-".join)
def lasting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, World]]:
    """For attacks that only read; both worlds see the same ones in the same order."""
    kind, divided_by = request.param
    yield from opened(tmp_path_factory.mktemp("worlds"), place_of(request, kind), divided_by)


def place_of(request: pytest.FixtureRequest, kind: str) -> str:
    """`kind`, or the address of the server that it stands for."""
    return str(request.getfixturevalue("neo4j_uri")) if kind == "neo4j" else kind


def answer(world: World, attack: Callable[[World], object]) -> str:
    """What the attack shows, ids that it brought itself made equal."""
    try:
        found = attack(world)
        shown = f"{told(found)} {found!r}"
    except MemOSError as error:
        shown = f"{type(error).__name__}: {error} {error.details} {error.__cause__!r}"
    for name in (world.foreign, world.activity):
        shown = shown.replace(name, "<foreign>")
    return shown.replace(str(world.folder), "<folder>")


def told(value: object) -> str:
    """Every field of everything, whatever its `repr` leaves out."""
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(f'{f.name}={told(getattr(value, f.name))}' for f in fields(value))})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{told(key)}: {told(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"{getattr(value, 'cursor', '')}[{', '.join(map(told, value))}]"
    return repr(value)


def why(hits: Any) -> object:
    """Everything about hits, scores to the last bit."""
    return [(hit.cube, hit.score.hex(), {part: share.hex() for part, share in hit.why.items()}, repr(hit.why),
             str(hit.why)) for hit in hits]  # fmt: skip


def bundle(world: World) -> object:
    path = world.folder / "tom.memcube"
    report = world.tom.export(path)
    with MemOS.open(":memory:", embedder=HashEmbedder()) as other:
        other.load(path)
        return report.counts, list(other.list(scope=EVERYTHING)), other.stats(scope=EVERYTHING)


def forged(world: World, **changed: object) -> str:
    """A cursor of the attacker's own listing, pointing to where the victim's cube lies."""
    cursor = world.tom.list(limit=1).cursor
    assert cursor is not None
    place = json.loads(base64.urlsafe_b64decode(cursor))
    place = [changed.get("at", place[0]), changed.get("id", place[1]), place[2]]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def graph(world: World, cube_id: str, **arguments: Any) -> object:
    found = world.tom.provenance(cube_id, **arguments)
    return found, found.to_prov_json(), found.to_mermaid(), found.to_html()


READS: dict[str, Callable[[World], object]] = {
    "search common words": lambda w: why(w.tom.search("alpacas graze in Lisbon", limit=50)),
    "search the secret": lambda w: why(w.tom.search(SECRET, limit=50)),
    "search keyword scope": lambda w: why(w.memos.search("alpacas in Lisbon", **w.scope, limit=50)),
    "search a scope object": lambda w: why(w.memos.search("alpacas in Lisbon", scope=Scope(**w.scope), limit=50)),
    "search a session": lambda w: why(w.tom.search("alpacas", session_id="s1")),
    "search with None": lambda w: why(w.tom.search("alpacas", user_id=None, agent_id=None, session_id=None)),
    "search as of": lambda w: why(w.tom.search("alpacas Lisbon", as_of=START + 1.5 * MINUTE)),
    "search as of before": lambda w: why(w.tom.search("alpacas Lisbon", as_of=START)),
    "search as of, every state": lambda w: why(
        w.tom.search(SECRET, as_of=START + 3 * MINUTE, states=["activated", "archived"], collection=None)
    ),
    "search valid at": lambda w: why(w.tom.search("alpacas Lisbon", valid_at=START)),
    "search every state": lambda w: why(w.tom.search("alpacas Lisbon", states=["activated", "archived", "expired"])),
    "search every type": lambda w: why(w.tom.search("alpacas", memory_types=["plaintext", "activation"])),
    "search every collection": lambda w: why(w.tom.search("alpacas Lisbon", collection=None)),
    "search a wildcard collection": lambda w: why(w.tom.search("alpacas Lisbon", collection="%")),
    "search by a foreign filter": lambda w: why(w.tom.search("alpacas", filter={"vault": SECRET})),
    "search by a negated filter": lambda w: why(w.tom.search("alpacas", filter={"vault": {"$ne": 1}})),
    "search by a filter on ids": lambda w: why(w.tom.search("alpacas", filter={"$or": [{"id": w.foreign}, {}]})),
    "search dates": lambda w: why(w.tom.search("What happened in January 2026?")),
    "search for the latest": lambda w: why(w.tom.search("What is the latest about alpacas?")),
    "search by meaning only": lambda w: why(w.tom.search("alpacas", weights=Weights(lexical_log=0, lexical_talk=0))),
    "search everything in a view": lambda w: why(w.tom.search("alpacas", scope=EVERYTHING)),
    "search twice": lambda w: [why(w.tom.search(f"alpacas {SECRET}", limit=n)) for n in (1, 2, 1_000)],
    "list": lambda w: (w.tom.list(), w.tom.list().cursor),
    "list pages": lambda w: (page := w.tom.list(limit=1), page.cursor, w.tom.list(limit=1, cursor=page.cursor)),
    "list a forged place": lambda w: w.tom.list(limit=1, cursor=forged(w, at=0, id=w.foreign)),
    "list a forged place to the end": lambda w: w.tom.list(limit=1, cursor=forged(w, at=-(2**62), id=MISSING)),
    "list a cursor as a query": lambda w: w.tom.list(cursor="' OR 1=1 --"),
    "list hidden": lambda w: w.tom.list(include_hidden=True, order="-occurred"),
    "list the hidden of the victim": lambda w: w.tom.list(include_hidden=True, filter={"vault": SECRET}),
    "list everything in a view": lambda w: w.tom.list(scope=EVERYTHING),
    "list a wildcard collection": lambda w: w.tom.list(collection="*"),
    "get a foreign id": lambda w: w.tom.get(w.foreign),
    "get a foreign id in capitals": lambda w: w.tom.get(w.foreign.upper()),
    "get a foreign version": lambda w: w.tom.get(w.foreign, version=1),
    "get a version too far": lambda w: w.tom.get(w.foreign, version=99),
    "get with keyword scope": lambda w: w.memos.get(w.foreign, **w.scope),
    "get with a scope object": lambda w: w.memos.get(w.foreign, scope=Scope(**w.scope)),
    "get a foreign key": lambda w: w.tom.get(key="home"),
    "get a wildcard key": lambda w: w.tom.get(key="hom_"),
    "history": lambda w: w.tom.history(w.foreign),
    "history with keyword scope": lambda w: w.memos.history(w.foreign, **w.scope),
    "relations": lambda w: w.tom.relations(w.foreign),
    "relations with keyword scope": lambda w: w.memos.relations(w.foreign, removed=True, **w.scope),
    "my relations": lambda w: w.tom.relations(w.mine, removed=True),
    "provenance up": lambda w: graph(w, w.foreign),
    "provenance of a version": lambda w: graph(w, w.foreign, version=1, direction="both"),
    "provenance with keyword scope": lambda w: w.memos.provenance(w.foreign, direction="down", **w.scope),
    "provenance of mine": lambda w: graph(w, w.mine, direction="both"),
    "log": lambda w: w.tom.log(limit=1_000),
    "log of a time": lambda w: w.tom.log(since=START, until=START + 3 * MINUTE),
    "log of a foreign cube": lambda w: w.tom.log(cube_id=w.foreign),
    "log with keyword scope": lambda w: w.memos.log(cube_id=w.foreign, **w.scope),
    "log everything in a view": lambda w: w.tom.log(scope=EVERYTHING),
    "stats": lambda w: w.tom.stats(),
    "stats with keyword scope": lambda w: w.memos.stats(**w.scope),
    "stats of everything in a view": lambda w: w.tom.stats(scope=EVERYTHING),
    "export": bundle,
    "export another": lambda w: w.tom.export(w.folder / "x.memcube", user_id="mara"),
    "another user in a view": lambda w: w.tom.search("alpacas", user_id="mara"),
    "another user's scope in a view": lambda w: w.tom.list(scope=Scope(user_id="mara")),
    "two answers to who": lambda w: w.memos.list(user_id="tom", scope=Scope(user_id="mara")),
    "a view of a view": lambda w: w.tom.scoped(user_id="mara"),
    "a view of everything in a view": lambda w: (view := w.tom.scoped(scope=EVERYTHING), view.scope, view.list()),
    "another tenant": lambda w: w.tom.list(scope=Scope(tenant="other", user_id="tom")),
    "the other tenant's everything": lambda w: w.tom.list(scope=Scope.everything("other")),
    "undo a foreign activity": lambda w: w.tom.undo(w.activity),
    "undo with keyword scope": lambda w: w.memos.undo(w.activity, **w.scope),
    "repr": lambda w: (w.memos, w.tom, w.tom.scope, w.tom.embedder.fingerprint if w.tom.embedder else ""),
}  # fmt: skip
READS_OF_A_TENANT: dict[str, Callable[[World], object]] = {
    "list": lambda w: w.memos.list(scope=EVERYTHING, include_hidden=True),
    "search": lambda w: why(w.memos.search(f"{SECRET} alpacas", scope=EVERYTHING, collection=None)),
    "log": lambda w: w.memos.log(scope=EVERYTHING),
    "stats": lambda w: replace(w.memos.stats(scope=EVERYTHING), size_bytes=0, blob_bytes=0),
    "verify": lambda w: w.memos.verify(),
    "get": lambda w: w.memos.get(w.foreign),
    "undo": lambda w: w.memos.undo(w.activity),
    "snapshots": lambda w: w.memos.snapshots(),
    "records": lambda w: list(w.memos.vault.records(EVERYTHING)),  # type: ignore[attr-defined]  # SupportsRecords
    "the other's scope": lambda w: w.memos.list(scope=Scope.everything("other")),
    "the vault asked for the other": lambda w: w.memos.vault.list(
        ListQuery(scope=Scope(tenant="other", user_id="tom"))
    ),
}
LOOK_ALIKES = (
    "", " ", "\t", "\u00a0", "\u3000", "to\u200bm", "\u2060tom", "tom\ufeff", "\u202emot", "\x00", "tom\x00", "tom\n",
    "\ud800", "' OR '1'='1", "tom' --", 'tom" OR user:mara', "tom; DROP TABLE cube", "%", "t%", "t_m", "*", "?", "mar",
    "mara ", " mara", "MARA", "Mara", "m\u0430ra", "ma\u0301ra", "m\u00e1ra", "ｍａｒａ", "mara\u0301", "mara/../mara",
    "{mara}", "['mara']", "mara,tom", "None", "null", "\ue100u1",
)  # fmt: skip
SYNTAX = (
    f"* OR {SECRET}", f'"{SECRET}"', f"NEAR({SECRET} password)", f"{SECRET}*", "' UNION SELECT body FROM version --",
    "user:mara", "words:zanzibar", "a\ue000b", "\ue100u1 \ue100t1", f"{SECRET}\ue001", "mara", f"NOT alpacas {SECRET}",
    "^alpacas", "alpacas) OR (1=1", "\\", "$where", "{} ${SECRET} %s %(x)s", "\u202e" + SECRET, SECRET.upper(),
    "ｚａｎｚｉｂａｒ", "zanz\u00adibar", f"{SECRET}\u0301", "\U000e0001", "?1 ?2 :name @x",
)  # fmt: skip
WRITES: dict[str, Callable[[World], object]] = {
    "update": lambda w: w.tom.update(w.foreign, "mine now"),
    "update with keyword scope": lambda w: w.memos.update(w.foreign, metadata={"a": 1}, **w.scope),
    "update with a guessed version": lambda w: w.tom.update(w.foreign, "mine now", expected_version=2),
    "update a version that is not": lambda w: w.tom.update(w.foreign, "mine now", expected_version=99),
    "rollback": lambda w: w.tom.rollback(w.foreign, to_version=1),
    "rollback too far": lambda w: w.tom.rollback(w.foreign, to_version=99),
    "archive": lambda w: w.tom.archive(w.foreign),
    "archive with keyword scope": lambda w: w.memos.archive(w.foreign, **w.scope),
    "activate": lambda w: w.tom.activate(w.foreign),
    "freeze": lambda w: w.tom.freeze(w.foreign),
    "unfreeze": lambda w: w.tom.unfreeze(w.foreign),
    "relate to": lambda w: w.tom.relate(w.mine, "MENTIONS", w.foreign),
    "relate from": lambda w: w.tom.relate(w.foreign, "MENTIONS", w.mine),
    "relate with keyword scope": lambda w: w.memos.relate(w.mine, "MENTIONS", w.foreign, **w.scope),
    "unrelate": lambda w: w.tom.unrelate(w.foreign, "MENTIONS", w.mine),
    "derive": lambda w: w.tom.add("copy", derived_from=w.foreign),
    "derive from several": lambda w: w.tom.add("copy", derived_from=[w.mine, w.foreign]),
    "derive from a version": lambda w: w.tom.add("copy", derived_from=VersionRef(w.foreign, 1)),
    "derive from a version that is not": lambda w: w.tom.add("copy", derived_from=VersionRef(w.foreign, 99)),
    "name a cube as a source": lambda w: (
        graph := w.tom.provenance(w.tom.add("copy", derived_from=Source(id=w.foreign, kind="url", locator="x"))[0]),
        replace(graph, sources=(), derivations=()),
        [(source.kind, source.locator, source.sha256) for source in graph.sources],  # ids are the store's own
        [(edge.derived, edge.kind) for edge in graph.derivations],
    )[1:],
    "erase": lambda w: w.tom.erase(w.foreign),
    "erase with mine": lambda w: w.tom.erase([w.mine, w.foreign]),
    "erase with keyword scope": lambda w: w.memos.erase(w.foreign, **w.scope),
    "erase a key": lambda w: w.tom.erase(key="home"),
    "erase a user": lambda w: w.tom.erase(user_id="mara"),
    "erase everything in a view": lambda w: w.tom.erase(scope=EVERYTHING).tombstones,
    "erase nothing in particular": lambda w: w.tom.erase(),
    "undo": lambda w: w.tom.undo(w.activity),
    "take a key": lambda w: w.tom.add("mine", key="home"),
    "repeat another's commit": lambda w: (w.tom.add("mine", commit_key="job-7"), w.tom.add("no", commit_key="job-7")),
    "repeat another's commit with a key": lambda w: w.tom.add("mine", key="k", commit_key="job-7"),
    "add a known text": lambda w: w.tom.add("alpacas graze in Lisbon", session_id="s1"),
    "add a known text of the user": lambda w: w.tom.add("alpacas graze in Lisbon"),
    "add a near duplicate": lambda w: (
        cube := w.tom.add(f"The {SECRET} password is now trout!", session_id="s1")[0], w.tom.relations(cube)
    ),
    "claim another as owner": lambda w: (w.tom.add("x", owner="mara", readers=["*"]), w.tom.search("x")),
    "write outside": lambda w: w.tom.add("x", user_id="mara"),
    "write everywhere": lambda w: w.tom.add("x", scope=Scope(user_id="mara")),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_a_read_shows_nothing_of_others(lasting: tuple[World, World], name: str) -> None:
    with_victim, without = lasting
    shown = answer(with_victim, READS[name])
    assert shown == answer(without, READS[name])
    assert "swordfish" not in shown
    assert "trout" not in shown


def test_the_law_would_notice_a_leak(lasting: tuple[World, World]) -> None:
    with_victim, without = lasting
    theirs = with_victim.vaults[-1].tenant
    for leak in (
        lambda world: world.vaults[-1].list(ListQuery(scope=Scope.everything(theirs))),
        lambda world: world.vaults[-1].get([world.foreign], Scope.everything(theirs)),
        lambda world: world.vaults[-1].stats(Scope.everything(theirs)),
        lambda world: world.vaults[-1].log(LogQuery(scope=Scope.everything(theirs))),
    ):
        assert answer(with_victim, leak) != answer(without, leak)


@pytest.mark.parametrize("lasting", [("file", "tenant")], indirect=True, ids="-".join)
@pytest.mark.parametrize("name", READS_OF_A_TENANT)
def test_a_tenant_shows_nothing_of_another(lasting: tuple[World, World], name: str) -> None:
    with_victim, without = lasting
    assert answer(with_victim, READS_OF_A_TENANT[name]) == answer(without, READS_OF_A_TENANT[name])


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_look_alike_of_a_user_is_somebody_else(lasting: tuple[World, World], name: str) -> None:
    with_victim, without = lasting
    for attack in (
        lambda world: world.memos.list(user_id=name),
        lambda world: world.memos.search(SECRET, user_id=name, collection=None),
        lambda world: world.memos.get(world.foreign, user_id=name),
    ):
        shown, usual = answer(with_victim, attack), answer(without, attack)
        if name == "*":  # which somebody is called
            continue
        assert shown == usual
        assert shown.startswith(("None[]", "[]", "InvalidRequest", "NotFound"))


@pytest.mark.parametrize("text", SYNTAX)
def test_no_syntax_in_a_query_reaches_further(lasting: tuple[World, World], text: str) -> None:
    with_victim, without = lasting
    for attack in (
        lambda world: why(world.tom.search(text, limit=50)),
        lambda world: world.tom.list(filter={text: text}),
        lambda world: world.tom.list(filter={"vault": {"$in": [text]}}),
        lambda world: world.tom.get(key=text),
        lambda world: world.tom.get(text),
        lambda world: world.tom.list(collection=text),
        lambda world: world.tom.list(session_id=text),
        lambda world: world.tom.list(cursor=text),
        lambda world: world.tom.search("alpacas", as_of=text),
    ):
        assert answer(with_victim, attack) == answer(without, attack)


@pytest.mark.parametrize("text", [text for text in SYNTAX if text.isprintable()])
def test_syntax_in_what_is_written_stays_text(worlds: tuple[World, World], text: str) -> None:
    def write(world: World) -> object:
        view = world.tom.scoped(session_id=text, agent_id=text)
        cube = view.add(
            {"role": "user", "content": text, "name": text, "metadata": {text: text}}, key=text, title=text,
            tags=[text], collection=text, semantic_type=text, owner=text, readers=[text], sensitivity=[text],
            origin=text, commit_key=text, derived_from=Source(id=text, kind=text, locator=text), agent=text,
        )[0]  # fmt: skip
        world.tom.relate(cube, "MENTIONS", world.mine, properties={text: text})
        return cube, view.get(key=text, collection=text) == cube, why(view.search(text, collection=text)), view.log()

    with_victim, without = worlds
    query = ListQuery(scope=Scope(user_id="mara"), include_hidden=True)
    before = with_victim.memos.vault.list(query)
    assert answer(with_victim, write) == answer(without, write)
    assert with_victim.memos.vault.list(query) == before
    assert with_victim.memos.verify().ok


@pytest.mark.parametrize("name", WRITES)
def test_a_write_reaches_and_shows_nothing_of_others(worlds: tuple[World, World], name: str) -> None:
    with_victim, without = worlds
    query = ListQuery(scope=Scope(user_id="mara"), include_hidden=True)
    before = with_victim.memos.vault.list(query)
    assert answer(with_victim, WRITES[name]) == answer(without, WRITES[name])
    assert with_victim.memos.vault.list(query) == before
    assert answer(with_victim, READS["list"]) == answer(without, READS["list"])
    assert with_victim.memos.verify().ok


def test_undo_reaches_only_what_is_wholly_ones_own(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    for entry in world.memos.log(scope=EVERYTHING, limit=100):
        if "mara" in {world.memos.vault.get([cube], EVERYTHING)[cube].scope.user_id for cube in entry.cubes}:
            with pytest.raises(NotFound, match="activity"):
                world.tom.undo(entry.activity_id)


@pytest.mark.parametrize("name", ["search common words", "list", "get a foreign id", "history", "relations", "log",
                                  "provenance with keyword scope", "stats", "undo a foreign activity"])  # fmt: skip
def test_an_event_loop_sees_no_more(worlds: tuple[World, World], name: str) -> None:
    class Blocking:
        """The asynchronous front, each call waited for."""

        def __init__(self, target: Any, loop: asyncio.Runner) -> None:
            self._target, self._loop = target, loop

        def __getattr__(self, call: str) -> Any:
            found = getattr(self._target, call)
            if not inspect.iscoroutinefunction(found):
                return found
            return lambda *args, **kwargs: self._loop.run(found(*args, **kwargs))

    def attack(world: World) -> object:
        with asyncio.Runner() as loop:
            memos = AsyncMemOS(world.memos)
            double: Any = replace(world, memos=Blocking(memos, loop), tom=Blocking(memos.scoped(**world.scope), loop))
            try:
                return READS[name](double)
            finally:
                loop.run(memos.close())

    with_victim, without = worlds
    shown = answer(with_victim, attack)
    assert shown == answer(without, attack)
    assert "coroutine" not in shown


COMMANDS = [
    ["get", "<foreign>", "--user", "tom"],
    ["get", "--key", "home", "--user", "tom"],
    ["get", "<foreign>", "--user", "tom", "--version", "1"],
    ["history", "<foreign>", "--user", "tom"],
    ["provenance", "<foreign>", "--user", "tom"],
    ["erase", "<foreign>", "--user", "tom", "--yes"],
    ["search", f"{SECRET} alpacas", "--user", "tom", "--why"],
    ["list", "--user", "tom", "--hidden"],
    ["list", "--user", ""],
    ["list", "--user", "to%"],
    ["list", "--user", "tom", "--filter", f'{{"vault": "{SECRET}"}}'],
    ["stats", "--user", "tom"],
    ["search", SECRET, "--tenant", "tom", "--user", "mara"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_command_line_shows_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("MEMOS_EMBEDDER", "memos_agents.testing:HashEmbedder")
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(world: World) -> object:
        arguments = [word.replace("<foreign>", world.foreign) for word in command]
        result = CliRunner().invoke(app, [*arguments, "--json", "--store", str(world.folder / "memos.db")])
        return result.exit_code, result.stdout, result.stderr

    for with_victim, without in opened(tmp_path, "file"):
        shown = answer(with_victim, run)
        assert shown == answer(without, run)
        assert "trout" not in shown


def test_a_view_cannot_reach_the_store_as_a_whole(worlds: tuple[World, World]) -> None:
    whole = {name for name in vars(MemOS) if not name.startswith("_")}
    assert whole >= {"verify", "backup", "load", "reembed", "scrub", "snapshot", "snapshots", "close", "open", "vault"}
    view = AsyncMemOS(worlds[0].memos).scoped(user_id="tom")
    for name in whole:
        assert not hasattr(worlds[0].tom, name)
        assert not hasattr(view, name)


def test_a_receipt_in_a_view_names_only_what_the_view_may_know(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    shared = world.memos.add("shared thing", user_id="tom", readers=["mara"])[0]
    theirs = world.memos.add("made from it", user_id="mara", derived_from=shared)[0]
    receipt = world.tom.erase(shared.id)
    assert {stone.ref.cube_id for stone in receipt.tombstones} == {shared.id}
    with pytest.raises(NotFound):
        world.memos.get(theirs.id)


BY_ID: dict[str, Callable[[ScopedMemOS, str], object]] = {
    "get": lambda view, cube_id: view.get(cube_id),
    "get a version": lambda view, cube_id: view.get(cube_id, version=1),
    "history": lambda view, cube_id: view.history(cube_id),
    "relations": lambda view, cube_id: view.relations(cube_id),
    "provenance": lambda view, cube_id: view.provenance(cube_id),
    "update": lambda view, cube_id: view.update(cube_id, "x"),
    "archive": lambda view, cube_id: view.archive(cube_id),
    "derive": lambda view, cube_id: view.add("x", derived_from=cube_id),
    "erase": lambda view, cube_id: view.erase(cube_id),
    "log": lambda view, cube_id: view.log(cube_id=cube_id),
}


@pytest.mark.parametrize("name", BY_ID)
def test_a_foreign_id_costs_the_same_work_as_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not the time, which a test cannot promise, but its cause: the same statements, about as many steps in SQLite."""
    statements: list[str] = []
    steps = itertools.count()
    connect = engine.open_connection

    def watched(*args: Any, **kwargs: Any) -> Any:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(statements.append)
        connection.set_progress_handler(lambda: bool(next(steps) < 0), 1)
        return connection

    monkeypatch.setattr(engine, "open_connection", watched)
    world = build(tmp_path / "store", "file", True)

    def work(cube_id: str) -> tuple[list[str], int]:
        statements.clear()
        before = next(steps)
        with suppress(NotFound):
            BY_ID[name](world.tom, cube_id)
        return [statement.replace(cube_id, "<id>") for statement in statements], next(steps) - before

    work(MISSING)  # names that are looked up once
    (foreign, more), (missing, fewer) = work(world.foreign), work(MISSING)
    assert foreign == missing
    assert abs(more - fewer) <= 60  # one row that is read and passed over
    world.memos.vault.close()


def test_everything_is_only_for_those_who_say_so(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    for call in (world.memos.list, world.memos.log, world.memos.stats, world.memos.erase, world.memos.scoped):
        with pytest.raises(InvalidRequest):
            call()
        with pytest.raises(InvalidRequest):
            call(scope=Scope())
        with pytest.raises(InvalidRequest):
            call(user_id=None, agent_id=None, session_id=None, scope=None)
    assert len(world.memos.list(scope=EVERYTHING)) > len(world.tom.list())
