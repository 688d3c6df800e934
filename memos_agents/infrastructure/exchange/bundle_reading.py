"""Reads bundles, which come from anywhere: everything is checked before anything is given out."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import stat
import struct
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn, Self, cast

from memos_agents.cube.canonical import JSON
from memos_agents.errors import BackendUnavailable, IntegrityError, InvalidRequest, MemOSError
from memos_agents.infrastructure.exchange.manifest import (
    BLOBS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MAX_MEMBER_BYTES,
    MAX_RATIO,
    MAX_RECORD_BYTES,
    RATIO_FREE_BYTES,
    RECORDS,
    Manifest,
    Member,
    Progress,
    RollingDigest,
    blob_name,
    check_seal,
    is_digest,
)
from memos_agents.infrastructure.vault.base import Record
from memos_agents.infrastructure.vault.records import KINDS

_CHUNK = 1 << 20
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, RuntimeError, ValueError)
"""What zipfile raises for a file that is not as it should be; found by changing bundles at random and sealing them."""


def read_bundle(path: Path, *, progress: Progress | None = None) -> Bundle:
    """Open a bundle and check all of it: the seal, every member's digest, every record's shape, every blob named.

    Nothing is unpacked to disk. Reads the file twice; `progress` counts the bytes of the first pass. Raises
    `InvalidRequest` for a path that is no file and for another or a newer format, `IntegrityError` for a bundle that is
    damaged, incomplete, or built to do harm.
    """
    file = _open(path)
    try:
        check_seal(file, progress)
        with _as_integrity_error():
            archive = zipfile.ZipFile(file)
            size = file.seek(0, 2)
            _check_directory(archive, size)
            manifest = Manifest.from_json(_json(archive.read(MANIFEST), "the manifest"))
            _check_members(archive, manifest)
            _check_records(archive, manifest)
            for name in manifest.members:
                if name != RECORDS:
                    _check_member(archive, name, manifest.members[name])
    except OSError as error:
        file.close()
        raise BackendUnavailable(f"{str(path)!r} could not be read: {error.strerror}") from error
    except BaseException:
        file.close()
        raise
    return Bundle(file, archive, manifest)


class Bundle:
    """A checked bundle. Keeps its file open until `close`, so that what is read is what was checked."""

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self._file, self._archive, self._manifest = file, archive, manifest
        self._finalizer = weakref.finalize(self, file.close)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def records(self) -> Iterator[Record]:
        """Every record, in the order in which they can be restored.

        Raises `IntegrityError` at the end if the file was written to since it was checked.
        """
        rolling = RollingDigest()
        with _as_integrity_error():
            for line in _lines(self._archive):
                rolling.add(line)
                yield _record(line)
        if rolling.hexdigest() != self._manifest.records_digest:
            raise IntegrityError("the bundle was changed while it was being read")

    def blobs(self) -> Iterator[tuple[str, bytes]]:
        """(SHA-256, bytes) of every blob, one at a time in memory."""
        for name, member in self._manifest.members.items():
            if name != RECORDS:
                with _as_integrity_error():
                    data = self._archive.read(name)
                if hashlib.sha256(data).hexdigest() != member.sha256:
                    raise IntegrityError("the bundle was changed while it was being read")
                yield member.sha256, data

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def blobs_of(record: Mapping[str, JSON]) -> Iterator[str]:
    """The SHA-256 of every blob that a version's record names."""
    body = record.get("body")
    payload = body.get("payload") if record.get("kind") == "version" and isinstance(body, Mapping) else None
    files = payload.get("blobs") if isinstance(payload, Mapping) else None
    for entry in files.values() if isinstance(files, Mapping) else ():
        yield str(entry[0]) if isinstance(entry, list) and entry else ""


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidRequest(f"{str(path)!r} is not a file; give a bundle that export wrote")
        return path.open("rb")
    except FileNotFoundError as error:
        raise InvalidRequest(f"there is no file {str(path)!r}; give a bundle that export wrote") from error
    except OSError as error:
        raise BackendUnavailable(f"{str(path)!r} could not be read: {error.strerror}") from error


