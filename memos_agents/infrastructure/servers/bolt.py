"""The few messages of the Bolt protocol that tell whether a database answers, on a plain socket.

Enough to ask one query and no more: the driver is an extra that may not be installed yet when a server is started, and
a port that accepts connections says nothing about the database behind it.
Source: the published Bolt protocol (handshake, messages HELLO, LOGON, RUN, PULL) and PackStream 1.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

from memos_agents.errors import BackendUnavailable

Value: TypeAlias = "str | int | float | bool | None | list[Value] | dict[str, Value]"

_MAGIC = b"\x60\x60\xb0\x17"
# Asked for in this order: 5.1 (the first with LOGON); 5.8 down to 5.1; 6.1 down to 6.0
_PROPOSALS = b"\x00\x00\x01\x05" + b"\x00\x07\x08\x05" + b"\x00\x01\x01\x06" + b"\x00\x00\x00\x00"
_HELLO, _LOGON, _RUN, _PULL = 0x01, 0x6A, 0x10, 0x3F
_SUCCESS, _RECORD, _FAILURE, _IGNORED = 0x70, 0x71, 0x7F, 0x7E
_AGENT: dict[str, Value] = {"product": "memos-agents/1"}


class Refused(BackendUnavailable):
    """The server answered, with a failure. `code` is Neo4j's own, e.g. `Neo.ClientError.Security.Unauthorized`."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code)
        self.code = code

    @property
    def is_about_credentials(self) -> bool:
        return self.code.startswith("Neo.ClientError.Security.")


class Bolt:
    """One connection. `BackendUnavailable` when nobody answers, when what answers is no Neo4j, or when it hangs up."""

    def __init__(self, host: str, port: int, *, seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self._place = f"{host}:{port}"
        try:
            self._socket: socket.socket = socket.create_connection((host, port), timeout=seconds)
        except OSError as error:
            raise self._lost(error) from error
        try:
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
            self._socket.sendall(_MAGIC + _PROPOSALS)
            agreed = self._read(4)
        except OSError as error:
            self._socket.close()
            raise self._lost(error) from error
        except BaseException:
            self._socket.close()
            raise
        if agreed[3] not in (5, 6) or agreed[:2] != b"\x00\x00":
            self._socket.close()
            raise BackendUnavailable(f"what answers at {self._place} is no Neo4j 5 or later")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def hello(self) -> str:
        """Introduce ourselves; the server says what it is, e.g. "Neo4j/5.26.31". Needs no credentials."""
        extra: dict[str, Value] = {"user_agent": "memos-agents/1", "bolt_agent": _AGENT}
        return str(self._ask(_HELLO, extra).get("server", ""))

    def logon(self, password: str | None) -> None:
        """Log on as Neo4j's first user, or as nobody where no password is asked for."""
        token: dict[str, Value] = {"scheme": "none"}
        if password is not None:
            token = {"scheme": "basic", "principal": "neo4j", "credentials": password}
        self._ask(_LOGON, token)

    def run(self, statement: str, parameters: Mapping[str, Value], *, database: str) -> list[list[Value]]:
        """Run one statement in one database and give its rows."""
        self._ask(_RUN, statement, dict(parameters), {"db": database})
        self._send(_PULL, {"n": -1})
        rows: list[list[Value]] = []
        while True:
            kind, fields = self._receive()
            if kind != _RECORD:
                self._checked(kind, fields)
                return rows
            rows.append(fields[0] if fields and isinstance(fields[0], list) else [])

    def _ask(self, kind: int, *fields: Value) -> dict[str, Value]:
        self._send(kind, *fields)
        return self._checked(*self._receive())

    def _checked(self, kind: int, fields: list[Value]) -> dict[str, Value]:
        told = fields[0] if fields and isinstance(fields[0], dict) else {}
        if kind == _SUCCESS:
            return told
        code = str(told.get("code") or told.get("neo4j_code") or "unknown")
        raise Refused(f"the server at {self._place} refuses: {code}: {told.get('message', '')}", code=code)

    def _send(self, kind: int, *fields: Value) -> None:
        body = bytes([0xB0 + len(fields), kind]) + b"".join(map(packed, fields))
        chunks = (body[start : start + 0xFFFF] for start in range(0, len(body), 0xFFFF))
        try:
            self._socket.sendall(b"".join(struct.pack(">H", len(chunk)) + chunk for chunk in chunks) + b"\x00\x00")
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self) -> tuple[int, list[Value]]:
        body = b""
        try:
            while (size := struct.unpack(">H", self._read(2))[0]) or not body:  # an empty chunk alone: still alive
                body += self._read(size)
        except OSError as error:
            raise self._lost(error) from error
        with suppress(ValueError, RecursionError, struct.error):  # of a decoder of foreign bytes
            if len(body) > 1 and 0xB0 <= body[0] <= 0xBF:
                reader = _Reader(body, 2)
                return body[1], [reader.value() for _ in range(body[0] - 0xB0)]
        raise BackendUnavailable(f"what answers at {self._place} does not speak Bolt")

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise BackendUnavailable(f"the server at {self._place} hung up")
            data += part
        return data

    def _lost(self, error: OSError) -> BackendUnavailable:
        return BackendUnavailable(
            f"nothing answers at {self._place}: {error.strerror or str(error) or type(error).__name__}"
        )


