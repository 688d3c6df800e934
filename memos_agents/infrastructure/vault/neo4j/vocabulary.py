"""The graph's vocabulary in words: every label with its properties, every relationship type with what PROV calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A kind of node. A property whose name ends with `<dim>` or `<k>` stands for one of each such number."""

    means: str
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationshipType:
    """A kind of edge, with its ends and what W3C PROV calls it (empty: it has no word for it)."""

    ends: str
    prov: str
    means: str
    properties: Mapping[str, str]


_TENANT: Final = {"tenant": "whose it is: the tenant, or `STORE\\u001fTENANT` in a named store"}
_AGENT_COPY: Final = "as on the Agent, so that the log needs no second look"

LABELS: Final[Mapping[str, Label]] = {
    "MemCube": Label(
        means="A memory's identity: it stays while its versions come and go.",
        properties={
            **_TENANT,
            "id": "UUIDv7",
            "rid": "number within the tenant",
            "user_id": "whose memory it is; absent where unbound, as the next two",
            "agent_id": "of which agent",
            "session_id": "of which session",
            "state": "generated, activated, merged, archived, expired or erased",
            "frozen": "whether it may change",
            "version": "number of the newest version",
            "created_us": "when it was made",
            "collection": "the shelf of the newest version",
            "key": "the caller's name for it",
            "readers": "users who may read it beside its own",
            "hash": "content hash of the newest version",
            "text": "plaintext of the newest version, for people, full-text search and other tools",
            "place": "digest of (scope, collection, key), to find it by key",
            "same": "digest of (scope, hash), to find exact duplicates",
            "use_count": "how often it was used",
            "last_used_us": "when it was used last",
            "words": "its terms in the index of large scopes",
            "near": "which version and vector space that index holds: [rid, space, epoch]",
            "emb_<dim>": "its vector of that dimension in the index of large scopes",
        },
    ),
    "CubeVersion": Label(
        means="What a memory said from one moment on. Its content is never edited.",
        properties={
            **_TENANT,
            "cube_id": "its memory",
            "n": "1, 2, 3 …",
            "rid": "number within the tenant",
            "hash": "SHA-256 of the body",
            "body": "the content as canonical JSON; absent once erased, as all that is made from it",
            "memory_type": "plaintext, activation or parametric",
            "recorded_us": "believed from then on",
            "superseded_us": "until then; absent while it is believed",
            "is_stale": "something that it was made from is believed no more",
            "event_us": "when it happened",
            "valid_from_us": "true in the world from then on",
            "valid_to_us": "until then",
            "expires_us": "not returned after that",
            "collection": "the shelf",
            "speaker": "who said it, for ranking",
            "flags": "what kind of text it is, for ranking",
            "length": "how many terms it has",
            "terms": 'its terms with their counts, "lisbon 1 move 2"',
            "has_text": "whether there is a text to embed",
            "blobs": "SHA-256 names of its payload files",
            "vec_<k>": "its vector in the space of that number, packed half-precision",
        },
    ),
    "Activity": Label(
        means="Something that was done: one entry of the log (without `seq`: loaded from another store).",
        properties={
            **_TENANT,
            "id": "UUIDv7, or the caller's",
            "seq": "position in the tenant's log",
            "kind": "add, update, erase, load …",
            "agent_id": _AGENT_COPY,
            "agent_kind": _AGENT_COPY,
            "agent_name": _AGENT_COPY,
            "started_us": "when the caller began",
            "at_us": "when it was committed",
            "parameters": "what it was asked to do, JSON",
            "effects": "what it changed, by ids, JSON",
            "chain": "hash over this entry and the one before",
            "key": "makes a repeated commit one commit",
            "result": "what such a commit returned, JSON",
            "reshapes": "searchers must load anew",
            "op": "mark of the writing call, against a lost connection",
        },
    ),
    "Agent": Label(
        means="Who did it: a user, an assistant, a model, a program.",
        properties={**_TENANT, "id": "name of the agent", "kind": "user, agent, model, system …", "name": "for people"},
    ),
    "Source": Label(
        means="Evidence outside the store: a file, a message, a page.",
        properties={
            **_TENANT,
            "id": "name of the source",
            "kind": "file, message, url …",
            "locator": "where it is; empty once nothing living uses it",
            "sha256": "of its bytes, if known",
        },
    ),
    "Blob": Label(
        means="Payload bytes, by content.",
        properties={
            **_TENANT,
            "sha256": "its name",
            "size_bytes": "absent until all of it is there, or if it is kept elsewhere",
            "is_doomed": "to be deleted unless a version still names it",
        },
    ),
    "BlobChunk": Label(means="A piece of such bytes.", properties={**_TENANT, "data": "bytes"}),
    "Space": Label(
        means="A vector space, bound to one embedding model.",
        properties={
            **_TENANT,
            "fingerprint": "of the embedder",
            "dimension": "numbers in a vector",
            "is_default": "whether searches use it unasked",
            "number": "the k of `vec_<k>`",
        },
    ),
    "Lease": Label(
        means="A right to do something alone for a while.",
        properties={
            **_TENANT,
            "name": "to do what",
            "owner": "who has it",
            "token": "grows with each owner",
            "expires_us": "until when",
        },
    ),
    "Snapshot": Label(
        means="A name for a position in the log.",
        properties={**_TENANT, "name": "given by the caller", "seq": "the position", "at_us": "when it was named"},
    ),
    "Tenant": Label(
        means="The end of a tenant's log, and its lock: every commit begins by writing here.",
        properties={
            "id": "what the others call `tenant`",
            "seq": "last position in the log",
            "at_us": "time of the last commit",
            "chain": "hash of the last entry",
            "cubes": "last rid of a MemCube",
            "versions": "last rid of a CubeVersion",
            "spaces": "last number of a Space",
            "epoch": "grows when vectors are replaced",
            "erased_seq": "last erasure",
            "scrubbed_seq": "last erasure whose payload bytes are deleted",
            "_lock": "the call that wrote last",
            "mirror_of": "the store that alone may write here",
            "used_op": "the last call that counted uses, so that it counts once if its connection breaks",
            "mirrored": "how far that store has been followed",
            "near_seq": "up to which commit the index of large scopes is complete",
            "near_us": "when that commit was",
            "near_epoch": "of which epoch its vectors are",
            "near_space": "of which space",
            "near_dimension": "of which dimension",
        },
    ),
    "MemosMeta": Label(
        means="Facts about the database; it belongs to no tenant.",
        properties={"key": "`schema`", "value": "version of this schema"},
    ),
}

