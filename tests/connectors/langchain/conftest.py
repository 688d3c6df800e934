"""Stores to run every law on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs memos-agents[langchain]")

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from memos_agents import MemOS
from memos_agents.testing import FixedClock, HashEmbedder


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def memos(store_target: str, clock: FixedClock) -> Iterator[MemOS]:
    with MemOS.open(store_target, embedder=HashEmbedder(64), clock=clock) as opened:
        yield opened
        assert opened.verify().ok


class Scripted(BaseChatModel):
    """A model that says what a function of the messages says, and remembers every request."""

    script: Any
    seen: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.seen.append(list(messages))
        said = self.script(messages)
        message = AIMessage(content=said) if isinstance(said, str) else said
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kw: Any
    ) -> Any:
        await asyncio.sleep(0)
        return self._generate(messages, stop, run_manager, **kw)

    def system(self, request: int = -1) -> str:
        """The system message of a request, as text."""
        return "".join(str(message.text) for message in self.seen[request] if isinstance(message, SystemMessage))


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted
