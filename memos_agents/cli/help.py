"""Help pages: sections for commands and options, examples kept as written, plain text.

Plain, because rich's help loads a Markdown parser and a syntax highlighter: 0.4 s before the first line.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

_WIDTH = 100
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH}


def help_text(docstring: str | None) -> str:
    """A docstring as help: indented lines (examples) keep their breaks, other paragraphs flow.

    >>> help_text("Do it.\\n\\nExamples:\\n  memos do it\\n  memos do more")
    'Do it.\\n\\nExamples:\\n\\n\\x08\\n  memos do it\\n  memos do more'
    """
    return re.sub(r"\n*((?:\n  .*)+)", "\n\n\b\\1", inspect.cleandoc(docstring or ""))


class SectionedCommand(TyperCommand):
    """A command whose help lists its own options before those of every command."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options by panel."""
        _write_options(self, ctx, formatter)


class SectionedGroup(TyperGroup):
    """A group whose help lists commands by what they are for."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write commands first, then options."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write commands by panel, in the order in which they were registered."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                first_line = (command.help or "").split("\n\n")[0].replace("\n", " ")
                sections.setdefault(panel if isinstance(panel, str) else "Commands", []).append((name, first_line))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            names, text = record
            panel = getattr(parameter, "rich_help_panel", None)
            title = "Arguments" if parameter.param_type_name == "argument" else panel or "Options"
            sections.setdefault(title, []).append((_plain(names), text))
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _plain(names: str) -> str:
    """Typer writes types as `<list[str]>`; people read TEXT and N."""
    names = names.replace(" <bool>", "").replace(" <int>", " N").replace(" <int range>", " N")
    return re.sub(r" <[\w \[\]]+>", "" if not names.startswith("-") else " TEXT", names)
