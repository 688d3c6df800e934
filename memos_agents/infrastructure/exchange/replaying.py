"""A stream of records whose beginning is needed twice."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, cast

from memos_agents.infrastructure.vault.base import Record

NAMED_KINDS = ("activity", "source")
"""What stands before the cubes in an export."""
_IN_MEMORY_BYTES = 4 << 20


class Replay:
    """An export of which the activities and sources can be read before all of it, and which is asked for once.

    The vault may have to read everything to give the first line. What was read is kept in a file without a name.
    """

    def __init__(self, export: Callable[[], Iterator[Record]]) -> None:
        self._export = export
        self._records: Iterator[Record] | None = None
        self._next: list[Record] = []
        self._spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES, mode="w+", encoding="utf-8")  # noqa: SIM115  # __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def named(self) -> Iterator[Record]:
        """The activities and sources; read them to their end before all of it."""
        self._records = self._export()
        for record in self._records:
            if record["kind"] not in NAMED_KINDS:
                self._next.append(record)
                return
            self._spool.write(json.dumps(record) + "\n")
            yield record

    def __iter__(self) -> Iterator[Record]:
        """All of it, once."""
        self._spool.seek(0)
        for line in self._spool:
            yield cast(Record, json.loads(line))
        yield from self._next
        yield from self._export() if self._records is None else self._records
