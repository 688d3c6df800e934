"""Erasure, judged by what is on the disk: after `erase` no byte of any file of the store tells what was erased.

Everything that is added carries random words of its own. The check reads every file of the store's folder and looks for
those words, for their stems as the text index stores them, and for the bytes of vectors and payloads. It has negative
controls: an ordinary delete of the same rows, and an erasure whose bytes were not removed yet, must both fail it.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_agents import (
    BackendUnavailable,
    IntegrityError,
    InvalidRequest,
    MemCube,
    MemoryState,
    MemoryType,
    MemOS,
    NotFound,
    Receipt,
    Scope,
    Source,
    VersionConflict,
    VersionRef,
)
from memos_agents.cube.identity import IdSource
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.errors import MemOSError
from memos_agents.infrastructure.exchange.bundle import read_bundle
from memos_agents.infrastructure.provenance.values import Activity, Agent, Derivation
from memos_agents.infrastructure.vault.columns import pack_vector
from memos_agents.infrastructure.vault.commit import Commit, Tombstone, Write
from memos_agents.infrastructure.vault.sqlite import SqliteVault, opening
from memos_agents.infrastructure.vault.text import index_terms
from memos_agents.testing import FixedClock, HashEmbedder

START = datetime(2026, 1, 1, tzinfo=UTC)
EVERYTHING = Scope.everything()
ENDINGS = ("ing", "ed", "ers", "ation", "ies", "ness", "", "s")


def word(rng: random.Random) -> str:
    """A word that nothing else says, with an ending that the stemmer takes away."""
    return "".join(rng.choice("bdfgklmnprtvz") + rng.choice("aeiou") for _ in range(5)) + rng.choice(ENDINGS)


def traces(cube: MemCube, *words: str) -> set[bytes]:
    """What would tell of a cube: these words, the stems that the text index holds, and its vector."""
    stems = {stem for stem in index_terms(cube) if len(stem) >= 8}
    vector = pack_vector(HashEmbedder(64).embed([cube.text])[0], 64) if cube.text else b""
    return {text.encode() for text in {*words, *stems}} | ({vector} if any(vector) else set())


def left(folder: Path, wanted: Iterable[bytes]) -> dict[str, list[bytes]]:
    """Which of `wanted` (8 bytes and more each) is in which file under `folder`, in small letters or as they are."""
    traces = sorted(set(wanted))
    assert all(len(trace) >= 8 for trace in traces)
    found: dict[str, list[bytes]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes() + str(path.relative_to(folder)).encode()
        for text, looked_for in ((data, traces), (data.lower(), [trace.lower() for trace in traces])):
            begun = beginnings(text, looked_for)
            for trace, spelt in zip(traces, looked_for, strict=True):
                if spelt[:8] in begun and spelt in text and trace not in found.get(str(path), []):
                    found.setdefault(str(path), []).append(trace)
    return found


def beginnings(data: bytes, traces: Iterable[bytes]) -> set[bytes]:
    """The first 8 bytes of those traces that may be in `data`: thousands of words in megabytes, in a second."""
    keys = np.array(sorted({int.from_bytes(trace[:8], "little") for trace in traces}), np.uint64)
    if len(data) < 8 or not len(keys):
        return set()
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), 8)
    values = np.ascontiguousarray(windows).view("<u8").ravel()
    nearest = keys[np.minimum(np.searchsorted(keys, values), len(keys) - 1)]
    return {int(value).to_bytes(8, "little") for value in set(values[nearest == values].tolist())}


def here(folder: Path, wanted: Iterable[bytes]) -> set[bytes]:
    return {trace for traces in left(folder, wanted).values() for trace in traces}


@dataclass
class Place:
    """A store in a folder of its own."""

    memos: MemOS
    folder: Path
    rng: random.Random

    @property
    def path(self) -> Path:
        return self.folder / "memos.db"

    def add(self, *, user_id: str = "mara", count: int = 4, **given: Any) -> tuple[MemCube, set[bytes]]:
        """A memory of random words, and its traces."""
        words = [word(self.rng) for _ in range(count)]
        cube = self.memos.add(f"She said {' '.join(words)}.", user_id=user_id, **given)[0]
        return cube, traces(cube, *words)


def open_place(folder: Path, seed: int = 1) -> Place:
    folder.mkdir()
    memos = MemOS.open(folder / "memos.db", embedder=HashEmbedder(64), clock=FixedClock(START), durability="relaxed")
    return Place(memos, folder, random.Random(seed))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = open_place(tmp_path / "store")
    yield made
    made.memos.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that give up soon where somebody else holds the file."""
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.2)


