"""Laws of bundles: what goes in comes out, a part of one is none, and a bad one gives out nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import stat
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.payload import ArtefactPayload, MemoryType, TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.errors import BackendUnavailable, IntegrityError, InvalidRequest, MemOSError, VersionConflict
from memos_agents.infrastructure.exchange.atomic import atomic_file
from memos_agents.infrastructure.exchange.bundle import read_bundle, write_bundle
from memos_agents.infrastructure.exchange.manifest import MANIFEST, RECORDS, RollingDigest, seal
from memos_agents.infrastructure.provenance.values import Activity, Agent, Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.base import Record
from memos_agents.infrastructure.vault.commit import Commit, Write
from memos_agents.infrastructure.vault.memory import MemoryVault

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MARA = Scope(user_id="mara")
Edit = Callable[[dict[str, bytes]], None]


def cube_id(number: int) -> str:
    return f"0196bbbb-1111-7000-8000-{number:012d}"


def text_cube(number: int, text: str, version: int = 1, scope: Scope = MARA, **fields: object) -> MemCube:
    made: dict[str, object] = {"created_at": NOW, "recorded_at": NOW, "payload": TextPayload(text)} | fields
    return MemCube(id=cube_id(number), version=version, scope=scope, **made)  # type: ignore[arg-type]


def filled_vault() -> MemoryVault:
    vault = MemoryVault()
    agent = Agent(id="mara", kind="user", name="Mara")
    adapter = vault.blobs.put(b"\x00\x01 weights" * 100)
    payload = ArtefactPayload(manifest={"rank": 8}, blobs={"adapter.safetensors": adapter})
    vault.commit(
        Commit(
            activity=Activity(id="a1", kind="add", started_at=NOW, agent=agent),
            writes=(
                Write(cube=text_cube(1, "I moved to Lisbon.", metadata={"n": [1, None, "ü"]})),
                Write(cube=text_cube(2, "I live in Braga.")),
                Write(cube=text_cube(9, "Another user's memory.", scope=Scope(user_id="ben"))),
            ),
            sources=(Source(id="s1", kind="file", locator="chat.json"),),
            derivations=(Derivation(derived=text_cube(1, "").ref, source="s1"),),
            relations=(Relation(source_id=cube_id(1), kind=RelationKind.CONTRADICTS, target_id=cube_id(2)),),
        )
    )
    vault.commit(
        Commit(
            activity=Activity(id="a2", kind="distil", started_at=NOW, agent=agent),
            writes=(
                Write(cube=text_cube(1, "I moved to Porto.", 2), replaces=1),
                Write(cube=text_cube(3, "", payload=payload, memory_type=MemoryType.PARAMETRIC)),
            ),
            derivations=(Derivation(derived=text_cube(3, "").ref, source=text_cube(1, "", 1).ref, kind="distil"),),
        )
    )
    return vault


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    path = tmp_path / "mara.memcube"
    write_bundle(path, filled_vault(), MARA, now=NOW)
    return path


# --- what goes in comes out ----------------------------------------------------------------------------------------


def test_a_bundle_gives_back_every_record_and_blob(tmp_path: Path) -> None:
    vault, path = filled_vault(), tmp_path / "mara.memcube"
    steps: list[tuple[int, int]] = []
    report = write_bundle(path, vault, MARA, now=NOW, progress=lambda done, total: steps.append((done, total)))
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.size_bytes == path.stat().st_size
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with read_bundle(path) as bundle:
        records = list(bundle.records())
        assert records == [json.loads(json.dumps(record)) for record in vault.records(MARA)]
        assert [*bundle.blobs()] == [(name, vault.blobs.get(name)) for name in vault.blobs.names()]
        assert bundle.manifest.counts == report.counts
        assert bundle.manifest.scope == MARA
        assert bundle.manifest.created_at == NOW
    assert report.counts["version"] == 4
    assert report.counts["blob"] == 1
    assert b"Another user" not in path.read_bytes()
    assert not any("ben" in json.dumps(record) for record in records)


def test_a_loaded_bundle_makes_the_same_bundle(bundle_path: Path, tmp_path: Path) -> None:
    copy = MemoryVault()
    with read_bundle(bundle_path) as bundle:
        for _, data in bundle.blobs():
            copy.blobs.put(data)
        copy.restore(bundle.records(), Commit(activity=Activity(id="load", kind="load", started_at=NOW)))
    again = tmp_path / "again.memcube"
    write_bundle(again, copy, MARA, now=NOW)
    with read_bundle(bundle_path) as first, read_bundle(again) as second:
        assert [*second.records()] == [*first.records()]
        assert [*second.blobs()] == [*first.blobs()]


def test_the_same_content_makes_the_same_bytes(bundle_path: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "again", filled_vault(), MARA, now=NOW)
    assert (tmp_path / "again").read_bytes() == bundle_path.read_bytes()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=3), max_size=4))
def test_any_json_survives(values: list[dict[str, JSON]], tmp_path: Path) -> None:
    records: list[Record] = [{"kind": "source", "id": str(number), "any": value} for number, value in enumerate(values)]
    path = tmp_path / "any.memcube"
    write_bundle(path, FixedVault(records), Scope.everything(), now=NOW)
    with read_bundle(path) as bundle:
        assert [*bundle.records()] == records
        assert bundle.manifest.scope == Scope.everything()


class FixedVault(MemoryVault):
    """Gives these records, whatever it holds."""

    def __init__(self, records: list[Record]) -> None:
        super().__init__()
        self._fixed = records

    def records(self, scope: Scope) -> Iterator[Record]:
        return iter(self._fixed)


def test_an_empty_scope_makes_a_bundle_of_nothing(tmp_path: Path) -> None:
    report = write_bundle(tmp_path / "none", MemoryVault(), Scope(user_id="nobody"), now=NOW)
    assert not any(report.counts.values())
    with read_bundle(tmp_path / "none") as bundle:
        assert [*bundle.records()] == []
        assert [*bundle.blobs()] == []


def test_an_unclosed_bundle_closes_itself_quietly(bundle_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundle = read_bundle(bundle_path)
        bundle.close()
        bundle.close()
        del bundle
        read_bundle(bundle_path)


def test_only_the_owner_may_read_a_bundle(bundle_path: Path) -> None:
    assert stat.S_IMODE(bundle_path.stat().st_mode) == 0o600


# --- whole or not at all -------------------------------------------------------------------------------------------


def failing_records() -> Iterator[Record]:
    yield {"kind": "source", "id": "1"}
    raise BackendUnavailable("the store went away")


def test_a_failed_export_leaves_nothing_and_harms_nothing(tmp_path: Path) -> None:
    vault = MemoryVault()
    vault.records = lambda scope: failing_records()  # type: ignore[method-assign]
    path = tmp_path / "mara.memcube"
    with pytest.raises(BackendUnavailable, match="went away"):
        write_bundle(path, vault, MARA, now=NOW)
    assert [*tmp_path.iterdir()] == []
    path.write_bytes(b"the old bundle")
    with pytest.raises(BackendUnavailable, match="went away"):
        write_bundle(path, vault, MARA, now=NOW)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"the old bundle"


def test_a_blob_that_went_away_meanwhile_says_try_again(tmp_path: Path) -> None:
    vault = filled_vault()
    vault.blobs.delete([*vault.blobs.names()])
    with pytest.raises(VersionConflict, match="export again"):
        write_bundle(tmp_path / "mara", vault, MARA, now=NOW)
    assert [*tmp_path.iterdir()] == []


KILLED = """
import sys, time
from pathlib import Path
from memos_agents.infrastructure.exchange.atomic import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half a secret")
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are a feature of Linux")
def test_a_killed_export_leaves_no_part_behind(tmp_path: Path) -> None:
    path = tmp_path / "mara.memcube"
    path.write_bytes(b"the old bundle")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"the old bundle"


