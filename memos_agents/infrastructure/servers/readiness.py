"""Waiting until a server is of use: not until its port opens, but until its database answers a query."""

from __future__ import annotations

import time
from pathlib import Path

from memos_agents.errors import BackendUnavailable, InvalidRequest
from memos_agents.infrastructure.servers.bolt import Bolt, Refused
from memos_agents.infrastructure.servers.jars import Progress
from memos_agents.infrastructure.servers.keeping import Running
from memos_agents.infrastructure.servers.programs import ServerFailed

DATABASE = "neo4j"
_ASK = "RETURN 1"
_ASK_HOME = "SHOW SETTINGS 'server.directories.neo4j_home' YIELD value"
_SET_PASSWORD = "ALTER CURRENT USER SET PASSWORD FROM $old TO $new"  # noqa: S105  # the documented statement
_FIRST_PASSWORD = "neo4j"  # noqa: S105  # Neo4j's own, which it makes one change
_SECONDS_TO_ANSWER = 10.0
_SECONDS_BETWEEN_TRIES = 0.2


def wait_until_ready(
    server: Running, *, password: str | None, seconds: float, progress: Progress | None = None
) -> None:
    """Return when the database answers. `ServerFailed` with its last lines if it dies or `seconds` are over.

    Two servers may be after one port, and the one that answers there need not be this one: it is asked where it lives.
    """
    began = time.monotonic()
    while True:
        is_alive = server.look().state == "alive"  # before asking: what answers may be another server at its port
        try:
            ask_database(server.record.port, password=password, home=server.home)
        except Refused as error:
            if error.is_about_credentials:
                raise
            reason = str(error)
        except BackendUnavailable as error:
            reason = str(error)
        else:
            if is_alive:
                return
            reason = ""
        passed = time.monotonic() - began
        if not is_alive:
            raise ServerFailed(f"{server.title} ended while it started", output=server.last_lines(), has_died=True)
        if passed >= seconds:
            raise ServerFailed(
                f"{server.title} was not ready after {passed:.0f} s: {reason}",
                output=server.last_lines(),
                has_died=False,
            )
        if progress is not None:
            progress(f"starting {server.title} (seconds)", int(passed), int(seconds))
        time.sleep(_SECONDS_BETWEEN_TRIES)


def ask_database(port: int, *, password: str | None, home: Path | None = None) -> None:
    """Have the database on this machine answer a query; a new server gets its first password.

    Raises `BackendUnavailable` while there is no answer, or if the one who answers lives in another folder than `home`.
    """
    try:
        _ask_once(port, password, home)
    except Refused as error:
        if not error.is_about_credentials:
            raise
        if password is None:
            raise InvalidRequest(
                f"the server at port {port} asks for a password; name the variable that holds it (--password-env)"
            ) from error
        _set_first_password(port, password)
        _ask_once(port, password, home)


def _ask_once(port: int, password: str | None, home: Path | None) -> None:
    with Bolt("127.0.0.1", port, seconds=_SECONDS_TO_ANSWER) as bolt:
        bolt.hello()
        bolt.logon(password)
        if home is None:
            bolt.run(_ASK, {}, database=DATABASE)
            return
        told = [str(row[0]) for row in bolt.run(_ASK_HOME, {}, database=DATABASE)]
        if [Path(text).resolve() for text in told] != [home.resolve()]:
            raise BackendUnavailable(f"another server answers at port {port}")


def greet(port: int) -> bool:
    """Whether a server answers at all, without logging on."""
    try:
        with Bolt("127.0.0.1", port, seconds=_SECONDS_TO_ANSWER) as bolt:
            return bool(bolt.hello())
    except BackendUnavailable:
        return False


def _set_first_password(port: int, password: str) -> None:
    """The password goes as a parameter over the loopback: it is in no command line, file or log."""
    with Bolt("127.0.0.1", port, seconds=_SECONDS_TO_ANSWER) as bolt:
        bolt.hello()
        try:
            bolt.logon(_FIRST_PASSWORD)
        except Refused as error:
            if not error.is_about_credentials:
                raise
            raise InvalidRequest(
                f"the server at port {port} knows another password: the one that its data was made with. Give that "
                "one, or remove the data (--fresh)"
            ) from error
        bolt.run(_SET_PASSWORD, {"old": _FIRST_PASSWORD, "new": password}, database="system")