# --- bytes


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_of_thousands_that_came_changed_and_went_is_left(tmp_path: Path, seed: int) -> None:
    place = open_place(tmp_path / "store", seed)
    memos, rng = place.memos, place.rng
    living: dict[str, set[bytes]] = {}
    gone: set[bytes] = set()
    for _ in range(6):
        texts = [" ".join(word(rng) for _ in range(rng.randint(3, 12))) for _ in range(400)]
        cubes = memos.add(texts, user_id=rng.choice(["mara", "tom"]), metadata={"batch": [1, 2]})
        for cube in cubes:
            living[cube.id] = traces(cube, *cube.text.split())
        for cube_id in rng.sample(sorted(living), 60):
            text = " ".join(word(rng) for _ in range(rng.choice([1, 5, 90])))  # of other sizes, so that pages split
            living[cube_id] |= traces(memos.update(cube_id, text), *text.split())
        doomed = rng.sample(sorted(living), 90)
        receipt = memos.erase(doomed, scrub=False)
        assert not receipt.is_complete
        for cube_id in doomed:
            gone |= living.pop(cube_id)
    kept = {trace for cube_id in rng.sample(sorted(living), 100) for trace in living[cube_id]}
    sample = set(rng.sample(sorted(gone), 4_000))
    assert memos.scrub()
    assert left(place.folder, sample) == {}
    assert here(place.folder, kept) == kept  # the check sees what is there
    assert memos.verify().ok
    memos.close()
    assert left(place.folder, sample) == {}
    with MemOS.open(place.path, embedder=HashEmbedder(64)) as again:
        assert {cube.id for user in ("mara", "tom") for cube in again.list(user_id=user, limit=1_000)} <= set(living)
        assert again.stats(scope=EVERYTHING).cubes == len(living)


def test_an_erasure_that_was_not_scrubbed_fails_the_check(place: Place) -> None:
    cube, wanted = place.add()
    assert here(place.folder, wanted) == wanted
    receipt = place.memos.erase(cube.id, scrub=False)
    assert not receipt.is_complete
    assert left(place.folder, wanted)


@pytest.mark.parametrize("secure", [False, True], ids=["as SQLite does", "with secure_delete"])
def test_an_ordinary_delete_fails_the_check(place: Place, secure: bool) -> None:
    memos = place.memos
    made = [place.add(count=30) for _ in range(60)]
    for cube, _ in made:
        memos.update(cube.id, f"{cube.text} {' '.join(word(place.rng) for _ in range(60))}")
    wanted = set().union(*(traces for _, traces in made[::2]))
    memos.close()
    with closing(sqlite3.connect(place.path)) as connection:
        connection.execute(f"PRAGMA secure_delete={'ON' if secure else 'OFF'}")
        for cube, _ in made[::2]:
            rows = "SELECT v.rid FROM version v JOIN cube c ON c.rid = v.cube WHERE c.id = ?"
            connection.execute(f"DELETE FROM terms WHERE rowid IN ({rows})", (cube.id,))
            connection.execute(f"DELETE FROM vector WHERE version IN ({rows})", (cube.id,))
            connection.execute("DELETE FROM version WHERE cube = (SELECT rid FROM cube WHERE id = ?)", (cube.id,))
            connection.execute("DELETE FROM cube WHERE id = ?", (cube.id,))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert connection.execute("SELECT count(*) FROM cube").fetchone() == (30,)
    assert left(place.folder, wanted)


