"""Copying a store into another one, between any two vaults, in parts that can be repeated, and proving it.

Cubes travel in the order of their ids, about a thousand at a time, each part with what it needs (see
`SupportsRecordsOf`) in one `restore`. A part is named by the digest of its lines, and its log entry in the target bears
that name: so a part that was sent is recognised by one look-up, a run that was killed goes on where it was, and a part
sent twice is one. What has changed has another name, is sent again, and `restore` decides: what is there and equal is
skipped, what differs is refused. Rejected: a position kept beside the target (it says nothing about what is there), and
asking the target for what it holds of each part (twice the reading, and a backend's own way of asking).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, cast

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.errors import IncompatibleModel, InvalidRequest, NotFound
from memos_agents.infrastructure.exchange.bundle_reading import blobs_of
from memos_agents.infrastructure.exchange.comparing import (
    Comparison,
    Sample,
    compare_lines,
    in_tenant,
    name_of,
    without_marks,
)
from memos_agents.infrastructure.exchange.replaying import Replay
from memos_agents.infrastructure.exchange.sending import Sending, read_part
from memos_agents.infrastructure.provenance.values import Agent
from memos_agents.infrastructure.vault.base import LogQuery, MemVault, Record, SupportsRecords
from memos_agents.infrastructure.vault.capabilities import Moment, SupportsMoments, SupportsRecordsOf

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total)."""

SYSTEM = Agent(id="memos", kind="system", name="memos copy")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """What was copied and what the proof found.

    `counts` and `digest` are of the source's lines by kind, `found` and `found_digest` of the same lines in the target;
    `ok` says that they are equal, that every file is there, and that every sampled lineage is the same in both.
    `differences` tells the first of `differing` faults. `more` counts lines that only the target has (it was not empty,
    or somebody wrote there since), which is no fault. `written` counts what this run added; of `parts`, `skipped` were
    there already. `uses` are (source, target) use counts, which differ if a run was interrupted and reads went on.
    `source_moved`: somebody wrote to the source meanwhile.
    """

    ok: bool
    counts: Mapping[str, int]
    found: Mapping[str, int]
    digest: str
    found_digest: str
    differing: int
    differences: tuple[str, ...]
    more: Mapping[str, int]
    samples: int
    written: Mapping[str, int]
    blobs: int
    parts: int
    skipped: int
    uses: tuple[int, int]
    source_moved: bool
    seconds: float


