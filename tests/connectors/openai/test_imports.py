"""Importing the connector needs nothing; each name needs its own library only, and says which when it is missing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HIDE = """
import importlib.abc, sys
class Hider(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hider())
"""


def run(program: str, hidden: tuple[str, ...] = ()) -> object:
    whole = f"import json, sys\nHIDDEN = {hidden!r}\n{HIDE}\n{program}"
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", whole], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_loads_no_framework() -> None:
    loaded = run(
        "import memos_agents.connectors.openai as connector\n"
        "from memos_agents.connectors.openai import memory_tools\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    assert isinstance(loaded, list)
    assert not {"openai", "agents", "mcp", "langchain_core", "langgraph", "llama_index", "onnxruntime"} & set(loaded)


def test_the_connector_does_not_hide_the_library() -> None:
    assert run(
        "import memos_agents.connectors.openai, openai\nprint(json.dumps([openai.__name__, hasattr(openai, 'OpenAI')]))"
    ) == ["openai", True]


def test_a_client_needs_no_agents_sdk() -> None:
    program = (
        "from openai import OpenAI\nfrom memos_agents import MemOS\nfrom memos_agents.testing import HashEmbedder\n"
        "from memos_agents.connectors.openai import with_memory, memory_tools\n"
        "memos = MemOS.open(':memory:', embedder=HashEmbedder())\n"
        "client = with_memory(OpenAI(api_key='unused'), memos, user_id='mara')\n"
        "print(json.dumps([type(client).__name__, len(memory_tools(memos, user_id='mara').responses)]))"
    )
    assert run(program, hidden=("agents",)) == ["OpenAI", 7]


@pytest.mark.parametrize(
    ("hidden", "program", "extra"),
    [
        ("agents", "from memos_agents.connectors.openai import MemOSSession", "openai-agents"),
        ("openai", "from memos_agents.connectors.openai import with_memory; with_memory(None, None)", "openai"),
        (
            "agents",
            (
                "from memos_agents import MemOS; from memos_agents.connectors.openai import memory_tools\n"
                "memory_tools(MemOS.open(':memory:', embedder='none'), user_id='a').agents()"
            ),
            "openai-agents",
        ),
    ],
)
def test_a_missing_library_is_named_by_its_extra(hidden: str, program: str, extra: str) -> None:
    lines = "\n".join(f"    {line}" for line in program.splitlines())
    message = run(f"try:\n{lines}\nexcept ImportError as error:\n    print(json.dumps(str(error)))", hidden=(hidden,))
    assert isinstance(message, str)
    assert f"pip install 'memos-agents[{extra}]'" in message


def test_names_are_listed_and_others_refused() -> None:
    import memos_agents.connectors.openai as connector

    assert {"MemOSSession", "memory_tools", "with_memory", "handle_tool_call"} <= set(dir(connector))
    with pytest.raises(AttributeError, match="no attribute 'Memory'"):
        _ = connector.Memory  # type: ignore[attr-defined]
