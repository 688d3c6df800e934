"""Chatting: a question, the memories that answer it, and a model of this machine that they enter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from memos_agents.cube.identity import checked_id
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest, MemOSError
from memos_agents.interface import arguments
from memos_agents.interface.adding import Adding
from memos_agents.interface.finding import Finding
from memos_agents.interface.fitting import MAX_TOKENS, fitting
from memos_agents.interface.memory_model import MemoryModel, Reply
from memos_agents.interface.reader import read_items
from memos_agents.interface.results import Hit
from memos_agents.operation.organization import Addition, NewMemory

if TYPE_CHECKING:
    from memos_agents.models.prompts import Message

ORIGIN = "chat"
"""The origin of remembered turns."""
MAX_QUERY_CHARACTERS = 4_000
"""Of a long message its end is searched for, where the question usually stands."""


@dataclass(slots=True, kw_only=True)
class ChatReply(Reply):
    """What a model answered, and with what.

    `hits` were found and given to it, best first. `cubes` are all that it was given and that were still current, those
    that the call named first: `memories=reply.cubes` keeps them in the next turn. `remembered` are the user's turn and
    the answer as they were written, none without `remember=True`.
    """

    hits: list[Hit] = field(default_factory=list)
    cubes: list[MemCube] = field(default_factory=list)
    remembered: list[MemCube] = field(default_factory=list)


class _Asked(NamedTuple):
    """A checked call: who owns what is remembered (None: nothing is), the user's turn, and what the model gets."""

    owner: Scope | None
    turn: NewMemory
    hits: list[Hit]
    cubes: list[MemCube]


