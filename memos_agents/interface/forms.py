"""Forms: opening local models, and moving a memory between its forms."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from memos_agents.cube.identity import checked_id
from memos_agents.cube.memcube import MemCube, is_current
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.provenance.values import Agent, Derivation
from memos_agents.infrastructure.vault.commit import Commit, Write
from memos_agents.interface import arguments
from memos_agents.interface.asked import CACHES, Asked, Memories, cache_key, source_versions
from memos_agents.interface.finding import Finding
from memos_agents.interface.memory_model import MemoryModel
from memos_agents.interface.revising import Revising
from memos_agents.interface.store import Progress

if TYPE_CHECKING:
    from memos_agents.memories.kv_codec import Precision
    from memos_agents.models.huggingface import LocalModel
    from memos_agents.models.prompts import Message

RAM_BYTES = 512 * 2**20
"""Default budget of a model for keys and values in memory."""


class Forms(Finding, Revising):
    """Models, and moving memories between their forms."""

    def model(
        self,
        name: str | PathLike[str] | LocalModel,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        ram_bytes: int = RAM_BYTES,
        stored_bytes: int | None = None,
        debug: bool = False,
        progress: Progress | None = None,
    ) -> MemoryModel:
        """A local Hugging Face model: a known short name ("smollm2-135m-instruct"), a hub id, or a folder.

        See `LocalModel.load`; a loaded `LocalModel` is taken as it is. `ram_bytes` bounds the keys and values that are
        kept in memory, `stored_bytes` those that `migrate` keeps in the store for this model: the ones that saved least
        for their bytes are erased, stale ones first. With `debug` every prompt with injected keys and values is also
        run as text and without any memory, and `IntegrityError` raised unless it equals the one and differs from the
        other. Needs the extra "local".
        """
        from memos_agents.models.huggingface import LocalModel

        _ = self._store.vault
        folder = getattr(self, "cache_dir", None)
        local = (
            name
            if isinstance(name, LocalModel)
            else LocalModel.load(
                name,
                revision=revision,
                device=device,
                dtype=dtype,
                progress=progress,
                cache_dir=None if folder is None else Path(folder),
            )
        )
        return MemoryModel(local, self._store, self._bound, ram_bytes=ram_bytes, stored_bytes=stored_bytes, debug=debug)

    def prompt(self, prompt: str | Sequence[Message], *, memories: Memories = (), model: MemoryModel) -> str:
        """The exact text that `model` would be run on; see `MemoryModel.prompt`."""
        return model.prompt(prompt, memories=memories)

    @overload
    def migrate(  # type: ignore[overload-overlap]
        self, ids: str | MemCube, *, to: Literal["activation"], model: MemoryModel, precision: Precision = ...,
        bundle: bool = ..., agent: Agent | str | None = ..., progress: Progress | None = ...,
    ) -> MemCube: ...  # fmt: skip
    @overload
    def migrate(  # type: ignore[overload-overlap]
        self, ids: Memories, *, to: Literal["activation"], model: MemoryModel, precision: Precision = ...,
        bundle: Literal[True], agent: Agent | str | None = ..., progress: Progress | None = ...,
    ) -> MemCube: ...  # fmt: skip
    @overload
    def migrate(
        self, ids: Memories, *, to: Literal["activation"], model: MemoryModel, precision: Precision = ...,
        bundle: bool = ..., agent: Agent | str | None = ..., progress: Progress | None = ...,
    ) -> list[MemCube]: ...  # fmt: skip
    def migrate(
        self,
        ids: str | MemCube | Memories,
        *,
        to: Literal["activation"],
        model: MemoryModel,
        precision: Precision = "exact",
        bundle: bool = False,
        agent: Agent | str | None = None,
        progress: Progress | None = None,
    ) -> MemCube | list[MemCube]:
        """Give plaintext memories another form: "activation", keys and values that `model` made of the text.

        The new cube is an artefact of the version that it was made from: same owner and rights, stale when that
        changes, erased when that is erased. Asked again for the same version, model and precision it is the one that
        is there. "exact" (the default) changes no logit; "int8" and "int4" take a quarter and a seventh of the bytes of
        float32 (see `kv_codec`). One id gives a cube, several a list; each is durable when the next one is begun.
        `bundle` makes one cache of several memories of one owner, in the order of ids: short ones (under 64 tokens) are
        hardly worth one each, and within a bundle each knows those before it.
        """
        if to != "activation":
            raise InvalidRequest(f"to={to!r}: a memory can be migrated to 'activation'")
        actor = arguments.agent_of(agent)
        named = [ids] if isinstance(ids, str | MemCube) else list(ids)
        groups = [named] if bundle and named else [[each] for each in named]
        made = []
        for group in groups:
            made.append(self._activate(group, model, precision, actor))
            if progress is not None:
                progress(len(made), len(groups))
        return made[0] if made and (bundle or isinstance(ids, str | MemCube)) else made

    def _activate(
        self, wanted: Sequence[str | MemCube], model: MemoryModel, precision: Precision, actor: Agent
    ) -> MemCube:
        from memos_agents.memories import activation

        store, scope = self._store, arguments.for_ids(self._bound, self._store.tenant)
        vault = store.writable
        ids = sorted({each.id if isinstance(each, MemCube) else checked_id(each) for each in wanted})
        sources = [self._head(cube_id, scope) for cube_id in ids]
        for source in sources:
            if source.memory_type is not MemoryType.PLAINTEXT or not source.text or not is_current(source, store.now()):
                raise InvalidRequest(f"cube {source.id!r} is not a current plaintext memory", cube_id=source.id)
        first = sources[0]
        if any((each.scope, each.governance) != (first.scope, first.governance) for each in sources):
            raise InvalidRequest("a bundle is for memories with the same scope, readers and rights")
        local = model.local
        if not local.keeps_positions:
            raise InvalidRequest(
                f"{local.name!r} turns its keys by an angle that depends on the whole prompt's length, so that they "
                "cannot be kept for another prompt; its memories go in as text"
            )
        fingerprint = local.fingerprint
        key, refs = cache_key(sources, fingerprint, precision), [source.ref for source in sources]
        before = vault.find_key(first.scope, CACHES, key)
        if before is not None and is_current(before, store.now()) and source_versions(before) == refs:
            return before
        local.check_unchanged()
        prompt = model.built("", [Asked(source, source.id) for source in sources])
        mark, begin = prompt.marks[-1], prompt.begin
        if mark is None or begin is None:
            raise InvalidRequest(f"the tokens of {local.name!r} do not end where the text of {sources[-1].id!r} does")
        held = local.keys_and_values(prompt, mark)
        manifest, data = activation.encode(
            held, fingerprint, name=local.name, sources=refs, begin=begin, precision=precision
        )
        if model.stored_bytes is not None and len(data) > model.stored_bytes:
            raise InvalidRequest(f"this cache has {len(data):,} bytes, more than stored_bytes={model.stored_bytes:,}")
        payload = ArtefactPayload(manifest=manifest, blobs={activation.FILE: vault.blobs.put(data)})
        now = store.now()
        activity = self._activity("prefill", actor, {"model": fingerprint.key, "tokens": len(held.ids)})
        about = Descriptive(semantic_type="keys_and_values", origin="migration", collection=CACHES, key=key)
        cube = MemCube(
            id=store.ids.new_id(now) if before is None else before.id,
            version=1 if before is None else before.version + 1,
            scope=first.scope, payload=payload, memory_type=MemoryType.ACTIVATION, descriptive=about,
            governance=first.governance, created_at=now if before is None else before.created_at, recorded_at=now,
        )  # fmt: skip
        write = Write(cube=cube, replaces=None if before is None else before.version)
        edges = tuple(Derivation(derived=cube.ref, source=ref) for ref in refs)
        store.commit(Commit(activity=activity, writes=(write,), derivations=edges))
        made = self._head(cube.id, scope)
        if model.stored_bytes is not None:
            self._make_room(model, fingerprint.key[:32], made, model.stored_bytes)
        return made

    def _make_room(self, model: MemoryModel, key: str, kept: MemCube, budget: int) -> None:
        """Erase the caches of `model` that are worth least until all are within `budget`; `kept` stays."""
        named = self._bound or Scope.everything(self._store.tenant)
        found: list[tuple[bool, float, MemCube, int]] = []
        cursor = None
        while True:
            page = self.list(
                scope=named, collection=CACHES, memory_types=[MemoryType.ACTIVATION], include_hidden=True, limit=1000,
                cursor=cursor,
            )  # fmt: skip
            for cube in page:
                if key in (cube.descriptive.key or "") and isinstance(cube.payload, ArtefactPayload):
                    size = sum(ref.size_bytes for ref in cube.payload.blobs.values())
                    saved = (1 + model.uses_of(cube.id)) * float(str(cube.payload.manifest.get("tokens", 0)))
                    found.append((not cube.is_stale, saved / max(size, 1), cube, size))
            cursor = page.cursor
            if cursor is None:
                break
        left, worst = sum(size for *_, size in found), list[str]()
        for _, _, cube, size in sorted(found, key=lambda each: (each[0], each[1], each[2].recorded_at)):
            if left <= budget:
                break
            if cube.id != kept.id:
                worst.append(cube.id)
                left -= size
        if worst:
            self.erase(worst, agent="memos: budget of stored caches")
