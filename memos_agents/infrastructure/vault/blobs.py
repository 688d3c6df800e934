"""Content-addressed bytes beside a vault: long text, tensors, adapters.

A blob is put *before* the commit that names it, so a crash leaves at worst an unreferenced blob, never a cube without
its payload. Files are written to a staging folder, synced, and renamed into place.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from memos_agents.cube.payload import BlobRef
from memos_agents.errors import BackendUnavailable, IntegrityError, NotFound

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class BlobStore(Protocol):
    """Bytes by their SHA-256. Putting the same bytes twice stores them once."""

    def put(self, data: bytes) -> BlobRef:
        """Store durably before returning. `BackendUnavailable` if there is no room."""
        ...

    def get(self, sha256: str) -> bytes:
        """Return the bytes, checked against their name. `NotFound`, or `IntegrityError` if they are damaged."""
        ...

    def has(self, sha256: str) -> bool:
        """Whether there is a blob of this name; its bytes are not read."""
        ...

    def names(self) -> Iterator[str]:
        """Every blob's SHA-256, in no order."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Remove; missing ones are passed over."""
        ...

    def size_bytes(self) -> int: ...


@runtime_checkable
class SupportsFiles(Protocol):
    """A store whose bytes lie in files of this machine, or can be brought there."""

    def checked_file(self, sha256: str) -> Path | None:
        """The file, checked against its name; None if there is none. May fetch it."""
        ...

    def is_near(self, sha256: str) -> bool:
        """Whether nothing has to be fetched."""
        ...


def checked_file(blobs: BlobStore, sha256: str) -> Path | None:
    """The file that holds a blob, for who maps it instead of reading it; None where a blob is no file.

    Its bytes are checked against its name the first time that this process sees it, and again when it was changed.
    """
    return blobs.checked_file(sha256) if isinstance(blobs, SupportsFiles) else None


def open_blobs(url: str) -> BlobStore:
    """A local folder for a path, `MemoryBlobs` for 'memory', anything with '://' through fsspec."""
    if url == "memory":
        return MemoryBlobs()
    if "://" in url:
        return FsspecBlobs(url)
    return FolderBlobs(Path(url))


class MemoryBlobs:
    """Blobs in a dictionary, for vaults that live in memory."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def put(self, data: bytes) -> BlobRef:
        ref = _ref(data)
        self._data[ref.sha256] = bytes(data)
        return ref

    def get(self, sha256: str) -> bytes:
        try:
            return self._data[sha256]
        except KeyError:
            raise _missing(sha256) from None

    def has(self, sha256: str) -> bool:
        return sha256 in self._data

    def names(self) -> Iterator[str]:
        return iter(list(self._data))

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._data.pop(name, None)

    def size_bytes(self) -> int:
        return sum(map(len, self._data.values()))


class FolderBlobs:
    """Blobs as files `ab/abcdef…` in a local folder, which is made with the first blob."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staging = folder / ".staging"
        self._seen: dict[str, tuple[int, int, int]] = {}

    def put(self, data: bytes) -> BlobRef:
        ref = _ref(data)
        target = self._path(ref.sha256)
        if target.exists() and target.stat().st_size == len(data):
            target.touch()  # whoever sweeps must see that it is wanted again
            return ref
        staged = self._staging / secrets.token_hex(16)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._staging.mkdir(exist_ok=True)
            with staged.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(target)
            for folder in (target.parent, self._folder, self._folder.parent):
                _sync_folder(folder)
        except OSError as error:
            staged.unlink(missing_ok=True)
            raise BackendUnavailable(
                f"a blob of {len(data)} bytes could not be written to {self._folder}: {error.strerror}"
            ) from error
        return ref

    def get(self, sha256: str) -> bytes:
        try:
            data = self._path(sha256).read_bytes()
        except FileNotFoundError:
            raise _missing(sha256) from None
        return _checked(sha256, data)

    def checked_file(self, sha256: str) -> Path | None:
        """See `checked_file`; None if it is not there."""
        path = self._path(sha256)
        try:
            told = path.stat()
            seen = told.st_ino, told.st_size, told.st_mtime_ns
            if self._seen.get(sha256) != seen:
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                        raise _damaged(sha256)
                self._seen[sha256] = seen
        except FileNotFoundError:
            return None
        return path

    def has(self, sha256: str) -> bool:
        return self._path(sha256).exists()

    def is_near(self, sha256: str) -> bool:
        return self.has(sha256)

    def names(self) -> Iterator[str]:
        for path in sorted(self._folder.glob("??/*")):
            yield path.name

    def delete(self, names: Iterable[str]) -> None:
        parents = set()
        for name in names:
            path = self._path(name)
            path.unlink(missing_ok=True)
            parents.add(path.parent)
        for parent in parents:
            if parent.exists():
                _sync_folder(parent)

    def clear_staging(self) -> None:
        """Remove what a crash left half written. A `put` that is under way fails, and can be repeated."""
        for path in self._staging.glob("*"):
            path.unlink(missing_ok=True)

    def untouched_for(self, seconds: float) -> Iterator[str]:
        """Names of blobs that nobody has put for so long."""
        limit = time.time() - seconds
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                if path.stat().st_mtime < limit:
                    yield path.name

    def size_bytes(self) -> int:
        total = 0
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                total += path.stat().st_size
        return total

    def _path(self, sha256: str) -> Path:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise IntegrityError(f"{sha256[:80]!r} is not a SHA-256")
        return self._folder / sha256[:2] / sha256


class FsspecBlobs:
    """Blobs under any fsspec URL (s3://, gs://, …); durability and atomicity are the file system's."""

    def __init__(self, url: str) -> None:
        import fsspec

        self._files: AbstractFileSystem
        self._files, self._root = fsspec.core.url_to_fs(url)

    def put(self, data: bytes) -> BlobRef:
        ref = _ref(data)
        path = self._path(ref.sha256)
        try:
            if not self._files.exists(path):
                self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                self._files.pipe_file(path, data)
        except OSError as error:
            raise BackendUnavailable(f"a blob of {len(data)} bytes could not be written: {error}") from error
        return ref

    def get(self, sha256: str) -> bytes:
        try:
            data = cast(bytes, self._files.cat_file(self._path(sha256)))
        except FileNotFoundError:
            raise _missing(sha256) from None
        return _checked(sha256, data)

    def has(self, sha256: str) -> bool:
        return bool(self._files.exists(self._path(sha256)))

    def names(self) -> Iterator[str]:
        if self._files.exists(self._root):
            for path in self._files.find(self._root):
                yield str(path).rsplit("/", 1)[-1]

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            if self._files.exists(self._path(name)):
                self._files.rm_file(self._path(name))

    def size_bytes(self) -> int:
        if not self._files.exists(self._root):
            return 0
        found = cast("Mapping[str, Mapping[str, int]]", self._files.find(self._root, detail=True))
        return sum(entry["size"] for entry in found.values())

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"


def _ref(data: bytes) -> BlobRef:
    return BlobRef(hashlib.sha256(data).hexdigest(), len(data))


def _checked(sha256: str, data: bytes) -> bytes:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(sha256)
    return data


def _damaged(sha256: str) -> IntegrityError:
    return IntegrityError(f"blob {sha256!r} is damaged: its bytes hash to something else; restore it from a backup")


def _missing(sha256: str) -> NotFound:
    return NotFound(f"there is no blob {sha256!r}", sha256=sha256)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