def artefact(place: Place, data: bytes, secret: str, derived_from: VersionRef | None) -> MemCube:
    """A memory of bytes, as later releases make them."""
    now, ids = START + timedelta(days=1), IdSource()
    cube = MemCube(
        id=ids.new_id(now),
        scope=Scope(user_id="mara"),
        memory_type=MemoryType.ACTIVATION,
        created_at=now,
        recorded_at=now,
        payload=ArtefactPayload(manifest={"note": secret}, blobs={secret: place.memos.vault.blobs.put(data)}),
    )
    derivations = () if derived_from is None else (Derivation(derived=cube.ref, source=derived_from),)
    activity = Activity(id=ids.new_id(now), kind="prefill", started_at=now)
    place.memos.vault.commit(Commit(activity=activity, writes=(Write(cube=cube),), derivations=derivations))
    return cube


def test_every_place_where_a_word_can_be_is_emptied(place: Place) -> None:
    memos, rng = place.memos, place.rng
    words = {name: word(rng) for name in (
        "text", "metadata_key", "metadata_value", "key", "title", "tag", "collection", "name", "semantic", "origin",
        "owner", "reader", "sensitivity", "locator", "url", "second", "third", "undone",
        "relation_to", "relation_from", "relation_closed", "derived", "derived_from_derived", "others", "blob",
        "blob_name", "commit_key", "old_key",
    )}  # fmt: skip
    place.rng.seed(5)
    beside, kept = place.add()
    cube = memos.add(
        {"role": "user", "content": f"It is {words['text']} again", "name": words["name"]},
        user_id="mara", metadata={words["metadata_key"]: [{"a": words["metadata_value"]}]}, key=words["key"],
        title=words["title"], tags=[words["tag"]], collection=words["collection"], semantic_type=words["semantic"],
        origin=words["origin"], owner=words["owner"], readers=[words["reader"], "tom"], commit_key=words["commit_key"],
        sensitivity=[words["sensitivity"]], derived_from=[
            Source(id="letter", kind="file", locator=f"/home/{words['locator']}.txt", sha256="ab" * 32),
            f"https://example.org/{words['url']}",
        ],
    )[0]  # fmt: skip
    memos.update(cube.id, f"now {words['second']}")
    undone = memos.update(cube.id, f"no, {words['undone']}")
    memos.undo(memos.log(cube_id=cube.id, user_id="mara", limit=1)[0].activity_id)
    memos.rollback(cube.id, to_version=1)
    memos.update(cube.id, words["third"])
    memos.relate(cube, "MENTIONS", beside, properties={"why": words["relation_closed"]})
    memos.relate(cube, "MENTIONS", beside, properties={"why": words["relation_to"]})
    memos.relate(beside, "CONTRADICTS", cube, properties={"why": words["relation_from"]})
    derived = memos.add(words["derived"], user_id="mara", derived_from=cube, key=words["old_key"])[0]
    memos.add("another text", user_id="mara", key=words["old_key"])  # derived once, and no longer
    memos.add(words["derived_from_derived"], user_id="mara", derived_from=derived)
    memos.add(words["others"], user_id="tom", derived_from=VersionRef(cube.id, 1))
    blob = (words["blob"] * 500).encode()
    artefact(place, blob, words["blob_name"], VersionRef(cube.id, 2))
    memos.search(words["third"], user_id="mara", collection=None)
    memos.freeze(cube.id)
    wanted = {text.encode() for text in words.values()} | {blob, b"ab" * 32}
    wanted |= traces(cube) | traces(undone)
    assert here(place.folder, wanted) >= {text.encode() for name, text in words.items() if name != "commit_key"}
    receipt = memos.erase(cube.id)
    assert receipt.is_complete
    assert len({stone.ref.cube_id for stone in receipt.tombstones}) == 5
    assert left(place.folder, wanted) == {}
    assert here(place.folder, kept) == kept
    assert receipt.verify(memos).ok
    assert memos.verify().ok


def test_the_bytes_of_a_payload_go_and_shared_ones_stay(place: Place) -> None:
    own, shared = b"OWNBYTES" * 500, b"SHARED" * 1_000
    doomed, also = artefact(place, own, "own file", None), artefact(place, shared, "shared", None)
    other = artefact(place, shared, "kept", None)
    assert place.memos.erase([doomed.id, also.id]).is_complete
    assert left(place.folder, [own]) == {}
    assert here(place.folder, [shared]) == {shared}
    assert place.memos.erase(other.id).is_complete
    assert left(place.folder, [own, shared]) == {}


