"""Laws of receipts: they name all that was erased, hold no content, and notice when any of it comes back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_agents.cube.canonical import JSON, content_hash
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.payload import TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import IntegrityError, InvalidRequest
from memos_agents.infrastructure.governance.receipt import Receipt
from memos_agents.infrastructure.provenance.graph import ProvenanceGraph
from memos_agents.infrastructure.provenance.values import Activity, Agent, Derivation
from memos_agents.infrastructure.vault.base import Direction, LogEntry, LogQuery, SearchView, ViewQuery
from memos_agents.infrastructure.vault.commit import Commit, Tombstone, Write
from memos_agents.infrastructure.vault.memory import MemoryVault

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MARA = Scope(user_id="mara")
AGENT = Agent(id="mara", kind="user", name="Mara")


@dataclass
class Store:
    """As much of a MemOS as a receipt needs."""

    vault: MemoryVault


def cube_id(number: int) -> str:
    return f"0196bbbb-1111-7000-8000-{number:012d}"


def cube(number: int, text: str, version: int = 1) -> MemCube:
    payload = TextPayload(text)
    return MemCube(
        id=cube_id(number),
        version=version,
        scope=MARA,
        payload=payload,
        metadata={"word": "xylograph"},
        created_at=NOW,
        recorded_at=NOW,
    )


def fill(vault: MemoryVault) -> None:
    """1 (two versions) and 2; 3 made from 1; 4 made from 3; 5 apart."""
    add = Activity(id="add", kind="add", started_at=NOW, agent=AGENT)
    vault.commit(Commit(activity=add, writes=tuple(Write(cube=cube(n, f"memory {n}")) for n in (1, 2, 3, 5))))
    vault.commit(
        Commit(
            activity=Activity(id="derive", kind="summarise", started_at=NOW, agent=AGENT),
            writes=(Write(cube=cube(3, "summary", 2), replaces=1), Write(cube=cube(4, "summary of a summary"))),
            derivations=(
                Derivation(derived=VersionRef(cube_id(3), 2), source=VersionRef(cube_id(1), 1)),
                Derivation(derived=VersionRef(cube_id(4), 1), source=VersionRef(cube_id(3), 2)),
            ),
        )
    )
    update = Activity(id="update", kind="update", started_at=NOW, agent=AGENT)
    vault.commit(Commit(activity=update, writes=(Write(cube=cube(1, "memory 1, anew", 2), replaces=1),)))


def erase(vault: MemoryVault, *numbers: int, is_complete: bool = True) -> Receipt:
    activity = Activity(id="erase", kind="erase", started_at=NOW + timedelta(days=1), agent=AGENT)
    result = vault.commit(Commit(activity=activity, erasures=tuple(cube_id(number) for number in numbers)))
    (entry,) = vault.log(LogQuery(scope=Scope.everything(), activity_id="erase"))
    return Receipt(
        activity_id="erase",
        seq=result.seq,
        at=result.at,
        agent=AGENT,
        tombstones=result.erased,
        is_complete=is_complete,
        chain=entry.chain,
    )


def kinds(receipt: Receipt, vault: MemoryVault) -> set[str]:
    check = receipt.verify(Store(vault))
    assert check.ok is not check.problems
    assert check.ok == (not check.problems)
    return {problem.kind for problem in check.problems}


def test_a_receipt_lists_everything_that_went_and_verifies() -> None:
    vault = MemoryVault()
    fill(vault)
    receipt = erase(vault, 1)
    named = {(stone.ref.cube_id, stone.ref.version, stone.is_derived) for stone in receipt.tombstones}
    assert named == {
        (cube_id(1), 1, False),
        (cube_id(1), 2, False),
        (cube_id(3), 1, True),
        (cube_id(3), 2, True),
        (cube_id(4), 1, True),
    }
    assert cube(1, "memory 1").content_hash in {stone.content_hash for stone in receipt.tombstones}
    assert kinds(receipt, vault) == set()


def test_a_receipt_still_holds_after_later_work() -> None:
    vault = MemoryVault()
    fill(vault)
    receipt = erase(vault, 1)
    later = Activity(id="later", kind="add", started_at=NOW + timedelta(days=9), agent=AGENT)
    vault.commit(Commit(activity=later, writes=(Write(cube=cube(7, "memory 1")),)))
    erasure = Activity(id="more", kind="erase", started_at=NOW + timedelta(days=10), agent=AGENT)
    vault.commit(Commit(activity=erasure, erasures=(cube_id(5),)))
    assert kinds(receipt, vault) == set()


def test_a_receipt_holds_no_content() -> None:
    vault = MemoryVault()
    fill(vault)
    text = json.dumps(erase(vault, 1, 5).to_json())
    for word in ("memory", "anew", "summary", "xylograph"):
        assert word not in text


def test_a_forged_receipt_is_noticed() -> None:
    vault = MemoryVault()
    fill(vault)
    receipt = erase(vault, 1)
    first, *rest = receipt.tombstones
    other = Tombstone(ref=VersionRef(cube_id(5), 1), content_hash="0" * 64, is_derived=False)
    assert kinds(replace(receipt, tombstones=(*receipt.tombstones, other)), vault) == {
        "missing_tombstone",
        "content_left",
        "still_found",
    }
    assert kinds(replace(receipt, tombstones=tuple(rest)), vault) == {"unlisted_tombstone"}
    changed = replace(first, content_hash="0" * 64)
    assert kinds(replace(receipt, tombstones=(changed, *rest)), vault) == {"changed_tombstone"}
    assert kinds(replace(receipt, at=NOW), vault) == {"changed_activity"}
    assert kinds(replace(receipt, agent=Agent(id="ben")), vault) == {"changed_activity"}
    assert kinds(replace(receipt, chain="0" * 64), vault) == {"changed_chain"}


def test_another_store_does_not_pass() -> None:
    vault = MemoryVault()
    fill(vault)
    found = kinds(erase(vault, 1), MemoryVault())
    assert found >= {"missing_activity", "missing_tombstone", "missing_version"}


class LeakyVault(MemoryVault):
    """Keeps what it should not, in one way at a time."""

    leak = ""

    def history(self, cube_id: str, scope: Scope) -> list[MemCube]:
        versions = super().history(cube_id, scope)
        if self.leak == "text":
            return [replace(version, payload=TextPayload("still here")) for version in versions]
        if self.leak == "metadata":
            return [replace(version, metadata={"word": "xylograph"}) for version in versions]
        if self.leak == "key":
            return [replace(each, descriptive=replace(each.descriptive, key="k")) for each in versions]
        if self.leak == "state":
            return [replace(version, state=MemoryState.ARCHIVED) for version in versions]
        return versions

    def search_view(self, query: ViewQuery) -> SearchView:
        view = super().search_view(query)
        if self.leak == "search":
            view.view.refs.append(VersionRef(cube_id(1), 1))
        return view

    def lineage(self, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
        graph = super().lineage(ref, direction, depth, scope)
        if self.leak == "derived":
            living = tuple(replace(node, state=MemoryState.ACTIVATED) for node in graph.entities)
            return replace(graph, entities=living)
        return graph

    def log(self, query: LogQuery) -> list[LogEntry]:
        return [] if self.leak == "log" else super().log(query)

    def is_scrubbed(self, seq: int) -> bool:
        return self.leak != "bytes" and super().is_scrubbed(seq)


@pytest.mark.parametrize(
    ("leak", "kind"),
    [
        ("text", "content_left"),
        ("metadata", "content_left"),
        ("key", "content_left"),
        ("state", "content_left"),
        ("search", "still_found"),
        ("derived", "derived_left"),
        ("log", "missing_activity"),
        ("bytes", "not_scrubbed"),
        ("", None),
    ],
)
def test_whatever_is_left_is_found(leak: str, kind: str | None) -> None:
    vault = LeakyVault()
    fill(vault)
    receipt = erase(vault, 1)
    vault.leak = leak
    assert kinds(receipt, vault) == ({kind} if kind else set())


def test_problems_show_no_content() -> None:
    vault = LeakyVault()
    fill(vault)
    receipt = erase(vault, 1)
    vault.leak = "text"
    problems = receipt.verify(Store(vault)).problems
    assert problems
    assert not any("still here" in problem.what for problem in problems)


hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
receipts = st.builds(
    Receipt,
    activity_id=st.uuids().map(str),
    seq=st.integers(1),
    at=st.integers(0, 3600).map(lambda seconds: NOW + timedelta(seconds=seconds, microseconds=seconds)),
    agent=st.builds(
        Agent,
        id=st.text(st.characters(codec="utf-8")),
        kind=st.sampled_from(["user", "system"]),
        name=st.none() | st.text(st.characters(codec="utf-8")),
    ),
    tombstones=st.lists(
        st.builds(
            Tombstone,
            ref=st.builds(VersionRef, st.uuids().map(str), st.integers(1)),
            content_hash=hashes,
            is_derived=st.booleans(),
        ),
        max_size=4,
    ).map(tuple),
    is_complete=st.booleans(),
    chain=st.none() | hashes,
)


@given(receipts)
def test_json_gives_a_receipt_back(receipt: Receipt) -> None:
    assert Receipt.from_json(json.loads(json.dumps(receipt.to_json()))) == receipt


@given(receipts, st.data())
def test_a_changed_json_is_noticed(receipt: Receipt, data: st.DataObject) -> None:
    value = receipt.to_json()
    name = data.draw(st.sampled_from(sorted(value.keys() - {"format", "version"})))
    value[name] = data.draw(st.sampled_from([None, 0, "x", [], not value[name]]).filter(lambda new: new != value[name]))
    with pytest.raises(IntegrityError, match="changed"):
        Receipt.from_json(value)


def test_a_receipt_of_other_fields_is_refused() -> None:
    value: dict[str, JSON] = {"format": "memos-receipt", "version": 1, "agent": 3}
    with pytest.raises(InvalidRequest, match="lacks"):
        Receipt.from_json({**value, "digest": content_hash(value)})


@pytest.mark.parametrize("value", [{}, [], None, {"format": "memcube"}, {"format": "memos-receipt", "version": 2}])
def test_what_is_no_receipt_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        Receipt.from_json(value)  # type: ignore[arg-type]
