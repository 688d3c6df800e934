"""The format of a bundle: its members, its manifest, its seal, and what no bundle may exceed.

A bundle is a zip file of `manifest.json`, `records.jsonl` (one vault-neutral record a line, see `vault.records`) and
`blobs/<sha-256>`. The manifest names every member with its size and SHA-256. The zip comment is the *seal*: the SHA-256
of every byte before it, so that no byte of the file, not even an unused one of the zip format, can change unnoticed.
The seal finds damage; it is no signature, and says nothing about who wrote the bundle.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, TypeAlias, cast

from memos_agents.cube.canonical import JSON
from memos_agents.cube.moment import iso, utc
from memos_agents.cube.scope import Scope
from memos_agents.errors import IntegrityError, InvalidRequest

FORMAT = "memcube"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
RECORDS = "records.jsonl"
BLOBS = "blobs/"

MAX_MEMBER_BYTES = 4 << 30
MAX_RECORD_BYTES = 256 << 20
MAX_MANIFEST_BYTES = 64 << 20
MAX_RATIO, RATIO_FREE_BYTES = 200, 64 << 20
"""Members larger than the free size must not be packed tighter than the ratio: nothing that people write is."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total); never after an exception."""

_SEAL = b"sha256:"
_SEAL_BYTES = len(_SEAL) + 64
_END = struct.Struct("<4s4H2LH")
"""End of central directory (APPNOTE.TXT 4.3.16); its last field is the length of the comment."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle says about itself. `records_digest` chains the digests of the lines: order and number count."""

    created_at: datetime
    scope: Scope
    counts: Mapping[str, int]
    records_digest: str
    members: Mapping[str, Member]
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, JSON]:
        scope: dict[str, JSON] = {**self.scope.to_json(), "is_everything": self.scope.is_everything}
        return {
            "format": FORMAT,
            "version": self.format_version,
            "created_at": iso(self.created_at),
            "scope": scope,
            "counts": dict(self.counts),
            "records_digest": self.records_digest,
            "members": {name: [member.sha256, member.size_bytes] for name, member in self.members.items()},
        }

    @classmethod
    def from_json(cls, value: object) -> Manifest:
        """Read it, trusting nothing. `InvalidRequest` for another format or a newer version of this one."""
        content = _mapping(value)
        found, version = content.get("format"), content.get("version")
        if found != FORMAT or type(version) is not int:
            raise InvalidRequest(
                f"this is a {str(found)[:40]!r} file, not a {FORMAT!r} bundle; give one that export wrote"
            )
        if version > FORMAT_VERSION:
            raise InvalidRequest(
                f"the bundle has format version {version} and this release reads up to {FORMAT_VERSION}; "
                "upgrade memos-agents, or export again with an older release",
                version=version,
            )
        try:
            return cls(
                format_version=version,
                created_at=utc(content.get("created_at"), what="created_at of the manifest"),
                scope=Scope(**cast("dict[str, str]", _mapping(content["scope"]))),  # type: ignore[arg-type]  # Scope checks
                counts={kind: _count(number) for kind, number in _mapping(content["counts"]).items()},
                records_digest=_digest(content["records_digest"]),
                members={name: _member(member) for name, member in _mapping(content["members"]).items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"the bundle's manifest is damaged: {error}") from error


class RollingDigest:
    """SHA-256 chained over lines: the same lines in the same order give the same digest, nothing else does."""

    def __init__(self) -> None:
        self._state = bytes(32)

    def add(self, line: bytes) -> None:
        self._state = hashlib.sha256(self._state + hashlib.sha256(line).digest()).digest()

    def hexdigest(self) -> str:
        return self._state.hex()


def seal(file: BinaryIO) -> str:
    """Append the seal to a finished zip file without comment; returns the SHA-256 of the whole, seal included."""
    size = file.seek(0, os.SEEK_END)
    file.seek(size - 2)
    file.write(struct.pack("<H", _SEAL_BYTES))
    digest = _hash(file, size, None)
    mark = _SEAL + digest.hexdigest().encode()
    file.write(mark)
    digest.update(mark)
    return digest.hexdigest()


def check_seal(file: BinaryIO, progress: Progress | None = None) -> None:
    """Raise `IntegrityError` unless every byte of the file is as `seal` left it. Reads all of it once."""
    size = file.seek(0, os.SEEK_END)
    body = size - _SEAL_BYTES
    if body < _END.size:
        raise IntegrityError("the file is too short for a bundle: it is no bundle, or most of it is missing")
    file.seek(body - _END.size)
    ending = file.read(_END.size + _SEAL_BYTES)
    signature, *_, comment_bytes = _END.unpack_from(ending)
    mark = ending[_END.size :]
    if signature != b"PK\x05\x06" or comment_bytes != _SEAL_BYTES or not mark.startswith(_SEAL):
        raise IntegrityError(
            "the file has no seal at its end: it is no bundle, its end is missing, or it was packed anew by another "
            "program; take a complete copy of what export wrote"
        )
    if _hash(file, body, progress).hexdigest().encode() != mark[len(_SEAL) :]:
        raise IntegrityError("the bundle is damaged or was changed: its bytes do not match its seal; take another copy")


def blob_name(sha256: str) -> str:
    """The member that holds a blob."""
    return f"{BLOBS}{sha256}"


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 in our spelling."""
    return _DIGEST.fullmatch(text) is not None


def _hash(file: BinaryIO, size: int, progress: Progress | None) -> hashlib._Hash:
    digest = hashlib.sha256()
    file.seek(0)
    done = 0
    while done < size:
        chunk = file.read(min(_CHUNK, size - done))
        if not chunk:
            raise IntegrityError("the bundle became shorter while it was read")
        digest.update(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, size)
    return digest


def _mapping(value: object) -> Mapping[str, JSON]:
    if not isinstance(value, dict):
        raise IntegrityError(f"the bundle's manifest is damaged: {str(value)[:40]!r} should be an object")
    return cast("dict[str, JSON]", value)


def _member(value: JSON) -> Member:
    digest, size = cast("list[JSON]", value)
    return Member(_digest(digest), _count(size))


def _digest(value: JSON) -> str:
    if not isinstance(value, str) or not is_digest(value):
        raise ValueError(f"{str(value)[:80]!r} is not a SHA-256")
    return value


def _count(value: JSON) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is not a number of things")
    return value