def packed(value: Value) -> bytes:
    """A value as PackStream. Integers take eight bytes, whatever their size.

    >>> packed({"n": True}).hex()
    'a1816ec3'
    """
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcb" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xc1" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return _sized(len(data), tiny=0x80, wide=0xD2) + data
    if isinstance(value, list):
        return _sized(len(value), tiny=0x90, wide=0xD6) + b"".join(map(packed, value))
    return _sized(len(value), tiny=0xA0, wide=0xDA) + b"".join(packed(k) + packed(v) for k, v in value.items())


def unpacked(data: bytes) -> Value:
    """The value that PackStream bytes hold.

    >>> unpacked(packed({"n": [1, None, "é" * 20]})) == {"n": [1, None, "é" * 20]}
    True
    """
    return _Reader(data, 0).value()


def _sized(size: int, *, tiny: int, wide: int) -> bytes:
    return bytes([tiny + size]) if size < 16 else bytes([wide]) + struct.pack(">I", size)


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def value(self) -> Value:
        mark = self._take(1)[0]
        if mark < 0x80:
            return mark
        if mark >= 0xF0:
            return mark - 0x100
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        if mark == 0xC1 or mark in _INTEGERS:
            number: int | float = self._number(">d" if mark == 0xC1 else _INTEGERS[mark])
            return number
        kind, size = (mark & 0xF0, mark & 0x0F) if mark < 0xC0 else self._wide(mark)
        if kind == 0x80:
            return self._take(size).decode()
        if kind == 0x90:
            return [self.value() for _ in range(size)]
        if kind == 0xA0:
            return {str(self.value()): self.value() for _ in range(size)}
        raise ValueError(f"byte {mark:#x} starts no value that is read here")

    def _wide(self, mark: int) -> tuple[int, int]:
        if mark not in _SIZED:
            raise ValueError(f"byte {mark:#x} starts no value that is read here")
        kind, form = _SIZED[mark]
        return kind, int(self._number(form))

    def _number(self, form: str) -> int | float:
        (number,) = struct.unpack(form, self._take(struct.calcsize(form)))
        assert isinstance(number, int | float)
        return number

    def _take(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise ValueError("the message ends too early")
        return self._data[start : self._position]


_CONSTANTS: Mapping[int, bool | None] = {0xC0: None, 0xC2: False, 0xC3: True}
_INTEGERS: Mapping[int, str] = {0xC8: ">b", 0xC9: ">h", 0xCA: ">i", 0xCB: ">q"}
_SIZED: Mapping[int, tuple[int, str]] = {
    0xD0: (0x80, ">B"),
    0xD1: (0x80, ">H"),
    0xD2: (0x80, ">I"),
    0xD4: (0x90, ">B"),
    0xD5: (0x90, ">H"),
    0xD6: (0x90, ">I"),
    0xD8: (0xA0, ">B"),
    0xD9: (0xA0, ">H"),
    0xDA: (0xA0, ">I"),
}
