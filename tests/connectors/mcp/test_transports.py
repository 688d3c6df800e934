"""`memos mcp` in a process of its own, over stdio and over HTTP, and the server mounted with tokens."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest
import uvicorn
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from typer.testing import CliRunner

from memos_agents import AccessDenied, MemOS, Scope
from memos_agents.cli.application import app
from memos_agents.connectors.mcp import server
from memos_agents.testing import HashEmbedder

MODES = ("auto", "legacy")
EMBEDDER = "memos_agents.testing:HashEmbedder"


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMOS_")}
    return kept | {"MEMOS_EMBEDDER": EMBEDDER, "HOME": str(folder), "PYTHONWARNINGS": "error"}


def command(*options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "memos_agents", "mcp", "--store", "memos.db", *options]


@asynccontextmanager
async def over_stdio(folder: Path, errors: IO[str], *options: str, mode: str = "auto") -> AsyncIterator[Client]:
    program, *arguments = command(*options)
    parameters = StdioServerParameters(command=program, args=arguments, cwd=folder, env=environment(folder))
    async with Client(stdio_client(parameters, errlog=errors), mode=mode) as client:
        yield client


@contextmanager
def over_http(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of `memos mcp --transport http` in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "errors.txt").open("wb") as errors, (folder / "output.txt").open("wb") as output:
        running = subprocess.Popen(
            command("--transport", "http", "--port", str(port), *options),
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            wait_for(port, running)
            yield f"http://127.0.0.1:{port}/mcp", running
        finally:
            running.kill()
            running.wait()


def wait_for(port: int, running: subprocess.Popen[bytes] | None = None) -> None:
    for _ in range(600):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert running is None or running.poll() is None, "the server ended"
        time.sleep(0.1)
    raise AssertionError("the server did not start")


async def text_of(client: Client, name: str, /, **arguments: Any) -> str:
    return str((await client.call_tool(name, arguments)).content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_starts_it_over_stdio(tmp_path: Path, mode: str) -> None:
    with (tmp_path / "errors.txt").open("w+", encoding="utf-8") as errors:
        async with over_stdio(tmp_path, errors, "--user", "mara", mode=mode) as client:
            assert len((await client.list_tools()).tools) == 8
            saved = (await client.call_tool("add_memory", {"text": "Mara moved to Lisbon."})).structured_content
            assert saved is not None
            assert "Mara moved to Lisbon." in await text_of(client, "search_memories", query="Where did Mara move?")
            assert "there is no cube" in await text_of(client, "get_memory", id="01a213de-c6a4-713a-8eff-38ea2695e41d")
            found = await client.read_resource(f"memory://{saved['memory']['id']}")
            assert "Mara moved to Lisbon." in found.contents[0].text  # type: ignore[union-attr]
        errors.seek(0)
        said = errors.read()
    assert "made the new store memos.db" in said
    assert "Mara" not in said and "Traceback" not in said
    with MemOS.open(tmp_path / "memos.db", embedder=HashEmbedder()) as memos:
        assert [cube.text for cube in memos.list(user_id="mara")] == ["Mara moved to Lisbon."]
        assert memos.verify().ok


async def test_two_clients_of_one_store_have_their_own_memory(tmp_path: Path) -> None:
    with MemOS.open(tmp_path / "memos.db", embedder=HashEmbedder()):
        pass  # made first: one process makes it, both find it
    with (tmp_path / "errors.txt").open("w", encoding="utf-8") as errors:

        async def work(user: str) -> None:
            async with over_stdio(tmp_path, errors, "--user", user) as client:
                for turn in range(3):
                    await client.call_tool("add_memory", {"text": f"The secret of {user} is {turn}."})
                found = await client.call_tool("search_memories", {"query": "What is the secret?", "limit": 50})
                assert found.structured_content is not None
                texts = {hit["text"] for hit in found.structured_content["memories"]}
                assert texts == {f"The secret of {user} is {turn}." for turn in range(3)}

        await asyncio.gather(work("mara"), work("joao"))


async def test_many_clients_share_a_server_over_http_and_foreign_pages_are_refused(tmp_path: Path) -> None:
    with over_http(tmp_path, "--everything") as (address, running):

        async def work(user: str, mode: str) -> None:
            async with Client(address, mode=mode) as client:
                for turn in range(3):
                    text = f"The secret of {user} is {turn}."
                    await client.call_tool("add_memory", {"user_id": user, "text": text})
                found = await client.call_tool("search_memories", {"user_id": user, "query": "secret", "limit": 50})
                assert found.structured_content is not None
                texts = {hit["text"] for hit in found.structured_content["memories"]}
                assert texts == {f"The secret of {user} is {turn}." for turn in range(3)}

        await asyncio.gather(*(work(user, MODES[number % 2]) for number, user in enumerate(("mara", "joao", "ana"))))

        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"accept": "application/json, text/event-stream"}
        async with httpx2.AsyncClient() as http:
            refused = await http.post(address, json=ping, headers={**headers, "host": "evil.example"})
            assert refused.status_code == 421
            refused = await http.post(address, json=ping, headers={**headers, "origin": "http://evil.example"})
            assert refused.status_code == 403
            refused = await http.post(address, content="ping", headers={**headers, "content-type": "text/plain"})
            assert refused.status_code == 400
        running.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(running.wait, 60) in (0, 130)
    assert (tmp_path / "output.txt").read_bytes() == b""
    said = (tmp_path / "errors.txt").read_text(encoding="utf-8")
    assert f"serving {address}" in said
    assert "secret" not in said and "Traceback" not in said


class Tokens:
    """Knows two tokens."""

    async def verify_token(self, token: str) -> AccessToken | None:
        known = {"token-of-mara": "mara", "token-of-joao": "joao"}
        return AccessToken(token=token, client_id="app", scopes=[], subject=known[token]) if token in known else None


def scope_of_token(_: object) -> Scope:
    token = get_access_token()
    if token is None or token.subject is None:
        raise AccessDenied("the request has no token; sign in first")
    return Scope(user_id=token.subject)


@pytest.mark.parametrize("mode", MODES)
async def test_a_token_says_whose_memory_it_is(tmp_path: Path, mode: str) -> None:
    with MemOS.open(tmp_path / "memos.db", embedder=HashEmbedder(dimension=64)) as memos, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        auth = AuthSettings(issuer_url=address, resource_server_url=address, validate_token_resource=False)  # type: ignore[arg-type]
        made = server(memos, scope_of=scope_of_token, auth=auth, token_verifier=Tokens())
        web = uvicorn.Server(uvicorn.Config(made.streamable_http_app(), log_level="warning"))
        bound.listen()
        thread = threading.Thread(target=web.run, kwargs={"sockets": [bound]})
        thread.start()
        try:

            async def work(user: str) -> None:
                async with httpx2.AsyncClient(headers={"authorization": f"Bearer token-of-{user}"}, timeout=60) as http:
                    transport = streamable_http_client(f"{address}/mcp", http_client=http)
                    async with Client(transport, mode=mode) as client:
                        await client.call_tool("add_memory", {"text": f"The secret of {user}."})
                        listed = await text_of(client, "list_memories")
                        assert f"The secret of {user}." in listed and listed.count("The secret") == 1

            await asyncio.gather(work("mara"), work("joao"))
            async with httpx2.AsyncClient() as http:
                refused = await http.post(f"{address}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
                assert refused.status_code == 401
        finally:
            web.should_exit = True
            await asyncio.to_thread(thread.join)
        assert {cube.scope.user_id for cube in memos.list(scope=Scope.everything())} == {"mara", "joao"}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "whose memory?"),
        (("--user", "mara", "--host", "0.0.0.0"), 2, "this machine only"),
        (("--user", "mara", "--transport", "sse"), 2, "--transport"),
        (("--user", "mara", "--store", ":memory:"), 2, "gone when the command ends"),
        (("--user", "mara", "--store", "nowhere/memos.db"), 3, "does not exist"),
    ],
)
def test_the_command_refuses_what_cannot_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MEMOS_EMBEDDER", EMBEDDER)
    monkeypatch.delenv("MEMOS_USER", raising=False)
    result = CliRunner().invoke(app, ["mcp", *options], prog_name="memos")
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