def test_what_a_crash_left_in_staging_goes_too(place: Place) -> None:
    cube, wanted = place.add()
    artefact(place, b"something", "name", None)
    (place.folder / "memos.db.blobs" / ".staging" / "halfwritten").write_bytes(b"".join(sorted(wanted)))
    assert place.memos.erase(cube.id).is_complete
    assert left(place.folder, wanted) == {}


def test_bytes_that_no_commit_ever_named_go_after_a_day(place: Place) -> None:
    blobs = place.memos.vault.blobs
    old, young, named = (blobs.put(data) for data in (b"put and forgotten", b"put a moment ago", b"put and named"))
    artefact(place, b"put and named", "name", None)
    for ref in (old, named):
        path = place.folder / "memos.db.blobs" / ref.sha256[:2] / ref.sha256
        os.utime(path, (1, 1))
    assert place.memos.scrub()
    assert [blobs.has(ref.sha256) for ref in (old, young, named)] == [False, True, True]
    os.utime(place.folder / "memos.db.blobs" / young.sha256[:2] / young.sha256, (1, 1))
    blobs.put(b"put a moment ago")
    assert place.memos.scrub()
    assert blobs.has(young.sha256)


def test_one_scrub_serves_a_hundred_erasures(place: Place) -> None:
    made = [place.add(count=6) for _ in range(150)]
    receipts = [place.memos.erase(cube.id, scrub=False) for cube, _ in made[:100]]
    assert not any(receipt.is_complete for receipt in receipts)
    assert {problem.kind for problem in receipts[0].verify(place.memos).problems} == {"not_scrubbed"}
    assert place.memos.stats(scope=EVERYTHING).pending_scrubs == 1
    assert place.memos.scrub()
    assert left(place.folder, set().union(*(traces for _, traces in made[:100]))) == {}
    assert here(place.folder, made[120][1]) == made[120][1]
    for receipt in receipts:
        assert receipt.verify(place.memos).ok
    assert place.memos.stats(scope=EVERYTHING).pending_scrubs == 0
    assert place.memos.scrub()  # nothing to do


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["add", "update", "relate", "derive", "archive", "freeze", "erase", "undo", "rollback", "key"]),
        st.integers(0, 11), st.integers(0, 11),
    ),
    min_size=5, max_size=40,
)  # fmt: skip


@given(acts=ACTS, seed=st.integers(0, 2**32))
@settings(max_examples=25)
def test_whatever_was_done_before_nothing_is_left(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int, int]], seed: int
) -> None:
    place = open_place(tmp_path_factory.mktemp("random") / "store", seed)
    memos, rng = place.memos, place.rng
    texts: dict[str, set[bytes]] = {}
    for name, first, second in acts:
        ids = [cube.id for cube in memos.list(user_id="mara", include_hidden=True)]
        new = f"{word(rng)} {word(rng)}"
        one, two = (ids[number % len(ids)] if ids else None for number in (first, second))
        try:
            if name == "add" or one is None or two is None:
                cube = memos.add(new, user_id="mara", metadata={"m": new})[0]
            elif name == "update":
                cube = memos.update(one, new)
            elif name == "derive":
                cube = memos.add(new, user_id="mara", derived_from=one)[0]
            elif name == "key":
                cube = memos.add(new, user_id="mara", key=f"k{second % 3}")[0]
            else:
                cube = memos.get(one)
                if name == "relate":
                    memos.relate(one, "MENTIONS", two, properties={"why": new})
                    texts.setdefault(two, set()).update(part.encode() for part in new.split())
                elif name == "archive":
                    memos.archive(one)
                elif name == "freeze":
                    memos.freeze(one)
                elif name == "rollback":
                    memos.rollback(one, to_version=1)
                elif name == "undo":
                    memos.undo(memos.log(user_id="mara", limit=20)[second % 20].activity_id)
                else:
                    memos.erase(one, scrub=False)
                    continue
            texts.setdefault(cube.id, set()).update(traces(cube, *new.split()))
        except (MemOSError, IndexError):
            continue
    memos.scrub()
    left_ids = {cube.id for cube in memos.list(user_id="mara", include_hidden=True, limit=1_000)}
    gone = set().union(*(traces for cube_id, traces in texts.items() if cube_id not in left_ids), set())
    kept = {cube_id: memos.get(cube_id).text.split()[0].encode() for cube_id in left_ids}
    for cube_id in left_ids:  # a relation's words are both ends', and gone with either
        for version in memos.history(cube_id):
            gone -= traces(version, *version.text.split())
    try:
        assert left(place.folder, gone) == {}
        assert here(place.folder, kept.values()) == set(kept.values())
        assert memos.verify().ok
    finally:
        memos.close()


