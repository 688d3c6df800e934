"""`memos.chat`: what is found goes in, nobody else's does, and what is said is remembered as one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from memos_agents import AsyncMemOS, InvalidRequest, MemOS, MemOSError, NotFound, Scope
from memos_agents.interface.chatting import ChatReply
from memos_agents.interface.memory_model import MemoryModel
from memos_agents.testing import HashEmbedder

ASKED = "Where does Mara live?"


@pytest.fixture
def model(memos: MemOS, make_small: Any) -> MemoryModel:
    return memos.model(make_small("llama", seed=3))


def texts(memos: MemOS, **scope: str) -> list[str]:
    return [cube.text for cube in memos.list(**scope)]  # type: ignore[arg-type]


# -- what goes in


def test_what_is_found_goes_in_and_the_reply_says_so(memos: MemOS, model: MemoryModel) -> None:
    home, bike = memos.add(["Mara lives in Lisbon.", "Ines has a bicycle."], user_id="mara")
    reply = memos.chat(ASKED, user_id="mara", model=model, limit=1, max_new_tokens=6)
    assert [hit.cube.id for hit in reply.hits] == [cube.id for cube in reply.cubes] == [home.id]
    assert [(each.id, each.version, each.form) for each in reply.memories] == [(home.id, 1, "plaintext")]
    assert reply.memories[0].reason and reply.timings is not None and reply.remembered == []
    assert reply.text == model.generate(ASKED, memories=[home], max_new_tokens=6).text
    assert reply.text != model.generate(ASKED, max_new_tokens=6).text
    assert texts(memos, user_id="mara") == [home.text, bike.text]


def test_a_stream_gives_the_same_and_ends_with_the_reply(memos: MemOS, model: MemoryModel) -> None:
    memos.add("Mara lives in Lisbon.", user_id="mara")
    whole = memos.chat(ASKED, user_id="mara", model=model, max_new_tokens=12)
    *pieces, last = memos.chat(ASKED, user_id="mara", model=model, max_new_tokens=12, stream=True)
    assert isinstance(last, ChatReply)
    assert "".join(map(str, pieces)) == last.text == whole.text
    assert [cube.ref for cube in last.cubes] == [cube.ref for cube in whole.cubes]
    assert last.token_ids == whole.token_ids


def test_the_last_message_of_the_user_is_searched_for(memos: MemOS, model: MemoryModel) -> None:
    home, bike = memos.add(["Mara lives in Lisbon.", "Ines has a bicycle."], user_id="mara")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "In Lisbon."},
        {"role": "user", "content": "Who has a bicycle?"},
    ]
    reply = memos.chat(messages, user_id="mara", model=model, limit=1, max_new_tokens=4)
    assert [cube.id for cube in reply.cubes] == [bike.id]
    assert reply.token_ids == model.generate(messages, memories=[bike], max_new_tokens=4).token_ids
    kept = memos.chat(messages, user_id="mara", model=model, limit=1, memories=[home.id], max_new_tokens=4)
    assert [cube.id for cube in kept.cubes] == [home.id, bike.id]
    for empty in ("", "  ", [{"role": "assistant", "content": "Hello."}]):
        with pytest.raises(InvalidRequest, match="search memory for"):
            memos.chat(empty, user_id="mara", model=model)


def test_what_the_messages_say_is_not_found_again(memos: MemOS, model: MemoryModel) -> None:
    memos.add([ASKED, "In Lisbon.", "Mara lives in Lisbon."], user_id="mara")
    messages = [{"role": role, "content": text} for role, text in (("user", ASKED), ("assistant", "In Lisbon."))]
    again = [*messages, {"role": "user", "content": ASKED}]
    reply = memos.chat(again, user_id="mara", model=model, limit=1, max_new_tokens=2)
    assert [cube.text for cube in reply.cubes] == ["Mara lives in Lisbon."]


def test_what_is_found_keeps_to_its_budget_and_what_is_named_goes_in_anyway(memos: MemOS, model: MemoryModel) -> None:
    home, long = memos.add(["Mara lives in Lisbon.", "Mara lives, " * 200], user_id="mara")
    reply = memos.chat(ASKED, user_id="mara", model=model, max_tokens=500, max_new_tokens=2)
    assert [cube.id for cube in reply.cubes] == [home.id]
    assert memos.chat(ASKED, user_id="mara", model=model, max_tokens=0, max_new_tokens=2).cubes == []
    named = memos.chat(ASKED, user_id="mara", model=model, max_tokens=0, memories=[long], max_new_tokens=2)
    assert [cube.id for cube in named.cubes] == [long.id] and named.hits == []


def test_a_conversation_that_keeps_its_memories_reuses_its_prompt(memos: MemOS, model: MemoryModel) -> None:
    memos.add(["Mara lives in Lisbon.", "Ines has a bicycle."], user_id="mara")
    first = memos.chat(ASKED, user_id="mara", model=model, max_new_tokens=6)
    messages = [{"role": role, "content": text} for role, text in (("user", ASKED), ("assistant", first.text))]
    messages.append({"role": "user", "content": "In Lisbon?"})
    second = memos.chat(messages, user_id="mara", model=model, memories=first.cubes, max_new_tokens=6)
    assert second.timings is not None and second.timings.tokens_reused > 0
    assert {each.form for each in second.memories} == {"activation"}
    fresh = memos.model(model.local)
    assert second.token_ids == fresh.generate(messages, memories=second.cubes, max_new_tokens=6).token_ids


def test_a_stored_cache_is_used(memos: MemOS, model: MemoryModel) -> None:
    home = memos.add("Mara lives in Lisbon.", user_id="mara")[0]
    plain = memos.chat(ASKED, user_id="mara", model=model, max_new_tokens=6)
    cache = memos.migrate(home, to="activation", model=model)
    fresh = memos.model(model.local)
    reply = memos.chat(ASKED, user_id="mara", model=fresh, memories=[cache], max_new_tokens=6)
    assert [(each.id, each.form) for each in reply.memories] == [(home.id, "activation")]
    assert reply.token_ids == plain.token_ids


# -- whose


def test_another_users_memories_never_enter(memos: MemOS, model: MemoryModel) -> None:
    hers = memos.add("Nina lives in Porto.", user_id="nina")[0]
    memos.add("Mara lives in Lisbon.", user_id="mara")
    for front, whose in ((memos, {"user_id": "mara"}), (memos.scoped(user_id="mara"), {})):
        reply = front.chat("Where does Nina live? In Porto?", model=model, max_new_tokens=2, **whose)
        assert [cube.text for cube in reply.cubes] == ["Mara lives in Lisbon."]
        for named in (hers, hers.id):
            with pytest.raises(NotFound, match=hers.id):
                front.chat(ASKED, model=model, memories=[named], **whose)
        with pytest.raises(InvalidRequest):
            front.chat(ASKED, model=model, memories=hers.id, **whose)
    with pytest.raises(InvalidRequest, match="outside this view"):
        memos.scoped(user_id="mara").chat(ASKED, model=model, user_id="nina")


def test_nobodys_chat_is_refused(memos: MemOS, model: MemoryModel) -> None:
    for stream in (False, True):
        with pytest.raises(InvalidRequest, match="whose memory"):
            memos.chat(ASKED, model=model, stream=stream)  # type: ignore[call-overload]
    with pytest.raises(InvalidRequest, match="whose memory"):
        memos.chat(ASKED, model=model, scope=Scope.everything(), remember=True)
    assert memos.chat(ASKED, model=model, scope=Scope.everything(), max_new_tokens=1).cubes == []


def test_a_model_of_another_store_is_refused(memos: MemOS, model: MemoryModel) -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(64)) as other, pytest.raises(InvalidRequest, match="this store"):
        other.chat(ASKED, user_id="mara", model=model)
    with pytest.raises(InvalidRequest, match="this store"):
        memos.chat(ASKED, user_id="mara", model=model.local)  # type: ignore[call-overload]
    model.close()
    with pytest.raises(InvalidRequest, match="closed"):
        memos.chat(ASKED, user_id="mara", model=model)


def test_a_session_is_where_turns_are_remembered_and_all_sessions_are_recalled(
    memos: MemOS, model: MemoryModel
) -> None:
    home = memos.add("Mara lives in Lisbon.", user_id="mara", session_id="s1")[0]
    reply = memos.chat(ASKED, user_id="mara", session_id="s2", model=model, remember=True, max_new_tokens=2)
    assert [cube.id for cube in reply.cubes] == [home.id]
    assert {cube.scope.session_id for cube in reply.remembered} == {"s2"}
    bound = memos.scoped(user_id="mara", session_id="s3")
    for alone in (
        bound.chat(ASKED, model=model, max_new_tokens=2),
        memos.chat(ASKED, scope=Scope(user_id="mara", session_id="s3"), model=model, max_new_tokens=2),
        memos.chat(ASKED, session_id="s3", model=model, max_new_tokens=2),
    ):
        assert alone.cubes == []


# -- what is remembered


def test_both_turns_are_remembered_in_one_commit(memos: MemOS, model: MemoryModel) -> None:
    before = len(memos.log(user_id="mara"))
    reply = memos.chat(
        [{"role": "user", "content": ASKED, "name": "Mara"}],
        user_id="mara", session_id="s1", model=model, remember=True, max_new_tokens=6,
    )  # fmt: skip
    assert [(cube.descriptive.role, cube.text) for cube in reply.remembered] == [
        ("user", ASKED),
        ("assistant", reply.text),
    ]
    assert reply.remembered == list(memos.list(user_id="mara", session_id="s1"))
    assert reply.remembered[0].descriptive.name == "Mara"
    assert {cube.descriptive.semantic_type for cube in reply.remembered} == {"turn"}
    assert len(memos.log(user_id="mara")) == before + 1
    again = memos.chat(ASKED, user_id="mara", session_id="s1", model=model, remember=True, max_new_tokens=2)
    assert len(again.remembered) == 2
    assert len(texts(memos, user_id="mara")) == 4, "a log that repeats itself is a log of four"


def test_an_abandoned_or_broken_stream_remembers_nothing(memos: MemOS, model: MemoryModel) -> None:
    pieces = memos.chat(ASKED, user_id="mara", model=model, remember=True, max_new_tokens=12, stream=True)
    assert isinstance(next(pieces), str)
    pieces.close()  # type: ignore[attr-defined]
    pieces = memos.chat(ASKED, user_id="mara", model=model, remember=True, max_new_tokens=12, stream=True)
    next(pieces)
    model.close()
    with pytest.raises(Exception):  # noqa: B017  # whatever a model without weights says
        list(pieces)
    assert texts(memos, user_id="mara") == []


def test_an_answer_goes_with_the_memory_that_the_model_was_given(memos: MemOS, model: MemoryModel) -> None:
    home = memos.add("Mara lives in Lisbon.", user_id="mara")[0]
    reply = memos.chat(ASKED, user_id="mara", model=model, remember=True, max_new_tokens=6)
    question, answer = reply.remembered
    assert memos.provenance(answer.id).to_prov_json() != memos.provenance(question.id).to_prov_json()
    memos.update(home.id, "Mara lives in Porto.")
    assert texts(memos, user_id="mara") == ["Mara lives in Porto.", ASKED]
    memos.erase(home.id)
    assert texts(memos, user_id="mara") == [ASKED]
    with pytest.raises(NotFound):
        memos.get(answer.id)


def test_erased_memories_do_not_come_back(memos: MemOS, model: MemoryModel) -> None:
    home = memos.add("Mara lives in Lisbon.", user_id="mara")[0]
    first = memos.chat(ASKED, user_id="mara", model=model, remember=True, max_new_tokens=4)
    memos.erase(home.id)
    second = memos.chat(ASKED, user_id="mara", model=model, memories=first.cubes, max_new_tokens=4)
    assert [each.reason for each in second.memories] == ["it was erased"]
    assert second.cubes == [] and second.timings is not None and second.timings.tokens_reused == 0
    with MemOS.open(":memory:", embedder=HashEmbedder(64)) as empty:
        nothing = empty.chat(ASKED, user_id="mara", model=empty.model(model.local), max_new_tokens=4)
    assert second.token_ids == nothing.token_ids


def test_an_answer_that_rests_on_what_is_erased_meanwhile_is_not_remembered(memos: MemOS, model: MemoryModel) -> None:
    home = memos.add("Mara lives in Lisbon.", user_id="mara")[0]
    pieces = memos.chat(ASKED, user_id="mara", model=model, remember=True, max_new_tokens=6, stream=True)
    said = [next(pieces)]
    memos.erase(home.id)
    with pytest.raises(MemOSError) as caught:
        said += pieces
    assert caught.value.details["reply"].text == "".join(said)  # type: ignore[attr-defined]
    assert texts(memos, user_id="mara") == []


def test_a_store_that_cannot_be_written_is_refused_before_the_model_runs(tmp_path: Any, make_small: Any) -> None:
    with MemOS.open(tmp_path / "m.db", embedder=HashEmbedder(64)) as memos:
        memos.add("Mara lives in Lisbon.", user_id="mara")
    with MemOS.open(tmp_path / "m.db", embedder=HashEmbedder(64), readonly=True) as memos:
        model = memos.model(make_small("llama"))
        assert len(memos.chat(ASKED, user_id="mara", model=model, max_new_tokens=1).cubes) == 1
        with pytest.raises(InvalidRequest, match="readonly"):
            memos.chat(ASKED, user_id="mara", model=model, remember=True)


# -- asynchronous


async def test_the_mirror_gives_the_same_and_streams_without_blocking(memos: MemOS, model: MemoryModel) -> None:
    memos.add("Mara lives in Lisbon.", user_id="mara")
    whole = memos.chat(ASKED, user_id="mara", model=model, max_new_tokens=12)
    front = AsyncMemOS(memos)
    for mirror in (front.scoped(user_id="mara"), front):
        answers = await asyncio.gather(
            *(mirror.chat(ASKED, user_id="mara", model=model, max_new_tokens=12) for _ in range(3))
        )
        assert {answer.text for answer in answers} == {whole.text}
        *pieces, last = [
            each async for each in await mirror.chat(ASKED, user_id="mara", model=model, max_new_tokens=12, stream=True)
        ]
        assert "".join(pieces) == last.text == whole.text
    stream = await front.chat(ASKED, user_id="mara", model=model, remember=True, max_new_tokens=12, stream=True)
    assert isinstance(await anext(stream), str)
    await stream.aclose()
    await front.close()
    assert texts(memos, user_id="mara") == ["Mara lives in Lisbon."]
