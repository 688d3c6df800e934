"""The list of commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from memos_agents.cli import (
    adding,
    benching,
    chatting,
    copying,
    erasing,
    finding,
    inspecting,
    keeping,
    mcp,
    mirroring,
    neo4j,
)
from memos_agents.cli.failures import USAGE, ReportingGroup
from memos_agents.cli.help import CONTEXT, SectionedCommand, SectionedGroup, help_text
from memos_agents.cli.options import publish_start, start, with_shared_options

_REMEMBER, _FIND, _FORGET, _KEEP = "Remember", "Find", "Forget", "Keep"
COMMANDS: tuple[tuple[str, Callable[..., None], str], ...] = (
    ("add", adding.add, _REMEMBER),
    ("update", adding.update, _REMEMBER),
    ("undo", adding.undo, _REMEMBER),
    ("search", finding.search, _FIND),
    ("get", finding.get, _FIND),
    ("list", finding.list_memories, _FIND),
    ("history", finding.history, _FIND),
    ("provenance", finding.provenance, _FIND),
    ("chat", chatting.chat, _FIND),
    ("log", inspecting.log, _FIND),
    ("stats", inspecting.stats, _FIND),
    ("erase", erasing.erase, _FORGET),
    ("scrub", erasing.scrub, _FORGET),
    ("export", keeping.export, _KEEP),
    ("load", keeping.load, _KEEP),
    ("backup", keeping.backup, _KEEP),
    ("copy", copying.copy, _KEEP),
    ("mirror", mirroring.mirror, _KEEP),
    ("reembed", keeping.reembed, _KEEP),
    ("mcp", mcp.mcp, _KEEP),
    ("verify", inspecting.verify, _KEEP),
)

_ABOUT = """Memory for agents that is versioned, explained and erasable. Works offline, in one file.

Examples:

  memos add "I moved to Lisbon in May." --user mara
  memos search "Where does Mara live?" --user mara
  memos provenance ID
  memos erase ID

Settings come from flags, then MEMOS_* variables (MEMOS_STORE, MEMOS_USER, MEMOS_EMBEDDER, ...), then a TOML file:
the one MEMOS_CONFIG names, ./memos.toml, or memos/config.toml in your configuration folder.

Exit codes: 0 done, 1 our error, 2 usage, 3 not found, 4 damage found, 5 busy or conflict (try again), 6 refused.
"""

app = typer.Typer(
    name="memos",
    cls=ReportingGroup,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)
"""The command line as a typer application, for documentation and tests."""


@app.callback(help=help_text(_ABOUT))
@publish_start
def memos(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    **given: Any,
) -> None:
    """Read the options before the command's name."""
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"memos-agents {installed('memos-agents')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(USAGE)
    start(context, **given)


for _name, _command, _panel in COMMANDS:
    app.command(_name, cls=SectionedCommand, help=help_text(_command.__doc__), rich_help_panel=_panel)(
        with_shared_options(_command)
    )

_bench = typer.Typer(name="bench", cls=SectionedGroup, rich_markup_mode=None, help="Measure it on your data.")
_bench.command("retrieval", cls=SectionedCommand, help=help_text(benching.retrieval.__doc__))(
    with_shared_options(benching.retrieval)
)
app.add_typer(_bench, rich_help_panel=_KEEP)

_neo4j = typer.Typer(
    name="neo4j", cls=SectionedGroup, rich_markup_mode=None, help="A throw-away Neo4j server on this machine."
)
for _name, _command in neo4j.COMMANDS:
    _neo4j.command(_name, cls=SectionedCommand, help=help_text(_command.__doc__))(with_shared_options(_command))
app.add_typer(_neo4j, rich_help_panel=_KEEP)
