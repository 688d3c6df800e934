"""What the Neo4j vault must never do: build Cypher from values, speak plaintext to strangers, tell a password.

Nothing here needs a server.
"""

from __future__ import annotations

import ast
import logging
import re
import socket
from pathlib import Path

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

import neo4j
from neo4j import exceptions

import memos_agents.infrastructure.vault.neo4j as package
from memos_agents import BackendUnavailable, InvalidRequest, MemOS, MemOSError
from memos_agents.errors import AccessDenied
from memos_agents.infrastructure.provenance.values import RelationKind
from memos_agents.infrastructure.vault.neo4j import cypher, schema
from memos_agents.infrastructure.vault.neo4j.link import Tx, translate
from memos_agents.infrastructure.vault.neo4j.opening import DRIVERS, parse_address

FOLDER = Path(package.__file__).parent
STATEMENTS = sorted(FOLDER.glob("cypher*.py"))
CODE = sorted(set(FOLDER.glob("*.py")) - set(STATEMENTS))
KEYWORDS = re.compile(r"\b(MATCH|MERGE|UNWIND|CREATE|DETACH|CALL \{|RETURN)\b")
RUNNERS = {"rows", "one", "run", "autocommit", "rows_outside", "define", "_send", "_run_read"}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def built_strings(tree: ast.AST) -> list[str]:
    """Strings put together from something else, as far as they look like Cypher."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            text = " ".join(str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant))
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join")
        ):
            text = ast.unparse(node.func.value)
        else:
            continue
        if KEYWORDS.search(text):
            found.append(f"line {node.lineno}: {text[:80]}")
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_code_holds_no_cypher_and_builds_none(path: Path) -> None:
    assert built_strings(parsed(path)) == []
    if path.name != "schema.py":  # its constants are definitions, without a single value
        loose = [
            node.value[:60]
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(r"\b(MATCH|MERGE|UNWIND) ?[\n(]", node.value)
        ]
        assert loose == []


def test_the_test_above_would_notice() -> None:
    for bad in (
        "tx.rows(f'MATCH (n {{id: {value}}}) RETURN n')",
        "tx.rows('MATCH (n) WHERE n.id = ' + value)",
        "tx.rows('MATCH (n) WHERE n.id = %s' % value)",
        "'MATCH (n) WHERE n.id = {}'.format(value)",
    ):
        assert built_strings(ast.parse(bad)) != []


@pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: path.name)
def test_files_of_statements_hold_constants_only(path: Path) -> None:
    """Names are bound to literals, or to literals joined with earlier constants; no function, no f-string."""
    for node in parsed(path).body:
        assert isinstance(node, ast.Expr | ast.ImportFrom | ast.Import | ast.AnnAssign | ast.Assign), ast.unparse(node)
        for inner in ast.walk(node):
            assert not isinstance(inner, ast.JoinedStr | ast.Lambda | ast.Mod), ast.unparse(node)[:200]
            if isinstance(inner, ast.Call):  # a set of names that stand in such a file
                assert ast.unparse(inner.func) in ("frozenset", "VECTOR_PROPERTY.values"), ast.unparse(node)[:200]


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_statements_are_sent_by_name(path: Path) -> None:
    """The first argument of whatever sends a statement is a constant's name, or one of a table of constants."""
    for node in ast.walk(parsed(path)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUNNERS):
            continue
        if not node.args or ast.unparse(node.func.value) == "subprocess":
            continue
        first = node.args[0]
        is_chosen = isinstance(first, ast.Call) and ast.unparse(first.func) == "_statement"  # returns a LiteralString
        assert is_chosen or isinstance(first, ast.Name | ast.Attribute | ast.Subscript), f"{path.name}:{node.lineno}"


def test_every_statement_of_a_commit_is_bound_to_the_tenant() -> None:
    free = {"SERVER", "GET_META", "SET_META", "AWAIT_INDEXES", "HEAD_COLUMNS", "FORGET"}  # the last two are fragments
    for name, value in vars(cypher).items():
        if name.isupper() and isinstance(value, str) and name not in free:
            assert "$tenant" in value, name


def test_a_statement_without_the_tenant_is_never_sent() -> None:
    tx = Tx(None, "default", "default", "op")  # type: ignore[arg-type]  # must not be reached
    with pytest.raises(AssertionError, match="tenant"):
        tx.rows("MATCH (n:MemCube) RETURN n.text")


def test_relationship_types_are_the_closed_enum() -> None:
    assert set(re.findall(r"row\.kind = '(\w+)' CREATE \(a\)-\[r:(\w+)\]", cypher.RELATE)) == {
        (kind.value, kind.value) for kind in RelationKind
    }
    listed = re.search(r"\[r:([A-Z_|]+)\]-\n", cypher.CLOSE_RELATIONS)
    assert listed is not None
    assert set(listed[1].split("|")) == {kind.value for kind in RelationKind}