def test_erasing_a_user_takes_all_of_it_and_nothing_else(place: Place) -> None:
    memos = place.memos
    theirs: set[bytes] = set()
    for number in range(30):
        extra: dict[str, Any] = [{}, {"session_id": f"s{number % 3}"}, {"agent_id": "a"}][number % 3]
        cube, found = place.add(metadata={"n": number}, **extra)
        theirs |= found
        if number % 5 == 0:
            memos.archive(cube.id)
        if number % 7 == 0:
            memos.freeze(cube.id)
        if number % 4 == 0:
            place.add(user_id="tom", **extra)
    others = [memos.add("the same text", user_id=user)[0] for user in ("mara", "tom", "maram", "Mara")]
    memos.relate(others[1], "MENTIONS", memos.add("x", user_id="tom")[0], properties={"a": 1})

    def shown() -> list[object]:
        return [
            (memos.list(user_id=user, include_hidden=True), memos.log(user_id=user), memos.stats(user_id=user),
             [memos.relations(cube) for cube in memos.list(user_id=user)])
            for user in ("tom", "maram", "Mara")
        ]  # fmt: skip

    before = shown()
    receipt = memos.erase(user_id="mara")
    assert shown() == before
    assert receipt.is_complete
    assert len(receipt.tombstones) == 31
    assert memos.list(user_id="mara", include_hidden=True) == []
    assert memos.search("the same text", user_id="mara") == []
    assert left(place.folder, theirs) == {}
    assert receipt.verify(memos).ok
    assert memos.erase(user_id="mara").tombstones == ()  # and again there is nothing


def test_a_store_in_memory_keeps_no_word_either() -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(64), clock=FixedClock(START)) as memos:
        rng = random.Random(3)
        secret, kept = [word(rng) for _ in range(8)], word(rng)
        letter = Source(id="l", kind="file", locator=secret[5])
        other = memos.add(kept, user_id="mara")[0]
        cube = memos.add(
            secret[0], user_id="mara", metadata={secret[1]: secret[2]}, key=secret[3], derived_from=letter
        )[0]
        memos.update(cube.id, secret[4])
        memos.relate(cube, "NEXT", other, properties={"p": secret[6]})
        memos.add(secret[7], user_id="mara", derived_from=cube)
        memos.search(secret[4], user_id="mara")
        assert words_in(memos.vault) >= set(secret)
        memos.erase(cube.id)
        assert words_in(memos.vault) & set(secret) == set()
        assert kept in words_in(memos.vault)


def words_in(value: object) -> set[str]:
    """Every word of every string that can be reached from here."""
    found: set[str] = set()
    seen: set[int] = set()
    todo = [value]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type) or callable(item):
            continue
        seen.add(id(item))
        if isinstance(item, str):
            found.update(item.replace('"', " ").replace(".", " ").split())
        elif isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            todo += list(item)
        else:
            names = {name for kind in type(item).__mro__ for name in getattr(kind, "__slots__", ())}
            names |= set(getattr(item, "__dict__", {}))
            todo += [getattr(item, name) for name in names if isinstance(name, str) and hasattr(item, name)]
    return found


# --- what can still be asked


