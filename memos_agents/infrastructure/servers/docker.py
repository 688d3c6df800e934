"""A server in a container: Neo4j's own image, one container and one volume for each name and version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memos_agents.infrastructure.servers.keeping import Resources, Sighting
from memos_agents.infrastructure.servers.programs import Answer, ServerFailed, ask, find_program
from memos_agents.infrastructure.servers.record import How, Record

_LABEL = "memos.server"
_SECONDS_TO_ANSWER = 15.0
_SECONDS_TO_PULL = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Docker:
    """Starts and keeps servers as containers. Data lies in a volume, so that a container can be made anew at will."""

    program: Path
    environ: Mapping[str, str]

    @property
    def how(self) -> How:
        """Which of the ways it is."""
        return "docker"

    @property
    def runner(self) -> str:
        """What runs the server, for people."""
        return "Docker"

    def start(self, record: Record, folder: Path, *, resources: Resources, password: str | None) -> None:
        """Run the image, which is pulled the first time (about 300 MB)."""
        self._ask("rm", "--force", record.container)
        environ = dict(self.environ)
        if password is not None:
            environ["NEO4J_AUTH"] = f"neo4j/{password}"  # the client passes it on: it never is an argument
        answer = ask([self.program, *run_arguments(record, resources)], environ=environ, seconds=_SECONDS_TO_PULL)
        if answer is None or not answer.is_good:
            raise ServerFailed(
                f"Docker could not run neo4j:{record.version}-community", output=answer.lines if answer else ()
            )

    def look(self, record: Record, folder: Path) -> Sighting:
        """See how the last start is."""
        form = "{{.State.Running}} {{.State.Pid}} {{index .Config.Labels %s}}" % f'"{_LABEL}"'  # noqa: UP031  # braces
        answer = self._ask("inspect", "--type", "container", "--format", form, record.container)
        if not answer.is_good and "no such" not in answer.err.lower():
            raise ServerFailed(f"Docker could not look at the container {record.container!r}", output=answer.lines)
        words = answer.out.split() if answer.is_good else []
        if len(words) != 3 or words[2] != record.token:
            return Sighting(state="stopped")
        if words[0] != "true":
            return Sighting(state="died")
        return Sighting(state="alive", pid=int(words[1]) if words[1].isdigit() and int(words[1]) else None)

    def stop(self, record: Record, folder: Path, *, seconds: float) -> bool:
        """End it, by force after `seconds`; False if it did not run."""
        state = self.look(record, folder).state
        if state == "stopped":
            return False
        if state == "alive":
            self._ask("stop", "-t", str(round(seconds)), record.container, seconds=seconds + 30)
        answer = self._ask("rm", "--force", record.container)
        if not answer.is_good:
            raise ServerFailed(f"Docker could not remove the container {record.container!r}", output=answer.lines)
        return state == "alive"

    def log(self, record: Record, folder: Path, *, lines: int) -> list[str]:
        """The last lines that the container wrote."""
        answer = self._ask("logs", "--tail", str(lines), record.container)
        return answer.lines[-lines:] if answer.is_good else []

    def remove_data(self, record: Record, folder: Path) -> None:
        """Forget everything that the stopped server stored."""
        self._ask("rm", "--force", record.container)
        answer = self._ask("volume", "rm", "--force", record.container)
        if not answer.is_good:
            raise ServerFailed(f"Docker could not remove the volume {record.container!r}", output=answer.lines)

    def _ask(self, *arguments: str, seconds: float = 60.0) -> Answer:
        answer = ask([self.program, *arguments], environ=self.environ, seconds=seconds)
        if answer is None:
            raise ServerFailed(f"`docker {arguments[0]}` did not end within {seconds:.0f} s")
        return answer


def find_docker(environ: Mapping[str, str]) -> Docker | None:
    """Docker, if its engine answers: a client alone runs nothing."""
    program = find_program("docker", environ)
    if program is None:
        return None
    answer = ask([program, "version", "--format", "{{.Server.Version}}"], environ=environ, seconds=_SECONDS_TO_ANSWER)
    is_there = answer is not None and answer.is_good and bool(answer.out.strip())
    return Docker(program=program, environ=environ) if is_there else None


def run_arguments(record: Record, resources: Resources) -> Sequence[str]:
    """The arguments of `docker run`. In names of settings a dot is written _ and an underscore __."""
    settings = {
        "NEO4J_server_config_strict__validation_enabled": "false",  # not every version knows each key
        "NEO4J_dbms_usage__report_enabled": "false",
        "NEO4J_dbms_fleet__manager_enabled": "false",
        "NEO4J_server_fleet__discovery_enabled": "false",
        "NEO4J_server_memory_heap_max__size": resources.heap,
        "NEO4J_server_memory_pagecache_size": resources.page_cache,
        "NEO4J_db_tx__log_preallocate": "false",
        "NEO4J_db_transaction_timeout": "120s",
        # the address that clients know, or a routing table would name a port of the container
        "NEO4J_server_bolt_advertised__address": f"127.0.0.1:{record.port}",
    }
    return [
        "run",
        "--detach",
        "--name",
        record.container,
        "--label",
        f"{_LABEL}={record.token}",
        "--publish",
        f"127.0.0.1:{record.port}:7687",
        "--volume",
        f"{record.container}:/data",
        "--env",
        "NEO4J_AUTH" if record.has_auth else "NEO4J_AUTH=none",
        *(part for name, value in settings.items() for part in ("--env", f"{name}={value}")),
        f"neo4j:{record.version}-community",
    ]
