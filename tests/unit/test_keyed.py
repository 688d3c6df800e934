"""Keyed writes and nearest vectors: what stores of frameworks stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memos_agents import InvalidRequest, InvalidTransition, MemOS, NotFound, Scope
from memos_agents.cube.metadata import DEFAULT_COLLECTION, Descriptive
from memos_agents.errors import IncompatibleModel
from memos_agents.interface.keyed import Keyed, Place, find_keyed, write_keyed
from memos_agents.interface.nearest import nearest, open_space
from memos_agents.interface.recall import view_of
from memos_agents.interface.views import ScopedMemOS
from memos_agents.testing import HashEmbedder

MARA = Scope(user_id="mara")


@pytest.fixture(params=[":memory:", "file"])
def memos(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemOS]:
    target = str(tmp_path / "memos.db") if request.param == "file" else request.param
    with MemOS.open(target, embedder=HashEmbedder(32)) as opened:
        yield opened
        assert opened.verify().ok


@pytest.fixture
def view(memos: MemOS) -> ScopedMemOS:
    return view_of(memos, user_id="mara").sync


def keyed(key: str, text: str, scope: Scope = MARA, **more: object) -> Keyed:
    return Keyed(scope=scope, descriptive=Descriptive(key=key), text=text, metadata={"k": key}, **more)  # type: ignore[arg-type]


def place(key: str) -> Place:
    return Place(MARA, DEFAULT_COLLECTION, key)


def test_many_keys_are_one_commit(memos: MemOS, view: ScopedMemOS) -> None:
    written = write_keyed(view, [keyed(f"k{number}", f"text {number}") for number in range(20)], agent="tester")
    assert len(written.refs) == len(set(written.refs)) == 20
    write_keyed(view, [keyed("k1", "other"), keyed("new", "")], erasures=[place("k0"), place("never")], agent="tester")
    assert len(memos.log(user_id="mara")) == 2
    assert memos.get(key="k1", user_id="mara").version == 2
    assert memos.get(key="k1", user_id="mara").governance.owner == "mara"
    with pytest.raises(NotFound):
        memos.get(key="k0", user_id="mara")
    found = find_keyed(view, [place("k1"), place("k0"), place("new")])
    assert {where.key: cube.text for where, cube in found.items()} == {"k1": "other", "new": ""}


def test_saying_the_same_again_is_a_use(memos: MemOS, view: ScopedMemOS) -> None:
    first = write_keyed(view, [keyed("k", "text")])
    again = write_keyed(view, [keyed("k", "text"), keyed("k", "text")])
    assert again.refs == first.refs * 2
    assert len(memos.log(user_id="mara")) == 1
    assert memos.get(key="k", user_id="mara").behavioural.use_count >= 1


def test_of_several_writes_of_one_key_the_last_counts(memos: MemOS, view: ScopedMemOS) -> None:
    write_keyed(view, [keyed("k", "one"), keyed("k", "two")])
    assert [version.text for version in memos.history(memos.get(key="k", user_id="mara").id)] == ["two"]


def test_what_is_refused_leaves_nothing(memos: MemOS, view: ScopedMemOS) -> None:
    write_keyed(view, [keyed("frozen", "text")])
    memos.freeze(memos.get(key="frozen", user_id="mara").id)
    for writes, erasures, error in (
        ([keyed("a", "x"), keyed("frozen", "y")], [], InvalidTransition),
        ([keyed("a", "x"), keyed("b", "\ud800")], [], InvalidRequest),
        ([keyed("a", "x"), keyed("", "y")], [], InvalidRequest),
        ([keyed("a", "x"), keyed("b", "y" * 1_000_001)], [], InvalidRequest),
        ([keyed("a", "x")], [place("a")], InvalidRequest),
        ([keyed("a", "x", scope=Scope(user_id="omar"))], [], InvalidRequest),
        ([keyed("a", "x", scope=Scope.everything())], [], InvalidRequest),
        ([keyed("a", "x", scope=Scope(tenant="other", user_id="mara"))], [], InvalidRequest),
    ):
        with pytest.raises(error):
            write_keyed(view, writes, erasures=erasures)
    assert [cube.descriptive.key for cube in memos.list(scope=Scope.everything())] == ["frozen"]


def test_parts_live_and_die_with_the_whole(memos: MemOS, view: ScopedMemOS) -> None:
    model = HashEmbedder(8)
    space = open_space(view, model, prefix="test:")
    rows = model.embed(["green tea", "blue whale", "red rose"])

    def write(*chosen: int) -> None:
        first, *others = ({space: rows[number]} for number in chosen)
        write_keyed(view, [keyed("k", f"text {chosen}", vectors=first, parts=tuple(others))])

    def parts() -> int:
        return len(memos.list(user_id="mara", collection="parts"))

    write(0, 1, 2)
    assert parts() == 2
    write(0, 1)
    assert parts() == 1
    assert all(hit.cube.text for hit in memos.search("text", user_id="mara", collection=None))
    memos.erase(key="k", user_id="mara")
    assert parts() == 0
    assert len(memos.list(user_id="mara", include_hidden=True)) == 0


def test_nearest_is_exact_and_filtered(memos: MemOS, view: ScopedMemOS) -> None:
    model = HashEmbedder(32)
    texts = [f"word{number} word{number % 7}" for number in range(300)]
    write_keyed(view, [keyed(f"k{number}", text) for number, text in enumerate(texts)])
    write_keyed(view_of(memos, user_id="omar").sync, [keyed("o", "word3 word3", scope=Scope(user_id="omar"))])
    query = model.embed_query("word3 word100")
    cosines = model.embed(texts) @ query
    found = nearest(view, query * 5, space=model.fingerprint, limit=300, collection=None)
    assert len(found) == 300
    assert [near.score for near in found] == pytest.approx(sorted(cosines.tolist(), reverse=True), abs=2e-3)
    even = nearest(
        view,
        query,
        space=model.fingerprint,
        limit=150,
        collection=DEFAULT_COLLECTION,
        accepts=lambda cube: int(str(cube.metadata["k"])[1:]) % 2 == 0,
    )
    assert len(even) == 150 and all(int(str(near.cube.metadata["k"])[1:]) % 2 == 0 for near in even)
    assert nearest(view, query, space=model.fingerprint, limit=5, collection="none") == []
    with pytest.raises(IncompatibleModel):
        nearest(view, np.ones(3, np.float32), space=model.fingerprint, limit=5, collection=None)
