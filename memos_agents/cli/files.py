"""Files that a command writes: never over something by accident, never half."""

from __future__ import annotations

from pathlib import Path

from memos_agents.errors import InvalidRequest, NotFound


def check_new(path: Path, *, replace: bool) -> None:
    """Refuse to write where something is already (unless `replace`), and where no folder is."""
    if path.is_dir():
        raise InvalidRequest(f"{str(path)!r} is a folder; name a file in it")
    if path.exists() and not replace:
        raise InvalidRequest(f"{str(path)!r} is there already; choose another name, or add --force to replace it")
    if not path.absolute().parent.is_dir():
        raise NotFound(f"the folder {str(path.parent)!r} does not exist; make it first")


def write_new(path: Path, text: str, *, replace: bool = False) -> None:
    """Write a text file, readable by its owner only, complete or not at all."""
    check_new(path, replace=replace)
    from memos_agents.infrastructure.exchange.atomic import atomic_file

    with atomic_file(path.absolute()) as file:
        file.write((text if text.endswith("\n") else text + "\n").encode())
