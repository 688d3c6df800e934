"""Which way to run a server: Docker when its engine really answers, else the user's Maven and Java."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from memos_agents.infrastructure.servers.docker import find_docker
from memos_agents.infrastructure.servers.jars import Progress
from memos_agents.infrastructure.servers.keeping import Keeper, Starter
from memos_agents.infrastructure.servers.maven import ProcessKeeper, prepare_maven
from memos_agents.infrastructure.servers.programs import ToolMissing
from memos_agents.infrastructure.servers.record import How, Record

_NO_ENGINE = "no Docker engine answers (`docker version` shows none; start Docker, or install it)"


def choose_starter(
    version: str,
    *,
    how: How | None,
    cache: Path,
    environ: Mapping[str, str],
    java: Path | None = None,
    progress: Progress | None = None,
) -> Starter:
    """Something that can start `version`, made ready; `how` leaves no choice. A `java` that is named is for Maven.

    Raises `ToolMissing`, which says for every way what is not here.
    """
    if how is None and java is not None:
        how = "maven"
    if how != "maven":
        docker = find_docker(environ)
        if docker is not None:
            return docker
        if how == "docker":
            raise ToolMissing(_NO_ENGINE)
    try:
        return prepare_maven(version, cache=cache, environ=environ, java=java, progress=progress)
    except ToolMissing as error:
        if how == "maven":
            raise
        raise ToolMissing(f"{error}. The other way, Docker: {_NO_ENGINE}", **error.details) from error


def find_keeper(record: Record, *, environ: Mapping[str, str]) -> Keeper:
    """What looks after a server that was started; `ToolMissing` if it is in a container and no engine answers."""
    if record.how == "maven":
        return ProcessKeeper()
    docker = find_docker(environ)
    if docker is None:
        raise ToolMissing(f"the server {record.name!r} is the container {record.container!r}, and {_NO_ENGINE}")
    return docker
