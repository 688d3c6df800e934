"""Stores that every test of the OpenAI connector runs on, and a server that speaks OpenAI's two APIs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from memos_agents import MemOS
from memos_agents.testing import HashEmbedder


@pytest.fixture
def memos(store_target: str) -> Iterator[MemOS]:
    with MemOS.open(store_target, embedder=HashEmbedder(dimension=64)) as opened:
        yield opened


class ModelServer(ThreadingHTTPServer):
    """A model behind OpenAI's two APIs, on loopback: says what it was told to say, and keeps what it was asked.

    `script` holds an answer a call: a text, a function call as (name, arguments), or `Broken(pieces)`: that many pieces
    of a stream, then the connection closes. `asked` are the request bodies, with their path.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def next_answer(self, request: dict[str, Any]) -> tuple[int, Any]:
        with self.lock:
            self.asked.append(request)
            return len(self.asked), self.script.pop(0) if self.script else f"answer {len(self.asked)}"

    def told(self, number: int = -1) -> str:
        """Everything that the model was told in one call, as text."""
        body = self.asked[number]
        return json.dumps([body.get("instructions"), body.get("input"), body.get("messages")], ensure_ascii=False)


@dataclass
class Broken:
    pieces: int = 1


@dataclass
class Cut:
    """An answer that ends at the length limit."""

    text: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._reply({"object": "list", "data": [{"id": "tiny", "object": "model", "created": 0, "owned_by": "us"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number, answer = self.server.next_answer({**body, "path": self.path})
        if isinstance(answer, int):
            self._reply({"error": {"message": "the model is down", "type": "server_error"}}, status=answer)
            return
        if self.path.endswith("/responses/compact"):
            item = {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAAA=="}
            self._reply({**_response(number, "unused"), "object": "response.compaction", "output": [item]})
            return
        is_chat = self.path.endswith("/chat/completions")
        if body.get("stream"):
            self._stream(answer, _chunks(number, answer) if is_chat else _events(number, answer), is_chat)
        else:
            self._reply(_completion(number, answer) if is_chat else _response(number, answer))

    def _reply(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, answer: Any, events: list[dict[str, Any]], is_chat: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lines = [f"data: {json.dumps(event)}\n\n" if is_chat else _event_lines(event) for event in events]
        if isinstance(answer, Broken):
            lines = lines[: answer.pieces]
        elif is_chat:
            lines.append("data: [DONE]\n\n")
        for line in lines:
            data = line.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if not isinstance(answer, Broken):
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
        self.close_connection = True


def _event_lines(event: dict[str, Any]) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _text(answer: Any) -> str | None:
    if isinstance(answer, Broken):
        return "this answer breaks off in the middle"
    return answer.text if isinstance(answer, Cut) else answer if isinstance(answer, str) else None


def _pieces(text: str) -> list[str]:
    return [piece + " " for piece in text.split(" ")[:-1]] + [text.split(" ")[-1]]


def _completion(number: int, answer: Any) -> dict[str, Any]:
    text = _text(answer)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if text is None:
        function = {"name": answer[0], "arguments": json.dumps(answer[1])}
        message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
    reason = "length" if isinstance(answer, Cut) else "stop" if text is not None else "tool_calls"
    return {
        "id": f"chatcmpl_{number}",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _chunks(number: int, answer: Any) -> list[dict[str, Any]]:
    whole = _completion(number, answer)
    message, reason = whole["choices"][0]["message"], whole["choices"][0]["finish_reason"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if message["content"] is None:
        deltas.append({"tool_calls": [{"index": 0, **message["tool_calls"][0]}]})
    else:
        deltas += [{"content": piece} for piece in _pieces(message["content"])]
    frame = {"id": whole["id"], "object": "chat.completion.chunk", "created": 0, "model": "tiny"}
    chunks = [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    chunks.append({**frame, "choices": [], "usage": whole["usage"]})
    return chunks


def _response(number: int, answer: Any) -> dict[str, Any]:
    text = _text(answer)
    item: dict[str, Any] = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed"}
    if text is None:
        item = {"id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}", "status": "completed"}
        item |= {"name": answer[0], "arguments": json.dumps(answer[1])}
    else:
        item["content"] = [{"type": "output_text", "text": text, "annotations": []}]
    is_cut = isinstance(answer, Cut)
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 0,
        "model": "tiny",
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
    }


def _events(number: int, answer: Any) -> list[dict[str, Any]]:
    whole = _response(number, answer)
    item = whole["output"][0]
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    if item["type"] == "message":
        place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        part = item["content"][0]
        empty = {**item, "content": [], "status": "in_progress"}
        events.append({"type": "response.output_item.added", "output_index": 0, "item": empty})
        events.append({"type": "response.content_part.added", **place, "part": {**part, "text": ""}})
        delta = {"type": "response.output_text.delta", **place, "logprobs": []}
        events += [{**delta, "delta": piece} for piece in _pieces(part["text"])]
        events.append({"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []})
        events.append({"type": "response.content_part.done", **place, "part": part})
    else:
        events.append({"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}})
        place = {"item_id": item["id"], "output_index": 0}
        done = {"name": item["name"], "arguments": item["arguments"]}
        events.append({"type": "response.function_call_arguments.done", **place, **done})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return [{**event, "sequence_number": place} for place, event in enumerate(events)]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def broken() -> type[Broken]:
    return Broken


@pytest.fixture
def cut() -> type[Cut]:
    return Cut
