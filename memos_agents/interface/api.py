"""MemOS: memory as a resource that an application manages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from memos_agents.cube.identity import IdSource
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import (
    MemVault,
    Snapshot,
    SupportsBackup,
    SupportsRecords,
    SupportsScrub,
    SupportsSearch,
)
from memos_agents.infrastructure.vault.blob_copies import DISK_BYTES
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.interface import arguments
from memos_agents.interface.opening import blobs_of, embedder_of, open_vault
from memos_agents.interface.reading import FilePath, local_path
from memos_agents.interface.results import LoadReport, ReembedReport, VerifyReport
from memos_agents.interface.store import Progress, Store, bind_space, fill_space
from memos_agents.interface.views import Front

if TYPE_CHECKING:
    from memos_agents.infrastructure.exchange.copying import CopyReport
    from memos_agents.models.base import Embedder


class MemOS(Front):
    """An open store of memories. Every method may be called from any thread.

    >>> from memos_agents import MemOS
    >>> from memos_agents.testing import HashEmbedder
    >>> with MemOS.open(":memory:", embedder=HashEmbedder(dimension=64)) as memos:
    ...     moved = memos.add("I moved to Lisbon in May.", user_id="mara")[0]
    ...     moved = memos.update(moved.id, "I moved to Porto in May.", expected_version=1)
    ...     hit = memos.search("Where did Mara move to?", user_id="mara")[0]
    ...     print(hit.cube.text, hit.cube.version, [cube.text for cube in memos.history(moved.id)])
    I moved to Porto in May. 2 ['I moved to Lisbon in May.', 'I moved to Porto in May.']
    """

    def __init__(
        self,
        vault: MemVault,
        *,
        embedder: Embedder | None,
        clock: Callable[[], datetime] | None = None,
        ids: IdSource | None = None,
        cache_dir: FilePath | None = None,
    ) -> None:
        """Put a front on a vault that you opened, and will close, yourself. Usually you want `MemOS.open`."""
        if embedder is not None and not bind_space(vault, embedder, str(getattr(vault, "path", "this store"))):
            embedder = None  # an empty vault that cannot be written has no vectors to compare with
        self._store = Store(vault, embedder=embedder, clock=clock, ids=ids, owns_vault=False)
        self.cache_dir = cache_dir

    @classmethod
    def open(
        cls,
        target: str | PathLike[str] = "memos.db",
        *,
        tenant: str = "default",
        auth: tuple[str, str] | None = None,
        database: str | None = None,
        allow_insecure: bool = False,
        embedder: object | None = None,
        durability: Literal["full", "relaxed"] = "full",
        cache_dir: FilePath | None = None,
        clock: Callable[[], datetime] | None = None,
        readonly: bool = False,
        reembed: bool = False,
        blobs: FilePath | None = None,
        disk_bytes: int = DISK_BYTES,
    ) -> MemOS:
        """Open a store, made if it is not there: a file, ":memory:" for one that ends with the process, or a Neo4j
        server ("neo4j://localhost:7687", "neo4j+s://graph.example"; needs the extra "neo4j").

        `embedder`: None for the built-in one (offline, on the CPU), an `Embedder`, a sentence-transformers, LangChain
        or LlamaIndex embedding, or "none": search by words only, which opens any store whatever made its vectors. A
        store is bound to the embedder that made its vectors: another one raises `IncompatibleModel`, unless `reembed`
        converts the store first (see `MemOS.reembed`).

        `durability` "full" syncs every commit to the disk; "relaxed" may lose the last ones at a power cut, never the
        order. `clock` replaces the system's time. `cache_dir` is where downloaded model weights are kept. `auth` (user,
        password; else NEO4J_USERNAME and NEO4J_PASSWORD), `database` and `allow_insecure` (plaintext to another
        machine) are for servers and refused for a file.

        `blobs` is where payload bytes (keys and values, adapters) lie, if not beside the store: a folder, or any fsspec
        address ("s3://bucket/folder"), of which copies are kept in `cache_dir`, `disk_bytes` of them at most. A store
        does not remember it: give it with every opening.
        """
        name = check_name(tenant, what="tenant")
        model = embedder_of(embedder)
        vault = open_vault(
            target,
            tenant=name,
            durability=durability,
            readonly=readonly,
            auth=auth,
            database=database,
            allow_insecure=allow_insecure,
            blobs=blobs_of(blobs, cache_dir=cache_dir, disk_bytes=disk_bytes),
        )
        try:
            converts = reembed and model is not None
            memos = cls(vault, embedder=None if converts else model, clock=clock, cache_dir=cache_dir)
            if reembed and model is not None:
                memos.reembed(model)
        except BaseException:
            vault.close()
            raise
        memos._store.owns_vault = True
        return memos

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._store.is_closed else "open"
        return f"<MemOS, tenant {self.tenant!r}, {state}>"

    @property
    def vault(self) -> MemVault:
        """The vault underneath, for receipts and checks; it answers for the whole tenant, so no view hands it out."""
        return self._store.vault

    def close(self) -> None:
        """Close the store; closing twice is fine, every other call afterwards raises `BackendUnavailable`."""
        self._store.close()

    def load(
        self,
        path: FilePath,
        *,
        format: str = "memcube",
        progress: Progress | None = None,
        commit_key: str | None = None,
    ) -> LoadReport:
        """Read a bundle that `export` wrote, with its ids, versions, times and provenance; all or nothing.

        What is here already and equal is skipped; what differs raises `VersionConflict`. Digests are checked before
        anything is written (`IntegrityError`). Texts without a vector of this store's embedder are embedded afterwards.
        """
        if format != "memcube":
            raise InvalidRequest(f"format {format!r} cannot be read by this release; it reads 'memcube'")
        vault = self._store.writable
        if not isinstance(vault, SupportsRecords):
            raise InvalidRequest(f"{type(vault).__name__} cannot load bundles")
        from memos_agents.infrastructure.exchange.bundle import read_bundle

        once = None if commit_key is None else check_name(commit_key, what="commit_key")
        activity = self._activity("load", arguments.agent_of(None), {"format": format})
        fresh: list[str] = []
        with read_bundle(local_path(path)) as bundle:
            try:
                for sha256, data in bundle.blobs():
                    if not vault.blobs.has(sha256):
                        fresh.append(sha256)
                        vault.blobs.put(data)
                counts = vault.restore(bundle.records(), Commit(activity=activity, key=once))
            except BaseException:
                vault.blobs.delete(fresh)  # no memory names them; they may even be of one that was erased here
                raise
        self._store.resemblance.forget()
        embedder = self._store.embedder
        embedded = 0 if embedder is None else fill_space(vault, embedder, progress)
        return LoadReport(activity_id=activity.id, counts=counts, embedded=embedded)

    def backup(self, path: FilePath) -> None:
        """Copy the whole store, all tenants, to a new file while it is in use; the copy is one consistent moment."""
        vault = self._store.vault
        if not isinstance(vault, SupportsBackup):
            raise InvalidRequest(f"{type(vault).__name__} cannot copy itself; use export() instead")
        vault.backup(local_path(path))

    def copy_to(
        self,
        target: MemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        batch: int = 1000,
        samples: int = 1000,
        progress: Progress | None = None,
    ) -> CopyReport:
        """Copy everything, or what a scope admits, into another open store of any kind and tenant, and prove it.

        Resumable: `batch` cubes go in one transaction, and what is there and equal is passed over, so a call that was
        interrupted is made again. Nothing is overwritten: what differs raises `VersionConflict`. Vectors travel as they
        are; a target that searches with another embedder raises `IncompatibleModel`. Afterwards both stores are read
        and compared line by line, and the lineages of `samples` versions; see `ok` and `differences` of the report.
        `progress` counts each cube twice: copied, and compared. The log, snapshots and receipts stay with this store.
        """
        from memos_agents.infrastructure.exchange.copying import copy_records

        if not isinstance(target, MemOS):
            raise InvalidRequest(f"the target must be an open MemOS, not {type(target).__name__}")
        named = self._named(user_id, agent_id, session_id, scope)
        wanted = Scope.everything(self.tenant) if named is None else arguments.for_reading(named, what="copy_to()")
        report = copy_records(
            self._store.vault,
            target._store.writable,
            wanted,
            clock=target._store.now,
            part=arguments.count_of(batch, what="batch", most=100_000),
            samples=arguments.count_of(samples, what="samples", least=0, most=10_000_000),
            progress=progress,
        )
        target._store.resemblance.forget()
        return report

    def reembed(self, embedder: object, *, progress: Progress | None = None) -> ReembedReport:
        """Convert the store to another embedder; every version keeps everything but its vectors.

        Resumable: vectors are added beside the old ones in batches, then the new space takes the place of the old
        default in one transaction. Killed in between, the store opens with the old embedder as before, and the next
        call goes on where it was. With the present embedder, only what has no vector yet is embedded.
        """
        vault, model = self._store.writable, embedder_of(embedder)
        if model is None:
            raise InvalidRequest("reembed() needs an embedder that makes vectors")
        if not isinstance(vault, SupportsSearch):
            raise InvalidRequest(f"{type(vault).__name__} keeps no vectors")
        old = [space.fingerprint for space in vault.spaces() if space.is_default]
        vault.open_space(model.fingerprint, model.dimension)
        embedded = 0
        while added := fill_space(vault, model, progress):
            embedded += added
        dropped = tuple(name for name in old if name != model.fingerprint)
        vault.open_space(
            model.fingerprint, model.dimension, make_default=True, instead_of=dropped[0] if dropped else None
        )
        self._store.embedder = model
        while added := fill_space(vault, model):  # what was written with the old embedder up to the switch
            embedded += added
        return ReembedReport(fingerprint=model.fingerprint, embedded=embedded, dropped=dropped)

    def verify(self) -> VerifyReport:
        """Check the whole store: hashes, the log's chain, heads, stale marks, indexes, blobs, tombstones.

        Reads everything.
        """
        vault = self._store.vault
        problems = tuple(vault.verify())
        stats = vault.stats(Scope.everything(self.tenant))
        counts = {"cubes": stats.cubes, "versions": stats.versions, "relations": stats.relations}
        if stats.commits is not None:
            counts["commits"] = stats.commits
        return VerifyReport(ok=not problems, problems=problems, counts=counts)

    def scrub(self) -> bool:
        """Remove the bytes of everything erased so far from the medium; False while somebody still reads them."""
        vault = self._store.writable
        return vault.scrub() if isinstance(vault, SupportsScrub) else True

    def snapshot(self, name: str) -> Snapshot:
        """Name the present position in the log; an existing name moves. Nothing is copied."""
        return self._store.writable.set_snapshot(check_name(name, what="name"), self._store.now())

    def snapshots(self) -> list[Snapshot]:
        """The named positions."""
        return self._store.vault.snapshots()
