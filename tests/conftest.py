"""What every test shares: a Hypothesis profile, servers, reasons to pass over tests whose surroundings are missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.append(str(Path(__file__).parent))  # tests are no package: this is how they import `servers`

from servers import LONG_TERM, NEWEST, FaultServer, Run, fault_server, missing_tools

# Loaded machines are slow now and then, which says nothing about a law: no deadlines.
settings.register_profile("memos", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("memos")

RUN = pytest.StashKey[Run]()


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder of this run's servers: a worker takes its controller's. Nothing is started or made here."""
    folder = getattr(config, "workerinput", {}).get("neo4j_folder")
    config.stash[RUN] = Run(folder=Path(folder)) if folder else Run.of_this_process(config.rootpath)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where this run's servers are."""
    node.workerinput["neo4j_folder"] = str(node.config.stash[RUN].folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The controller ends the servers, after its workers."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[RUN].end()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what runs on the long-term line of Neo4j alone, so that a run can leave it to another one."""
    names = getattr(item, "fixturenames", ())
    chosen = getattr(item, "callspec", None)
    is_chosen = chosen is not None and chosen.params.get("neo4j_uris") == LONG_TERM
    if is_chosen or ("neo4j_5_uri" in names and "neo4j_uri" not in names):
        item.add_marker("neo4j_5")


@pytest.hookimpl(trylast=True)  # after deselection, so that nothing is looked for on behalf of tests that do not run
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with a reason, marked tests that cannot run here."""
    missing = {
        "network": None if os.environ.get("MEMOS_TEST_NETWORK") else "set MEMOS_TEST_NETWORK=1 to reach beyond here",
    }
    if any(item.get_closest_marker("neo4j") for item in items):
        missing["neo4j"] = missing_tools()
    if any(item.get_closest_marker("gpu") for item in items):
        missing["gpu"] = None if _has_gpu() else "no CUDA device"
    for item in items:
        for name, reason in missing.items():
            if reason is not None and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def neo4j_run(pytestconfig: pytest.Config) -> Run:
    """The servers of this run, for tests that start some of their own."""
    return pytestconfig.stash[RUN]


@pytest.fixture(scope="session")
def neo4j_uri(neo4j_run: Run) -> str:
    """The address of a running server of the newest version. Others use it too: work under a tenant of your own."""
    return neo4j_run.uri(NEWEST)


@pytest.fixture(scope="session")
def neo4j_5_uri(neo4j_run: Run) -> str:
    """The address of a running server of the long-term version."""
    return neo4j_run.uri(LONG_TERM)


@pytest.fixture(scope="session", params=[NEWEST, LONG_TERM])
def neo4j_uris(request: pytest.FixtureRequest, neo4j_run: Run) -> str:
    """Each version's address in turn: a test that takes it runs on both. `indirect` parameters name versions."""
    return neo4j_run.uri(request.param)


@pytest.fixture
def fault_servers(neo4j_run: Run, request: pytest.FixtureRequest) -> Iterator[Callable[..., FaultServer]]:
    """Makes servers that belong to the test, which may kill them: `fault_servers(version=NEWEST, heap="512m")`."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    with ExitStack() as stack:
        made = 0

        def make(version: str = NEWEST, *, heap: str = "512m") -> FaultServer:
            nonlocal made
            made += 1
            name = f"fault-{worker}-{made}"
            return stack.enter_context(fault_server(neo4j_run, name, version, heap=heap))

        yield make


def _has_gpu() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


@pytest.fixture(scope="session")
def models_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for HF_HOME that all workers share, so that weights are converted once a run."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models"