STATED: Final = {
    "properties": "the caller's own, JSON",
    "recorded_us": "stated from then on",
    "removed_us": "until then; absent while it holds",
    "activity": "which Activity stated or made it",
    "removed_by": "which Activity took it back",
}
_BETWEEN_CUBES: Final = "MemCube → MemCube"


def _relation(means: str, prov: str = "") -> RelationshipType:
    return RelationshipType(ends=_BETWEEN_CUBES, prov=prov, means=means, properties=STATED)


RELATIONSHIPS: Final[Mapping[str, RelationshipType]] = {
    "HAS_VERSION": RelationshipType(
        ends="MemCube → CubeVersion",
        prov="prov:specializationOf (inverse)",
        means="every version of a memory",
        properties={"n": "its number"},
    ),
    "CURRENT": RelationshipType(
        ends="MemCube → CubeVersion", prov="", means="the newest version, exactly one", properties={}
    ),
    "WAS_REVISION_OF": RelationshipType(
        ends="CubeVersion → CubeVersion", prov="prov:wasRevisionOf", means="the version before it", properties={}
    ),
    "WAS_DERIVED_FROM": RelationshipType(
        ends="CubeVersion → CubeVersion or Source",
        prov="prov:wasDerivedFrom",
        means="made from it: erased with it, stale without it",
        properties={"kind": "how: derive, extract, merge, summarise …", "activity": "which Activity made it"},
    ),
    "WAS_GENERATED_BY": RelationshipType(
        ends="CubeVersion → Activity", prov="prov:wasGeneratedBy", means="what wrote it", properties={}
    ),
    "WAS_INVALIDATED_BY": RelationshipType(
        ends="CubeVersion → Activity",
        prov="prov:wasInvalidatedBy",
        means="what took it back or erased it",
        properties={},
    ),
    "WAS_ASSOCIATED_WITH": RelationshipType(
        ends="Activity → Agent", prov="prov:wasAssociatedWith", means="who did it", properties={}
    ),
    "TOUCHED": RelationshipType(
        ends="Activity → MemCube", prov="prov:wasInfluencedBy (inverse)", means="whose log it stands in", properties={}
    ),
    "HAS_BLOB": RelationshipType(ends="CubeVersion → Blob", prov="", means="its payload bytes", properties={}),
    "HAS_CHUNK": RelationshipType(
        ends="Blob → BlobChunk", prov="", means="the bytes in order", properties={"n": "0, 1, 2 …"}
    ),
    "MERGED_INTO": _relation("went up in it", "prov:alternateOf"),
    "SUPERSEDED_BY": _relation("was replaced by it"),
    "CONTRADICTS": _relation("both cannot be true"),
    "RELATES_TO": _relation("has to do with it"),
    "NEXT": _relation("comes before it"),
    "PART_OF": _relation("belongs to it", "prov:hadMember (inverse)"),
    "MENTIONS": _relation("speaks of it"),
}
