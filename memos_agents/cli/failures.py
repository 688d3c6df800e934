"""What a failure looks like from outside: one line on stderr and an exit code.

    0    done
    1    our error, or the machine's (disk full, no permission)
    2    the command line, a setting or an input is wrong
    3    there is no such memory, key, version, activity, file or store
    4    `verify` found problems, or stored bytes are damaged
    5    somebody else was faster or holds the store: try again
    6    refused: not allowed, not possible in this state, another embedder's store, or you said no
    130  interrupted (Ctrl-C)
    141  the reader of our output went away (as after `| head`)

A line says what happened and what to do. It never holds the content of a memory: an unexpected error is reported by its
type and place only, and `--debug` shows the rest.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from memos_agents.cli.help import SectionedGroup
from memos_agents.cli.terminal import printable, say
from memos_agents.errors import (
    AccessDenied,
    BackendUnavailable,
    IncompatibleModel,
    IntegrityError,
    InvalidRequest,
    InvalidTransition,
    MemOSError,
    NotFound,
    VersionConflict,
)

OUR_ERROR, USAGE, NOT_FOUND, DAMAGED, BUSY, REFUSED, INTERRUPTED, OUTPUT_CLOSED = 1, 2, 3, 4, 5, 6, 130, 141

_CODES: tuple[tuple[type[MemOSError], int], ...] = (
    (InvalidRequest, USAGE),
    (NotFound, NOT_FOUND),
    (IntegrityError, DAMAGED),
    (VersionConflict, BUSY),
    (BackendUnavailable, BUSY),
    (AccessDenied, REFUSED),
    (InvalidTransition, REFUSED),
    (IncompatibleModel, REFUSED),
)


class _OutputClosed(Exception):
    """Whoever read our output has gone."""


class ReportingGroup(SectionedGroup):
    """A group whose failures become one line and an exit code, also when a test runs it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a closed pipe and Ctrl-C keep their meaning on the way out."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _OutputClosed from error

    def main(self, args: Sequence[str] | None = None, *positional: Any, **extra: Any) -> Any:
        """Run the command line and exit with its code."""
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        _tolerate_unencodable_output()
        try:
            code = super().main(args, *positional, **extra)
            code = code if isinstance(code, int) else 0
            sys.stdout.flush()
        except (_OutputClosed, BrokenPipeError):
            _discard_output()
            code = OUTPUT_CLOSED
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except Exception as error:  # noqa: BLE001  # this is where every failure becomes a line and a code
            code = report(error, given)
        if code == INTERRUPTED:
            say("memos: interrupted; what was committed before stays")
        sys.exit(code)


def report(error: Exception, arguments: Sequence[str]) -> int:
    """Write the line for `error` to stderr (as JSON if the arguments ask for it) and return the exit code."""
    code, message = _described(error)
    if "--debug" in arguments:
        traceback.print_exception(error)
    if "--json" in arguments:
        told = {"error": {"type": type(error).__name__, "message": printable(message), "exit_code": code}}
        say(json.dumps(told))
    else:
        say(f"memos: {printable(message, keep_newlines=False)}")
    return code


def _described(error: Exception) -> tuple[int, str]:
    if isinstance(error, MemOSError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), OUR_ERROR)
        return code, str(error)
    format_message = getattr(error, "format_message", None)
    if callable(format_message):  # typer's usage errors; their class has moved between modules of typer
        context = getattr(error, "ctx", None)
        path = getattr(context, "command_path", "memos")
        return USAGE, f"{str(format_message()).replace('Value error, ', '').rstrip('.')}; see `{path} --help`"
    if isinstance(error, ImportError):
        return OUR_ERROR, str(error)
    if isinstance(error, OSError):
        where = f" {error.filename!r}" if error.filename else ""
        return (
            OUR_ERROR,
            f"cannot use{where}: {error.strerror or type(error).__name__}; check the path and its permissions",
        )
    return OUR_ERROR, (
        f"internal error: {type(error).__name__} in {_place(error.__traceback__)}; what was committed before stays. "
        "Run again with --debug for the traceback and report it"
    )


def _place(trace: TracebackType | None) -> str:
    """The innermost place in this package, else the innermost place."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "memos_agents" in frame.filename]
    if not frames:
        return "an unknown place"
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _tolerate_unencodable_output() -> None:
    """A terminal that cannot show a character gets its escape instead of a crash."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Point stdout at nothing, so that the interpreter's own flush at exit stays quiet."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a captured stream has no descriptor and nothing to flush to
        return
