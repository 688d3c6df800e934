"""How much of a prompt a server's prefix cache holds already, by where in it the memories stand.

    python cookbook/benchmarks/prompt_layout.py --quick                       the last sessions (a minute)
    python cookbook/benchmarks/prompt_layout.py                               all of the cookbook's conversation
    python cookbook/benchmarks/prompt_layout.py --data locomo10.json          a file of LoCoMo, LongMemEval or BEAM
    python cookbook/benchmarks/prompt_layout.py --server http://127.0.0.1:8000/v1 --model NAME    also on a real server

People talk with an assistant, session by session; every turn is recorded, and for each message of the user the same
search finds the same memories, whatever the layout. Requests are those of `with_memory` ("append", "fresh"), and of
what is usual: one block at the end of the system text, by relevance, by id, or growing at its end. Their prompts go
through two models of a cache: vLLM's (blocks of 16 tokens, each known by all before it) and one like OpenAI's (from
1,024 tokens, in steps of 128); neither ever evicts. The answers are those of the conversation, so each layout has the
same history; what the server computed while it answered counts as unknown. Tokens are counted by `--tokenizer` (a
`tokenizer.json`), else as pieces of words. A server is asked for one token, and says itself what it knew
(`usage.prompt_tokens_details.cached_tokens`; vLLM needs `--enable-prompt-tokens-details`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
from openai import OpenAI
from rich.console import Console
from rich.table import Table

from memos_agents import MemOS
from memos_agents.connectors.openai import with_memory
from memos_agents.interface.recall import MAX_TOKENS, fitting, render
from memos_agents.testing.retrieval_data import read_cases

TALK = Path(__file__).parents[1] / "conversations" / "lisbon.jsonl"
LIMIT = 8
SYSTEM = (
    "You are a personal assistant. Answer in the language of the question, briefly and to the point. Use what you are "
    "told from memory where it helps, say so where it contradicts what the user says now, and never present a guess as "
    "something you remember. Ask back when a request can be understood in two ways. Do not give medical or legal "
    "advice; name the kind of person to ask instead. Times are in the user's time zone, and prices in euros unless "
    "another currency is named."
)
PIECES = re.compile(r" ?\w{1,5}|\s|[^\w\s]")

Tokenize = Callable[[str], Sequence[object]]
Message = dict[str, Any]


class Turn(NamedTuple):
    """What the user says, and what is answered."""

    asked: str
    answered: str


class Talk(NamedTuple):
    """One person's conversations with the assistant, in order."""

    user: str
    sessions: list[list[Turn]]


@dataclass
class BlockCache:
    """A prefix cache that knows a block of tokens by itself and all that came before it, and forgets nothing."""

    block: int
    minimum: int = 0
    known: set[int] = field(default_factory=set)

    def cached(self, tokens: Sequence[object]) -> int:
        """How many tokens at the beginning of a prompt are known; then all of it is."""
        chain, hits, is_hit = 0, 0, True
        for start in range(0, len(tokens) - self.block + 1, self.block):
            chain = hash((chain, tuple(tokens[start : start + self.block])))
            is_hit = is_hit and chain in self.known and start + self.block < len(tokens)  # the last one is computed
            hits += self.block * is_hit
            self.known.add(chain)
        return hits if hits >= self.minimum else 0


@dataclass
class Sums:
    """Tokens over all requests of one layout."""

    requests: int = 0
    prompt: int = 0
    paged: int = 0
    hosted: int = 0
    served_prompt: int = 0
    served: int = 0


