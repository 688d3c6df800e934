"""Prompts: messages and a block of memories as one text, its tokens, and where they are cut into forward calls.

Cuts depend on the tokens alone, never on what is cached, so that a plain prompt and one with injected memories make the
same forward calls: float sums depend on shapes, and only then are logits equal to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from memos_agents.errors import InvalidRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message: TypeAlias = Mapping[str, Any]
Tool: TypeAlias = Mapping[str, Any]
"""A function's name, description and JSON schema, as OpenAI writes them: what chat templates read."""
FIXED_DATE = datetime(2026, 1, 1)  # noqa: DTZ001  # what a template prints as today: it must not change a cached prefix
LEAST_SEGMENT = 64
"""Tokens."""
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` with special tokens in it, its token `ids`, and the ends of its segments (the last is `len(ids)`).

    `marks[i]` is the number of tokens up to the end of the i-th memory, or None where no token ends there; `begin` up
    to the first one's beginning.
    """

    text: str
    ids: tuple[int, ...]
    ends: tuple[int, ...]
    marks: tuple[int | None, ...] = ()
    begin: int | None = None

    @property
    def lasting(self) -> int:
        """How many tokens a continuation can find again: all, if the last segment is long enough for a cut there."""
        last = self.ends[-2] if len(self.ends) > 1 else 0
        return len(self.ids) if len(self.ids) - last >= LEAST_SEGMENT else last

    def cut_before(self, place: int) -> int:
        """The last end of a segment, short of the last segment's, at or before `place`; 0 if there is none."""
        return max((end for end in self.ends[:-1] if end <= place), default=0)

    def prefix_hash(self, length: int) -> str:
        """SHA-256 of the first `length` token ids, as hexadecimal digits."""
        return hash_of(self.ids[:length])


def hash_of(ids: Sequence[int]) -> str:
    """SHA-256 of token ids as little-endian 32-bit numbers."""
    return hashlib.sha256(np.asarray(ids, "<i4").tobytes()).hexdigest()


def messages_of(prompt: str | Sequence[Message]) -> list[dict[str, Any]]:
    """A text is one user message; messages are checked and copied with all their keys. Raises `InvalidRequest`.

    The content is a text; with `tool_calls` it may be "" or None.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    found = []
    for place, message in enumerate(prompt):
        told = dict(message) if isinstance(message, Mapping) else {}
        if told.get("content") is None and told.get("tool_calls"):
            told["content"] = ""
        if not isinstance(told.get("content"), str) or "role" not in told:
            raise InvalidRequest(f"message {place} of the prompt must have a role and a text as content: {message!r}")
        found.append(told)
    if not found:
        raise InvalidRequest("the prompt has no message")
    return found


def takes_tools(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template, or that for tools among several, shows a model its tools."""
    template: Any = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("tool_use") or template.get("default")
    return "tools" in (template or "")


def build(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | Sequence[Message],
    *,
    block: str = "",
    marks: Sequence[int] = (),
    tools: Sequence[Tool] = (),
) -> Prompt:
    """`block` stands first in the system message, before the caller's own text; the template is applied once, around
    all of it. `marks` are places in `block`, in characters, where a memory ends: the first is where the first begins.

    Segments end after the first memory; and, where the one before has `LEAST_SEGMENT` tokens at least, after the others
    and where an earlier turn's prompt ended, before the assistant's answer to it.
    A model without a chat template gets a plain layout: the block, then `User: …` and `Assistant:` in turn.
    Raises `InvalidRequest` for `tools` that the template has no place for.
    """
    if tools and not takes_tools(tokenizer):
        raise InvalidRequest("the chat template of this model has no tools; take a model whose template has them")
    messages = _with_system(tokenizer, messages_of(prompt), block)
    text = _rendered(tokenizer, messages, tools)
    encoded: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = tuple(encoded["input_ids"]), encoded["offset_mapping"]
    if not ids:
        raise InvalidRequest("the prompt has no tokens")
    start = text.find(block) if block else -1  # the first: a later message may quote the same memories
    places = [None if start < 0 else _token_at(offsets, start + mark) for mark in marks]
    turns = [_token_at(offsets, place) for place in _turns(tokenizer, messages, tools, text)]
    ends = _cuts(len(ids), places[1:], turns)
    return Prompt(text, ids, ends, tuple(places[1:]), places[0] if places else None)


def _cuts(count: int, memories: Sequence[int | None], turns: Sequence[int | None]) -> tuple[int, ...]:
    """A forward call has a price of its own (every weight is read), so short segments are run with the next one."""
    first = next((place for place in memories if place), 0)
    ends = [first] if 0 < first < count else []
    for place in sorted({place for place in (*memories, *turns) if place is not None and place > first}):
        if place < count and place - (ends[-1] if ends else 0) >= LEAST_SEGMENT:
            ends.append(place)
    return (*ends, count)


def _turns(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Tool], text: str) -> list[int]:
    """Where the prompts of earlier turns ended, in characters, if the template writes them the same in longer ones."""
    found = []
    for place, message in enumerate(messages):
        if message["role"] == "assistant" and place:
            try:
                before = _rendered(tokenizer, messages[:place], tools)
            except Exception:  # noqa: BLE001, S112  # a template that refuses this beginning had no such turn
                continue
            if text.startswith(before):
                found.append(len(before))
    return found


def _with_system(tokenizer: Any, messages: list[dict[str, Any]], block: str) -> list[dict[str, Any]]:
    has_system = messages[0]["role"] == "system"
    if not block:
        if has_system or not _inserts_system(tokenizer):
            return messages
        return [{"role": "system", "content": ""}, *messages]  # the same base as with memories: no default text
    if not has_system:
        return [{"role": "system", "content": block}, *messages]
    own = messages[0]["content"]
    return [{**messages[0], "content": f"{block}\n\n{own}" if own else block}, *messages[1:]]


def _inserts_system(tokenizer: Any) -> bool:
    """Whether the template adds a system text of its own where the caller has none."""
    if not tokenizer.chat_template:
        return False
    user = [{"role": "user", "content": "x"}]
    try:
        return bool(_rendered(tokenizer, user) != _rendered(tokenizer, [{"role": "system", "content": ""}, *user]))
    except Exception:  # noqa: BLE001  # a template that refuses a system message inserts none
        return False


def _rendered(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
    if not tokenizer.chat_template:
        lines = [f"{_ROLES.get(str(message['role']), 'User')}: {message['content']}" for message in messages]
        return (tokenizer.bos_token or "") + "\n\n".join([*lines, "Assistant:"])
    text: str = tokenizer.apply_chat_template(
        list(messages),
        tools=[dict(tool) for tool in tools] or None,
        tokenize=False,
        add_generation_prompt=True,
        strftime_now=FIXED_DATE.strftime,
        date_string=FIXED_DATE.strftime("%d %b %Y"),
    )
    return text


def _token_at(offsets: Sequence[tuple[int, int]], place: int) -> int | None:
    """The number of tokens that end at or before the character `place`; None if one goes across it."""
    count = 0
    for begin, end in offsets:
        if end > place:
            return count if begin >= place else None
        count += 1
    return count
