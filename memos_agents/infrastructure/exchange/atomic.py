"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from memos_agents.errors import BackendUnavailable, InvalidRequest

_NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write and read; it takes `path`'s place, synced, when the block ends without an exception.

    Until then `path` is as it was. On Linux the file has no name before it is complete, so not even a killed process
    leaves a part of it behind; elsewhere a kill can leave a hidden `.partial` file beside it. Readable by the owner
    only, because it holds memories. Raises `InvalidRequest` for a path that cannot be a file, `BackendUnavailable`
    where there is no room or no permission.
    """
    if not path.name or path.is_dir():
        raise InvalidRequest(f"{str(path)!r} is a folder; name the file to write")
    if not path.parent.is_dir():
        raise InvalidRequest(f"the folder {str(path.parent)!r} does not exist; make it first")
    staged = path.parent / f".{path.name[:40]}.{secrets.token_hex(8)}.partial"
    try:
        handle, is_named = _open(staged)
        try:
            with os.fdopen(handle, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not is_named:
                    _name(file, staged)
            staged.replace(path)
            _sync_folder(path.parent)
        finally:
            with suppress(FileNotFoundError):
                staged.unlink()
    except OSError as error:
        raise BackendUnavailable(f"{str(path)!r} could not be written: {error.strerror}", path=str(path)) from error


def _open(staged: Path) -> tuple[int, bool]:
    """A handle to read and write, and whether the file already has its name."""
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
        try:
            return os.open(staged.parent, os.O_TMPFILE | os.O_RDWR, 0o600), False
        except OSError as error:
            if error.errno not in _NO_UNNAMED_FILES:
                raise
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(staged, flags, 0o600), True


def _name(file: BinaryIO, path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:  # with a folder's handle Python calls linkat(), the one that follows the link in /proc
        os.link(f"/proc/self/fd/{file.fileno()}", path.name, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
