"""From what the user points at (a text, a file, a folder, a chat, stdin) to items that `MemOS.add` takes.

Nothing is guessed silently: an argument that looks like a path but is none is refused, a file that is not text is
reported, a line that is not JSON is named by its number. Messages never quote what they read.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from memos_agents.cli.splitting import split_text
from memos_agents.errors import InvalidRequest, NotFound

Item: TypeAlias = "str | dict[str, object]"
Format: TypeAlias = Literal["auto", "text", "json", "jsonl"]

TEXT_SUFFIXES = frozenset(
    ".txt .md .markdown .rst .org .adoc .tex .csv .tsv .log .json .jsonl .ndjson .yaml .yml .toml .ini .cfg .html .htm "
    ".xml .srt .vtt .eml .py .js .ts .java .c .h .cpp .go .rs .rb .sh .sql .ipynb".split()
)
CHAT_SUFFIXES = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
MAX_FILE_BYTES = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Items for one call of `add` and where they stood; typed or piped ones have no `locator` and `sha256`."""

    items: list[Item]
    place: str | None = None
    session_id: str | None = None
    locator: str | None = None
    sha256: str | None = None


@dataclass(slots=True, kw_only=True)
class Intake:
    """How to read. `skipped` collects the files of a folder that were left out, with the reason."""

    format: Format = "auto"
    encoding: str = "utf-8"
    splits: bool = True
    pattern: str | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def check(self, arguments: Sequence[str], *, as_text: bool) -> None:
        """Refuse arguments that `read` could not make sense of, before anything is read."""
        if any(not argument.strip() for argument in arguments):  # an empty path would be the working folder
            raise InvalidRequest("the text is empty; there is nothing to add")
        if as_text or (len(arguments) == 1 and not self._is_path(arguments[0])):
            return
        if not all(argument == "-" or Path(argument).exists() for argument in arguments):
            raise InvalidRequest(
                f"{len(arguments)} arguments, but they are not all files or folders; "
                'put a text in quotes: memos add "the whole text"'
            )

    def read(self, arguments: Sequence[str], *, as_text: bool) -> Iterator[Batch]:
        """Yield what `arguments` name: one text, or paths, or '-'."""
        self.check(arguments, as_text=as_text)
        if as_text or (len(arguments) == 1 and not self._is_path(arguments[0])):
            yield Batch(items=list(arguments))
            return
        for argument in arguments:
            if argument == "-":
                yield from self._read_bytes(sys.stdin.buffer.read(), name="stdin", path=None, label=None)
            elif Path(argument).is_dir():
                yield from self._read_folder(Path(argument))
            else:
                yield from self._read_file(Path(argument), label=Path(argument).name)

    def _is_path(self, argument: str) -> bool:
        """Whether the one argument names something to read; refuses what looks like a missing file."""
        if argument == "-":
            return True
        try:
            if Path(argument).exists():
                return True
        except (OSError, ValueError):  # longer than a name can be, or with a NUL: a text
            return False
        if re.fullmatch(r"\S+", argument) and (
            Path(argument).suffix.lower() in TEXT_SUFFIXES or argument.startswith(("./", "../", "/", "~/"))
        ):
            raise NotFound(
                "the argument looks like a path, but there is no such file; to store it as it is, add --text"
            )
        return False

    def _read_folder(self, folder: Path) -> Iterator[Batch]:
        """Every text-like file below, in the order of names; hidden ones and links out of the folder are left out."""
        root = folder.resolve()
        paths = sorted(root.rglob(self.pattern or "*"))
        for path in paths:
            inside = path.relative_to(root)
            if any(part.startswith(".") for part in inside.parts) or not path.is_file():
                continue
            label = inside.as_posix()
            if not path.resolve().is_relative_to(root):
                self.skipped.append((label, "a link out of the folder"))
            elif self.pattern is None and path.suffix.lower() not in TEXT_SUFFIXES:
                self.skipped.append((label, "not a text file by its name"))
            elif path.stat().st_size > MAX_FILE_BYTES:
                self.skipped.append((label, f"larger than {MAX_FILE_BYTES // 1_000_000} MB"))
            elif _is_binary(path):
                self.skipped.append((label, "not text"))
            else:
                yield from self._read_file(path, label=label)

    def _read_file(self, path: Path, *, label: str) -> Iterator[Batch]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidRequest(f"{str(path)!r} cannot be read: {error.strerror}; check its permissions") from error
        yield from self._read_bytes(data, name=str(path), path=path, label=label)

    def _read_bytes(self, data: bytes, *, name: str, path: Path | None, label: str | None) -> Iterator[Batch]:
        text = self._decode(data, name)
        locator = path.resolve().as_uri() if path else None
        sha256 = hashlib.sha256(data).hexdigest() if path else None
        kind = self._kind(text, path)
        if kind == "text":
            pieces = split_text(text) if self.splits else [text.strip()]
            items: list[Item] = [
                {"text": piece, "metadata": {"file": label}} if label else piece for piece in pieces if piece
            ]
            batches = [Batch(items=items)]
        else:
            batches = list(_conversations(_values(text, kind, name), name))
        for batch in batches:
            if batch.items:
                yield Batch(
                    items=batch.items,
                    place=name,
                    session_id=batch.session_id,
                    locator=locator,
                    sha256=sha256,
                )

    def _decode(self, data: bytes, name: str) -> str:
        encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig" if _is_utf8(self.encoding) else self.encoding
        try:
            return data.decode(encoding).replace("\r\n", "\n")
        except LookupError as error:
            raise InvalidRequest(f"there is no encoding {self.encoding!r}; try utf-8, latin-1 or cp1252") from error
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"{name} is not {self.encoding} (byte 0x{data[error.start]:02x} at position {error.start}); "
                "say how it is written, e.g. --encoding latin-1"
            ) from None  # the cause would carry the bytes

    def _kind(self, text: str, path: Path | None) -> str:
        if self.format != "auto":
            return self.format
        if path is not None:
            return CHAT_SUFFIXES.get(path.suffix.lower(), "text")
        if text.lstrip()[:2] in ('{"', "[{", "[]"):  # piped: only what starts as JSON of ours would
            try:
                json.loads(text)
            except ValueError:
                return "jsonl" if text.lstrip().startswith("{") else "text"
            return "json"
        return "text"


_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def _values(text: str, kind: str, name: str) -> Iterator[object]:
    if kind == "json":
        try:
            yield json.loads(text)
        except ValueError as error:
            line = getattr(error, "lineno", "?")
            raise InvalidRequest(f"{name} is not JSON (line {line}); for lines of JSON use --format jsonl") from None
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                raise InvalidRequest(
                    f"{name}, line {number}, is not JSON; correct the line, or read the file with --format text"
                ) from None


def _conversations(values: Iterator[object], name: str) -> Iterator[Batch]:
    """Messages in a row, or conversations {"messages": [...], "session_id"?}, or lists of either."""
    loose: list[Item] = []
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping) and isinstance(item.get("messages"), list):
                session = item.get("session_id")
                if session is not None and not isinstance(session, str):
                    raise InvalidRequest(f'{name}: "session_id" must be a string')
                yield Batch(items=[_item(message, name) for message in item["messages"]], session_id=session)
            else:
                loose.append(_item(item, name))
    yield Batch(items=loose)


def _item(value: object, name: str) -> Item:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    raise InvalidRequest(
        f'{name} holds a {type(value).__name__} where a message belongs; expected {{"role": ..., "content": ...}}, '
        '{"text": ..., "metadata": ...}, a string, or {"messages": [...]}'
    )


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8_192)
    return b"\x00" in head and not head.startswith(_UTF16)


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")
