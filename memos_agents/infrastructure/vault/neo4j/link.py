"""Link: transactions of one tenant on one database, and the server's errors as ours.

Neo4j is read-committed and applies a commit piece by piece, so a reader that takes no lock can see half of one. What
is read `whole` therefore takes the tenant's lock first, as every writer does, in a transaction that is rolled back.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString, TypeVar
from uuid import uuid4

import neo4j
from neo4j import exceptions

from memos_agents.errors import AccessDenied, BackendUnavailable, InvalidRequest, VersionConflict
from memos_agents.infrastructure.vault.neo4j import cypher
from memos_agents.infrastructure.vault.neo4j.opening import DRIVERS, RETRY_SECONDS, Address

T = TypeVar("T")
TRANSACTION_SECONDS: Final = 600.0
_LOCK_TRIES: Final = 3


class _TryAgain(Exception):
    """An error that passes; the call is made again."""


class Tx:
    """One transaction. Every statement speaks about `$tenant`, which is bound here and nowhere else.

    `tenant` is the tenant as scopes name it; the graph's name for it says whose store it is too.
    """

    def __init__(
        self, transaction: neo4j.Transaction | neo4j.ManagedTransaction, tenant: str, stored: str, op: str
    ) -> None:
        self._transaction = transaction
        self.tenant = tenant
        self._stored = stored
        self.op = op
        """The same for every try of one `Link.write`."""

    def rows(self, statement: LiteralString, /, **parameters: object) -> list[list[Any]]:
        """All records, each as the list of its values in the order of RETURN."""
        return self._send(statement, parameters).values()

    def one(self, statement: LiteralString, /, **parameters: object) -> list[Any] | None:
        """The first record, if there is one."""
        found = self.rows(statement, **parameters)
        return found[0] if found else None

    def run(self, statement: LiteralString, /, **parameters: object) -> None:
        """A statement whose result nobody wants."""
        self._send(statement, parameters).consume()

    def start(self, statement: LiteralString, /, **parameters: object) -> None:
        """Send a statement whose result nobody wants, and go on while the server works; the next one waits for it."""
        self._send(statement, parameters)

    def _send(self, statement: LiteralString, parameters: dict[str, object]) -> neo4j.Result:
        if "$tenant" not in statement:
            raise AssertionError("a statement that does not name the tenant could reach another one's memory")
        return self._transaction.run(statement, {**parameters, "tenant": self._stored})


class Link:
    """Runs work of one tenant in transactions. Safe for threads: each call takes a connection from the pool."""

    def __init__(
        self,
        driver: neo4j.Driver,
        address: Address,
        database: str,
        tenant: str,
        *,
        stored: str,
        readonly: bool,
        owns_driver: bool,
    ) -> None:
        self._driver = driver
        self._address = address
        self._database = database
        self.tenant = tenant
        """As scopes name it."""
        self._stored = stored
        self.is_readonly = readonly
        self._owns_driver = owns_driver
        self._is_closed = False
        self._closing = threading.Lock()
        self.version: tuple[int, ...] = ()
        self.edition = ""

    @property
    def is_2026(self) -> bool:
        """Whether the server filters inside its vector indexes (`SEARCH`, Cypher 25)."""
        return self.version >= (2026, 1)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def greet(self) -> None:
        """Connect, and learn what the server is; the first thing to do with a link."""
        with self.translated():
            self._driver.verify_connectivity()  # at once: a read would go on trying for half a minute
        found = self._run_read(cypher.SERVER, lambda result: result.values())
        name, version, edition = next(row for row in found if row[0] == "Neo4j Kernel")
        del name
        self.version = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        self.edition = edition

    def read(self, work: Callable[[Tx], T], *, whole: bool = True) -> T:
        """Run `work`, which only reads. With `whole` all of it sees one moment: no commit begins or ends meanwhile."""
        self._check_open()
        if not whole or self.is_readonly:
            with self.translated(), self._session(neo4j.READ_ACCESS) as session:
                return session.execute_read(lambda transaction: work(Tx(transaction, self.tenant, self._stored, "")))
        for left in reversed(range(_LOCK_TRIES)):
            try:
                with self.translated(retries=left > 0), self._locked() as tx:
                    return work(tx)
            except _TryAgain:
                time.sleep(0.05)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _locked(self) -> Iterator[Tx]:
        """A transaction that holds the tenant's lock and is rolled back."""
        with (
            self._session(neo4j.WRITE_ACCESS) as session,
            session.begin_transaction(timeout=TRANSACTION_SECONDS) as transaction,
        ):
            tx = Tx(transaction, self.tenant, self._stored, "")
            tx.run(cypher.LOCK, op="read")
            yield tx
            transaction.rollback()

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in one transaction; when this returns, what it wrote is durable. If it raises, nothing happened.

        `work` may run more than once: again after an error that passes, and again, with the same `tx.op`, when the
        connection was lost while the server was committing; it must then find out by `op` whether it was done.
        """
        self._check_open()
        if self.is_readonly:
            raise BackendUnavailable("the store was opened with readonly=True; open it without to write")
        op, end = uuid4().hex, time.monotonic() + RETRY_SECONDS
        with self.translated():
            while True:
                try:
                    with self._session(neo4j.WRITE_ACCESS) as session:
                        return session.execute_write(
                            neo4j.unit_of_work(timeout=TRANSACTION_SECONDS)(
                                lambda transaction: work(Tx(transaction, self.tenant, self._stored, op))
                            )
                        )
                except exceptions.IncompleteCommit:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)

    def autocommit(self, statement: LiteralString, /, **parameters: object) -> None:
        """Run a statement that divides itself into transactions (`CALL … IN TRANSACTIONS`), or one about the schema."""
        self._check_open()
        with self.translated(), self._session(neo4j.WRITE_ACCESS) as session:
            session.run(statement, {**parameters, "tenant": self._stored}).consume()

    def define(self, statement: LiteralString, /) -> None:
        """Run a statement about the schema. That another process was faster is success: both wanted the same.

        Processes that define at once are deadlocked by the server, all but one of them; the others try again.
        """
        self._check_open()
        end = time.monotonic() + RETRY_SECONDS
        with self.translated():
            while True:
                try:
                    with self._session(neo4j.WRITE_ACCESS) as session:
                        session.run(statement).consume()
                        return
                except exceptions.ClientError as error:
                    if "AlreadyExists" not in (error.code or ""):
                        raise
                    return
                except exceptions.TransientError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(random.uniform(0.05, 0.3))  # noqa: S311  # apart from the others, not secret

    def rows_outside(self, statement: LiteralString, /, **parameters: object) -> list[list[Any]]:
        """Read what belongs to no tenant: indexes and the schema's version."""
        self._check_open()
        return self._run_read(statement, lambda result: result.values(), **parameters)

    def close(self) -> None:
        """Give the driver back; closing twice is fine."""
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                if self._owns_driver:
                    DRIVERS.give_back(self._driver)

    def __repr__(self) -> str:
        return f"<Link to {self._address.uri}, database {self._database!r}, tenant {self.tenant!r}>"

    @contextmanager
    def translated(self, *, retries: bool = False) -> Iterator[None]:
        """Turn the driver's errors into ours. The server's own words stay out: they can quote what was sent.

        With `retries`, an error that can pass is `_TryAgain`.
        """
        try:
            yield
        except (exceptions.Neo4jError, exceptions.DriverError) as error:
            if retries and error.is_retryable():
                raise _TryAgain from error
            raise translate(error, self._address.uri, self._database) from None

    def _run_read(
        self, statement: LiteralString, take: Callable[[neo4j.Result], list[list[Any]]], **parameters: object
    ) -> list[list[Any]]:
        with self.translated(), self._session(neo4j.READ_ACCESS) as session:
            return session.execute_read(
                lambda transaction: take(transaction.run(statement, {**parameters, "tenant": self._stored}))
            )

    def _session(self, access: str) -> neo4j.Session:
        return self._driver.session(
            database=self._database,
            default_access_mode=access,
            bookmark_manager=self._driver.execute_query_bookmark_manager,
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise BackendUnavailable("the store is closed; open it again with MemOS.open(...)")


def translate(error: Exception, uri: str, database: str) -> Exception:
    """Our error for one of the driver's or the server's."""
    code = getattr(error, "code", None) or ""
    if isinstance(error, exceptions.AuthError | exceptions.TokenExpired) or code.startswith("Neo.ClientError.Security"):
        if isinstance(error, exceptions.Forbidden) or code.endswith("Forbidden"):
            return AccessDenied(f"the login at {uri} may not do this; use one that may write in database {database!r}")
        return AccessDenied(
            f"the server at {uri} refused the login; check auth=(user, password), or NEO4J_USERNAME and NEO4J_PASSWORD"
        )
    if "DatabaseNotFound" in code:
        return InvalidRequest(
            f"there is no database {database!r} on {uri}; name one that exists with database= (Community has 'neo4j')"
        )
    if "AccessMode" in code or "ReadOnly" in code or "WriteOnReadOnly" in code:
        return AccessDenied(
            f"database {database!r} on {uri} is read-only for this login; open the store with readonly=True"
        )
    if isinstance(error, exceptions.ConstraintError):
        return VersionConflict("another writer made the same thing; read it again and retry")
    if isinstance(error, exceptions.ConfigurationError):
        return InvalidRequest(f"the address {uri} does not fit the server: {type(error).__name__}")
    if isinstance(error, exceptions.ServiceUnavailable | exceptions.SessionExpired):
        return BackendUnavailable(
            f"no server answers at {uri}; start it (`memos neo4j up` for a local one) or check the address, and retry"
        )
    return BackendUnavailable(
        f"the server at {uri} could not serve the call ({code or type(error).__name__}); try again"
    )
