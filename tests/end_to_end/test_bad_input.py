"""Bad input, one by one, on every call: a clear error or a defined result, and never a half-done write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from memos_agents import BackendUnavailable, InvalidRequest, MemOS, NotFound, Scope, VersionConflict
from memos_agents.testing import FixedClock, HashEmbedder

UNKNOWN = "0190a0b0-0000-7000-8000-000000000000"
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001
NAN = float("nan")
BIG = "ten megabytes " * 750_000
BAD_TEXTS: list[Any] = [None, "", "   ", 5, b"x", "a\x00b", "\ud800", BIG, ["nested", ["list"]], {"no": "shape"}]
BAD_NAMES: list[Any] = ["", "  ", 5, b"x", "a\x00b", "\ud800", "zero\u200bwidth", "x" * 600, ["x"], {"x"}, NAN]
BAD_TIMES: list[Any] = [NAN, NAIVE, "yesterday", "2026-01-01", "2026-01-01T00:00:00", 5, "", "\ud800", [], float("inf")]
BAD_IDS: list[Any] = ["", "nope", 5, b"x", "\ud800", "a\x00b", UNKNOWN + "0", "' OR 1=1 --", ["x", "y"], NAN, {"a": 1}]
BAD_COUNTS: list[Any] = [0, -1, 10**9, 1.5, NAN, "5", True, []]
BAD_METADATA: list[Any] = [
    5,
    "x",
    ["x"],
    {1: 2},
    {"a": NAN},
    {"a": object()},
    {"a": "\ud800"},
    {"\x00": 1},
    {"a": {1, 2}},
]
BAD_FILTERS: list[Any] = [5, "x", {"a": {"$near": 1}}, {"$or": 5}, {"a": {"$in": 5}}, {"a": NAN}, {1: 2}]

Call = Callable[[MemOS, str, Any], object]


@pytest.fixture(params=["memory", "file"])
def memos(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemOS]:
    target = ":memory:" if request.param == "memory" else str(tmp_path / "memos.db")
    with MemOS.open(target, embedder=HashEmbedder(dimension=64), clock=FixedClock()) as opened:
        yield opened


@pytest.fixture
def small() -> Iterator[MemOS]:
    """Arguments are checked above the vault, so the long tables run on one."""
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=64), clock=FixedClock()) as opened:
        yield opened


def calls(table: dict[str, Call], values: list[Any]) -> list[Any]:
    return [
        pytest.param(call, value, id=f"{name}-{index}-{str(value)[:12]!a}")
        for name, call in table.items()
        for index, value in enumerate(values)
    ]


TEXTS: dict[str, Call] = {
    "add": lambda m, i, x: m.add(x, user_id="mara"),
    "add item": lambda m, i, x: m.add(["fine", x], user_id="mara"),
    "add content": lambda m, i, x: m.add({"role": "user", "content": x}, user_id="mara"),
    "search": lambda m, i, x: m.search(x, user_id="mara"),
}
NAMES: dict[str, Call] = {
    name: partial(lambda field, m, i, x: m.add("x", **{"user_id": "mara", field: x}), name)
    for name in ("user_id", "agent_id", "session_id", "key", "collection", "role", "name", "semantic_type", "origin",
                 "owner", "agent", "commit_key")
} | {
    "search": lambda m, i, x: m.search("x", user_id=x),
    "list": lambda m, i, x: m.list(user_id=x),
    "get": lambda m, i, x: m.get(i, user_id=x),
    "get key": lambda m, i, x: m.get(key=x, user_id="mara"),
    "get collection": lambda m, i, x: m.get(key="k", collection=x, user_id="mara"),
    "update": lambda m, i, x: m.update(i, "x", user_id=x),
    "history": lambda m, i, x: m.history(i, session_id=x),
    "rollback": lambda m, i, x: m.rollback(i, to_version=1, user_id=x),
    "relate": lambda m, i, x: m.relate(i, "MENTIONS", i, user_id=x),
    "unrelate": lambda m, i, x: m.unrelate(i, "MENTIONS", i, user_id=x),
    "relations": lambda m, i, x: m.relations(i, user_id=x),
    "archive": lambda m, i, x: m.archive(i, user_id=x),
    "activate": lambda m, i, x: m.activate(i, user_id=x),
    "freeze": lambda m, i, x: m.freeze(i, agent_id=x),
    "unfreeze": lambda m, i, x: m.unfreeze(i, agent_id=x),
    "erase": lambda m, i, x: m.erase(user_id=x),
    "erase key": lambda m, i, x: m.erase(key=x, user_id="mara"),
    "provenance": lambda m, i, x: m.provenance(i, user_id=x),
    "log": lambda m, i, x: m.log(user_id=x),
    "undo": lambda m, i, x: m.undo(UNKNOWN, user_id=x),
    "stats": lambda m, i, x: m.stats(user_id=x),
    "export": lambda m, i, x: m.export("never.memcube", user_id=x),
    "scoped": lambda m, i, x: m.scoped(user_id=x),
    "snapshot": lambda m, i, x: m.snapshot(x),
    "Scope": lambda m, i, x: m.list(scope=Scope(user_id=x)),
}  # fmt: skip
TIMES: dict[str, Call] = {
    "occurred_at": lambda m, i, x: m.add("x", user_id="mara", occurred_at=x),
    "created_at": lambda m, i, x: m.add({"role": "user", "content": "x", "created_at": x}, user_id="mara"),
    "valid_from": lambda m, i, x: m.add("x", user_id="mara", valid_from=x),
    "valid_to": lambda m, i, x: m.add("x", user_id="mara", valid_to=x),
    "as_of": lambda m, i, x: m.search("x", user_id="mara", as_of=x),
    "valid_at": lambda m, i, x: m.search("x", user_id="mara", valid_at=x),
    "since": lambda m, i, x: m.log(user_id="mara", since=x),
    "until": lambda m, i, x: m.log(user_id="mara", until=x),
    "update": lambda m, i, x: m.update(i, occurred_at=x),
    "update valid": lambda m, i, x: m.update(i, valid_to=x),
}
IDS: dict[str, Call] = {
    "get": lambda m, i, x: m.get(x),
    "update": lambda m, i, x: m.update(x, "text"),
    "history": lambda m, i, x: m.history(x),
    "rollback": lambda m, i, x: m.rollback(x, to_version=1),
    "relate from": lambda m, i, x: m.relate(x, "MENTIONS", i),
    "relate to": lambda m, i, x: m.relate(i, "MENTIONS", x),
    "unrelate": lambda m, i, x: m.unrelate(i, "MENTIONS", x),
    "relations": lambda m, i, x: m.relations(x),
    "archive": lambda m, i, x: m.archive(x),
    "activate": lambda m, i, x: m.activate(x),
    "freeze": lambda m, i, x: m.freeze(x),
    "unfreeze": lambda m, i, x: m.unfreeze(x),
    "erase": lambda m, i, x: m.erase(x),
    "erase many": lambda m, i, x: m.erase([i, x]),
    "provenance": lambda m, i, x: m.provenance(x),
    "log": lambda m, i, x: m.log(user_id="mara", cube_id=x),
    "undo": lambda m, i, x: m.undo(x),
    "derived_from": lambda m, i, x: m.add("x", user_id="mara", derived_from=[x]),
}
COUNTS: dict[str, Call] = {
    "search": lambda m, i, x: m.search("x", user_id="mara", limit=x),
    "list": lambda m, i, x: m.list(user_id="mara", limit=x),
    "log": lambda m, i, x: m.log(user_id="mara", limit=x),
    "get": lambda m, i, x: m.get(i, version=x),
    "rollback": lambda m, i, x: m.rollback(i, to_version=x),
    "expected": lambda m, i, x: m.update(i, "x", expected_version=x),
}
METADATA: dict[str, Call] = {
    "add": lambda m, i, x: m.add("x", user_id="mara", metadata=x),
    "message": lambda m, i, x: m.add({"role": "user", "content": "x", "metadata": x}, user_id="mara"),
    "update": lambda m, i, x: m.update(i, metadata=x),
    "relate": lambda m, i, x: m.relate(i, "MENTIONS", m.add("y", user_id="mara")[0], properties=x),
}
FILTERS: dict[str, Call] = {
    "search": lambda m, i, x: m.search("x", user_id="mara", filter=x),
    "list": lambda m, i, x: m.list(user_id="mara", filter=x),
}
OTHERS: dict[str, Callable[[MemOS, str], object]] = {
    "ttl zero": lambda m, i: m.add("x", user_id="mara", ttl_seconds=0),
    "ttl nan": lambda m, i: m.add("x", user_id="mara", ttl_seconds=NAN),
    "ttl text": lambda m, i: m.add("x", user_id="mara", ttl_seconds="5"),  # type: ignore[arg-type]
    "trust": lambda m, i: m.add("x", user_id="mara", trust=1.5),
    "trust nan": lambda m, i: m.add("x", user_id="mara", trust=NAN),
    "trust text": lambda m, i: m.add("x", user_id="mara", trust="high"),  # type: ignore[arg-type]
    "priority": lambda m, i: m.add("x", user_id="mara", priority=1.5),  # type: ignore[arg-type]
    "tags text": lambda m, i: m.add("x", user_id="mara", tags="abc"),
    "tags empty": lambda m, i: m.add("x", user_id="mara", tags=[""]),
    "readers": lambda m, i: m.add("x", user_id="mara", readers=[5]),  # type: ignore[list-item]
    "title": lambda m, i: m.add("x", user_id="mara", title=""),
    "derived_from": lambda m, i: m.add("x", user_id="mara", derived_from=5),  # type: ignore[arg-type]
    "no scope": lambda m, i: m.add("x"),
    "everything": lambda m, i: m.add("x", scope=Scope.everything()),
    "empty scope": lambda m, i: m.add("x", scope=Scope()),
    "scope type": lambda m, i: m.add("x", scope="mara"),  # type: ignore[arg-type]
    "contradiction": lambda m, i: m.add("x", user_id="mara", scope=Scope(user_id="tom")),
    "search no scope": lambda m, i: m.search("x"),
    "list no scope": lambda m, i: m.list(),
    "log no scope": lambda m, i: m.log(),
    "stats no scope": lambda m, i: m.stats(),
    "export no scope": lambda m, i: m.export("never.memcube"),
    "search empty scope": lambda m, i: m.search("x", scope=Scope()),
    "scoped nothing": lambda m, i: m.scoped(),
    "scoped empty": lambda m, i: m.scoped(scope=Scope()),
    "states": lambda m, i: m.search("x", user_id="mara", states=["alive"]),
    "states empty": lambda m, i: m.list(user_id="mara", states=[]),
    "states erased": lambda m, i: m.list(user_id="mara", states=["erased"]),
    "types": lambda m, i: m.search("x", user_id="mara", memory_types="text"),
    "types number": lambda m, i: m.search("x", user_id="mara", memory_types=5),  # type: ignore[arg-type]
    "order": lambda m, i: m.list(user_id="mara", order="newest"),  # type: ignore[arg-type]
    "get nothing": lambda m, i: m.get(),
    "get both": lambda m, i: m.get(i, key="k", user_id="mara"),
    "get key no scope": lambda m, i: m.get(key="k"),
    "erase both": lambda m, i: m.erase(i, key="k", user_id="mara"),
    "erase nothing": lambda m, i: m.erase(),
    "erase empty scope": lambda m, i: m.erase(scope=Scope()),
    "erase number": lambda m, i: m.erase(5),  # type: ignore[arg-type]
    "update nothing": lambda m, i: m.update(i),
    "update empty": lambda m, i: m.update(i, ""),
    "update big": lambda m, i: m.update(i, BIG),
    "update surrogate": lambda m, i: m.update(i, "\ud800"),
    "relation kind": lambda m, i: m.relate(i, "LIKES", i),
    "relation kind type": lambda m, i: m.relate(i, 5, i),  # type: ignore[arg-type]
    "direction": lambda m, i: m.provenance(i, direction="sideways"),  # type: ignore[arg-type]
    "depth": lambda m, i: m.provenance(i, depth=-1),
    "path": lambda m, i: m.export(5, user_id="mara"),  # type: ignore[arg-type]
    "path empty": lambda m, i: m.export("", user_id="mara"),
    "path nul": lambda m, i: m.backup("a\x00b"),
    "load format": lambda m, i: m.load("x", format="pickle"),
    "reembed": lambda m, i: m.reembed(object()),
    "reembed none": lambda m, i: m.reembed("none"),
}


def refuses(memos: MemOS, call: Callable[[str], object]) -> None:
    """The call raises `InvalidRequest` with words, and leaves the store as it was."""
    cube = memos.add("a memory that is there", user_id="mara")[0]
    with pytest.raises(InvalidRequest) as caught:
        call(cube.id)
    assert 10 < len(str(caught.value)) < 1_000, "an error is a sentence, not the input again"
    assert memos.get(cube.id) == cube
    assert memos.stats(user_id="mara").commits is None
    assert [each.text for each in memos.list(user_id="mara") if each.text not in (cube.text, "y")] == []


@pytest.mark.parametrize(("call", "value"), calls(TEXTS, BAD_TEXTS))
def test_bad_text(small: MemOS, call: Call, value: Any) -> None:
    refuses(small, lambda cube_id: call(small, cube_id, value))


@pytest.mark.parametrize(("call", "value"), calls(NAMES, BAD_NAMES))
def test_bad_names(small: MemOS, call: Call, value: Any) -> None:
    refuses(small, lambda cube_id: call(small, cube_id, value))


@pytest.mark.parametrize(("call", "value"), calls(TIMES, BAD_TIMES))
def test_bad_times(small: MemOS, call: Call, value: Any) -> None:
    refuses(small, lambda cube_id: call(small, cube_id, value))


@pytest.mark.parametrize(("call", "value"), calls(IDS, BAD_IDS))
def test_bad_ids(small: MemOS, call: Call, value: Any) -> None:
    refuses(small, lambda cube_id: call(small, cube_id, value))


@pytest.mark.parametrize(("call", "value"), calls(COUNTS, BAD_COUNTS))
def test_bad_counts(small: MemOS, call: Call, value: Any) -> None:
    if value == 10**9:  # could be the number of a version, which is not there
        cube = small.add("x", user_id="mara")[0]
        with pytest.raises((InvalidRequest, NotFound, VersionConflict)):
            call(small, cube.id, value)
        return
    refuses(small, lambda cube_id: call(small, cube_id, value))


@pytest.mark.parametrize(("call", "value"), calls(METADATA, BAD_METADATA))
def test_bad_metadata(small: MemOS, call: Call, value: Any) -> None:
    refuses(small, lambda cube_id: call(small, cube_id, value))


@pytest.mark.parametrize(("call", "value"), calls(FILTERS, BAD_FILTERS))
def test_bad_filters(small: MemOS, call: Call, value: Any) -> None:
    refuses(small, lambda cube_id: call(small, cube_id, value))


@pytest.mark.parametrize("call", OTHERS.values(), ids=OTHERS)
def test_other_bad_arguments(memos: MemOS, call: Callable[[MemOS, str], object]) -> None:
    refuses(memos, lambda cube_id: call(memos, cube_id))


@pytest.mark.parametrize("name", IDS)
def test_an_unknown_id_is_not_found(memos: MemOS, name: str) -> None:
    cube = memos.add("x", user_id="mara")[0]
    if name == "log":
        assert memos.log(user_id="mara", cube_id=UNKNOWN) == []
        return
    with pytest.raises(NotFound, match=UNKNOWN):
        IDS[name](memos, cube.id, UNKNOWN)


def test_an_unknown_user_has_nothing(memos: MemOS) -> None:
    cube = memos.add("x", user_id="mara")[0]
    assert memos.search("x", user_id="nobody") == []
    assert memos.list(user_id="nobody") == []
    assert memos.log(user_id="nobody") == []
    assert memos.stats(user_id="nobody").cubes == 0
    assert memos.erase(user_id="nobody").tombstones == ()
    with pytest.raises(NotFound):
        memos.get(cube.id, user_id="nobody")


def test_a_future_time_is_a_time(memos: MemOS) -> None:
    future = datetime(2400, 1, 1, tzinfo=UTC)
    cube = memos.add("the dentist", user_id="mara", occurred_at=future)[0]
    assert memos.get(cube.id).descriptive.occurred_at == future
    assert memos.search("dentist", user_id="mara", as_of=future)[0].cube.id == cube.id
    assert memos.log(user_id="mara", since=future) == []
    assert memos.search("dentist", user_id="mara", as_of=datetime.min.replace(tzinfo=UTC)) == []


def test_a_time_beyond_the_calendar_in_utc_is_refused(memos: MemOS) -> None:
    with pytest.raises(InvalidRequest, match="out of range"):
        memos.add("x", user_id="mara", occurred_at=datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))))


def test_the_longest_text_is_kept_whole_and_found_by_its_end(memos: MemOS) -> None:
    text = "word " * 199_990 + "alpacas"
    cube = memos.add(text, user_id="mara")[0]
    assert memos.get(cube.id).text == text


@pytest.mark.parametrize(
    "text",
    ["'; DROP TABLE cube; --", '"quoted" AND NOT', "\u202eright to left", "😀", "a\r\nb\t", "NEAR(a b)", "*", "-"],
)
def test_every_other_text_comes_back_as_it_was(memos: MemOS, text: str) -> None:
    cube = memos.add(text, user_id="mara")[0]
    assert memos.get(cube.id).text == text
    memos.search(text, user_id="mara")
    assert memos.verify().ok


CLOSED: dict[str, Callable[[MemOS], object]] = {
    **{f"id {name}": partial(lambda call, m: call(m, UNKNOWN, UNKNOWN), call) for name, call in IDS.items()},
    "add": lambda m: m.add("x", user_id="mara"),
    "search": lambda m: m.search("x", user_id="mara"),
    "list": lambda m: m.list(user_id="mara"),
    "get key": lambda m: m.get(key="k", user_id="mara"),
    "erase scope": lambda m: m.erase(user_id="mara"),
    "log": lambda m: m.log(user_id="mara"),
    "stats": lambda m: m.stats(user_id="mara"),
    "export": lambda m: m.export("never.memcube", user_id="mara"),
    "load": lambda m: m.load("never.memcube"),
    "backup": lambda m: m.backup("never.db"),
    "reembed": lambda m: m.reembed(HashEmbedder(dimension=64)),
    "verify": lambda m: m.verify(),
    "scrub": lambda m: m.scrub(),
    "snapshot": lambda m: m.snapshot("s"),
    "snapshots": lambda m: m.snapshots(),
    "vault": lambda m: m.vault,
    "view": lambda m: m.scoped(user_id="mara").list(),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_store_says_so(name: str) -> None:
    memos = MemOS.open(":memory:", embedder=HashEmbedder(dimension=64))
    memos.close()
    memos.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        CLOSED[name](memos)