class Chatting(Adding, Finding):
    """Conversation with a local model that remembers."""

    @overload
    def chat(
        self, prompt: str | Sequence[Message], *, model: MemoryModel, user_id: str | None = ...,
        agent_id: str | None = ..., session_id: str | None = ..., scope: Scope | None = ..., limit: int = ...,
        max_tokens: int | None = ..., memories: Iterable[str | MemCube] = ..., remember: bool = ...,
        max_new_tokens: int = ..., temperature: float = ..., top_p: float = ..., stop: Sequence[str] = ...,
        seed: int | None = ..., stream: Literal[False] = ...,
    ) -> ChatReply: ...  # fmt: skip
    @overload
    def chat(
        self, prompt: str | Sequence[Message], *, model: MemoryModel, user_id: str | None = ...,
        agent_id: str | None = ..., session_id: str | None = ..., scope: Scope | None = ..., limit: int = ...,
        max_tokens: int | None = ..., memories: Iterable[str | MemCube] = ..., remember: bool = ...,
        max_new_tokens: int = ..., temperature: float = ..., top_p: float = ..., stop: Sequence[str] = ...,
        seed: int | None = ..., stream: Literal[True],
    ) -> Iterator[str | ChatReply]: ...  # fmt: skip
    def chat(
        self,
        prompt: str | Sequence[Message],
        *,
        model: MemoryModel,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        limit: int = 5,
        max_tokens: int | None = MAX_TOKENS,
        memories: Iterable[str | MemCube] = (),
        remember: bool = False,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int | None = None,
        stream: bool = False,
    ) -> ChatReply | Iterator[str | ChatReply]:
        """Answer `prompt` (a str, or messages) with what is remembered of it; `model` is from `memos.model(...)`.

        The last message of the user is searched for. At most `limit` memories are found, best first, within
        `max_tokens` of the model's own; what the messages say themselves is not found again. `memories` (ids or cubes
        in any form) enter beside them whatever the search says: those of the turn before (`reply.cubes`) keep the
        beginning of the prompt, and so its keys and values, the same. Keys and values of earlier calls are reused, in
        memory or stored (`reuse=True` of `MemoryModel.generate`, which also explains the other arguments).

        `remember` adds the user's message and the answer in one commit once the answer is complete. The answer is
        derived from the memories that the model was given: stale when one of them changes, erased with it. `stream`
        yields pieces of text and last the `ChatReply`; a stream that is abandoned remembers nothing.

        `session_id` says where turns are remembered; what is found comes from all sessions of the user or agent (from
        that session alone if nobody else is named, or if `scope` or the view names a session). Raises `InvalidRequest`
        without a scope, `NotFound` for one of `memories` outside it. If the answer cannot be remembered the
        `MemOSError` has it in `details["reply"]`.
        """
        if not isinstance(model, MemoryModel) or model._store is not self._store:
            raise InvalidRequest("model must come from memos.model(...) of this store")
        from memos_agents.models.prompts import messages_of

        owner = self._named(user_id, agent_id, session_id, scope)
        is_named = user_id is not None or agent_id is not None or scope is not None or self._bound is not None
        reads = self._named(user_id, agent_id, None, scope) if is_named else owner
        if remember:
            _ = self._store.writable
            owner = arguments.for_writing(owner, what="chat with remember=True")
        messages = messages_of(prompt)
        named = self._checked(memories, arguments.for_reading(reads, what="chat"))
        turn = _turn_of(_last_of_user(messages))
        said = {str(message["content"]) for message in messages}
        hits = [
            hit
            for hit in self.search(
                turn.text.strip()[-MAX_QUERY_CHARACTERS:],
                scope=reads,
                limit=min(arguments.count_of(limit, what="limit") + len(messages) - 1, arguments.MAX_LIMIT),
            )
            if hit.cube.text not in said
        ]
        room = {cube.id for cube in fitting(hits[:limit], max_tokens=max_tokens, count_tokens=_counter(model))}
        hits = [hit for hit in hits[:limit] if hit.cube.id in room]
        cubes = list({cube.id: cube for cube in (*named, *(hit.cube for hit in hits))}.values())
        pieces = model.generate(
            messages, memories=cubes, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, stop=stop,
            seed=seed, stream=True, reuse=True,
        )  # fmt: skip
        answering = self._answering(pieces, _Asked(owner if remember else None, turn, hits, cubes))
        if stream:
            return answering
        *_, reply = answering
        assert isinstance(reply, ChatReply)
        return reply

    def _checked(self, memories: Iterable[str | MemCube], reads: Scope) -> list[MemCube]:
        """The heads, tombstones among them: the model says of those that they were erased."""
        if isinstance(memories, str | MemCube):
            raise InvalidRequest("memories must be a list of ids or cubes")
        ids = [each.id if isinstance(each, MemCube) else checked_id(each) for each in memories]
        heads = self._store.vault.get(ids, reads) if ids else {}
        for cube_id in ids:
            if cube_id not in heads:
                raise arguments.no_cube(cube_id)
        return [heads[cube_id] for cube_id in dict.fromkeys(ids)]

    def _answering(self, pieces: Iterator[str | Reply], asked: _Asked) -> Iterator[str | ChatReply]:
        for piece in pieces:
            if isinstance(piece, str):
                yield piece
                continue
            told: dict[str, Any] = {each.name: getattr(piece, each.name) for each in fields(Reply)}
            left_out = {each.asked_id for each in piece.memories if each.form == "none"}
            cubes = [cube for cube in asked.cubes if cube.id not in left_out]
            reply = ChatReply(**told, hits=[hit for hit in asked.hits if hit.cube.id not in left_out], cubes=cubes)
            if asked.owner is not None:
                self._remember(asked.owner, asked.turn, reply)
            yield reply

    def _remember(self, owner: Scope, turn: NewMemory, reply: ChatReply) -> None:
        from memos_agents.operation.turns import plan_turns

        store = self._store
        addition = Addition(scope=owner, governance=Governance(owner=owner.user_id), merges=False)
        shown = [VersionRef(each.id, each.version) for each in reply.memories if each.form != "none"]
        try:
            turns = [turn, *([_turn_of({"role": "assistant", "content": reply.text})] if reply.text.strip() else [])]
            commit = plan_turns(
                turns, store.embed([turn.text for turn in turns]), addition, shown=shown, ids=store.ids, now=store.now()
            )
            reply.remembered = self._as_written(commit, store.commit(commit), owner)
        except MemOSError as error:
            error.details["reply"] = reply
            raise


def _last_of_user(messages: Sequence[Message]) -> Message:
    for message in reversed(messages):
        if message["role"] == "user" and message["content"].strip():
            return message
    raise InvalidRequest("the prompt has no message of the role 'user' that says something to search memory for")


def _turn_of(message: Message) -> NewMemory:
    (turn,) = read_items([message], base=Descriptive(origin=ORIGIN), metadata={})
    return turn


def _counter(model: MemoryModel) -> Callable[[str], int]:
    tokenizer = model.local.tokenizer
    return lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)
