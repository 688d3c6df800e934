"""`memos add`, `memos update`, `memos undo`: what changes memory without taking any away."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_agents.cli import arguments
from memos_agents.cli.batches import Headers, add_all, check_all
from memos_agents.cli.intake import Format, Intake
from memos_agents.cli.session import Session
from memos_agents.cli.showing import cube_json, show_cube
from memos_agents.errors import InvalidRequest

Texts = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT|PATH|-", help="A text, files and folders, or - for stdin.")
]
Meta = Annotated[
    list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Metadata; a JSON object works too.")
]
ValidFrom = Annotated[str | None, typer.Option(metavar="TIME", help="True from then on.")]
ValidTo = Annotated[str | None, typer.Option(metavar="TIME", help="True until then.")]
At = Annotated[str | None, typer.Option(metavar="TIME", help="When it happened. Without an offset: your time zone.")]


def add(
    session: Session,
    what: Texts = None,
    at: At = None,
    key: Annotated[str | None, typer.Option(help="A name of your own; adding it again makes a new version.")] = None,
    title: Annotated[str | None, typer.Option(help="A title, which is searched too.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
    meta: Meta = None,
    role: Annotated[str | None, typer.Option(help="Who said it: user, assistant, ...")] = None,
    name: Annotated[str | None, typer.Option(help="The speaker's name.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="turn, fact, preference, event, document, ...")] = None,
    collection: Annotated[str, typer.Option(help="A shelf of its own within the scope.")] = "memories",
    valid_from: ValidFrom = None,
    valid_to: ValidTo = None,
    ttl: Annotated[str | None, typer.Option(metavar="TIME", help="Forget after this long: 90m, 12h, 30d, 2w.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Take the argument as text, even if it names a file.")] = False,
    format: Annotated[Format, typer.Option(help="How to read: auto, text, json or jsonl.")] = "auto",
    encoding: Annotated[str, typer.Option(help="How files and stdin are encoded.")] = "utf-8",
    whole: Annotated[bool, typer.Option("--whole", help="One memory per file instead of one per paragraph.")] = False,
    include: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Which files of a folder, e.g. '*.md'.")
    ] = None,
    merge: Annotated[bool, typer.Option(help="Recognise what is known already (the default).")] = True,
) -> None:
    """Remember a text, files, a folder, or a chat.

    An argument that names a file or folder is read; anything else is the text itself. Text files are cut into
    paragraphs that know the file they came from. Files named .json and .jsonl hold chats: messages with role and
    content, or conversations {"messages": ..., "session_id": ...}. What is known already is not added twice, so a
    folder can be read again.

    Examples:
      memos add "I moved to Lisbon in May." --user mara
      memos add notes/ todo.md --user mara
      memos add chat.jsonl --user mara --session s1
      git log | memos add - --user mara --type event
      memos add "Prefers tea" --user mara --key drink --meta sure=true

    """
    if not what:
        raise InvalidRequest("nothing to add; give a text in quotes, a file or folder, or - for stdin")
    intake = Intake(format=format, encoding=encoding, splits=not whole, pattern=include)
    intake.check(what, as_text=text)
    scope = session.write_scope()
    given = Headers(
        occurred_at=arguments.moment(at, option="--at"),
        metadata=arguments.metadata(meta or []),
        title=title,
        tags=tuple(tag or ()),
        key=key,
        role=role,
        name=name,
        kind=kind,
        collection=collection,
        valid_from=arguments.moment(valid_from, option="--valid-from"),
        valid_to=arguments.moment(valid_to, option="--valid-to"),
        ttl_seconds=arguments.seconds(ttl, option="--ttl"),
        merge=merge,
    )
    batches = list(intake.read(what, as_text=text))
    for place, reason in intake.skipped:
        session.out.remark(f"left out {place}: {reason}")
    if not batches:
        raise InvalidRequest("nothing to add: there is no text in what was given")
    check_all(batches, given)
    with session.store(creates=True, embeds=True) as memos:
        add_all(session, memos, batches, scope, given)


def update(
    session: Session,
    id: Annotated[str, typer.Argument(metavar="ID", help="The memory's id.")],
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The new text; left out: it stays.")] = None,
    meta: Meta = None,
    at: At = None,
    valid_from: ValidFrom = None,
    valid_to: ValidTo = None,
    expect: Annotated[int | None, typer.Option(metavar="VERSION", help="Fail if it is no longer this version.")] = None,
) -> None:
    """Write a new version of a memory; the old one stays in its history.

    Metadata that is given replaces all metadata. What was derived from the old version becomes stale.

    Examples:
      memos update 0197f2c4-... "I moved to Porto in May."
      memos update 0197f2c4-... --meta city=Porto --expect 1

    """
    with session.store(embeds=True) as memos:
        cube = memos.update(
            id,
            text,
            metadata=arguments.metadata(meta or []),
            occurred_at=arguments.moment(at, option="--at"),
            valid_from=arguments.moment(valid_from, option="--valid-from"),
            valid_to=arguments.moment(valid_to, option="--valid-to"),
            expected_version=expect,
            scope=session.scope_if_named(),
        )
    session.out.document(cube_json(cube))
    show_cube(session.out, cube)


def undo(
    session: Session,
    activity: Annotated[str, typer.Argument(metavar="ACTIVITY", help="The activity's id, from `memos log`.")],
) -> None:
    """Take one activity back by a new one: its additions are no longer believed, its changes are reversed.

    Nothing disappears from history. An erasure cannot be undone.

    Examples:
      memos log --user mara
      memos undo 0197f2c4-... --user mara

    """
    with session.store(embeds=True) as memos:
        result = memos.undo(activity, scope=session.scope_if_named())
    session.out.document(result)
    session.out.line("undone; `memos log` shows it as a new activity")
