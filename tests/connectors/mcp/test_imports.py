"""Importing the connector loads no framework, and a missing one is named by its extra."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(program: str) -> object:
    command = [sys.executable, "-P", "-W", "error", "-c", f"import json, sys\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_loads_no_framework() -> None:
    program = "import memos_agents.connectors.mcp, memos_agents.cli.mcp\n"
    loaded = run(program + "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))")
    assert isinstance(loaded, list)
    assert not {"mcp", "starlette", "openai", "agents", "langchain_core", "llama_index", "onnxruntime"} & set(loaded)


def test_serving_loads_no_other_framework() -> None:
    program = "from memos_agents.connectors.mcp import server\nimport mcp\n"
    loaded = run(program + "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))")
    assert isinstance(loaded, list)
    assert "mcp" in loaded
    assert not {"openai", "agents", "langchain_core", "langgraph", "llama_index", "torch"} & set(loaded)


def test_a_missing_library_is_named_by_its_extra() -> None:
    message = run(
        "sys.modules['mcp'] = None\ntry:\n    from memos_agents.connectors.mcp import server\n"
        "except ImportError as error:\n    print(json.dumps(str(error)))"
    )
    assert message == "the MCP server needs the package mcp: pip install 'memos-agents[mcp]'"


def test_names_are_listed_and_others_refused() -> None:
    import memos_agents.connectors.mcp as connector

    assert "server" in dir(connector)
    with pytest.raises(AttributeError, match="no attribute 'serve'"):
        _ = connector.serve  # type: ignore[attr-defined]
