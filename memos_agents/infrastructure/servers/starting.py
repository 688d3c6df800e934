"""Starting a server, or finding that it runs: what stands between an order and a process, under the folder's lock."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.servers.choosing import find_keeper
from memos_agents.infrastructure.servers.keeping import Resources, Running, Starter
from memos_agents.infrastructure.servers.locking import locked
from memos_agents.infrastructure.servers.places import LOCK, check_folder
from memos_agents.infrastructure.servers.ports import check_port, free_port, is_free
from memos_agents.infrastructure.servers.programs import ServerFailed
from memos_agents.infrastructure.servers.record import How, Record, write_record

SECONDS_TO_LOCK = 180.0
SECONDS_TO_STOP = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What `up` was asked for."""

    name: str
    version: str
    port: int | None
    folder: Path
    password: str | None
    resources: Resources
    fresh: bool
    environ: Mapping[str, str]
    keeps_port: bool = True

    def running(self) -> Running | None:
        """The server that runs already, if it is what was asked for."""
        if self.fresh:
            return None
        with self._locked():
            return self._find()

    def start(self, prepare: Callable[[How | None], Starter]) -> Running:
        """Start a server, unless another process was faster. Files are fetched before, not under the lock."""
        known = check_folder(self.folder, self.version)
        starter = prepare(known.how if known is not None and not self.fresh else None)
        with self._locked():
            if not self.fresh and (found := self._find()) is not None:
                return found
            known = check_folder(self.folder, self.version)
            if known is not None:
                keeper = find_keeper(known, environ=self.environ)
                keeper.stop(known, self.folder, seconds=0 if self.fresh else SECONDS_TO_STOP)
                if self.fresh:
                    keeper.remove_data(known, self.folder)
            record = Record(
                name=self.name,
                version=self.version,
                port=self._pick_port(known),
                how=starter.how,
                token=secrets.token_hex(16),
                has_auth=self.password is not None,
                runner=starter.runner,
            )
            write_record(self.folder, record)  # before the start: whoever comes next can find what we leave behind
            starter.start(record, self.folder, resources=self.resources, password=self.password)
        keeper = find_keeper(record, environ=self.environ)
        return Running(record=record, keeper=keeper, folder=self.folder, is_ours=True)

    def has_lost_its_port(self, server: Running, error: BaseException) -> bool:
        """Whether the server ended because somebody else took the free port that we picked for it."""
        has_died = isinstance(error, ServerFailed) and bool(error.details.get("has_died"))
        return has_died and server.is_ours and self.port is None and not is_free(server.record.port)

    def on_a_new_port(self) -> Order:
        """The same on another port. Data was removed already."""
        return replace(self, keeps_port=False, fresh=False)

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.folder / LOCK, seconds=SECONDS_TO_LOCK)

    def _find(self) -> Running | None:
        record = check_folder(self.folder, self.version)
        if record is None:
            return None
        keeper = find_keeper(record, environ=self.environ)
        if keeper.look(record, self.folder).state != "alive":
            return None
        if self.port not in (None, record.port):
            raise InvalidRequest(
                f"this server runs at port {record.port} already; take it down before you start it at {self.port}"
            )
        if record.has_auth != (self.password is not None):
            asks = "asks for a password" if record.has_auth else "asks for no password"
            raise InvalidRequest(f"this server runs already and {asks}; take it down to start it the other way")
        return Running(record=record, keeper=keeper, folder=self.folder, is_ours=False)

    def _pick_port(self, known: Record | None) -> int:
        if self.port is not None:
            check_port(self.port)
            return self.port
        if known is not None and self.keeps_port and is_free(known.port):
            return known.port
        return free_port()