def write_half(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise KeyError


def test_without_unnamed_files_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / ("ü" * 100)
    with atomic_file(path) as file:
        file.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    with pytest.raises(KeyError):
        write_half(path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"all"


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for bad in (tmp_path, tmp_path / "missing" / "mara"):
        with pytest.raises(InvalidRequest, match="folder"):
            write_bundle(bad, MemoryVault(), MARA, now=NOW)


# --- a bad one gives out nothing -----------------------------------------------------------------------------------


def refuse(path: Path, kind: type[MemOSError] = IntegrityError, match: str | None = None) -> None:
    with pytest.raises(kind, match=match):
        read_bundle(path)


def rebuild(path: Path, edit: Edit, *, name_of: Callable[[str], str] = lambda name: name) -> None:
    """Do what somebody with our source code could: change the members, then make manifest and seal fit."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    edit(members)
    with path.open("w+b") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name_of(name), data)
        seal(file)


def edit_manifest(change: Callable[[dict[str, JSON]], None]) -> Edit:
    def edit(members: dict[str, bytes]) -> None:
        manifest = json.loads(members[MANIFEST])
        change(manifest)
        members[MANIFEST] = json.dumps(manifest).encode()

    return edit


def with_records(lines: bytes, counts: dict[str, int]) -> Edit:
    def edit(members: dict[str, bytes]) -> None:
        rolling = RollingDigest()
        for line in lines.splitlines(keepends=True):
            rolling.add(line)
        manifest = json.loads(members[MANIFEST])
        manifest["counts"], manifest["records_digest"] = counts, rolling.hexdigest()
        manifest["members"] = {RECORDS: [hashlib.sha256(lines).hexdigest(), len(lines)]}
        members.clear()
        members.update({RECORDS: lines, MANIFEST: json.dumps(manifest).encode()})

    return edit


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found(data: st.DataObject, bundle_path: Path, tmp_path: Path) -> None:
    content = bytearray(bundle_path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "flipped").write_bytes(content)
    refuse(tmp_path / "flipped")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_and_newly_sealed_bundle_is_refused_or_means_the_same(
    data: st.DataObject, bundle_path: Path, tmp_path: Path
) -> None:
    content = bytearray(bundle_path.read_bytes()[:-71])
    content[-2:] = b"\x00\x00"  # the length of the comment, as before the seal
    with read_bundle(bundle_path) as bundle:
        before = [*bundle.records()], [*bundle.blobs()]
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    bad = tmp_path / "resealed"
    with bad.open("w+b") as file:
        file.write(content)
        seal(file)
    try:
        with read_bundle(bad) as bundle:
            assert ([*bundle.records()], [*bundle.blobs()]) == before
    except MemOSError:
        pass


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_or_longer_file_is_found(data: st.DataObject, bundle_path: Path, tmp_path: Path) -> None:
    content = bundle_path.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    for bad in (content[:cut], content[cut:] if cut else b"", content + content[:1], b"x" + content):
        (tmp_path / "bad").write_bytes(bad)
        refuse(tmp_path / "bad")


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_cleanly(noise: bytes) -> None:
    end = b"PK\x05\x06" + bytes(16) + b"\x47\x00" + b"sha256:" + b"0" * 64
    for content in (noise, b"PK\x03\x04" + noise, noise + end):
        refuse(_PathTo(io.BytesIO(content)))  # type: ignore[arg-type]


class _PathTo:
    """A path whose file is in memory."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def stat(self) -> os.stat_result:
        return Path(__file__).stat()

    def open(self, mode: str) -> io.BytesIO:
        return self._file


def test_a_sealed_rebuild_is_readable_so_the_next_tests_test_what_they_say(bundle_path: Path) -> None:
    rebuild(bundle_path, lambda members: None)
    with read_bundle(bundle_path) as bundle:
        assert [*bundle.records()]


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "blobs/../../evil", "C:\\evil", "blobs/" + "A" * 64, "extra.txt", "blobs/"]
)
def test_a_member_by_any_other_name_is_refused(bundle_path: Path, name: str) -> None:
    def edit(members: dict[str, bytes]) -> None:
        members[name] = b"evil"

    rebuild(bundle_path, edit)
    refuse(bundle_path, match="holds")
    assert [*bundle_path.parent.iterdir()] == [bundle_path]


