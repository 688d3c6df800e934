"""Drafting: a legal commit turned into the rows that it will write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.columns import MAX_POSTED_COUNT, pack_vector, speaker_of
from memos_agents.infrastructure.vault.commit import Commit, Transition, Vectors
from memos_agents.infrastructure.vault.neo4j.working import Draft, Found, KnownCube, NewCube, place_of, same_of
from memos_agents.infrastructure.vault.rules import Head
from memos_agents.infrastructure.vault.text import index_terms, text_flags


def draft_commit(found: Found, commit: Commit, bodies: Sequence[str], hashes: Sequence[str], at_us: int) -> Draft:
    """The rows of `commit`; brings the heads in `found` to where they will be. `InvalidRequest` for a broken vector."""
    tail = found.tail
    draft = Draft(seq=tail.seq + 1, at_us=at_us, next_cube=tail.cubes + 1, next_version=tail.versions + 1)
    rounds: Counter[str] = Counter()
    for write, body, digest in zip(commit.writes, bodies, hashes, strict=True):
        cube, known = write.cube, found.cubes.get(write.cube.id)
        rid, vectors = draft.next_version, _vectors(write.vectors, found)
        draft.next_version += 1
        if known is None:
            born = Head(1, cube.scope, cube.state, cube.frozen, True, cube.governance.readers)
            found.cubes[cube.id] = KnownCube(cube.id, draft.next_cube, born, None, rid, is_stale=False, is_new=True)
            draft.new.append(NewCube(cube, body, digest, draft.next_cube, rid, vectors))
            draft.next_cube += 1
        else:
            version = {**version_values(cube, body, digest, rid=rid, recorded_us=at_us), **vectors}
            head = head_values(cube, digest)
            round_ = rounds[cube.id]
            rounds[cube.id] += 1
            if round_ == len(draft.revisions):
                draft.revisions.append([])
            draft.revisions[round_].append({"id": cube.id, "cube": head, "version": version})
            draft.superseded.append(VersionRef(cube.id, cube.version - 1))
            known.head = replace(known.head, version=cube.version, is_believed=True, readers=cube.governance.readers)
            if not known.is_new:
                draft.touched.add(cube.id)
        draft.note("writes", [cube.id, cube.version, write.replaces or 0])
        draft.effects.append(chain.wrote(cube.id, cube.version, digest))
        if isinstance(cube.payload, ArtefactPayload):
            draft.blobs.extend((cube.id, cube.version, sha256) for sha256 in blobs_of(cube.payload))
    for step in commit.transitions:
        _step(draft, found.cubes[step.cube_id], step)
    for invalidation in commit.invalidations:
        _invalidate(draft, found.cubes[invalidation.ref.cube_id], invalidation.ref, is_lifted=invalidation.lifted)
    draft.sources.extend({source.id: source for source in commit.sources}.values())
    for edge in dict.fromkeys(commit.derivations):
        if isinstance(edge.source, VersionRef):
            draft.edges.append((edge.derived, edge.source, edge.kind))
        else:
            draft.evidence.append((edge.derived, edge.source, edge.kind))
        draft.effects.append(chain.derived(str(edge.derived), str(edge.source), edge.kind))
    draft.is_settled = not (draft.superseded or draft.ends or draft.lifts) and all(
        _is_fresh(found.cubes[source.cube_id], source) for _, source, _ in draft.edges
    )
    _relate(draft, found, commit)
    draft.touched -= {cube_id for cube_id, known in found.cubes.items() if known.is_new}
    return draft


def cube_values(cube: MemCube, rid: int, created_us: int) -> dict[str, Any]:
    """What a new cube keeps for good, and its state."""
    scope = cube.scope
    return {
        "id": cube.id,
        "rid": rid,
        "user_id": scope.user_id,
        "agent_id": scope.agent_id,
        "session_id": scope.session_id,
        "state": cube.state.value,
        "frozen": cube.frozen,
        "created_us": created_us,
    }


def head_values(cube: MemCube, digest: str) -> dict[str, Any]:
    """What a cube shows of its newest version."""
    header = cube.descriptive
    return {
        "version": cube.version,
        "hash": digest,
        "same": same_of(cube.scope, digest),
        "place": place_of(cube.scope, header.collection, header.key),
        "collection": header.collection,
        "key": header.key,
        "readers": list(cube.governance.readers),
        "text": cube.text or None,
    }


def version_values(cube: MemCube, body: str, digest: str, *, rid: int, recorded_us: int) -> dict[str, Any]:
    """The properties of a version that has its content, index columns included."""
    header, payload, ttl = cube.descriptive, cube.payload, cube.governance.ttl_seconds
    terms = index_terms(cube)
    counts = Counter(terms)
    return {
        "cube_id": cube.id,
        "n": cube.version,
        "rid": rid,
        "hash": digest,
        "body": body,
        "memory_type": cube.memory_type.value,
        "recorded_us": recorded_us,
        "is_stale": False,
        "event_us": recorded_us if header.occurred_at is None else to_microseconds(header.occurred_at),
        "valid_from_us": None if header.valid_from is None else to_microseconds(header.valid_from),
        "valid_to_us": None if header.valid_to is None else to_microseconds(header.valid_to),
        "expires_us": None if ttl is None else recorded_us + round(ttl * 1_000_000),
        "collection": header.collection,
        "speaker": speaker_of(header),
        "flags": int(text_flags(cube.text)),
        "length": len(terms),
        "terms": " ".join(f"{term} {min(count, MAX_POSTED_COUNT)}" for term, count in counts.items()),
        "has_text": bool(cube.text),
        "blobs": blobs_of(payload) if isinstance(payload, ArtefactPayload) else None,
    }


def blobs_of(payload: ArtefactPayload) -> list[str]:
    """What the payload names, each once."""
    return sorted({ref.sha256 for ref in payload.blobs.values()})


def new_rows(new: Iterable[NewCube], at_us: int) -> list[dict[str, Any]]:
    """The rows of cubes that are new. Most of what a commit costs this side, so it is done while the server writes."""
    return [
        {
            "cube": {**cube_values(each.cube, each.rid, at_us), **head_values(each.cube, each.digest)},
            "version": {
                **version_values(each.cube, each.body, each.digest, rid=each.version_rid, recorded_us=at_us),
                **each.vectors,
            },
        }
        for each in new
    ]


def vector_name(number: int) -> str:
    """The property that holds a version's vector in the space with this number."""
    return f"vec_{number}"


