"""Connections: one writer that commits many callers' work with one fsync, and a pool of readers."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast

from memos_agents.errors import BackendUnavailable, IntegrityError
from memos_agents.infrastructure.vault.sqlite.opening import Durability, open_connection
from memos_agents.infrastructure.vault.sqlite.waiting import Bell, Task, insist

T = TypeVar("T")
MAX_GROUP = 64
RECENT_SECONDS = 0.1
MAX_WAIT_SECONDS = 0.004


@dataclass(frozen=True, slots=True)
class Counters:
    """What was written since the vault was opened. With durability "full" each group costs one fsync of the log."""

    commits: int = 0
    groups: int = 0


class Hooks(Protocol):
    """What a vault does around a group of commits."""

    def begin(self, connection: sqlite3.Connection) -> None:
        """The group's transaction has begun."""
        ...

    def finish(self, connection: sqlite3.Connection) -> None:
        """The transaction is about to be committed."""
        ...

    def end(self, *, is_committed: bool) -> None:
        """It was committed, or all of it is gone, and rowids read meanwhile must not be trusted."""
        ...


class Engine:
    """Access to one store file."""

    def __init__(self, path: Path, *, durability: Durability, readonly: bool, hooks: Hooks) -> None:
        self._path = path
        self._durability: Durability = durability
        self._is_readonly = readonly
        self._hooks = hooks
        self._writers: dict[int, float] = {}
        self._counters = Counters()
        self._tasks: deque[Task[object]] = deque()
        self._expected = 1
        self._company = Bell()
        self._queueing = threading.Lock()
        self._leader: Task[object] | None = None
        self._leading = threading.Lock()
        self._readers: deque[sqlite3.Connection] = deque()
        self._is_closed = False
        self._writer: sqlite3.Connection | None = None
        if not readonly:
            with self.translated():
                self._writer = open_connection(path, durability=durability, readonly=False)

    def write(self, work: Callable[[sqlite3.Connection], T], prepare: Callable[[], None] | None = None) -> T:
        """Run `work` in a transaction; when this returns, what it wrote is durable. If it raises, nothing happened.

        Callers that come while another one is committing are committed together: the first of them runs the work of
        everybody waiting and pays one fsync for all of them. `work` may be run more than once. `prepare` is run once
        before, outside the transaction, when it is this caller's turn: threads that take turns in one of them compute
        faster than threads that fight for the interpreter's lock.
        """
        task: Task[object] = Task(cast("Callable[[sqlite3.Connection], object]", work), prepare)
        self._writers[threading.get_ident()] = time.monotonic()
        try:
            with self._queueing:
                self._tasks.append(task)
                if self._leader is None:
                    self._leader = task
                    task.woken.ring()
                if len(self._tasks) >= self._expected:
                    self._company.ring()
            task.woken.wait()
            if not task.is_done:
                self._lead(task)
        except BaseException:
            insist(lambda: self._abandon(task))
            raise
        if task.error is not None:
            raise task.error
        return cast(T, task.result)

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """The writer's connection outside a transaction, while nobody else in this process writes."""
        with self._leading, self.translated():
            yield self._open_writer()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a read transaction: everything read from it is of one moment."""
        if self._is_closed:
            raise _closed()
        with self.translated():
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = open_connection(self._path, durability=self._durability, readonly=True)
            try:
                connection.execute("BEGIN")
                # The moment begins with the first read: it must not come after a look into a cache of rowids, or a
                # name whose writer rolled back could be taken for the one that got its rowid next.
                connection.execute("SELECT 1 FROM meta LIMIT 1")
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if self._is_closed:
                    connection.close()
                else:
                    self._readers.append(connection)

    def size_bytes(self) -> int:
        """Bytes of the file and its log."""
        files = (self._path, Path(f"{self._path}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close every connection; a call that is running ends first."""
        with self._leading:
            self._is_closed = True
            while self._readers:
                self._readers.pop().close()
            if self._writer is not None:  # last: only a connection that can write merges the log into the file
                self._writer.close()
                self._writer = None

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def counters(self) -> Counters:
        return self._counters

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, without repeating stored content."""
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def _open_writer(self) -> sqlite3.Connection:
        if self._is_closed:
            raise _closed()
        if self._writer is None:
            raise BackendUnavailable(
                f"the store {str(self._path)!r} was opened with readonly=True; open it without to write"
            )
        return self._writer

    def _abandon(self, task: Task[object]) -> None:
        """Take back work whose caller was interrupted, and end what it led. Done again, it changes nothing."""
        with self._queueing:
            if task in self._tasks:
                self._tasks.remove(task)
        self._end(task)

    def _lead(self, task: Task[object]) -> None:
        interruption: BaseException | None = None
        try:
            self._wait_for_company()
            with self._queueing:
                for _ in range(min(len(self._tasks), MAX_GROUP)):
                    task.group.append(self._tasks[0])
                    self._tasks.popleft()
            with self._leading, self.translated():
                interruption = self._run([each for each in task.group if self._is_prepared(each)])
                task.is_committed = True
        except Exception as error:  # noqa: BLE001  # whoever waits must learn that its work is not durable
            for each in task.group:
                each.error = each.error or error
        self._end(task)
        if interruption is not None:
            raise interruption

    def _end(self, task: Task[object]) -> None:
        """Let the next one lead, then tell the group what came of it.

        An interruption may break this off anywhere: `write` then does it again from the beginning.
        """
        with self._queueing:
            while task.group and task.group[-1] in self._tasks:  # broken off while it was taken out
                task.group.pop()
            if self._leader is task:
                self._leader = self._tasks[0] if self._tasks else None
            if self._leader is not None:
                self._leader.woken.ring()
        if task.group and not task.is_committed:
            self._hooks.end(is_committed=False)
        for each in task.group:
            if not task.is_committed and not each.is_done:
                each.error = each.error or BackendUnavailable("the commit was interrupted; try again")
                each.result = None
            each.is_done = True
            each.woken.ring()

    def _wait_for_company(self) -> None:
        """Give threads that wrote a moment ago a moment to join: an fsync costs more than the wait."""
        if len(self._writers) == 1:
            return
        now = time.monotonic()
        recent = sum(now - last < RECENT_SECONDS for last in list(self._writers.values()))
        if len(self._writers) > MAX_GROUP:
            self._writers = {
                writer: last for writer, last in list(self._writers.items()) if now - last < RECENT_SECONDS
            }
        with self._queueing:
            self._expected = min(recent, MAX_GROUP)
            if len(self._tasks) >= self._expected:
                return
            self._company.silence()
        self._company.wait(MAX_WAIT_SECONDS)

    def _is_prepared(self, task: Task[object]) -> bool:
        if task.prepare is not None:
            try:
                task.prepare()
            except Exception as error:  # noqa: BLE001  # raised again in its caller's thread
                task.error = error
                return False
        return True

    def _run(self, group: list[Task[object]]) -> BaseException | None:
        """Do all of `group` in one transaction. If one of it fails, the transaction starts again without that one.

        Returns an interruption (Ctrl-C) that came while the transaction was becoming durable, which it then did.

        A savepoint for each would cost every caller more (FTS5 writes a segment whenever one is released) than the
        rare failure costs here. Work is therefore run again from its beginning, on the state before the group.
        """
        connection = self._open_writer()
        waiting = list(group)
        while waiting:
            try:
                connection.execute("BEGIN IMMEDIATE")
                self._hooks.begin(connection)
                failed = self._first_failure(connection, waiting)
                if failed is None:
                    self._hooks.finish(connection)
                    interruption = _commit(connection)
                    counted = self._counters
                    self._counters = Counters(counted.commits + len(waiting), counted.groups + 1)
                    self._hooks.end(is_committed=True)
                    return interruption
                waiting.remove(failed)
                self._hooks.end(is_committed=False)  # before the rowids are free for others
            finally:
                if connection.in_transaction:
                    self._hooks.end(is_committed=False)
                    connection.execute("ROLLBACK")
        return None

    def _first_failure(self, connection: sqlite3.Connection, tasks: list[Task[object]]) -> Task[object] | None:
        for task in tasks:
            try:
                task.result = task.work(connection)
            except Exception as error:
                if not connection.in_transaction:  # SQLite gave up the whole transaction: disk full, I/O error
                    raise
                task.error = translate(error, self._path) if isinstance(error, sqlite3.Error) else error
                return task
        return None


def _commit(connection: sqlite3.Connection) -> BaseException | None:
    """Commit. A signal's exception that Python raises after SQLite is done is returned: the commit is durable."""
    try:
        connection.execute("COMMIT")
    except BaseException as error:
        if isinstance(error, Exception) or connection.in_transaction:
            raise
        return error
    return None


def translate(error: sqlite3.Error, path: Path) -> Exception:
    """Our error for one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    where = f"the store {str(path)!r}"
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BackendUnavailable(f"{where} is locked by another process; try again")
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return BackendUnavailable(
            f"there is no room left on the disk of {where}; nothing was written; free some and retry"
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return IntegrityError(f"{where} is damaged ({error}); restore it from a backup")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        return BackendUnavailable(
            f"{where} cannot be written or opened ({error}); check its file, folder and permissions"
        )
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error).lower():
        return _closed()
    return BackendUnavailable(f"{where} could not serve the call: {error}")


def _closed() -> BackendUnavailable:
    return BackendUnavailable("the store is closed; open it again with MemOS.open(...)")


def chunks(items: list[T], size: int = 500) -> Iterator[tuple[str, list[T]]]:
    """Cut `items` for `IN (…)`: gives the question marks and the values of each piece."""
    for start in range(0, len(items), size):
        piece = items[start : start + size]
        yield ",".join("?" * len(piece)), piece
