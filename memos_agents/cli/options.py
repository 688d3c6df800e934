"""The options that every command has, written once, accepted before and after the command's name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from memos_agents.cli.session import Options, Session

_PANEL = "Options of every command"


def _option(kind: Any, *names: str, text: str, metavar: str | None = None) -> Any:
    return Annotated[kind, typer.Option(*names, help=text, metavar=metavar, rich_help_panel=_PANEL, show_default=False)]


SHARED: dict[str, tuple[Any, object]] = {
    "store": (
        _option(str | None, "--store", metavar="PATH", text="The store. Default: MEMOS_STORE, or ./memos.db."),
        None,
    ),
    "user": (_option(str | None, "--user", "-u", metavar="NAME", text="Whose memory (or MEMOS_USER)."), None),
    "agent": (_option(str | None, "--agent", metavar="NAME", text="Which agent's memory."), None),
    "session": (_option(str | None, "--session", metavar="NAME", text="Which session's memory."), None),
    "tenant": (_option(str | None, "--tenant", metavar="NAME", text="The part of the store. Default: default."), None),
    "everything": (_option(bool, "--everything", text="Everybody's memory in the tenant."), False),
    "embedder": (
        _option(str | None, "--embedder", metavar="NAME", text="minilm, openai, none or module:attribute."),
        None,
    ),
    "json": (_option(bool, "--json", text="JSON on stdout: one document, or one line for each item of a list."), False),
    "quiet": (_option(bool, "--quiet", "-q", text="No remarks and no progress."), False),
    "debug": (_option(bool, "--debug", text="Show the traceback of an error."), False),
}


def with_shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Turn `command(session, ...)` into what typer registers: its own parameters and the shared options."""

    @functools.wraps(command)
    def run(context: typer.Context, **given: Any) -> None:
        options = context.find_object(Options) or Options()
        options.override({name: given.pop(name) for name in SHARED})
        command(Session(options=options), **given)

    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    _publish(run, [_context(), *own, *_shared()])
    return run


def start(context: typer.Context, **given: Any) -> None:
    """Keep the options that stand before the command's name."""
    context.obj = Options()
    context.obj.override(given)


def publish_start(callback: Callable[..., None]) -> Callable[..., None]:
    """Give the group's callback the shared options besides its own parameters."""
    own = list(inspect.signature(callback, eval_str=True).parameters.values())[1:-1]
    _publish(callback, [_context(), *own, *_shared()])
    return callback


def _context() -> inspect.Parameter:
    return inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


def _shared() -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in SHARED.items()
    ]


def _publish(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Write the signature where typer reads it: parameters in `__signature__`, types in `__annotations__`."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # documented by inspect
    function.__annotations__ = {item.name: item.annotation for item in parameters}
    vars(function).pop("__wrapped__", None)  # or the signature of what is wrapped would be read