def test_the_schema_needs_no_enterprise_edition() -> None:
    for statement in schema.CONSTRAINTS:
        assert statement.endswith("IS UNIQUE")
        assert "IF NOT EXISTS" in statement
    assert not any("NODE KEY" in statement or "IS NOT NULL" in statement for statement in schema.INDEXES)


PLAIN = ["bolt://db.example:7687", "neo4j://10.0.0.7", "neo4j://[2001:db8::1]:7687", "bolt://localhost.example"]
UNCHECKED = ["neo4j+ssc://db.example", "bolt+ssc://10.0.0.7"]


@pytest.mark.parametrize("target", [*PLAIN, *UNCHECKED])
def test_memories_are_not_sent_to_another_machine_in_the_open(target: str) -> None:
    with pytest.raises(InvalidRequest, match=r"\+s://"):
        parse_address(target, allow_insecure=False)
    assert parse_address(target, allow_insecure=True).uri.startswith(target.split("://")[0])


@pytest.mark.parametrize(
    "target", ["bolt://localhost", "neo4j://127.0.0.1:7687", "bolt://[::1]:7688", "neo4j+s://db.example"]
)
def test_this_machine_and_encrypted_servers_are_fine(target: str) -> None:
    assert parse_address(target, allow_insecure=False).uri.startswith(target.rstrip("/"))


@pytest.mark.parametrize(
    "target",
    [
        "bolt://",
        "neo4j://:7687",
        "neo4j+x://localhost",
        "bolt://localhost:notaport",
        "bolt://localhost/graph",
        "http://localhost",
    ],
)
def test_other_addresses_are_refused(target: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_address(target, allow_insecure=True)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as caught:
        MemOS.open("neo4j://neo4j:swordfish@localhost:7687", embedder="none")
    assert "swordfish" not in str(caught.value)
    assert "swordfish" not in repr(caught.value.__cause__)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_a_password_is_in_no_error_log_or_name(caplog: pytest.LogCaptureFixture, unused_port: int) -> None:
    caplog.set_level(logging.DEBUG)
    before = len(DRIVERS)
    with pytest.raises(BackendUnavailable) as caught:
        MemOS.open(f"bolt://127.0.0.1:{unused_port}", auth=("neo4j", "swordfish"), embedder="none")
    shown = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r} {caplog.text}"
    assert "swordfish" not in shown
    assert "swordfish" not in repr(DRIVERS._shared)
    assert len(DRIVERS) == before, "what could not be opened is closed"


def test_the_environment_gives_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    from memos_agents.interface.settings import server_login

    assert server_login({}) is None
    assert server_login({"NEO4J_PASSWORD": "x"}) == ("neo4j", "x")
    assert server_login({"NEO4J_USERNAME": "mara", "NEO4J_PASSWORD": "x"}) == ("mara", "x")
    assert server_login({"NEO4J_USERNAME": "mara"}) is None


@pytest.mark.parametrize("auth", ["neo4j", ("neo4j",), ("neo4j", None), ("a", "b", "c"), 7])
def test_a_login_of_another_shape_is_refused(auth: object) -> None:
    with pytest.raises(InvalidRequest, match="auth"):
        MemOS.open("bolt://localhost", auth=auth, embedder="none")  # type: ignore[arg-type]  # the fault


def error_of(code: str, message: str = "the memory 'zanzibar' is bad") -> neo4j.exceptions.Neo4jError:
    return exceptions.Neo4jError._hydrate_neo4j(code=code, message=message)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (error_of("Neo.ClientError.Security.Unauthorized"), AccessDenied),
        (error_of("Neo.ClientError.Security.Forbidden"), AccessDenied),
        (error_of("Neo.ClientError.Database.DatabaseNotFound"), InvalidRequest),
        (error_of("Neo.ClientError.Statement.AccessMode"), AccessDenied),
        (error_of("Neo.TransientError.Transaction.DeadlockDetected"), BackendUnavailable),
        (error_of("Neo.DatabaseError.Transaction.TransactionCommitFailed"), BackendUnavailable),
        (error_of("Neo.ClientError.Statement.SyntaxError"), BackendUnavailable),
        (exceptions.ServiceUnavailable("zanzibar"), BackendUnavailable),
        (exceptions.SessionExpired("zanzibar"), BackendUnavailable),
    ],
)
def test_the_servers_errors_are_ours_and_quote_nothing(error: Exception, expected: type[MemOSError]) -> None:
    found = translate(error, "bolt://localhost:7687", "neo4j")
    assert type(found) is expected
    assert "zanzibar" not in str(found)
