"""Real Neo4j servers for tests: started by the project's own launcher, shared by a run, thrown away at its end.

One run of pytest has one folder for its servers. Its name holds the process id of the run's controller, so that a later
run can tell, and clear away, what a killed one left behind. Workers of pytest-xdist ask for the same servers: the
launcher makes sure that each is started once.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from memos_agents.errors import NotFound
from memos_agents.infrastructure.servers import LocalServer, Resources, down, status, up
from memos_agents.infrastructure.servers.given import check_given
from memos_agents.infrastructure.servers.maven import check_tools
from memos_agents.infrastructure.servers.programs import ToolMissing
from memos_agents.infrastructure.servers.versions import LONG_TERM, NEWEST

GIVEN = {NEWEST: "MEMOS_TEST_NEO4J", LONG_TERM: "MEMOS_TEST_NEO4J_5"}
"""Variables that name a running server to be used instead of ours. Tests write to it, under tenants of their own."""

# As the run began: tests change HOME and PATH for themselves, and the jars belong into the user's cache all the same.
ENVIRON: Mapping[str, str] = dict(os.environ)
SECONDS_TO_START = 600.0  # a loaded machine takes minutes for what takes seconds alone


@dataclass(slots=True, kw_only=True)
class Run:
    """The servers of one run of pytest."""

    folder: Path
    shared: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_this_process(cls, root: Path) -> Run:
        return cls(folder=root / ".pytest_cache" / "neo4j" / f"{os.getpid()}-{time.time_ns():x}")

    def uri(self, version: str) -> str:
        """The address of the run's server of `version`; skips the test if there are no tools for one, and fails if
        there are and it does not start."""
        if version not in self.shared:
            self.shared[version] = self._given(version) or self.start(version, name="shared").uri
        return self.shared[version]

    def start(self, version: str, *, name: str, port: int | None = None, heap: str = "1g") -> LocalServer:
        need_tools(version)
        self._clear_what_dead_runs_left()
        return up(
            version,
            environ=ENVIRON,
            name=name,
            port=port,
            folder=self.folder / f"{name}-{version}",
            resources=Resources(heap=heap, page_cache="256m" if heap == "1g" else "64m", quick=True),
            how="maven",
            seconds=SECONDS_TO_START,
        )

    def end(self) -> None:
        """Kill the run's servers and forget their data; nothing if none was started."""
        end_servers(self.folder)

    def _given(self, version: str) -> str | None:
        uri = ENVIRON.get(GIVEN[version])
        return check_given(uri)[0] if uri else None

    def _clear_what_dead_runs_left(self) -> None:
        for folder in self.folder.parent.glob("*-*"):
            if folder != self.folder and not is_alive(int(folder.name.partition("-")[0])):
                end_servers(folder)


class FaultServer:
    """A server that belongs to one test, which may kill it."""

    def __init__(self, start: Callable[[int | None], LocalServer]) -> None:
        self._start = start
        self.server = start(None)

    @property
    def uri(self) -> str:
        """The same before and after a restart, as long as no other program takes the port meanwhile."""
        return self.server.uri

    @property
    def folder(self) -> Path:
        assert self.server.folder is not None
        return self.server.folder

    def kill(self) -> None:
        """End the process at once, as a power cut would; returns when it is gone."""
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGKILL)
        while status(self.folder, environ=ENVIRON).state in ("ready", "starting"):
            time.sleep(0.02)

    def stop(self) -> None:
        """End it the regular way."""
        down(self.folder, environ=ENVIRON)

    def restart(self) -> None:
        """Start it again, with its data, at the same port; returns when it answers."""
        self.server = self._start(int(self.uri.rpartition(":")[2]))


@contextmanager
def fault_server(run: Run, name: str, version: str = NEWEST, *, heap: str = "512m") -> Iterator[FaultServer]:
    """A server for one test, gone with its data afterwards, whatever the test did to it."""
    try:
        yield FaultServer(lambda port: run.start(version, name=name, port=port, heap=heap))
    finally:
        end_server(run.folder / f"{name}-{version}")


def missing_tools() -> str | None:
    """Why no server of any version can be started or was given here; None if one can."""
    if any(ENVIRON.get(variable) for variable in GIVEN.values()):
        return None
    reasons = [str(error) for version in GIVEN if (error := _missing_for(version)) is not None]
    if len(reasons) < len(GIVEN):
        return None
    return f"{reasons[0]}; or set {GIVEN[NEWEST]} to the address of a test server"


def need_tools(version: str) -> None:
    """Skip the test, saying what to install, where nothing can start a server of `version`."""
    error = _missing_for(version)
    if error is not None:
        pytest.skip(f"{error}; or set {GIVEN[version]} to the address of a test server")


def end_servers(folder: Path) -> None:
    for path in list(folder.glob("*")):
        end_server(path)
    shutil.rmtree(folder, ignore_errors=True)


def end_server(folder: Path) -> None:
    with suppress(NotFound):  # another worker clears away the same dead run
        down(folder, environ=ENVIRON, seconds=0, purge=True)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_MISSING: dict[str, ToolMissing | None] = {}


def _missing_for(version: str) -> ToolMissing | None:
    if version not in _MISSING:
        try:
            check_tools(version, ENVIRON)
        except ToolMissing as error:
            _MISSING[version] = error
        else:
            _MISSING[version] = None
    return _MISSING[version]