def test_nothing_can_be_asked_or_done_any_more(place: Place) -> None:
    memos = place.memos
    cube, _ = place.add(key="k")
    memos.update(cube.id, "second")
    done = [entry.activity_id for entry in memos.log(cube_id=cube.id, user_id="mara")]
    with MemOS.open(place.path, embedder=HashEmbedder(64)) as another:
        assert another.search("second", user_id="mara")
        receipt = memos.erase(cube.id)
        for front in (memos, another):
            for call in (front.get, front.history, front.relations, front.archive, front.activate, front.erase):
                with pytest.raises(NotFound):
                    call(cube.id)
            for attack in (
                lambda front=front: front.get(cube.id, version=1),
                lambda front=front: front.get(key="k", user_id="mara"),
                lambda front=front: front.update(cube.id, "back"),
                lambda front=front: front.rollback(cube.id, to_version=1),
                lambda front=front: front.add("x", user_id="mara", derived_from=cube.id),
                lambda front=front: front.undo(done[0]),
            ):
                with pytest.raises(NotFound):
                    attack()
            with pytest.raises(InvalidRequest, match="cannot be undone"):
                front.undo(receipt.activity_id)
            for moment in (None, START + timedelta(seconds=5), START + timedelta(days=9)):
                assert front.search("second she said", user_id="mara", as_of=moment, collection=None) == []
            assert front.list(user_id="mara", include_hidden=True) == []
            graph = front.provenance(cube.id, direction="both")
            assert {(node.state, node.label) for node in graph.entities} == {(MemoryState.ERASED, "")}
        assert receipt.verify(another).ok


# --- receipts


def test_a_receipt_is_complete_only_after_the_scrub(place: Place) -> None:
    memos = place.memos
    first = memos.erase(place.add()[0].id, scrub=False)
    assert (first.is_complete, first.verify(memos).ok) == (False, False)
    second = memos.erase(place.add()[0].id)  # its scrub takes the first one along
    assert (second.is_complete, second.verify(memos).ok, first.verify(memos).ok) == (True, True, True)
    assert not first.is_complete  # what was true when it was given
    assert Receipt.from_json(second.to_json()).verify(memos).ok
    memos.close()
    with MemOS.open(place.path, embedder="none") as again:
        assert second.verify(again).ok
        assert first.verify(again).ok


def test_a_changed_receipt_is_noticed(place: Place) -> None:
    cube, _ = place.add()
    place.memos.update(cube.id, "two")
    receipt = place.memos.erase(cube.id)
    stones, other = receipt.tombstones, place.add()[0]
    forged = Tombstone(ref=other.ref, content_hash=other.content_hash, is_derived=False)
    for changed in (
        replace(receipt, tombstones=stones[:1]),
        replace(receipt, tombstones=(*stones, forged)),
        replace(receipt, tombstones=(replace(stones[0], content_hash="0" * 64), stones[1])),
        replace(receipt, tombstones=(replace(stones[0], is_derived=True), stones[1])),
        replace(receipt, seq=receipt.seq - 1),
        replace(receipt, at=receipt.at + timedelta(seconds=1)),
        replace(receipt, agent=Agent(id="somebody else")),
        replace(receipt, chain="0" * 64),
        replace(receipt, activity_id=place.memos.log(user_id="mara", limit=1)[0].activity_id),
    ):
        assert not changed.verify(place.memos).ok
    written = receipt.to_json()
    for name, value in written.items():
        if name not in ("format", "version"):
            with pytest.raises(IntegrityError):
                Receipt.from_json({**written, name: "x" if isinstance(value, str) else [value]})
    assert receipt.verify(place.memos).ok


