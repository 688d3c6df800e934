"""Bundles: everything in a scope, without loss, in one file that says whether it is whole (`manifest`: its format)."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.exchange.atomic import atomic_file
from memos_agents.infrastructure.exchange.bundle_reading import Bundle, blobs_of, read_bundle
from memos_agents.infrastructure.exchange.manifest import (
    MANIFEST,
    MAX_RECORD_BYTES,
    RECORDS,
    Manifest,
    Member,
    Progress,
    RollingDigest,
    blob_name,
    seal,
)
from memos_agents.infrastructure.vault.base import MemVault, Record, SupportsRecords

__all__ = ["Bundle", "BundleReport", "read_bundle", "write_bundle"]

_ZIP_EPOCH, _ZIP_END = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """What was written. `counts` by kind of record, and 'blob'; `sha256` is the file's."""

    counts: Mapping[str, int]
    sha256: str
    size_bytes: int


def write_bundle(
    path: Path, vault: MemVault, scope: Scope, *, now: datetime, progress: Progress | None = None
) -> BundleReport:
    """Write everything that `scope` admits to one file, which appears complete or not at all.

    `progress` counts versions. Records are of one moment. Raises `VersionConflict` (try again) if an erasure took a
    file away meanwhile, `InvalidRequest` for a path that cannot be written, `BackendUnavailable` if there is no room.
    Memory: one record and one blob at a time. Erasing memory later does not reach bundles: they are the caller's.
    """
    if not isinstance(vault, SupportsRecords):
        raise InvalidRequest(f"{type(vault).__name__} cannot give its records, so it cannot be exported")
    total = 0 if progress is None else vault.stats(scope).versions
    with atomic_file(path) as file:
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            writing = _Writing(archive, now)
            writing.write_records(vault.records(scope), total, progress)
            writing.write_blobs(vault)
            manifest = writing.finish(scope)
        digest = seal(file)
        size = file.tell()
    return BundleReport(counts=manifest.counts, sha256=digest, size_bytes=size)


class _Writing:
    """Writes members one after the other and remembers what the manifest must say."""

    def __init__(self, archive: zipfile.ZipFile, now: datetime) -> None:
        self._archive, self._now = archive, now
        self._members: dict[str, Member] = {}
        self._counts: Counter[str] = Counter()
        self._rolling = RollingDigest()
        self._blobs: dict[str, None] = {}

    def write_records(self, records: Iterable[Record], total: int, progress: Progress | None) -> None:
        digest, size = hashlib.sha256(), 0
        with self._open(RECORDS, zipfile.ZIP_DEFLATED) as member:
            for record in records:
                line = canonical_json(record).encode() + b"\n"
                if len(line) > MAX_RECORD_BYTES:
                    raise InvalidRequest(f"a {record['kind']} has {len(line)} bytes; a bundle takes {MAX_RECORD_BYTES}")
                member.write(line)
                digest.update(line)
                self._rolling.add(line)
                size += len(line)
                self._blobs.update(dict.fromkeys(blobs_of(record)))
                kind = str(record["kind"])
                self._counts[kind] += 1
                if progress is not None and kind == "version":
                    progress(self._counts[kind], max(total, self._counts[kind]))
        self._members[RECORDS] = Member(digest.hexdigest(), size)

    def write_blobs(self, vault: MemVault) -> None:
        for sha256 in self._blobs:
            try:
                data = vault.blobs.get(sha256)
            except NotFound as error:
                raise VersionConflict(
                    f"the file {sha256!r} disappeared during the export, as when its memory is erased meanwhile; "
                    "export again, and if that does not help, see what verify() says",
                    sha256=sha256,
                ) from error
            with self._open(blob_name(sha256), zipfile.ZIP_STORED) as member:  # tensors do not get smaller
                member.write(data)
            self._members[blob_name(sha256)] = Member(sha256, len(data))
            self._counts["blob"] += 1

    def finish(self, scope: Scope) -> Manifest:
        manifest = Manifest(
            created_at=self._now,
            scope=scope,
            counts=dict(self._counts),
            records_digest=self._rolling.hexdigest(),
            members=self._members,
        )
        with self._open(MANIFEST, zipfile.ZIP_DEFLATED) as member:
            member.write(json.dumps(manifest.to_json(), indent=1, sort_keys=True).encode())
        return manifest

    def _open(self, name: str, compression: int) -> BinaryIO:
        moment = min(max(self._now.astimezone(UTC), _ZIP_EPOCH), _ZIP_END)  # all that a zip file can say
        info = zipfile.ZipInfo(name, moment.timetuple()[:6])
        info.compress_type = compression
        info.external_attr = 0o600 << 16
        return cast(BinaryIO, self._archive.open(info, "w", force_zip64=True))
