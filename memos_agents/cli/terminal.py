"""Output: text that cannot take over a terminal, JSON with stable keys, progress, questions.

Everything stored is foreign text. Nothing of it reaches a terminal as a control sequence, a direction override or rich
markup: control and format characters are shown as escapes, and markup is never parsed.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeAlias

from memos_agents.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.console import Console

    from memos_agents.cube.canonical import JSON

Piece: TypeAlias = "str | tuple[str, str]"
"""A piece of a line: text, or text with a rich style. Text is always taken literally."""

# C0 but tab and newline, DEL, C1 (eight-bit CSI, OSC), bidirectional and line/paragraph separators, tags, surrogates
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BEFORE_BAR = 0.5


def printable(text: str, *, keep_newlines: bool = True) -> str:
    """Return `text` with everything that could steer a terminal written as an escape.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    text = text.replace("\r\n", "\n")
    if not keep_newlines:
        text = " ".join(text.split())
    return _UNSAFE.sub(_escape, text)


def shortened(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = printable(text, keep_newlines=False)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def local_time(moment: datetime | None) -> str:
    """A time as people at this computer read it, to the minute; empty for None."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else ""


def jsonable(value: object) -> JSON:
    """Turn results into plain JSON: `to_json` where there is one, else dataclass fields by name."""
    to_json = getattr(value, "to_json", None)
    if callable(to_json) and not isinstance(value, type):
        return jsonable(to_json())
    if isinstance(value, Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        from memos_agents.cube.moment import iso

        return iso(value)
    if isinstance(value, date | PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [jsonable(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


@dataclasses.dataclass(slots=True)
class Output:
    """Where a command says what it found: people's text or JSON on stdout, remarks and progress on stderr."""

    as_json: bool = False
    is_quiet: bool = False
    _console: Console | None = None

    @property
    def width(self) -> int:
        """Columns of the terminal; without one, long lines are not cut."""
        return max(self._out().width, 20) if sys.stdout.isatty() else 1_000_000

    def line(self, *pieces: Piece, indent: int = 0) -> None:
        """Write one line for people (nothing with --json). Long lines wrap at words on a terminal only."""
        if self.as_json:
            return
        styled = [
            (printable(piece), "") if isinstance(piece, str) else (printable(piece[0]), piece[1]) for piece in pieces
        ]
        if not sys.stdout.isatty():
            body = "".join(text for text, _ in styled)
            _write("\n".join(" " * indent + part for part in body.split("\n")))
            return
        from rich.padding import Padding
        from rich.text import Text

        text = Text.assemble(*styled)
        self._out().print(Padding(text, (0, 0, 0, indent), expand=False) if indent else text)

    def piece(self, text: str) -> None:
        """Write a part of a line for people, to be seen at once (nothing with --json)."""
        if not self.as_json:
            sys.stdout.write(printable(text))
            sys.stdout.flush()

    def document(self, value: object) -> None:
        """Write one JSON document on one line (only with --json)."""
        if self.as_json:
            _write(dump_json(value))

    def fields(self, value: object) -> dict[str, JSON]:
        """The JSON fields of a result, to be put beside others."""
        found = jsonable(value)
        return dict(found) if isinstance(found, Mapping) else {"value": found}

    def next_page(self, cursor: str) -> None:
        """Say on stderr where the next page of a listing begins."""
        say(json.dumps({"next_cursor": cursor}) if self.as_json else f"there are more: add --cursor {cursor}")

    def text(self, value: str) -> None:
        """Write a generated document (Mermaid, PROV-JSON) as it is, made printable."""
        _write(printable(value))

    def render(self, draw: Callable[[Console], None]) -> None:
        """Let `draw` write a table of its own (nothing with --json)."""
        if not self.as_json:
            draw(self._out())

    def remark(self, text: str) -> None:
        """Tell something that is not the result, on stderr; nothing with --quiet."""
        if not self.is_quiet:
            say(f"memos: {printable(text, keep_newlines=False)}")

    def warning(self, text: str) -> None:
        """As `remark`, but --quiet does not silence it."""
        say(f"memos: {printable(text, keep_newlines=False)}")

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; `InvalidRequest` if there is none to ask on."""
        if not sys.stdin.isatty() or self.as_json:
            raise InvalidRequest("this needs a confirmation and there is no terminal to ask on; add --yes")
        sys.stderr.write(f"{printable(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Give a callback (done, total): a bar on a terminal, a line now and then elsewhere, nothing with --quiet."""
        if self.is_quiet or (self.as_json and sys.stdout.isatty()):
            yield lambda done, total: None
        elif sys.stderr.isatty():
            with _bar(what) as advance:
                yield advance
        else:
            yield _lines(what)

    def _out(self) -> Console:
        if self._console is None:
            self._console = _console()
        return self._console


def say(line: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def dump_json(value: object, *, indent: int | None = None) -> str:
    """JSON in which control and format characters are escaped, so that it can be shown on a terminal."""
    text = json.dumps(jsonable(value), ensure_ascii=not _speaks_unicode(), indent=indent)
    return _UNSAFE.sub(_json_escape, text)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _speaks_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1] if ord(match.group()) != 0x7F else "\\u007f"


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    class PipeConsole(Console):
        """A console that leaves a closed pipe to us; rich would exit with 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return PipeConsole(file=sys.stderr if stderr else sys.stdout, highlight=False, markup=False, emoji=False)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that appears only when the work takes longer than half a second."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=_console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)
    timer = threading.Timer(_SECONDS_BEFORE_BAR, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()


def _lines(what: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"memos: {what}: {done:,} of {total:,}")

    return advance