def copy_records(
    source: MemVault,
    target: MemVault,
    scope: Scope,
    *,
    clock: Callable[[], datetime],
    agent: Agent = SYSTEM,
    part: int = 1000,
    samples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy everything that `scope` admits in `source` into `target`'s tenant, then compare both line by line.

    A source that `SupportsMoments` is copied as it is when the copy begins, whatever is written meanwhile. Another one
    must not be written to while it is copied. Interrupted at any point, the same call goes on where it was.

    `part` cubes go in one transaction; memory is that of one part (at most about 150 MB). `samples` versions are picked
    with `seed` and their lineages in both directions compared as PROV-JSON. `progress` counts each cube twice: copied,
    and compared.

    Raises `InvalidRequest` (read-only target, the same store, a vault without records), `IncompatibleModel` (the
    target's vectors are another embedder's), `VersionConflict` (the target holds something else under the same name),
    `BackendUnavailable` (run it again). Faults that the comparison finds are in the report, not raised.
    """
    _check_ends(source, target, part=part, samples=samples)
    assert isinstance(source, SupportsRecords) and isinstance(target, SupportsRecords)  # noqa: PT018  # just checked
    began = time.monotonic()
    log_end = _log_end(source)
    with _moment_of(source) as moment, Replay(lambda: moment.records(scope)) as records:
        _open_spaces(source, target)
        counted = source.stats(scope).by_state
        advance = _Advance(progress, 2 * sum(counted.values()))
        sending = Sending(source, target, clock, agent)
        if isinstance(source, SupportsRecordsOf):
            for ids in _pages(moment, scope, part):
                sending.send_cubes(moment, scope, ids)
                advance(len(ids))
            if scope.is_everything:  # also what no cube names
                sending.send_lines(without_marks(records.named()), part)
        else:
            whole = read_part(without_marks(moment.records(scope)), None)
            assert whole is not None  # there is no limit
            sending.send(whole)
        proof, compared = _prove(records, moment, scope, target, Sample(samples, seed), advance)
    return CopyReport(
        ok=not proof.differing,
        counts=dict(proof.ours.counts),
        found=dict(proof.theirs.counts),
        digest=proof.ours.hexdigest(),
        found_digest=proof.theirs.hexdigest(),
        differing=proof.differing,
        differences=tuple(proof.differences),
        more=dict(proof.more),
        samples=compared,
        written=dict(sending.written),
        blobs=sending.blobs,
        parts=sending.parts,
        skipped=sending.skipped,
        uses=(proof.ours.uses, proof.theirs.uses),
        source_moved=_log_end(source) != log_end,
        seconds=time.monotonic() - began,
    )


def _check_ends(source: MemVault, target: MemVault, *, part: int, samples: int) -> None:
    for vault, way in ((source, "from"), (target, "into")):
        if not isinstance(vault, SupportsRecords):
            raise InvalidRequest(f"{type(vault).__name__} has no records, so nothing can be copied {way} it")
    if part < 1 or samples < 0:
        raise InvalidRequest(f"a copy of {part} cubes at a time with {samples} samples makes no sense")
    if target.is_readonly:
        raise InvalidRequest("the target was opened with readonly=True; open it without to copy into it")
    if source.tenant == target.tenant and (source is target or _are_one_file(source, target)):
        raise InvalidRequest("source and target are the same store; name another one, or another tenant")


def _are_one_file(one: MemVault, other: MemVault) -> bool:
    paths = [path for vault in (one, other) if isinstance(path := getattr(vault, "path", None), Path) and path.exists()]
    return len(paths) == 2 and paths[0].samefile(paths[1])


def _moment_of(source: MemVault) -> AbstractContextManager[Moment]:
    if isinstance(source, SupportsMoments):
        return source.moment()
    return nullcontext(cast(Moment, source))  # as it is whenever it is asked


def _open_spaces(source: MemVault, target: MemVault) -> None:
    """The source's default space becomes the target's; `IncompatibleModel` where the target has another one."""
    spaces = sorted(source.spaces(), key=lambda space: not space.is_default)
    default = next((space.fingerprint for space in spaces if space.is_default), None)
    theirs = next((space.fingerprint for space in target.spaces() if space.is_default), None)
    if default is not None and theirs is not None and default != theirs:
        raise IncompatibleModel(
            f"the vectors of the source were made by the embedder {default!r} and the target searches with {theirs!r}, "
            "so what is copied would not be found there; convert one of them first (`memos reembed`), or copy into an "
            "empty store",
            expected=theirs,
            found=default,
        )
    for space in spaces:
        target.open_space(space.fingerprint, space.dimension)


def _log_end(vault: MemVault) -> tuple[int | None, str | None]:
    newest = vault.log(LogQuery(scope=Scope.everything(vault.tenant), limit=1))
    return (newest[0].seq, newest[0].activity_id) if newest else (0, None)


def _pages(moment: Moment, scope: Scope, size: int) -> Iterator[list[str]]:
    after = None
    while ids := moment.cube_ids(scope, limit=size, after=after):
        yield ids
        after = ids[-1]


class _Advance:
    """Adds up progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))


def _prove(
    records: Iterable[Record], moment: Moment, scope: Scope, target: MemVault, sample: Sample, advance: _Advance
) -> tuple[Comparison, int]:
    """Compare everything, then the lineages of a sample; returns how many."""
    assert isinstance(target, SupportsRecords)
    theirs = in_tenant(scope, target.tenant)
    missing: dict[str, str] = {}

    def visit(record: Record) -> None:
        sample.see(record)
        missing.update((sha256, name_of(record)) for sha256 in blobs_of(record) if not target.blobs.has(sha256))
        if record.get("version") == 1 and record["kind"] == "version":
            advance(1)

    found = compare_lines(records, target.records(theirs), visit=visit)
    for sha256, named in missing.items():
        found.tell(f"the file {sha256} of {named} is missing")
    for ref in sample.refs():
        if _lineage(moment, ref, scope) != _lineage(target, ref, theirs):
            found.tell(f"the lineage of {ref} differs")
    return found, len(sample.refs())


def _lineage(vault: Moment | MemVault, ref: VersionRef, scope: Scope) -> dict[str, JSON] | None:
    try:
        return vault.lineage(ref, "both", None, scope).to_prov_json()
    except NotFound:
        return None
