"""`memos chat`: talk to a model of this machine that remembers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_agents.cli.session import Session
from memos_agents.cli.showing import DIM, counted
from memos_agents.cli.terminal import shortened
from memos_agents.errors import InvalidRequest

if TYPE_CHECKING:
    from memos_agents import MemOS
    from memos_agents.cube.canonical import JSON
    from memos_agents.cube.memcube import MemCube
    from memos_agents.interface.chatting import ChatReply
    from memos_agents.interface.memory_model import MemoryModel
    from memos_agents.models.generation import Timings
    from memos_agents.models.huggingface import LocalModel

MODEL = "smollm2-135m-instruct"
_QUIT = ("/quit", "/exit")
_SHOWN_TOKENS = 3_000
"""Of memories that stay from turn to turn, in estimated tokens; beyond it only what was found last stays."""
_WINDOW = 4_096
"""In tokens, where the model's configuration says nothing."""
_FORMS = {"activation": "keys and values", "plaintext": "text", "none": "left out"}
_LINE_SHOWN = 60


@dataclass(slots=True)
class _Pace:
    """What a token costs here: seconds and tokens of the longest prompt that was computed so far."""

    seconds: float = 0.0
    tokens: int = 0

    def note(self, timings: Timings) -> None:
        if timings.tokens_computed > self.tokens:
            self.seconds, self.tokens = timings.prefill_seconds, timings.tokens_computed

    def saved_seconds(self, timings: Timings) -> float | None:
        """What the reused tokens would have cost, estimated; None before anything was measured."""
        return timings.tokens_reused * self.seconds / self.tokens if self.tokens else None


@dataclass(slots=True)
class _Conversation:
    """What was said, and the memories that were shown meanwhile: they stay, so that the prompt begins the same."""

    whose: dict[str, Any]
    answering: dict[str, Any]
    window: int
    messages: list[dict[str, str]] = field(default_factory=list)
    shown: list[MemCube] = field(default_factory=list)

    def ask(self, memos: MemOS, model: MemoryModel, question: str) -> Iterator[str | ChatReply]:
        """Yield the answer's pieces and last the reply. A turn that breaks off is not part of the conversation."""
        asked = [*self.messages, {"role": "user", "content": question}]
        for piece in memos.chat(asked, model=model, memories=self.shown, stream=True, **self.whose, **self.answering):
            if not isinstance(piece, str):
                self.messages = self._fitting([*asked, {"role": "assistant", "content": piece.text}])
                self.shown = _staying(piece)
            yield piece

    def _fitting(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """Once half of the model's window is full, only its last quarter: cutting a little each time would move all."""
        from memos_agents.interface.fitting import estimate_tokens

        sizes = [estimate_tokens(message["content"]) for message in messages]
        if sum(sizes) <= self.window // 2:
            return messages
        first = len(messages)
        while first >= 2 and sum(sizes[first - 2 :]) <= self.window // 4:
            first -= 2
        return messages[first:]


def chat(
    session: Session,
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="One question; without it, a conversation.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="A known name, a folder, or an id on the Hugging Face hub.")
    ] = MODEL,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many memories at most.")] = 5,
    remember: Annotated[bool, typer.Option(help="Remember what is said (the default).")] = True,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    temperature: Annotated[
        float, typer.Option(min=0, metavar="NUMBER", help="0 always takes the likeliest word.")
    ] = 0.0,
    seed: Annotated[int | None, typer.Option(help="With a temperature: the same answer again.")] = None,
) -> None:
    """Talk to a model on this machine that remembers. Needs the extra "local".

    On a terminal a conversation, which Ctrl-D or /quit ends; otherwise each line of stdin is a question. Both turns are
    remembered (under --session, if you name one) unless you say --no-remember; what you remember of all sessions is
    found. After each answer: the memories that the model was given, each as text or as keys and values, the time to the
    first token, and an estimate of the time saved (tokens reused times what a token took in the longest prompt so far).

    With --json one line for each answer: {"question", "text", "memories", "timings", "saved_seconds_estimate",
    "remembered"}.

    Examples:
      memos chat --user mara
      memos chat "Where do I live?" --user mara --no-remember
      memos chat --user mara --session s1 --model ./my-model < questions.txt
    """
    whose = _whose(session, remember=remember)
    if question is not None and not question.strip():
        raise InvalidRequest("the question is empty; give one in quotes, or none for a conversation")
    target = session.settings.store
    readonly = not remember and "://" not in target and Path(target).exists() and not os.access(target, os.W_OK)
    session.check_store(creates=remember)
    local = _load(session, model)
    with session.store(creates=remember, readonly=readonly, embeds=True) as memos:
        loaded = memos.model(local)
        answering = {
            "limit": limit, "remember": remember, "max_new_tokens": max_new_tokens, "temperature": temperature,
            "seed": seed,
        }  # fmt: skip
        conversation, pace = _Conversation(whose, answering, _window_of(local)), _Pace()
        for asked in [question] if question is not None else _questions(session):
            _answer(session, conversation.ask(memos, loaded, asked), asked, pace)


