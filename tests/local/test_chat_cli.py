"""`memos chat` as people and scripts meet it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from memos_agents.cli.application import app
from memos_agents.cli.chatting import _Conversation, _Pace
from memos_agents.models.generation import Timings

ASKED = "Where does Mara live?"
Memos = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_small: Any) -> str:
    path = tmp_path_factory.mktemp("models") / "small"
    local = make_small("llama", seed=3)
    local.model.save_pretrained(path)
    local.tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def memos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memos:
    for name in [name for name in os.environ if name.startswith("MEMOS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MEMOS_EMBEDDER", "memos_agents.testing:HashEmbedder")
    monkeypatch.setenv("MEMOS_USER", "mara")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*arguments: str, given: str | None = None, code: int = 0) -> Result:
        result = runner.invoke(app, list(arguments), input=given, prog_name="memos")
        assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}"
        assert "Traceback" not in result.output
        if code:
            assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        return result

    return run


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_one_question_is_answered_with_the_memories_that_were_used(memos: Memos, folder: str) -> None:
    memos("add", "Mara lives in Lisbon.")
    memos("add", "Nina lives in Porto.", "--user", "nina")
    (told,) = lines(memos("chat", ASKED, "--model", folder, "--max-new-tokens", "6", "--no-remember", "--json"))
    assert set(told) == {"question", "text", "memories", "timings", "saved_seconds_estimate", "remembered"}
    assert (told["question"], told["remembered"], len(told["memories"])) == (ASKED, [], 1)
    assert set(told["memories"][0]) == {"id", "version", "asked_id", "form", "reason"}
    assert told["timings"]["tokens_computed"] > 0 and told["saved_seconds_estimate"] == 0
    shown = memos("chat", ASKED, "--model", folder, "--max-new-tokens", "6", "--no-remember").stdout
    assert re.search(r"^  text +Mara lives in Lisbon\.  \S{36}$", shown, re.MULTILINE)
    assert re.search(r"^  first token after \d+\.\d\d s$", shown, re.MULTILINE)
    assert "Porto" not in shown
    quiet = memos("chat", ASKED, "--model", folder, "--max-new-tokens", "6", "--no-remember", "--quiet").stdout
    assert shown.startswith(quiet) and "first token" not in quiet
    assert [line["text"] for line in lines(memos("list", "--json"))] == ["Mara lives in Lisbon."]


def test_a_conversation_remembers_its_turns_and_reuses_its_prompt(memos: Memos, folder: str) -> None:
    memos("add", "Mara lives in Lisbon.")
    given = f"{ASKED}\n\nIn Lisbon?\n/quit\nnever asked\n"
    result = memos("chat", "--model", folder, "--session", "s1", "--max-new-tokens", "6", "--json", given=given)
    first, second = lines(result)
    assert (first["question"], second["question"]) == (ASKED, "In Lisbon?")
    assert second["timings"]["tokens_reused"] > 0 < second["saved_seconds_estimate"]
    assert second["memories"][0]["form"] == "activation"
    assert [each["id"] for each in second["memories"]] == [each["id"] for each in first["memories"]]
    kept = lines(memos("list", "--session", "s1", "--json"))
    assert [line["descriptive"]["role"] for line in kept] == ["user", "assistant"] * 2
    assert [line["id"] for line in kept] == first["remembered"] + second["remembered"]
    shown = memos("chat", "--model", folder, "--max-new-tokens", "6", "--no-remember", given=given).stdout
    assert "keys and values  Mara lives in Lisbon." in shown
    assert re.search(r"\d+ of \d+ tokens reused, about \S+ s saved \(estimate\)", shown)


def test_a_new_store_is_made_only_to_remember_and_with_a_model(memos: Memos, folder: str, tmp_path: Path) -> None:
    assert "no store" in memos("chat", "Hello", "--model", folder, "--no-remember", code=3).stderr
    assert "there is no model" in memos("chat", "Hello", "--model", "no-such-model", code=2).stderr
    (tmp_path / "empty").mkdir()
    assert "holds no model" in memos("chat", "Hello", "--model", "empty", code=2).stderr
    assert not Path("memos.db").exists()
    assert "made the new store" in memos("chat", "Hello", "--model", folder, "--max-new-tokens", "2").stderr


def test_a_missing_extra_is_named(memos: Memos, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "memos-agents[local]" in memos("chat", "Hello", "--model", folder, code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--everything", "--user", "mara", "--no-remember"), "leave out --user"),
        (("  ",), "the question is empty"),
        (("Hello", "--max-new-tokens", "0"), "--max-new-tokens"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(memos: Memos, arguments: tuple[str, ...], told: str) -> None:
    assert told in memos("chat", *arguments, code=2).stderr


def test_nobodys_chat_is_refused(memos: Memos, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMOS_USER")
    assert "whose memory?" in memos("chat", "Hello", "--model", folder, code=2).stderr
    assert "belongs to somebody" in memos("chat", "Hello", "--everything", "--model", folder, code=2).stderr


def test_an_answer_cannot_steer_the_terminal(memos: Memos, folder: str) -> None:
    memos("add", "Mara lives in \x1b[31mLisbon.")
    options = ("--model", folder, "--temperature", "1.5", "--seed", "3", "--max-new-tokens", "60", "--no-remember")
    for extra in ((), ("--json",)):
        output = memos("chat", ASKED, *options, *extra).stdout
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", output)


def test_a_long_conversation_is_cut_seldom_and_in_whole_turns() -> None:
    conversation = _Conversation({}, {}, window=400)
    cuts = 0
    for number in range(40):
        turn = [{"role": role, "content": f"{number} {role} " + "word " * 12} for role in ("user", "assistant")]
        before = conversation.messages
        conversation.messages = conversation._fitting([*before, *turn])
        assert conversation.messages[0]["role"] == "user" and conversation.messages[-1] == turn[-1]
        cuts += conversation.messages[: len(before)] != before
    assert 0 < cuts <= 15


def test_the_time_saved_is_counted_by_the_longest_prompt() -> None:
    pace = _Pace()
    for reused, computed, seconds in ((0, 100, 1.0), (90, 10, 0.5)):
        timings = Timings(
            prefill_seconds=seconds, first_token_seconds=seconds, total_seconds=seconds, tokens_reused=reused,
            tokens_computed=computed,
        )  # fmt: skip
        pace.note(timings)
    assert pace.saved_seconds(timings) == pytest.approx(0.9)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_it_is_a_conversation_that_ends_with_quit(memos: Memos, folder: str) -> None:
    import pty

    memos("add", "Mara lives in Lisbon.")
    primary, secondary = pty.openpty()
    arguments = [sys.executable, "-m", "memos_agents", "chat", "--model", folder, "--max-new-tokens", "4"]
    process = subprocess.Popen(
        arguments, stdin=secondary, stdout=secondary, stderr=secondary, env={**os.environ, "TERM": "dumb"}
    )
    os.close(secondary)
    os.write(primary, f"{ASKED}\n/quit\n".encode())
    written = b""
    try:
        while chunk := os.read(primary, 65_536):
            written += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    finally:
        os.close(primary)
    assert process.wait(60) == 0
    shown = written.decode()
    assert "end with Ctrl-D or /quit" in shown and "> " in shown
    assert "Mara lives in Lisbon." in shown and "first token after" in shown
    assert len(lines(memos("list", "--json"))) == 3
