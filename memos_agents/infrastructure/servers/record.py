"""What is written down about a server, in its folder, so that any later process can find, check and stop it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from memos_agents.errors import IntegrityError
from memos_agents.infrastructure.exchange.atomic import atomic_file

How: TypeAlias = Literal["docker", "maven"]
_FILE = "server.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The last start of the server in a folder. Never holds a password.

    `token` is random, new for each start, and stands in the arguments of the process (or the labels of the container):
    whatever carries it is that start and no other, however process ids are reused.
    """

    name: str
    version: str
    port: int
    how: How
    token: str
    has_auth: bool
    runner: str
    """What runs it, for people: "Java 25" or a container's name."""

    @property
    def uri(self) -> str:
        return f"bolt://127.0.0.1:{self.port}"

    @property
    def container(self) -> str:
        return f"memos-neo4j-{self.name}-{self.version}"


def read_record(folder: Path) -> Record | None:
    """The record in `folder`, or None if no server was started there."""
    path = folder / _FILE
    try:
        return Record(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise IntegrityError(
            f"{str(path)!r} is not what was written there; if no server runs in that folder, remove it"
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Keep `record`; a reader sees the old one or the new one."""
    with atomic_file(folder.absolute() / _FILE) as file:
        file.write(json.dumps(asdict(record), indent=1).encode())