@pytest.mark.parametrize("way", ["backup", "files"])
def test_a_store_restored_from_before_does_not_pass(place: Place, tmp_path: Path, way: str) -> None:
    cube, wanted = place.add()
    place.add()
    copy = tmp_path / "copy"
    copy.mkdir()
    if way == "backup":
        place.memos.backup(copy / "memos.db")
    else:
        place.memos.close()
        shutil.copytree(place.folder, copy, dirs_exist_ok=True)
        place.memos = MemOS.open(place.path, embedder=HashEmbedder(64))
    receipt = place.memos.erase(cube.id)
    assert receipt.verify(place.memos).ok
    with MemOS.open(copy / "memos.db", embedder=HashEmbedder(64)) as restored:
        assert left(copy, wanted)
        kinds = {problem.kind for problem in receipt.verify(restored).problems}
        assert kinds >= {"missing_activity", "missing_tombstone", "content_left"}
        later = restored.erase(cube.id)  # erased again there: another act, with a receipt of its own
        assert later.verify(restored).ok
        assert not receipt.verify(restored).ok
        assert not later.verify(place.memos).ok


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM version").fetchall()
print("reading", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("where", ["another process", "this process"])
def test_a_reader_of_an_older_state_holds_up_the_scrub(impatient: None, place: Place, where: str) -> None:
    memos = place.memos
    memos.close()
    place.memos = memos = MemOS.open(place.path, embedder=HashEmbedder(64))  # impatient now
    cube, wanted = place.add()
    assert isinstance(memos.vault, SqliteVault)
    if where == "this process":
        records = memos.vault.records(EVERYTHING)
        next(records)
        receipt = memos.erase(cube.id)
        records.close()  # type: ignore[attr-defined]  # a generator
    else:
        with subprocess.Popen(
            [sys.executable, "-c", READER, str(place.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
            receipt = memos.erase(cube.id)
            assert not memos.scrub()
            assert left(place.folder, wanted)
            reader.communicate("leave\n", timeout=60)
    assert not receipt.is_complete
    assert {problem.kind for problem in receipt.verify(memos).problems} == {"not_scrubbed"}
    with pytest.raises(NotFound):
        memos.get(cube.id)
    assert memos.scrub()
    assert receipt.verify(memos).ok
    assert left(place.folder, wanted) == {}


def test_an_erasure_whose_scrub_fails_still_gives_its_receipt(tmp_path: Path) -> None:
    class Busy(SqliteVault):
        is_busy = True

        def scrub(self) -> bool:
            if self.is_busy:
                raise BackendUnavailable("there is no room left on the disk")
            return super().scrub()

    vault = Busy(tmp_path / "memos.db")
    memos = MemOS(vault, embedder=HashEmbedder(64))
    cube = memos.add("zanzibar", user_id="mara")[0]
    receipt = memos.erase(cube.id)
    assert not receipt.is_complete
    with pytest.raises(NotFound):
        memos.get(cube.id)
    with pytest.raises(BackendUnavailable):
        memos.scrub()
    vault.is_busy = False
    assert memos.scrub()
    assert receipt.verify(memos).ok
    vault.close()


# --- bundles


@pytest.mark.parametrize("whole", [False, True], ids=["of the user", "of everything"])
def test_an_older_bundle_does_not_bring_back_what_was_erased(place: Place, tmp_path: Path, whole: bool) -> None:
    memos, bundle = place.memos, tmp_path / "old.memcube"
    cube, wanted = place.add(derived_from=Source(id="letter", kind="file", locator="/quaggaokapi.txt"))
    payload = b"PAYLOAD" * 1_000
    tensor = artefact(place, payload, "tensor", cube.ref)
    kept, _ = place.add()
    memos.export(bundle, **({"scope": EVERYTHING} if whole else {"user_id": "mara"}))  # type: ignore[arg-type]
    receipt = memos.erase(cube.id)
    before = memos.list(scope=EVERYTHING, include_hidden=True), memos.log(scope=EVERYTHING)
    with pytest.raises(VersionConflict):
        memos.load(bundle)
    assert (memos.list(scope=EVERYTHING, include_hidden=True), memos.log(scope=EVERYTHING)) == before
    assert [each.id for each in before[0]] == [kept.id]
    assert left(place.folder, {*wanted, payload, b"quaggaokapi"}) == {}
    assert not memos.vault.blobs.has(next(iter(tensor.payload.blobs.values())).sha256)  # type: ignore[union-attr]
    assert receipt.verify(memos).ok
    assert memos.verify().ok
    with MemOS.open(tmp_path / "empty.db", embedder=HashEmbedder(64)) as empty:  # bundles are the caller's to delete
        empty.load(bundle)
        assert empty.get(cube.id).text == cube.text
        assert not receipt.verify(empty).ok


def test_a_bundle_of_after_holds_tombstones_and_no_word(place: Place, tmp_path: Path) -> None:
    cube, wanted = place.add(metadata={"a": "b"}, derived_from="https://quaggaokapi.example")
    kept, _ = place.add()
    place.memos.erase(cube.id, scrub=False)
    bundle = tmp_path / "new.memcube"
    place.memos.export(bundle, scope=EVERYTHING)
    with read_bundle(bundle) as read:
        told = repr(list(read.records())).lower().encode()
    assert not [trace for trace in {*wanted, b"quaggaokapi"} if trace.lower() in told]
    with MemOS.open(tmp_path / "other.db", embedder=HashEmbedder(64)) as other:
        other.load(bundle)
        assert [each.id for each in other.list(scope=EVERYTHING)] == [kept.id]
        assert {node.state for node in other.provenance(cube.id).entities} == {MemoryState.ERASED}
        with pytest.raises(NotFound):
            other.get(cube.id)


def test_an_export_or_backup_that_fails_leaves_no_file(place: Place, tmp_path: Path) -> None:
    place.add()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        place.memos.export(place.folder / "b.memcube", scope=EVERYTHING, progress=stop)
    with pytest.raises(MemOSError):
        place.memos.backup(place.folder / "missing" / "b.db")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_crafted_bundle_gives_no_tombstone_a_vector(place: Place) -> None:
    memos = place.memos
    cube, _ = place.add()
    records: list[Any] = list(memos.vault.records(EVERYTHING))  # type: ignore[attr-defined]  # SupportsRecords
    receipt = memos.erase(cube.id)
    vector = next(record for record in records if record["kind"] == "vector")
    records = [*memos.vault.records(EVERYTHING), vector]  # type: ignore[attr-defined]
    load = Commit(activity=Activity(id=IdSource().new_id(START), kind="load", started_at=START))
    memos.vault.restore(records, load)  # type: ignore[attr-defined]
    assert memos.verify().ok
    assert receipt.verify(memos).ok
    assert memos.scrub()
    assert left(place.folder, traces(cube)) == {}


@pytest.mark.parametrize("name", ["memos.db", "memos.db-wal", "memos.db-shm", "link.db"])
def test_an_export_cannot_replace_the_store(place: Place, name: str) -> None:
    cube, _ = place.add()
    (place.folder / "link.db").symlink_to(place.path)
    for front in (place.memos, place.memos.scoped(user_id="tom")):
        with pytest.raises(InvalidRequest, match="store itself"):
            front.export(place.folder / name, user_id="tom")
    assert place.memos.get(cube.id) == cube
    assert place.memos.verify().ok


def test_a_receipt_holds_no_content(place: Place) -> None:
    cube, wanted = place.add(key="quaggaokapi", title="quaggaokapi")
    receipt = place.memos.erase(cube.id)
    told = f"{receipt!r} {receipt.to_json()} {receipt.verify(place.memos)!r}".encode()
    assert not [trace for trace in {*wanted, b"quaggaokapi"} if trace in told]
    assert all(is_dataclass(stone) and len(fields(stone)) == 3 for stone in receipt.tombstones)


def test_tenants_of_one_file_erase_their_own(place: Place) -> None:
    cube, wanted = place.add()
    with MemOS.open(place.path, tenant="acme", embedder=HashEmbedder(64)) as acme:
        theirs = acme.add("acme keeps this accordion", user_id="mara")[0]
        receipt = place.memos.erase(user_id="mara")
        assert [hit.cube.id for hit in acme.search("accordion", user_id="mara")] == [theirs.id]
        assert {stone.ref.cube_id for stone in receipt.tombstones} == {cube.id}
        assert not receipt.verify(acme).ok
        also = acme.erase(theirs.id, scrub=False)
        assert not also.verify(acme).ok
        assert place.memos.scrub()  # of the file, so of all its tenants
        assert also.verify(acme).ok
        assert receipt.verify(place.memos).ok
    assert left(place.folder, {*wanted, b"accordion"}) == {}