class Server:
    """What our client speaks to: reads each request's tokens, asks the real server if there is one, says the answer."""

    def __init__(self, tokenize: Tokenize, url: str | None, model: str) -> None:
        self.tokenize, self.url, self.model = tokenize, url, model
        self.answer = ""
        self.sums = Sums()
        self.paged, self.hosted = BlockCache(16), BlockCache(128, minimum=1_024)
        self.real = httpx.Client(timeout=600)

    def client(self) -> OpenAI:
        return OpenAI(
            base_url="http://model/v1",
            api_key="none",
            http_client=httpx.Client(transport=httpx.MockTransport(self.hear)),
        )

    def hear(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        tokens = self.tokenize(prompt_of(body["messages"]))
        self.sums.requests += 1
        self.sums.prompt += len(tokens)
        self.sums.paged += self.paged.cached(tokens)
        self.sums.hosted += self.hosted.cached(tokens)
        if self.url is not None:
            asked = {"model": self.model, "messages": body["messages"], "max_tokens": 1}
            key = os.environ.get("OPENAI_API_KEY", "none")
            headers = {"Authorization": f"Bearer {key}"}
            reply = self.real.post(f"{self.url.rstrip('/')}/chat/completions", json=asked, headers=headers)
            usage = reply.raise_for_status().json()["usage"]
            self.sums.served_prompt += usage["prompt_tokens"]
            self.sums.served += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        message = {"role": "assistant", "content": self.answer}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx.Response(
            200, json={"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        )


def prompt_of(messages: Sequence[Message]) -> str:
    """As the ChatML template lays messages out."""
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def play(name: str, talks: Sequence[Talk], server: Server, *, last: int | None, max_tokens: int) -> Sums:
    """Have every conversation in one layout; only the `last` sessions of each talk are asked, all are recorded."""
    server.sums = Sums()
    system = f"Deployment {uuid4().hex}. {SYSTEM}"  # so that no layout finds what another one left
    for talk in talks:
        with MemOS.open(":memory:") as memos:
            for number, session in enumerate(talk.sessions):
                scope = {"user_id": talk.user, "session_id": f"s{number}"}
                if last is not None and number < len(talk.sessions) - last:
                    memos.add([message for turn in session for message in messages_of(turn)], merge=False, **scope)
                    continue
                say = speaker(name, memos, server.client(), scope, max_tokens)
                history: list[Message] = [{"role": "system", "content": system}]
                for turn in session:
                    server.answer = turn.answered
                    asked, answered = messages_of(turn)
                    say([*history, asked])
                    history += [asked, answered]
    return server.sums


def speaker(
    name: str, memos: MemOS, client: OpenAI, scope: Mapping[str, str], max_tokens: int
) -> Callable[[list[Any]], object]:
    """What asks the model in one layout, with all of the conversation so far, and records."""
    if name in ("append", "fresh"):
        remembering = with_memory(client, memos, **scope, limit=LIMIT, max_tokens=max_tokens, layout=name)  # type: ignore[arg-type]
        return lambda messages: remembering.chat.completions.create(model="m", messages=messages)
    view, shown = memos.scoped(user_id=scope["user_id"]), []

    def say(messages: list[Any]) -> None:
        said = {message["content"] for message in messages}
        found = view.search(messages[-1]["content"], limit=LIMIT + len(said))
        cubes = [hit.cube for hit in found if hit.cube.text not in said][:LIMIT]
        if name == "id":
            cubes.sort(key=lambda cube: cube.id)
        if name == "grows":
            both = fitting([*shown, *cubes], max_tokens=None)
            cubes = (
                both
                if len(fitting(both, max_tokens=max_tokens)) == len(both)
                else fitting(cubes, max_tokens=max_tokens)
            )
            shown[:] = cubes
        system = f"{messages[0]['content']}\n\n{render(cubes, max_tokens=max_tokens)}".rstrip()
        told = [{"role": "system", "content": system}, *messages[1:]]
        answer = client.chat.completions.create(model="m", messages=told).choices[0].message
        view.add([messages[-1], {"role": "assistant", "content": answer.content}], merge=False, **scope)

    return say


def messages_of(turn: Turn) -> list[Message]:
    return [{"role": "user", "content": turn.asked}, {"role": "assistant", "content": turn.answered}]


def read_talks(path: Path | None) -> Iterator[Talk]:
    """Sessions as turns of a user and an assistant; of two people, the one who speaks first is the user."""
    if path is None:
        sessions: dict[str, list[Message]] = {}
        for line in TALK.read_text(encoding="utf-8").splitlines():
            message = json.loads(line)
            sessions.setdefault(message["session_id"], []).append(message)
        yield Talk("mara", [turns_of(session) for session in sessions.values()])
        return
    for number, case in enumerate(read_cases(path)):
        yield Talk(f"user{number}", [turns_of(session) for session in case.sessions.values() if session])


def turns_of(session: Sequence[Mapping[str, Any]]) -> list[Turn]:
    first = session[0].get("name")
    turns: list[tuple[list[str], list[str]]] = []
    for message in session:
        is_answer = message["role"] == "assistant" or (message.get("name") != first and "assistant" not in session[0])
        if not turns or (not is_answer and turns[-1][1]):
            turns.append(([], []))
        turns[-1][is_answer].append(message["content"])
    return [Turn("\n".join(asked), "\n".join(answered)) for asked, answered in turns if asked and answered]


def tokenizer_of(path: Path | None) -> Tokenize:
    if path is None:
        return PIECES.findall
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(path))
    return lambda text: loaded.encode(text, add_special_tokens=False).ids


def table_of(sums: Mapping[str, Sums], base: str, title: str) -> Table:
    """One row a layout; "against" is the share of tokens to compute that `base` would have."""
    served = any(row.served_prompt for row in sums.values())
    table = Table(title=title, title_justify="left")
    table.add_column("memories")
    names = ["requests", "tokens a prompt", "vLLM: cached", "to compute", f"against {base}"]
    names += ["OpenAI-like: cached", "to compute", f"against {base}"]
    names += ["the server: cached", "to compute", f"against {base}"] if served else []
    for name in names:
        table.add_column(name, justify="right")
    for name, row in sums.items():
        cells = [str(row.requests), f"{row.prompt / row.requests:,.0f}"]
        pairs: list[tuple[Callable[[Sums], int], Callable[[Sums], int]]] = [
            (lambda row: row.prompt, lambda row: row.paged),
            (lambda row: row.prompt, lambda row: row.hosted),
        ]
        if served:
            pairs.append((lambda row: row.served_prompt, lambda row: row.served))
        for prompt, cached in pairs:
            left, usual = prompt(row) - cached(row), prompt(sums[base]) - cached(sums[base])
            cells += [f"{cached(row) / prompt(row):.1%}", f"{left:,}", f"{left / usual:.2f}"]
        table.add_row(name, *cells)
    return table


def context() -> str:
    """Where and with what: no figure means anything without it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("memos-agents", "openai"))
    return (
        f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, {packages}; {datetime.now(UTC):%Y-%m-%d}; "
        f"python cookbook/benchmarks/prompt_layout.py {' '.join(sys.argv[1:])}".rstrip()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the last 3 sessions are asked")
    parser.add_argument(
        "--last", type=int, help="only the last so many sessions of each talk are asked; all are recorded"
    )
    parser.add_argument("--data", type=Path, help="a file of LoCoMo, LongMemEval or BEAM as it is published")
    parser.add_argument("--talks", type=int, help="only the first so many conversations of the file")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json to count with")
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help="for memories in one prompt")
    parser.add_argument("--layouts", nargs="*", default=["relevance", "id", "grows", "fresh", "append"])
    parser.add_argument("--server", help="base URL of an OpenAI-compatible server to ask too")
    parser.add_argument("--model", default="", help="its name of the model")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 190)
    console.print(f"[dim]{context()}[/dim]")
    talks = list(read_talks(options.data))[: options.talks]
    server = Server(tokenizer_of(options.tokenizer), options.server, options.model)
    last = options.last or (3 if options.quick else None)
    sums = {name: play(name, talks, server, last=last, max_tokens=options.max_tokens) for name in options.layouts}
    title = f"{len(talks)} talks, at most {options.max_tokens:,} tokens of memories in a prompt"
    console.print(table_of(sums, next(iter(sums)), title))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