def _whose(session: Session, *, remember: bool) -> dict[str, Any]:
    scope = session.write_scope() if remember else session.scope()
    if scope.is_everything:
        return {"scope": scope}
    return {"user_id": scope.user_id, "agent_id": scope.agent_id, "session_id": scope.session_id}


def _load(session: Session, name: str) -> LocalModel:
    """Before the store is opened: where there is no model, no store is made."""
    if session.options.quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when transformers is imported
    from memos_agents.models.huggingface import LocalModel

    with session.out.progress("preparing the model") as progress:
        return LocalModel.load(name, cache_dir=session.settings.cache_dir, progress=progress)


def _window_of(local: LocalModel) -> int:
    told: Any = getattr(local.model.config, "max_position_embeddings", None)
    return int(told or _WINDOW)


def _questions(session: Session) -> Iterator[str]:
    """What is typed until /quit or the end, or the lines of stdin; blank lines are passed over."""
    asks = sys.stdin.isatty() and not session.options.json
    if asks:
        session.out.remark("end with Ctrl-D or /quit")
        with suppress(ImportError):
            import readline  # noqa: F401  # lets input() be edited; writes nothing down
    while True:
        try:
            line = input("> ") if asks else sys.stdin.readline()
        except EOFError:
            break
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"stdin is not {error.encoding}; convert it, or set PYTHONIOENCODING") from error
        if not (line or asks) or line.strip() in _QUIT:
            break
        if line.strip():
            yield line.strip()
    if asks:
        session.out.line()


def _answer(session: Session, pieces: Iterator[str | ChatReply], question: str, pace: _Pace) -> None:
    for piece in pieces:
        if isinstance(piece, str):
            session.out.piece(piece)
            continue
        session.out.line()
        if piece.timings is not None:
            pace.note(piece.timings)
        session.out.document(_told(session, question, piece, pace))
        if not session.options.quiet:
            _show(session, piece, pace)
        sys.stdout.flush()


def _told(session: Session, question: str, reply: ChatReply, pace: _Pace) -> dict[str, JSON]:
    saved = None if reply.timings is None else pace.saved_seconds(reply.timings)
    return {
        "question": question,
        "text": reply.text,
        "memories": [session.out.fields(each) for each in reply.memories],
        "timings": None if reply.timings is None else session.out.fields(reply.timings),
        "saved_seconds_estimate": None if saved is None else round(saved, 4),
        "remembered": [cube.id for cube in reply.remembered],
    }


def _show(session: Session, reply: ChatReply, pace: _Pace) -> None:
    says = {cube.id: cube.text for cube in reply.cubes}
    for each in reply.memories:
        text = says.get(each.id) or says.get(each.asked_id) or each.reason
        session.out.line((f"{_FORMS[each.form]:<15}  {shortened(text, _LINE_SHOWN)}  {each.id}", DIM), indent=2)
    if (timings := reply.timings) is None:
        return
    tokens = timings.tokens_reused + timings.tokens_computed
    line = f"first token after {timings.first_token_seconds:.2f} s"
    if timings.tokens_reused:
        saved = pace.saved_seconds(timings) or 0
        line += (
            f"; {timings.tokens_reused:,} of {counted(tokens, 'token')} reused, about {saved:.2g} s saved (estimate)"
        )
    session.out.line((line, DIM), indent=2)


def _staying(reply: ChatReply) -> list[MemCube]:
    from memos_agents.interface.fitting import fitting

    found = [hit.cube for hit in reply.hits]
    fits = len(fitting(reply.cubes, max_tokens=_SHOWN_TOKENS)) == len(reply.cubes)
    return reply.cubes if fits else found