def test_the_same_member_twice_is_refused(bundle_path: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        members["records.json2"] = members[RECORDS]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rebuild(bundle_path, edit, name_of=lambda name: name.replace("json2", "jsonl"))
    refuse(bundle_path, match="twice")


def test_a_bomb_is_refused_before_it_is_unpacked(bundle_path: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        members[RECORDS] = bytes(80 << 20)

    rebuild(bundle_path, edit)
    refuse(bundle_path, match="unpacks to 83886080 bytes")


def test_a_member_of_many_gigabytes_is_refused_by_its_word(bundle_path: Path) -> None:
    with bundle_path.open("w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(MANIFEST, "{}")
            archive.writestr(RECORDS, "x")
            archive.getinfo(RECORDS).file_size = 5 << 30
        seal(file)
    refuse(bundle_path, match="unpacks to 5368709120 bytes")


def test_a_blob_with_other_bytes_than_its_name_is_refused(bundle_path: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        (name,) = (name for name in members if name.startswith("blobs/"))
        members[name] = members[name][::-1]

    rebuild(bundle_path, edit)
    refuse(bundle_path, match="do not match their digest")


def test_a_renamed_blob_is_refused(bundle_path: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        (name,) = (name for name in members if name.startswith("blobs/"))
        members["blobs/" + "0" * 64] = members.pop(name)
        members[MANIFEST] = members[MANIFEST].replace(f'"{name}"'.encode(), f'"blobs/{"0" * 64}"'.encode())

    rebuild(bundle_path, edit)
    refuse(bundle_path, match="another digest than its name")


@pytest.mark.parametrize("name", [MANIFEST, RECORDS, "blobs/"])
def test_a_missing_member_is_refused(bundle_path: Path, name: str) -> None:
    def edit(members: dict[str, bytes]) -> None:
        del members[next(member for member in members if member.startswith(name))]

    rebuild(bundle_path, edit)
    refuse(bundle_path)


def test_a_missing_blob_is_refused_even_if_the_manifest_agrees(bundle_path: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        name = next(member for member in members if member.startswith("blobs/"))
        del members[name]
        manifest = json.loads(members[MANIFEST])
        del manifest["members"][name], manifest["counts"]["blob"]
        members[MANIFEST] = json.dumps(manifest).encode()

    rebuild(bundle_path, edit)
    refuse(bundle_path, match="lacks a file")


def test_changed_records_are_refused(bundle_path: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        members[RECORDS] = members[RECORDS].replace(b"Porto", b"Paris")

    rebuild(bundle_path, edit)
    refuse(bundle_path, match="do not match their digest")


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        (b'{"kind":"source"}\n', {"source": 2}),
        (b'{"kind":"virus"}\n', {"virus": 1}),
        (b"[]\n", {}),
        (b"not json\n", {}),
        (b'{"kind":"source","x":NaN}\n', {"source": 1}),
        (b'{"kind":"source"}', {"source": 1}),
        (b'{"kind":["source"]}\n', {"source": 1}),
        (b"\xff\xfe\n", {}),
        (b"[" * 100_000 + b"\n", {}),
    ],
)
def test_records_that_are_none_are_refused(bundle_path: Path, lines: bytes, counts: dict[str, int]) -> None:
    rebuild(bundle_path, with_records(lines, counts))
    refuse(bundle_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(created_at="yesterday"),
        lambda manifest: manifest.update(scope={"tenant": ""}),
        lambda manifest: manifest.update(scope={"planet": "earth"}),
        lambda manifest: manifest.update(scope="mara"),
        lambda manifest: manifest.update(counts={"version": -1}),
        lambda manifest: manifest.update(counts={"version": True}),
        lambda manifest: manifest.update(members={RECORDS: ["ab", 1]}),
        lambda manifest: manifest.update(members=[]),
        lambda manifest: manifest.update(members={}),
        lambda manifest: manifest.update(records_digest="0" * 64),
        lambda manifest: manifest.pop("records_digest"),
    ],
)
def test_a_wrong_manifest_is_refused(bundle_path: Path, change: Callable[[dict[str, JSON]], None]) -> None:
    rebuild(bundle_path, edit_manifest(change))
    with pytest.raises((IntegrityError, InvalidRequest)):
        read_bundle(bundle_path)


def test_a_newer_version_says_what_to_do(bundle_path: Path) -> None:
    rebuild(bundle_path, edit_manifest(lambda manifest: manifest.update(version=2)))
    refuse(bundle_path, InvalidRequest, "upgrade memos-agents")


def test_another_format_is_refused_by_name(bundle_path: Path) -> None:
    rebuild(bundle_path, edit_manifest(lambda manifest: manifest.update(format="mem0")))
    refuse(bundle_path, InvalidRequest, "mem0")


def test_an_ordinary_zip_is_no_bundle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", "x" * 200)
    refuse(tmp_path / "photos.zip", match="no seal")


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, InvalidRequest, "not a file")
    refuse(tmp_path / "missing", InvalidRequest, "no file")
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", InvalidRequest, "not a file")


def test_what_changes_after_the_check_is_still_found(tmp_path: Path) -> None:
    vault, path = MemoryVault(), tmp_path / "big.memcube"
    blob = vault.blobs.put(random.Random(7).randbytes(1 << 20))
    payload = ArtefactPayload(blobs={"adapter": blob})
    write = Write(cube=text_cube(1, "", payload=payload, memory_type=MemoryType.PARAMETRIC))
    vault.commit(Commit(activity=Activity(id="a", kind="distil", started_at=NOW), writes=(write,)))
    write_bundle(path, vault, MARA, now=NOW)
    with read_bundle(path) as bundle:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"something else")
        with pytest.raises(IntegrityError):
            list(bundle.blobs())
