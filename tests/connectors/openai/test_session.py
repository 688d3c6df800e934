"""MemOSSession keeps what the Agents SDK gives it, exactly, and lets go of what is erased."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, function_tool
from agents.memory import OpenAIResponsesCompactionSession, Session, SessionSettings, SQLiteSession
from agents.testing import ScriptedModel, assistant_message, function_call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI

from memos_agents import AsyncMemOS, InvalidRequest, MemOS, Scope
from memos_agents.connectors.openai import MemOSSession
from memos_agents.testing import HashEmbedder

CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Lisbon"}', "id": "fc_1"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "sunny, 24 degrees"}
TALK: list[Any] = [
    {"role": "user", "content": "What is the weather in Lisbon?"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA=="},
    CALL,
    OUTPUT,
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Sunny, and 24 degrees.", "annotations": [], "logprobs": []}],
    },
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "And on this picture?"},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"},
            {"type": "input_text", "text": "\n It shows Porto."},
        ],
    },
]


@pytest.fixture(autouse=True)
def _no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")


def say(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(items: list[Any]) -> list[Any]:
    return [item.get("content") for item in items]


async def test_it_is_a_session_and_gives_back_what_it_got(memos: MemOS) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    assert isinstance(session, Session)
    assert await session.get_items() == []
    await session.add_items(TALK)
    assert await session.get_items() == TALK
    assert [list(item) for item in await session.get_items()] == [list(item) for item in TALK]  # keys in order too
    again = MemOSSession("s1", memos.scoped(user_id="mara"))
    assert await again.get_items() == TALK
    assert memos.verify().ok


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ODD_TEXT = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    ["", " ", "\x00", "\ud800", "a\nb", "\n"]
)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text", "text", "refusal"]), "text": ODD_TEXT})
    | st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=2),
    max_size=4,
)
ITEMS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": ODD_TEXT | PARTS})
    | st.fixed_dictionaries({"type": st.text(max_size=8), "role": JSON_VALUES, "content": JSON_VALUES})
    | st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4),
    max_size=5,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ITEMS)
def test_any_json_object_comes_back_unchanged(items: list[Any]) -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        session = MemOSSession("s1", memos, user_id="mara")
        asyncio.run(session.add_items(items))
        assert json.dumps(asyncio.run(session.get_items())) == json.dumps(items)


async def test_an_item_of_megabytes_comes_back(memos: MemOS) -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 3_000_000}
    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "Look!"}, picture]}]
    items.append(say("b" * 1_200_000))
    session = MemOSSession("s1", memos, user_id="mara")
    await session.add_items(items)
    assert await session.get_items() == items


@pytest.mark.parametrize("wrong", ["text", None, 3, {"a": object()}, {("a",): 1}])
async def test_what_is_no_json_object_is_refused_and_nothing_is_kept(memos: MemOS, wrong: Any) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    with pytest.raises(InvalidRequest, match=r"items\[1\]"):
        await session.add_items([say("first"), wrong])
    assert await session.get_items() == []


async def test_the_latest_items_come_in_order(memos: MemOS) -> None:
    session = MemOSSession("s1", memos, user_id="mara", session_settings=SessionSettings(limit=3))
    for number in range(6):
        await session.add_items([say(f"message {number}")])
    assert said(await session.get_items()) == ["message 3", "message 4", "message 5"]
    assert said(await session.get_items(2)) == ["message 4", "message 5"]
    assert await session.get_items(0) == []
    assert len(await session.get_items(100)) == 6
    session.session_settings = None
    assert len(await session.get_items()) == 6
    by_mapping = MemOSSession("s1", memos, user_id="mara", session_settings={"limit": 1})
    assert said(await by_mapping.get_items()) == ["message 5"]
    for limit in (-1, True, "2"):
        with pytest.raises(InvalidRequest, match="limit"):
            await session.get_items(limit)  # type: ignore[arg-type]


async def test_it_agrees_with_the_sdk_s_own_session_on_messages(memos: MemOS) -> None:
    ours, theirs = MemOSSession("s1", memos, user_id="mara"), SQLiteSession("s1")
    for session in (ours, theirs):
        await session.add_items([say("a"), say("a")])  # type: ignore[attr-defined]
        await session.add_items([])  # type: ignore[attr-defined]
        await session.add_items([say("b"), say("a")])  # type: ignore[attr-defined]
    for limit in (None, 0, 1, 2, 3, 4, 5):
        assert await ours.get_items(limit) == await theirs.get_items(limit)
    for _ in range(5):
        assert await ours.pop_item() == await theirs.pop_item()
        assert await ours.get_items() == await theirs.get_items()
    theirs.close()


@pytest.mark.parametrize(
    ("limit", "kinds"),
    [
        (2, ["message"]),  # the output would come first: its call is cut off
        (3, ["function_call", "function_call_output", "message"]),
        (1, ["message"]),
    ],
)
async def test_a_limit_never_leaves_an_output_without_its_call(memos: MemOS, limit: int, kinds: list[str]) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    await session.add_items(TALK[:5])
    assert [item.get("type", "message") for item in await session.get_items(limit)] == kinds


async def test_parallel_calls_keep_their_own_outputs_only(memos: MemOS) -> None:
    second = [{**CALL, "call_id": "c2", "id": "fc_2"}, {**OUTPUT, "call_id": "c2"}]
    shell = [
        {"type": "local_shell_call", "id": "ls_1", "call_id": "c3"},
        {"type": "local_shell_call_output", "id": "c3"},
    ]
    found = [{"type": "tool_search_call", "call_id": None}, {"type": "tool_search_output", "call_id": None}]
    approval = [
        {"type": "mcp_approval_request", "id": "a1"},
        {"type": "mcp_approval_response", "approval_request_id": "a1"},
    ]
    items: list[Any] = [CALL, second[0], OUTPUT, second[1], *shell, *found, *approval]
    session = MemOSSession("s1", memos, user_id="mara")
    await session.add_items(items)
    assert await session.get_items() == items
    assert await session.get_items(9) == [second[0], second[1], *shell, *found, *approval]
    for limit, left in ((5, found + approval), (3, approval), (1, [])):
        assert await session.get_items(limit) == left


async def test_what_was_said_is_found_and_what_tools_did_is_not(memos: MemOS) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    await session.add_items(TALK)
    found = [hit.cube.text for hit in memos.search("weather in Lisbon: sunny, 24 degrees", user_id="mara", limit=50)]
    assert set(found) == {
        "What is the weather in Lisbon?",
        "Sunny, and 24 degrees.",
        "And on this picture?\n\n It shows Porto.",
    }
    hit = memos.search("What is the weather in Lisbon?", user_id="mara", limit=1)[0]
    assert (hit.cube.descriptive.role, hit.cube.scope.session_id) == ("user", "s1")
    entry = memos.log(user_id="mara", cube_id=hit.cube.id)[0]
    assert (entry.agent.id, hit.cube.descriptive.origin) == ("openai.MemOSSession", "openai.MemOSSession")


async def test_popping_erases_from_the_end(memos: MemOS) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    await session.add_items([say("I moved to Lisbon."), say("My code is 4711.")])
    assert await session.pop_item() == say("My code is 4711.")
    assert said(await session.get_items()) == ["I moved to Lisbon."]
    assert "4711" not in str([hit.cube for hit in memos.search("What is my code?", user_id="mara")])
    assert [entry.kind for entry in memos.log(user_id="mara")] == ["erase", "add"]
    assert await session.pop_item() == say("I moved to Lisbon.")
    assert await session.pop_item() is None
    assert memos.verify().ok


async def test_two_who_pop_never_get_the_same_item(memos: MemOS) -> None:
    sessions = [MemOSSession("s1", memos, user_id="mara") for _ in range(2)]
    await sessions[0].add_items([say(f"message {number}") for number in range(12)])
    popped = await asyncio.gather(*(sessions[number % 2].pop_item() for number in range(16)))
    assert sorted(item["content"] for item in popped if item) == sorted(f"message {number}" for number in range(12))  # type: ignore[typeddict-item]
    assert popped.count(None) == 4


async def test_clearing_erases_this_session_alone(memos: MemOS) -> None:
    mine, other = MemOSSession("s1", memos, user_id="mara"), MemOSSession("s2", memos, user_id="mara")
    stranger = MemOSSession("s1", memos, user_id="joao")
    for session in (mine, other, stranger):
        await session.add_items([*TALK, say("I moved to Lisbon.")])
    [kept] = memos.add("Mara's note of that session.", user_id="mara", session_id="s1")
    summary = memos.add(
        "Mara moved.",
        user_id="mara",
        derived_from=memos.search("moved to Lisbon", user_id="mara", session_id="s1")[0].cube,
    )[0]
    await mine.clear_session()
    assert await mine.get_items() == []
    assert len(await other.get_items()) == len(await stranger.get_items()) == len(TALK) + 1
    assert [cube.id for cube in memos.list(user_id="mara", session_id="s1")] == [kept.id]
    assert summary.id not in [cube.id for cube in memos.list(user_id="mara", include_hidden=True)]
    await mine.clear_session()
    await mine.add_items([say("Hello again.")])
    assert said(await mine.get_items()) == ["Hello again."]
    assert memos.verify().ok


async def test_a_long_session_is_read_in_pages_and_cleared(memos: MemOS) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    items: list[Any] = [say(f"message {number}") for number in range(1_203)]
    await session.add_items(items)
    assert await session.get_items() == items
    assert await session.get_items(450) == items[-450:]
    await session.clear_session()
    assert await session.get_items() == []


async def test_what_is_corrected_or_erased_elsewhere_is_so_here(memos: MemOS) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    await session.add_items(TALK)
    picture = memos.search("And on this picture?", user_id="mara", limit=1)[0].cube
    memos.update(picture.id, "And on that one?")
    corrected = (await session.get_items())[-1]
    assert [part.get("text") for part in corrected["content"]] == ["And on that one?", None, ""]  # type: ignore[typeddict-item,union-attr]
    assert "picture" not in json.dumps(corrected)
    memos.rollback(picture.id, to_version=1)
    assert await session.get_items() == TALK
    memos.erase(picture.id)
    assert await session.get_items() == TALK[:-1]
    memos.erase(user_id="mara")
    assert await session.get_items() == []


async def test_the_scope_decides_and_only_exactly_it(memos: MemOS) -> None:
    with pytest.raises(InvalidRequest, match="user_id="):
        MemOSSession("s1", memos)
    with pytest.raises(InvalidRequest, match="belongs to somebody"):
        MemOSSession("s1", memos, scope=Scope.everything())
    for wrong in ("", " ", "a\u200bb"):
        with pytest.raises(InvalidRequest, match="session_id"):
            MemOSSession(wrong, memos, user_id="mara")
    with pytest.raises(InvalidRequest, match="outside this view"):
        MemOSSession("s2", memos.scoped(user_id="mara", session_id="s1"))
    mara, with_agent = (
        MemOSSession("s1", memos, user_id="mara"),
        MemOSSession("s1", memos, user_id="mara", agent_id="x"),
    )
    agent = MemOSSession("s1", memos, agent_id="x")
    await with_agent.add_items([say("for agent x and mara")])
    await mara.add_items([say("for mara")])
    await agent.add_items([say("for agent x")])
    assert said(await mara.get_items()) == ["for mara"]
    assert said(await with_agent.get_items()) == ["for agent x and mara"]
    assert said(await agent.get_items()) == ["for agent x"]


async def test_every_front_of_a_store_will_do(memos: MemOS) -> None:
    async with AsyncMemOS(memos) as aio:
        fronts = [memos, memos.scoped(user_id="mara"), aio, aio.scoped(user_id="mara")]
        for number, front in enumerate(fronts):
            user = None if number % 2 else "mara"
            await MemOSSession("s1", front, user_id=user).add_items([say(str(number))])
        assert said(await MemOSSession("s1", aio, user_id="mara").get_items()) == ["0", "1", "2", "3"]
    with pytest.raises(InvalidRequest, match="must be a MemOS"):
        MemOSSession("s1", "memos.db", user_id="mara")  # type: ignore[arg-type]


async def test_a_branch_goes_on_from_a_turn_and_shares_what_came_before(memos: MemOS) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    await session.add_items([say("one"), *TALK[1:5], say("two"), say("three")])
    branch = await session.branch_from_turn(2, "s2")
    assert await branch.get_items() == [say("one"), *TALK[1:5]]
    await branch.add_items([say("two, differently")])
    assert said(await branch.get_items(2))[-1] == "two, differently"
    assert said(await session.get_items(2)) == ["two", "three"]
    twig = await branch.branch_from_turn(2, "s3")
    assert await twig.get_items() == [say("one"), *TALK[1:5]]
    bare = await twig.branch_from_turn(1, "s4")
    assert await bare.get_items() == []

    assert await twig.pop_item() == TALK[4]  # shared: the twig gets shorter, nobody else loses anything
    assert await twig.get_items() == [say("one"), *TALK[1:4]]
    assert len(await session.get_items()) == 7
    one = next(cube for cube in memos.list(user_id="mara") if cube.text == "one")
    memos.erase(one.id)  # gone for all of them
    for view in (session, branch, twig):
        assert "one" not in said(await view.get_items())
    await branch.clear_session()
    assert await branch.get_items() == []
    assert len(await session.get_items()) == 6
    for turn in (0, 4, True, "1"):
        with pytest.raises(InvalidRequest, match="turn_number"):
            await session.branch_from_turn(turn, "s9")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="already"):
        await session.branch_from_turn(1, "s3")
    assert memos.verify().ok


async def test_runs_of_an_agent_remember_the_runs_before(memos: MemOS) -> None:
    @function_tool
    def weather(city: str) -> str:
        return f"sunny in {city}"

    model = ScriptedModel(
        [
            [function_call("weather", {"city": "Lisbon"}, call_id="c1")],
            [assistant_message("It is sunny in Lisbon.")],
            [assistant_message("You asked about Lisbon.")],
        ]
    )
    agent = Agent(name="guide", model=model, tools=[weather])
    session = MemOSSession("trip", memos, user_id="mara")
    first = await Runner.run(agent, "How is the weather in Lisbon?", session=session)
    assert first.final_output == "It is sunny in Lisbon."
    second = await Runner.run(agent, "Which city did I ask about?", session=session)
    assert second.final_output == "You asked about Lisbon."
    model.assert_complete()
    last = model.last_call
    assert last is not None
    kinds = [item.get("type", item.get("role")) for item in last.input]
    assert kinds == ["user", "function_call", "function_call_output", "message", "user"]
    assert await session.get_items() == await MemOSSession("trip", memos, user_id="mara").get_items()
    assert len(await session.get_items()) == 6
    assert [hit.cube.text for hit in memos.search("sunny Lisbon", user_id="mara", limit=1)] == [
        "It is sunny in Lisbon."
    ]


async def test_a_streamed_run_with_a_limit_is_kept_too(memos: MemOS) -> None:
    model = ScriptedModel([[assistant_message(f"answer {number}")] for number in range(3)])
    agent = Agent(name="guide", model=model)
    session = MemOSSession("trip", memos, user_id="mara")
    for number in range(3):
        run = Runner.run_streamed(
            agent,
            f"question {number}",
            session=session,
            run_config=RunConfig(session_settings=SessionSettings(limit=2)),
        )
        async for _ in run.stream_events():
            pass
    last = model.last_call
    assert last is not None
    assert [item.get("content") for item in last.input][::2] == ["question 1", "question 2"]
    assert len(last.input) == 3
    assert len(await session.get_items()) == 6


async def test_a_run_that_fails_leaves_a_session_that_goes_on(memos: MemOS) -> None:
    model = ScriptedModel([RuntimeError("the model is down"), [assistant_message("Here I am.")]])
    agent = Agent(name="guide", model=model)
    session = MemOSSession("trip", memos, user_id="mara")
    with pytest.raises(RuntimeError, match="down"):
        await Runner.run(agent, "Are you there?", session=session)
    kept = await session.get_items()
    await Runner.run(agent, "And now?", session=session)
    texts = [cube.text for cube in memos.list(user_id="mara")]
    assert texts[len(kept) :] == ["And now?", "Here I am."]


async def test_the_sdk_s_compaction_works_on_it(memos: MemOS, server: Any) -> None:
    session = MemOSSession("s1", memos, user_id="mara")
    await session.add_items([*TALK, say("I moved to Lisbon.")])
    async with AsyncOpenAI(base_url=server.base_url, api_key="unused") as client:
        compacting = OpenAIResponsesCompactionSession("s1", session, client=client, compaction_mode="input")
        await compacting.run_compaction({"force": True})
    assert server.asked[0]["path"].endswith("/responses/compact")
    assert await session.get_items() == [{"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAAA=="}]
    assert memos.search("moved to Lisbon", user_id="mara") == []


async def test_many_conversations_at_once_neither_mix_nor_block(store_target: str) -> None:
    async def talk(user: str, number: int) -> None:
        session = MemOSSession(f"s{number}", aio, user_id=user)
        for turn in range(3):
            await session.add_items([say(f"{user} {number} {turn}"), {"type": "reasoning", "id": f"{user}{turn}"}])
        await session.get_items(2)
        await session.pop_item()

    threads: set[int] = set()

    def clock() -> datetime:  # every call that reads or writes asks it
        threads.add(threading.get_ident())
        return datetime.now(UTC)

    with MemOS.open(store_target, embedder=HashEmbedder(dimension=16), clock=clock) as memos:
        async with AsyncMemOS(memos) as aio:
            await asyncio.gather(*(talk(f"u{user}", number) for user in range(5) for number in range(4)))
            for user in range(5):
                for number in range(4):
                    kept = await MemOSSession(f"s{number}", aio, user_id=f"u{user}").get_items()
                    assert [item.get("content") for item in kept[::2]] == [
                        f"u{user} {number} {turn}" for turn in range(3)
                    ]
                    assert len(kept) == 5
        assert threads
        assert threading.get_ident() not in threads  # the loop's own thread did none of it
        assert memos.verify().ok
