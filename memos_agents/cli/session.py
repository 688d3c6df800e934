"""One run of the command line: its options, settings, scope and store."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from memos_agents.cli.terminal import Output
from memos_agents.errors import IncompatibleModel, InvalidRequest, NotFound

if TYPE_CHECKING:
    from memos_agents import MemOS
    from memos_agents.cube.scope import Scope
    from memos_agents.interface.settings import Loaded, Settings
    from memos_agents.models.base import Embedder

SCOPE_FIELDS = ("user", "agent", "session")


@dataclass(slots=True, kw_only=True)
class Options:
    """What the options of every command said; None and False mean not given."""

    store: str | None = None
    user: str | None = None
    agent: str | None = None
    session: str | None = None
    tenant: str | None = None
    everything: bool = False
    embedder: str | None = None
    json: bool = False
    quiet: bool = False
    debug: bool = False

    def override(self, later: Mapping[str, object]) -> None:
        """Take what `later` (the options after the command's name) gives."""
        for item in fields(self):
            if (value := later.get(item.name)) not in (None, False):
                setattr(self, item.name, value)


@dataclass(kw_only=True)
class Session:
    """What a command works with. Settings are read at first use."""

    options: Options
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: Path = field(default_factory=Path.cwd)

    @cached_property
    def out(self) -> Output:
        return Output(as_json=self.options.json, is_quiet=self.options.quiet)

    @cached_property
    def loaded(self) -> Loaded:
        from memos_agents.interface.settings import load_settings

        names = ("store", "user", "agent", "session", "tenant", "embedder")
        flags = {name: getattr(self.options, name) for name in names}
        return load_settings(flags=flags, environ=self.environ, folder=self.folder)

    @property
    def settings(self) -> Settings:
        return self.loaded.settings

    def scope(self) -> Scope:
        """Whose memory; `InvalidRequest` unless somebody is named or --everything says the whole tenant."""
        found = self.scope_if_named()
        if found is None:
            raise InvalidRequest(
                "whose memory? Add --user NAME (or set MEMOS_USER), --agent or --session; "
                "--everything means the whole tenant"
            )
        return found

    def scope_if_named(self) -> Scope | None:
        """The scope, or None where nobody is named (a call by id then acts for the application)."""
        from memos_agents.cube.scope import Scope

        tenant = self.settings.tenant
        if self.options.everything:
            for name in SCOPE_FIELDS:
                if getattr(self.options, name) is not None:
                    raise InvalidRequest(f"--everything is the whole tenant; leave out --{name}, or --everything")
            return Scope.everything(tenant)
        user, agent, session = (getattr(self.settings, name) for name in SCOPE_FIELDS)
        if user is None and agent is None and session is None:
            return None
        return Scope(tenant=tenant, user_id=user, agent_id=agent, session_id=session)

    def write_scope(self) -> Scope:
        """The scope of something new; --everything names nobody and is refused."""
        if self.options.everything:
            raise InvalidRequest("a memory belongs to somebody; use --user, --agent or --session, not --everything")
        return self.scope()

    def embedder(self) -> Embedder | None:
        from memos_agents.interface.settings import make_embedder

        return make_embedder(self.settings)

    @contextmanager
    def store(self, *, creates: bool = False, readonly: bool = False, embeds: bool = False) -> Iterator[MemOS]:
        """Open the store. Only `creates` may make a new file.

        Without `embeds` the store opens whatever embedder made its vectors, so that looking at it, backing it up and
        erasing from it never depend on a model.
        """
        from memos_agents import MemOS

        target = self.settings.store
        self.check_store(creates=creates)
        is_new = creates and "://" not in target and not Path(target).exists()
        try:
            memos = MemOS.open(
                target,
                tenant=self.settings.tenant,
                embedder=(self.embedder() or "none") if embeds else "none",
                durability=self.settings.durability,
                cache_dir=self.settings.cache_dir,
                readonly=readonly,
            )
        except IncompatibleModel as error:
            origin = self.loaded.origins.get("embedder", "the default")
            raise IncompatibleModel(
                f"the vectors in {target!r} were made by {error.details.get('expected')!r}, but the embedder is "
                f"{error.details.get('found')!r} ({origin}); name the other one with --embedder, "
                "use words only with --embedder none, or convert the store with `memos reembed`"
            ) from error
        with memos:
            if is_new:
                self.out.remark(f"made the new store {target}")
            yield memos

    def check_store(self, *, creates: bool) -> None:
        """Refuse, without opening it, what cannot be a store or is not there."""
        target = self.settings.store
        if target == ":memory:":
            raise InvalidRequest("':memory:' is gone when the command ends; name a file with --store")
        if "://" in target:
            return
        path = Path(target)
        if path.is_dir():
            raise InvalidRequest(f"--store {target!r} is a folder; name a file in it, e.g. {str(path / 'memos.db')!r}")
        if path.exists():
            if not creates and path.stat().st_size == 0:
                raise NotFound(f"{target!r} is an empty file, not a store; name another with --store")
            return
        origin = self.loaded.origins.get("store", "the default")
        if not creates:
            others = [item.name for item in path.parent.glob("*.db")] if path.parent.is_dir() else []
            close = difflib.get_close_matches(path.name, others, n=1)
            hint = (
                f"did you mean {str(path.parent / close[0])!r}?"
                if close
                else "`memos add` makes one, --store names another"
            )
            raise NotFound(f"there is no store at {target!r} ({origin}); {hint}")
        if not path.parent.is_dir():
            raise NotFound(f"the folder {str(path.parent)!r} does not exist; make it first, or correct --store")