def _vectors(vectors: Vectors, found: Found) -> dict[str, bytes]:
    packed = {}
    for fingerprint, vector in vectors.items():
        dimension, number = found.spaces[fingerprint]
        packed[vector_name(number)] = pack_vector(vector, dimension)
    return packed


def _step(draft: Draft, known: KnownCube, step: Transition) -> None:
    before = known.head
    after = replace(
        before,
        state=before.state if step.state is None else step.state,
        frozen=before.frozen if step.frozen is None else step.frozen,
    )
    known.head = after
    draft.steps[step.cube_id] = after.state.value, after.frozen
    draft.touched.add(step.cube_id)
    if after != before:
        draft.effects.append(chain.moved(step.cube_id, after.state.value, after.frozen))
        draft.note("transitions", [step.cube_id, before.state.value, before.frozen, after.state.value, after.frozen])


def _invalidate(draft: Draft, known: KnownCube, ref: VersionRef, *, is_lifted: bool) -> None:
    (draft.lifts if is_lifted else draft.ends).append(ref)
    known.head = replace(known.head, is_believed=is_lifted)
    draft.touched.add(ref.cube_id)
    draft.effects.append((chain.lifted if is_lifted else chain.ended)(str(ref)))
    draft.note("lifted" if is_lifted else "invalidated", [ref.cube_id, ref.version])


def _is_fresh(known: KnownCube, ref: VersionRef) -> bool:
    """Whether a version is a head that is believed and not stale."""
    return ref.version == known.head.version and known.head.is_believed and not known.is_stale


def _relate(draft: Draft, found: Found, commit: Commit) -> None:
    """Open and close relations; stating one again replaces the record."""
    for relation in commit.relations:
        triple = (relation.source_id, relation.kind.value, relation.target_id)
        if triple in found.related:
            draft.closed.append(triple)
            draft.effects.append(chain.unrelated(*triple))
        draft.opened[triple] = canonical_json(relation.properties)
        draft.effects.append(chain.related(*triple))
        draft.touched.update((triple[0], triple[2]))
    for relation in commit.unrelations:
        triple = (relation.source_id, relation.kind.value, relation.target_id)
        if triple in draft.opened:
            draft.shut.add(triple)
        elif triple in found.related:
            draft.closed.append(triple)
        else:
            continue
        draft.effects.append(chain.unrelated(*triple))
        draft.touched.update((triple[0], triple[2]))
