"""The parts of the command line that need no store: reading inputs, times, terminal-safe output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memos_agents.cli import arguments
from memos_agents.cli.intake import Batch, Intake
from memos_agents.cli.splitting import PIECE_CHARACTERS, split_text
from memos_agents.cli.terminal import dump_json, printable, shortened
from memos_agents.errors import InvalidRequest, NotFound

EVIL = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202egnp\u2066\x7f\r\nb\x00"


def read(*given: str, as_text: bool = False, **how: object) -> list[Batch]:
    return list(Intake(**how).read(given, as_text=as_text))  # type: ignore[arg-type]


def test_stored_text_cannot_steer_a_terminal() -> None:
    shown = printable(EVIL)
    assert not any(ord(character) < 32 and character != "\n" for character in shown)
    assert not any(character in shown for character in "\x1b\x07\x9b\x7f\u202e\u2066")
    assert "\\x1b[31mred" in shown


def test_json_escapes_what_could_steer_a_terminal_and_reads_back_the_same() -> None:
    line = dump_json({"text": EVIL + "é"})
    assert not any(character in line for character in "\x1b\x07\x9b\x7f\u202e\n")
    assert json.loads(line)["text"] == EVIL + "é"


def test_a_shortened_text_is_one_line() -> None:
    assert shortened("one\ntwo  three", 8) == "one two…"


def test_one_argument_is_a_path_if_it_is_there_else_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("from the file", encoding="utf-8")
    assert read("notes.txt")[0].items == [{"text": "from the file", "metadata": {"file": "notes.txt"}}]
    assert read("notes.txt", as_text=True)[0].items == ["notes.txt"]
    assert read("I moved to Lisbon.")[0].items == ["I moved to Lisbon."]
    with pytest.raises(NotFound, match="looks like a path"):
        read("missing.txt")
    with pytest.raises(InvalidRequest, match="in quotes"):
        read("I", "moved")


def test_a_text_longer_than_a_file_name_can_be_is_a_text() -> None:
    assert read("word " * 5_000)[0].locator is None


def test_a_folder_gives_its_text_files_in_order_and_says_what_it_left_out(tmp_path: Path) -> None:
    for name, data in {
        "b/two.md": b"two",
        "a.txt": b"one",
        ".hidden/x.txt": b"secret",
        "picture.png": b"\x89PNG",
        "odd.txt": b"bin\x00ary",
    }.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "outside.txt").write_text("outside", encoding="utf-8")
    (tmp_path / "folder" / "link.txt").symlink_to(tmp_path / "outside.txt")
    intake = Intake()
    batches = list(intake.read([str(tmp_path / "folder")], as_text=False))
    assert [batch.items[0]["text"] for batch in batches] == ["one", "two"]  # type: ignore[index]
    assert [batch.locator for batch in batches] == [
        (tmp_path / "folder" / "a.txt").as_uri(),
        (tmp_path / "folder" / "b" / "two.md").as_uri(),
    ]
    assert {place for place, _ in intake.skipped} == {"picture.png", "odd.txt", "link.txt"}


def test_pieces_hold_every_word_and_are_not_long() -> None:
    text = "# Title\n\n" + "\n\n".join(f"Paragraph {n}. " + "word " * (n * 40) for n in range(20)) + "x" * 5_000
    pieces = split_text(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert max(map(len, pieces)) <= PIECE_CHARACTERS
    assert pieces[0].startswith("# Title\n\nParagraph 0.")


def test_a_chat_is_messages_or_conversations(tmp_path: Path) -> None:
    message = {"role": "user", "content": "hi"}
    for name, data, expected in [
        ("m.json", json.dumps([message, message]), [(2, None)]),
        ("c.json", json.dumps({"messages": [message], "session_id": "s1"}), [(1, "s1")]),
        (
            "c.jsonl",
            "\n".join(json.dumps({"messages": [message], "session_id": s}) for s in "ab"),
            [(1, "a"), (1, "b")],
        ),
        ("m.jsonl", json.dumps(message) + "\n\n" + json.dumps(message) + "\n", [(2, None)]),
    ]:
        path = tmp_path / name
        path.write_text(data, encoding="utf-8")
        assert [(len(batch.items), batch.session_id) for batch in read(str(path))] == expected


def test_what_is_not_json_is_named_by_its_line_and_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text('{"role": "user", "content": "hi"}\nmy secret\n', encoding="utf-8")
    with pytest.raises(InvalidRequest, match="line 2") as caught:
        read(str(path))
    assert "secret" not in str(caught.value)
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="where a message belongs"):
        read(str(path))


def test_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("café".encode("latin-1"))
    with pytest.raises(InvalidRequest, match="--encoding latin-1"):
        read(str(path))
    assert read(str(path), encoding="latin-1")[0].items[0]["text"] == "café"  # type: ignore[index]
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes("café".encode(encoding))
        assert read(str(path))[0].items[0]["text"] == "café"  # type: ignore[index]
    with pytest.raises(InvalidRequest, match="no encoding"):
        read(str(path.with_name("b.txt")) if path.with_name("b.txt").write_text("x") else "", encoding="utf-9")


def test_times_lifespans_and_metadata() -> None:
    assert arguments.moment("2026-05-01T12:00+02:00", option="--at").isoformat().startswith("2026-05-01")  # type: ignore[union-attr]
    assert arguments.moment("2026-05-01", option="--at").tzinfo is not None  # type: ignore[union-attr]
    with pytest.raises(InvalidRequest, match="--at 'yesterday'"):
        arguments.moment("yesterday", option="--at")
    assert [arguments.seconds(text, option="--ttl") for text in ("90", "2m", "1.5h", "30d", "2w")] == [
        90, 120, 5_400, 2_592_000, 1_209_600,
    ]  # fmt: skip
    with pytest.raises(InvalidRequest, match="lifespan"):
        arguments.seconds("forever", option="--ttl")
    assert arguments.metadata(["city=Lisbon", "age=3", "ok=true", '{"a": [1]}']) == {
        "city": "Lisbon", "age": 3, "ok": True, "a": [1],
    }  # fmt: skip
    with pytest.raises(InvalidRequest, match="KEY=VALUE"):
        arguments.metadata(["city"])
    with pytest.raises(InvalidRequest, match="single quotes"):
        arguments.json_object("{city: Lisbon}", option="--filter")
