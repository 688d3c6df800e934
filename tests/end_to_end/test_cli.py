"""The command line as people and scripts meet it: what it says, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from memos_agents import MemCube, MemOS
from memos_agents.cli.application import COMMANDS, app

EVIL = "evil \x1b[31mred\x1b]0;owned\x07 [bold]markup[/bold] \u202etfel"
Memos = Callable[..., Result]


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MEMOS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("MEMOS_EMBEDDER", "memos_agents.testing:HashEmbedder")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def memos() -> Memos:
    runner = CliRunner()

    def run(*arguments: str, given: str | bytes | None = None, code: int = 0) -> Result:
        result = runner.invoke(app, list(arguments), input=given, prog_name="memos")
        assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}"
        assert "Traceback" not in result.output
        if code not in (0, 4):
            assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        return result

    return run


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def add(memos: Memos, text: str, *more: str, user: str = "mara") -> str:
    (line,) = lines(memos("add", text, "--text", "--user", user, "--json", *more))
    return str(line["cube"]["id"])  # type: ignore[index]


def test_add_search_get_and_history(memos: Memos) -> None:
    memos("add", "I moved to Lisbon in May.", "--user", "mara", "--at", "2026-05-01", "--meta", "city=Lisbon")
    (hit,) = lines(memos("search", "Where did she move?", "--user", "mara", "--json"))
    assert set(hit) == {"score", "why", "cube"}
    cube = hit["cube"]
    assert cube["text"] == "I moved to Lisbon in May."  # type: ignore[index]
    assert cube["metadata"] == {"city": "Lisbon"}  # type: ignore[index]
    identifier = str(cube["id"])  # type: ignore[index]
    memos("update", identifier, "I moved to Porto in May.", "--expect", "1")
    assert [version["text"] for version in lines(memos("history", identifier, "--json"))] == [
        "I moved to Lisbon in May.",
        "I moved to Porto in May.",
    ]
    assert "Lisbon" in memos("get", identifier, "--version", "1").stdout
    assert "Porto" in memos("search", "move", "--user", "mara", "--why").stdout
    memos("update", identifier, "too late", "--expect", "1", code=5)
    assert "Traceback" in CliRunner().invoke(app, ["update", identifier, "x", "--expect", "1", "--debug"]).stderr


def test_a_cube_in_json_is_lossless(memos: Memos) -> None:
    identifier = add(memos, "tea", "--key", "drink", "--tag", "a", "--ttl", "30d")
    (document,) = lines(memos("get", "--key", "drink", "--user", "mara", "--json"))
    cube = MemCube.from_json(document)  # type: ignore[arg-type]
    assert (cube.id, cube.text, cube.descriptive.tags) == (identifier, "tea", ("a",))
    assert cube.governance.ttl_seconds == 2_592_000


def test_a_key_makes_versions_and_what_is_known_is_not_added_twice(memos: Memos) -> None:
    assert "1 added" in memos("add", "tea", "--user", "mara", "--key", "drink").stdout
    assert "1 updated" in memos("add", "coffee", "--user", "mara", "--key", "drink").stdout
    assert "1 added" in memos("add", "the same", "--user", "mara").stdout
    assert "1 known" in memos("add", "the same", "--user", "mara").stdout
    assert len(lines(memos("list", "--user", "mara", "--json"))) == 2


def test_options_stand_before_or_after_the_command(memos: Memos) -> None:
    memos("--store", "other.db", "--user", "mara", "add", "hello")
    assert len(lines(memos("--json", "list", "--store", "other.db", "--user", "mara"))) == 1
    assert len(lines(memos("list", "--store", "other.db", "--user", "mara", "--json"))) == 1


def test_folders_files_chats_and_stdin(memos: Memos, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("# Tea\n\n" + "Green tea is best. " * 20 + "\n\n" + "Black tea too. " * 20)
    (notes / "b.txt").write_text("A short note.")
    (notes / "c.png").write_bytes(b"\x89PNG\x00")
    result = memos("add", "notes", "--user", "mara")
    assert "3 added" in result.stdout
    assert "left out c.png" in result.stderr
    assert "3 known" in memos("add", "notes", "--user", "mara", "--quiet").stdout
    (hit,) = lines(memos("search", "short note", "--user", "mara", "--limit", "1", "--json"))
    tree = memos("provenance", str(hit["cube"]["id"]))  # type: ignore[index]
    assert (notes / "b.txt").as_uri() in tree.stdout.replace("\n", "")
    chat = [{"role": "user", "content": "I like chess."}, {"role": "assistant", "content": "Noted."}]
    Path("chat.jsonl").write_text(json.dumps({"messages": chat, "session_id": "s9"}))
    memos("add", "chat.jsonl", "--user", "mara")
    assert [
        line["descriptive"]["role"] for line in lines(memos("list", "--user", "mara", "--session", "s9", "--json"))
    ] == [  # type: ignore[index]
        "user",
        "assistant",
    ]
    memos("add", "-", "--user", "mara", given="Piped in.\n")
    memos("add", "-", "--user", "mara", given=json.dumps(chat))
    memos("add", "-", "--user", "mara", given="caf\u00e9".encode("latin-1"), code=2)
    memos("add", "-", "--user", "mara", "--encoding", "latin-1", given="caf\u00e9".encode("latin-1"))
    assert lines(memos("search", "café", "--user", "mara", "--json"))[0]["cube"]["text"] == "café"  # type: ignore[index]


def test_a_bad_line_is_found_before_anything_is_written(memos: Memos) -> None:
    good = {"role": "user", "content": "fine"}
    Path("chat.jsonl").write_text("\n".join(json.dumps(line) for line in [good, good, {"speech": "unclear"}]))
    result = memos("add", "chat.jsonl", "--user", "mara", code=2)
    assert "chat.jsonl: content[2]" in result.stderr
    assert not Path("memos.db").exists()


def test_list_pages_are_stable_and_complete(memos: Memos) -> None:
    for number in range(7):
        add(memos, f"note {number}")
    seen: list[str] = []
    cursor: list[str] = []
    while True:
        page = memos("list", "--user", "mara", "--limit", "3", "--json", *cursor)
        seen += [str(line["text"]) for line in lines(page)]
        if not page.stderr:
            break
        cursor = ["--cursor", json.loads(page.stderr)["next_cursor"]]
    assert seen == [f"note {number}" for number in range(7)]
    assert len(lines(memos("list", "--user", "mara", "--limit", "2", "--all", "--json"))) == 7
    memos("list", "--user", "mara", "--cursor", "nonsense", code=2)


def test_provenance_in_every_form(memos: Memos) -> None:
    identifier = add(memos, "<script>alert(1)</script>")
    memos("update", identifier, "second")
    assert "revision of" in memos("provenance", identifier).stdout
    assert "entity" in lines(memos("provenance", identifier, "--json"))[0]
    assert "entity" in json.loads(memos("provenance", identifier, "--prov-json").stdout)
    assert "flowchart" in memos("provenance", identifier, "--mermaid").stdout
    memos("provenance", identifier, "--html", "p.html", "--direction", "both")
    page = Path("p.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "<script>alert" not in page
    assert "already" in memos("provenance", identifier, "--html", "p.html", code=2).stderr
    memos("provenance", identifier, "--html", "p.html", "--force")


def test_erase_asks_shows_what_goes_and_gives_a_receipt(memos: Memos) -> None:
    identifier = add(memos, "my password is swordfish")
    with MemOS.open("memos.db", embedder="none") as store:
        store.add("has a password", user_id="mara", derived_from=[identifier])
    refused = memos("erase", identifier, code=2)
    assert "--yes" in refused.stderr
    result = memos("erase", identifier, "--yes", "--receipt", "receipt.json")
    assert "2 memories (1 derived)" in result.stdout
    memos("verify", "--receipt", "receipt.json")
    memos("get", identifier, code=3)
    receipt = json.loads(Path("receipt.json").read_text(encoding="utf-8"))
    assert len(receipt["tombstones"]) == 2
    receipt["seq"] += 1
    Path("changed.json").write_text(json.dumps(receipt))
    memos("verify", "--receipt", "changed.json", code=4)
    memos("verify", "--receipt", "memos.db", code=2)
    assert not any(b"swordfish" in path.read_bytes() for path in Path.cwd().rglob("memos.db*") if path.is_file())


def test_a_whole_scope_is_erased_only_when_said_so(memos: Memos) -> None:
    add(memos, "one")
    add(memos, "two")
    add(memos, "hers", user="nina")
    memos("erase", "--user", "mara", "--yes", code=2)
    memos("erase", "--all", "--yes", code=2)
    memos("erase", "--all", "--user", "mara", "--yes")
    assert [line["text"] for line in lines(memos("list", "--everything", "--json"))] == ["hers"]
    memos("erase", "--all", "--user", "mara", "--yes", code=3)


def test_export_load_backup_verify_and_stats(memos: Memos) -> None:
    identifier = add(memos, "portable")
    memos("update", identifier, "portable still")
    (told,) = lines(memos("export", "m.memcube", "--user", "mara", "--json"))
    assert told["path"] == "m.memcube"
    assert "sha256" in told
    memos("export", "m.memcube", "--user", "mara", code=2)
    memos("load", "m.memcube", "--store", "other.db")
    assert len(lines(memos("history", identifier, "--store", "other.db", "--json"))) == 2
    memos("backup", "copy.db")
    assert len(lines(memos("history", identifier, "--store", "copy.db", "--json"))) == 2
    memos("backup", "memos.db", "--force", code=2)
    for store in ("memos.db", "other.db", "copy.db"):
        (report,) = lines(memos("verify", "--json", "--store", store))
        assert (report["ok"], report["problems"]) == (True, [])
    (stats,) = lines(memos("stats", "--user", "mara", "--json"))
    assert (stats["cubes"], stats["versions"]) == (1, 2)
    memos("stats", "--everything")


def test_verify_finds_damage(memos: Memos) -> None:
    import sqlite3

    add(memos, "to be damaged")
    connection = sqlite3.connect("memos.db")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    table = next(name for name in tables if name in ("versions", "version"))
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    assert "body" in columns
    connection.execute(f"UPDATE {table} SET body = replace(body, 'damaged', 'changed')")
    connection.commit()
    connection.close()
    assert "problem" in memos("verify", code=4).stdout


def test_log_and_undo(memos: Memos) -> None:
    identifier = add(memos, "first")
    memos("update", identifier, "second")
    entries = lines(memos("log", "--user", "mara", "--json"))
    assert [entry["kind"] for entry in entries] == ["update", "add"]
    memos("undo", str(entries[0]["activity_id"]))
    assert lines(memos("get", identifier, "--json"))[0]["text"] == "first"
    assert "update" in memos("log", "--user", "mara").stdout
    memos("undo", "0197f2c4-0000-7000-8000-000000000000", code=3)


def test_another_embedder_is_refused_where_it_matters_and_reembed_converts(
    memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    memos("add", "words only", "--user", "mara", "--embedder", "memos_agents.testing:HashEmbedder")
    monkeypatch.setenv("MEMOS_EMBEDDER", f"{__name__}_embedders:Small")
    Path(f"{__name__.rpartition('.')[2]}_embedders.py").write_text(
        "from memos_agents.testing import HashEmbedder\ndef Small():\n    return HashEmbedder(dimension=8)\n"
    )
    monkeypatch.setenv("MEMOS_EMBEDDER", f"{__name__.rpartition('.')[2]}_embedders:Small")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    assert "memos reembed" in memos("search", "words", "--user", "mara", code=6).stderr
    memos("list", "--user", "mara")
    memos("verify")
    (report,) = lines(memos("reembed", "--json"))
    assert report["embedded"] == 1
    assert len(lines(memos("search", "words", "--user", "mara", "--json"))) == 1
    memos("reembed", "--embedder", "none", code=2)


def test_another_users_memory_is_not_found_in_the_same_words(memos: Memos) -> None:
    identifier = add(memos, "hers", user="nina")
    absent = "0197f2c4-0000-7000-8000-000000000000"
    foreign = memos("get", identifier, "--user", "mara", code=3).stderr
    missing = memos("get", absent, "--user", "mara", code=3).stderr
    assert foreign.replace(identifier, "ID") == missing.replace(absent, "ID")
    assert lines(memos("search", "hers", "--user", "mara", "--json")) == []


def test_a_read_never_makes_a_store(memos: Memos) -> None:
    absent = "0197f2c4-0000-7000-8000-000000000000"
    for command in (
        ("search", "x"), ("get", absent), ("list",), ("history", absent), ("provenance", absent), ("log",), ("stats",),
        ("verify",), ("export", "x.memcube"), ("backup", "x.db"), ("reembed",), ("erase", absent, "--yes"), ("scrub",),
        ("update", absent, "x"), ("undo", absent),
    ):  # fmt: skip
        result = memos(*command, "--user", "mara", code=3)
        assert "there is no store at 'memos.db' (the default)" in result.stderr
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("add", "I", "moved"), 2, "put a text in quotes"),
        (("add",), 2, "nothing to add"),
        (("add", "", "--user", "mara"), 2, "the text is empty"),
        (("add", "notes.txt", "--user", "mara"), 3, "looks like a path"),
        (("add", "hello"), 2, "whose memory?"),
        (("add", "hello", "--everything"), 2, "belongs to somebody"),
        (("add", "hello", "--user", " "), 2, "user_id"),
        (("add", "hello", "--user", "mara", "--at", "soon"), 2, "is no time"),
        (("add", "hello", "--user", "mara", "--meta", "x"), 2, "KEY=VALUE"),
        (("add", "hello", "--user", "mara", "--store", "no/such/m.db"), 3, "does not exist"),
        (("add", "hello", "--user", "mara", "--store", "."), 2, "is a folder"),
        (("add", "hello", "--user", "mara", "--store", ":memory:"), 2, "gone when the command ends"),
        (("add", "hello", "--user", "mara", "--embedder", "minlm"), 2, "did you mean 'minilm'"),
        (("list", "--lmit", "3"), 2, "--limit"),
        (("serch", "x"), 2, "search"),
        (("list", "--user", "mara", "--everything"), 2, "leave out --user"),
        (("bench", "retrieval", "--data", "missing.json"), 3, "no file"),
        (("load", "missing.memcube"), 3, "no file"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    memos: Memos, arguments: tuple[str, ...], code: int, told: str
) -> None:
    assert told in memos(*arguments, code=code).stderr
    error = json.loads(memos(*arguments, "--json", code=code).stderr)["error"]
    assert error["exit_code"] == code
    assert told in error["message"]


def test_stored_text_never_steers_the_terminal_nor_becomes_markup(memos: Memos) -> None:
    identifier = add(memos, EVIL, "--title", "t\x1b[2J", "--name", "n\x9b2J".replace("\x9b", "x"))
    memos("update", identifier, EVIL + "!")
    for command in (("get", identifier), ("list", "--user", "mara"), ("search", "evil red", "--user", "mara"),
                    ("history", identifier), ("provenance", identifier), ("provenance", identifier, "--mermaid"),
                    ("log", "--user", "mara")):  # fmt: skip
        for extra in ((), ("--json",)):
            output = memos(*command, *extra).output
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", output), command
    assert "[bold]markup[/bold]" in memos("get", identifier).stdout


def test_errors_never_hold_content(memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("swordfish")

    monkeypatch.setattr(MemOS, "search", broken)
    add(memos, "swordfish")
    result = memos("search", "x", "--user", "mara", code=1)
    assert "swordfish" not in result.stderr
    assert "internal error: KeyError" in result.stderr
    assert "--debug" in result.stderr


def test_every_command_has_help_with_examples(memos: Memos) -> None:
    names = [name for name, _, _ in COMMANDS]
    assert set(names) >= set(
        "add search get list history provenance erase export load backup reembed verify stats log undo".split()
    )
    overview = memos("--help").stdout
    for name in names:
        assert re.search(rf"^  {name} ", overview, re.MULTILINE)
        page = memos(name, "--help").stdout
        assert f"    memos {name}" in page
        assert "--json" in page
    assert "Exit codes" in overview
    assert "memos bench retrieval --data" in memos("bench", "retrieval", "--help").stdout


# ---- as a process of its own -----------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "memos_agents", *arguments]


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['memos', '--help']\n"
        "from memos_agents.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pydantic', 'onnxruntime', 'rich', 'sqlite3', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_both_scripts_and_the_module_are_the_same_program() -> None:
    folder = Path(sys.executable).parent
    wanted = subprocess.run(command("--version"), check=True, capture_output=True, text=True).stdout
    assert re.fullmatch(r"memos-agents \d+\.\d+\.\d+\S*\n", wanted)
    for name in ("memos", "memos-agents"):
        script = shutil.which(name, path=str(folder))
        if script is not None:
            assert subprocess.run([script, "--version"], check=True, capture_output=True, text=True).stdout == wanted


def test_a_closed_pipe_is_quiet(memos: Memos) -> None:
    for number in range(3):
        add(memos, f"{number} " + "long " * 4_000)
    for extra in ([], ["--json"]):
        process = subprocess.Popen(
            command("list", "--user", "mara", *extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        assert process.wait(30) == 141
        assert error == b""


def wait_until_it_waits(pid: int) -> None:
    """Until the process has started up and sleeps, however slow the machine is: in a pipe, where the system tells."""
    stat, sleeping = Path(f"/proc/{pid}/stat"), 0
    if not stat.exists():
        time.sleep(5)
        return
    while sleeping < 50:
        time.sleep(0.1)
        if "pipe" in Path(f"/proc/{pid}/wchan").read_text():
            return
        fields = stat.read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        sleeping = sleeping + 1 if fields[0] == "S" and ticks > 10 else 0


def test_ctrl_c_is_one_line(memos: Memos) -> None:
    add(memos, "something")
    process = subprocess.Popen(
        command("add", "-", "--user", "mara"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # ignored after "&"
    )
    wait_until_it_waits(process.pid)  # for stdin; earlier would only hit the start of Python
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.decode().splitlines() == ["memos: interrupted; what was committed before stays"]


@pytest.mark.parametrize("surroundings", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_terminal_that_cannot_show_a_character_gets_its_escape(memos: Memos, surroundings: dict[str, str]) -> None:
    add(memos, "snow ☃")
    for extra in ([], ["--json"]):
        result = subprocess.run(
            command("list", "--user", "mara", *extra),
            check=True,
            capture_output=True,
            env={**os.environ, **surroundings},
        )
        assert b"\\u2603" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [24, 200])
def test_on_a_terminal_lines_fit_colours_can_be_off_and_erase_asks(memos: Memos, columns: int) -> None:
    identifier = add(memos, "a text that is quite a bit longer than a narrow terminal is wide, " * 3)
    shown = in_terminal(command("list", "--user", "mara"), columns)
    assert "\x1b[" in shown
    plain = in_terminal(command("list", "--user", "mara"), columns, NO_COLOR="1")
    plain = re.sub(
        r"\x1b\[[0-9;]*m", lambda match: "" if match.group() in ("\x1b[0m", "\x1b[1m", "\x1b[2m") else "C", plain
    )
    assert "C" not in plain
    assert max(len(line) for line in plain.replace("\r", "").split("\n")) <= columns
    refused = in_terminal(command("erase", identifier), 80, answer=b"n\n")
    assert "erase 1 memory and 0 derived from them, for good? [y/N]" in refused
    memos("get", identifier)
    in_terminal(command("erase", identifier), 80, answer=b"y\n")
    memos("get", identifier, code=3)


def in_terminal(arguments: list[str], columns: int, answer: bytes = b"", **environ: str) -> str:
    """Run a command on a pseudo-terminal of that width and return all that it wrote."""
    import pty

    primary, secondary = pty.openpty()
    surroundings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **environ}
    process = subprocess.Popen(arguments, stdin=secondary, stdout=secondary, stderr=secondary, env=surroundings)
    os.close(secondary)
    if answer:
        os.write(primary, answer)
    written = b""
    try:
        while chunk := os.read(primary, 65_536):
            written += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    finally:
        os.close(primary)
    process.wait(30)
    return written.decode()