def _check_directory(archive: zipfile.ZipFile, file_bytes: int) -> None:
    """What the zip says about its members, before any of them is read."""
    packed = 0
    seen: set[str] = set()
    for info in archive.infolist():
        name, size = info.filename, info.file_size
        if name not in (MANIFEST, RECORDS) and not (name.startswith(BLOBS) and is_digest(name.removeprefix(BLOBS))):
            _refuse(f"holds {name[:120]!r}, which no bundle does")
        if name in seen:
            _refuse(f"holds {name!r} twice")
        seen.add(name)
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            _refuse(f"packed {name!r} in a way that bundles do not use")
        limit = MAX_MANIFEST_BYTES if name == MANIFEST else MAX_MEMBER_BYTES
        is_bomb = size > RATIO_FREE_BYTES and size > MAX_RATIO * info.compress_size
        if size > limit or is_bomb:
            _refuse(f"says that {name!r} unpacks to {size} bytes from {info.compress_size}, more than it may")
        packed += info.compress_size
    if packed > file_bytes:  # members that share bytes: the other way to build a bomb
        _refuse("has members that overlap")
    for name in (MANIFEST, RECORDS):
        if name not in seen:
            _refuse(f"has no {name!r}")


def _check_members(archive: zipfile.ZipFile, manifest: Manifest) -> None:
    found = {info.filename: info.file_size for info in archive.infolist() if info.filename != MANIFEST}
    told = {name: member.size_bytes for name, member in manifest.members.items()}
    if found != told:
        names = sorted(name for name in found.keys() | told.keys() if found.get(name) != told.get(name))
        _refuse(f"does not hold what its manifest says, first at {names[0]!r}")
    for name, member in manifest.members.items():
        if name.startswith(BLOBS) and name != blob_name(member.sha256):
            _refuse(f"gives {name!r} another digest than its name")


def _check_records(archive: zipfile.ZipFile, manifest: Manifest) -> None:
    digest, rolling = hashlib.sha256(), RollingDigest()
    counts: Counter[str] = Counter()
    named: set[str] = set()
    for line in _lines(archive):
        digest.update(line)
        rolling.add(line)
        record = _record(line)
        counts[str(record["kind"])] += 1
        named.update(blob_name(sha256) for sha256 in blobs_of(record))
    if digest.hexdigest() != manifest.members[RECORDS].sha256 or rolling.hexdigest() != manifest.records_digest:
        _refuse("has records that do not match their digest")
    blobs = manifest.members.keys() - {RECORDS}
    if blobs:
        counts["blob"] = len(blobs)
    if counts != manifest.counts:
        _refuse(f"has {dict(counts)} and says {dict(manifest.counts)}")
    if named != blobs:
        _refuse(f"lacks a file that a memory needs, or has one too many: {min(named ^ blobs)!r}")


def _check_member(archive: zipfile.ZipFile, name: str, member: Member) -> None:
    digest = hashlib.sha256()
    with archive.open(name) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != member.sha256:
        _refuse(f"has bytes in {name!r} that do not match their digest")


def _lines(archive: zipfile.ZipFile) -> Iterator[bytes]:
    with archive.open(RECORDS) as member, io.BufferedReader(cast(io.RawIOBase, member), _CHUNK) as lines:
        while line := lines.readline(MAX_RECORD_BYTES + 1):
            if not line.endswith(b"\n"):
                _refuse("has a record without an end")
            yield line


def _record(line: bytes) -> Record:
    record = _json(line, "a record")
    if not isinstance(record, dict) or record.get("kind") not in KINDS:
        _refuse(f"has a record of an unknown kind: {line[:40]!r}")
    return cast(Record, record)


def _json(data: bytes, what: str) -> object:
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"the bundle is damaged: {what} is not JSON ({error})") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse(what: str) -> NoReturn:
    raise IntegrityError(f"the bundle is damaged or not one of ours: it {what}; take a fresh copy of what export wrote")


@contextmanager
def _as_integrity_error() -> Iterator[None]:
    try:
        yield
    except MemOSError:
        raise
    except (*_UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a position before the file's start
            raise
        raise IntegrityError(f"the bundle is damaged: {error}; take a fresh copy of what export wrote") from error
