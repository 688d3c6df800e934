"""The package: what importing it needs and loads, and that its documentation says what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from memos_agents.connectors import llama_index

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "connectors_llama_index.md"
FOREIGN = ("agents", "langchain", "langchain_core", "langgraph", "mcp", "neo4j", "openai", "torch", "transformers")


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-P", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_missing_extra_is_named() -> None:
    done = run(
        "import sys\nsys.modules['llama_index'] = None\n"
        "try:\n    import memos_agents.connectors.llama_index\n"
        "except ImportError as error:\n    print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "memos_agents.connectors.llama_index needs LlamaIndex: pip install 'memos-agents[llama-index]'"
    )


def test_it_loads_no_other_framework() -> None:
    done = run(
        "import sys\nimport memos_agents.connectors.llama_index\n"
        f"print(sorted(name for name in {FOREIGN!r} if name in sys.modules))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_core_does_not_load_it() -> None:
    done = run("import sys\nimport memos_agents, memos_agents.connectors\nprint('llama_index' in sys.modules)")
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_every_name_is_there_and_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in llama_index.__all__:
        assert getattr(llama_index, name).__doc__
        assert f"`{name}`" in text, name


@pytest.mark.parametrize("position", range(2))
def test_the_documented_examples_run(position: int, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", blocks[position]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
