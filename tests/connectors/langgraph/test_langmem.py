"""langmem's tools on our store, in an agent, offline."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytest.importorskip("langmem", reason="needs langmem (the dev group)")

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langmem import create_manage_memory_tool, create_search_memory_tool

from memos_agents import MemOS, Scope
from memos_agents.connectors.langgraph import MemOSStore


class Scripted(BaseChatModel):
    """Calls the tools it is told to, one after the other."""

    calls: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        done = [message for message in messages if isinstance(message, ToolMessage)]
        message = AIMessage(content="Done.")
        if len(done) < len(self.calls):
            name, arguments = self.calls[len(done)]
            if callable(arguments):
                arguments = arguments(done)
            message = AIMessage(content="", tool_calls=[{"name": name, "args": arguments, "id": f"c{len(done)}"}])
        return ChatResult(generations=[ChatGeneration(message=message)])


def memory_id(done: list[ToolMessage]) -> str:
    found = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", str(done[0].text))
    assert found is not None, done[0].text
    return found.group()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_manage_and_search_memory(memos: MemOS, asynchronous: bool) -> None:
    store = MemOSStore(memos, scope_of=lambda namespace: Scope(user_id=namespace[1]))
    tools = [
        create_manage_memory_tool(namespace=("memories", "{user_id}")),
        create_search_memory_tool(namespace=("memories", "{user_id}")),
    ]
    model = Scripted(
        calls=[
            ("manage_memory", {"content": "Mara lives in Lisbon.", "action": "create"}),
            (
                "manage_memory",
                lambda done: {"content": "Mara lives in Porto.", "action": "update", "id": memory_id(done)},
            ),
            ("search_memory", {"query": "Where does Mara live?"}),
        ]
    )
    agent = create_agent(model, tools=tools, store=store)
    asked = {"messages": [("user", "I moved.")]}
    config: Any = {"configurable": {"user_id": "mara"}}
    result = await agent.ainvoke(asked, config) if asynchronous else agent.invoke(asked, config)
    answers = [message.text for message in result["messages"] if isinstance(message, ToolMessage)]
    assert "Porto" in answers[2] and "Lisbon" not in answers[2]
    (item,) = store.search(("memories", "mara"))
    cube = store.cube(item.namespace, item.key)
    assert [version.metadata["content"] for version in memos.history(cube.id)] == [
        "Mara lives in Lisbon.",
        "Mara lives in Porto.",
    ]
    deleting = Scripted(calls=[("manage_memory", {"action": "delete", "id": item.key})])
    create_agent(deleting, tools=tools, store=store).invoke(asked, config)
    assert store.search(("memories", "mara")) == [] and memos.search("Mara", user_id="mara") == []
