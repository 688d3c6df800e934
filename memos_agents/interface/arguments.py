"""Arguments that several calls share, checked once: scopes, ids, limits, times, agents, cursors."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import TypeVar

from memos_agents.cube.canonical import JSON, canonical_json, checked_text
from memos_agents.cube.identity import checked_id
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.moment import utc
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import InvalidRequest, NotFound
from memos_agents.infrastructure.provenance.values import APPLICATION, Agent, RelationKind

MAX_LIMIT = 1_000
MAX_LABEL_CHARACTERS = 1_000
_WHO = "user_id=, agent_id= or session_id= (or scope=Scope(...))"

E = TypeVar("E", bound=StrEnum)


def named_scope(
    tenant: str,
    bound: Scope | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    scope: Scope | None,
) -> Scope | None:
    """The scope a call names, inside the view's own (`bound`); None if neither says anything.

    Keywords and `scope` may be given together if they do not contradict each other.
    """
    if user_id is None and agent_id is None and session_id is None and scope is None:
        return bound
    named = scope
    if not (user_id is None and agent_id is None and session_id is None):
        try:
            named = _scope(tenant, user_id, agent_id, session_id)
        except TypeError:  # unhashable, so no str
            named = Scope(tenant=tenant, user_id=user_id, agent_id=agent_id, session_id=session_id)
        if scope is not None:
            named = named.within(_tenanted(scope, tenant))
    elif scope is not None:
        named = _tenanted(scope, tenant)
    if bound is not None and named is not None:
        named = named.within(bound)
    return named


def for_reading(named: Scope | None, *, what: str) -> Scope:
    """The scope of a call that finds by content: named, or the whole tenant said explicitly."""
    if named is None or not (named.is_everything or named.user_id or named.agent_id or named.session_id):
        raise InvalidRequest(f"{what} needs to know whose memory: {_WHO}; Scope.everything() is the whole tenant")
    return named


def for_writing(named: Scope | None, *, what: str) -> Scope:
    """The scope that a new cube belongs to: at least one of user, agent and session."""
    if named is None or not (named.user_id or named.agent_id or named.session_id):
        raise InvalidRequest(f"{what} needs to know whose memory it is: {_WHO}")
    return named


def for_ids(named: Scope | None, tenant: str) -> Scope:
    """The scope of a call by id: what it names, else the whole tenant, for the application."""
    return Scope.everything(tenant) if named is None else named


def cube_id_of(value: str | MemCube) -> str:
    """The id, of a cube or as it is."""
    if not isinstance(value, str | MemCube) and isinstance(getattr(value, "cube", None), MemCube):
        raise InvalidRequest("a hit is not a cube; pass hit.cube or hit.cube.id")
    return value.id if isinstance(value, MemCube) else checked_id(value)


def no_cube(cube_id: str) -> NotFound:
    """One message, whether the cube never was, was erased or belongs to somebody else."""
    return NotFound(f"there is no cube {cube_id!r}", cube_id=cube_id)


def count_of(value: int, *, what: str, least: int = 1, most: int = MAX_LIMIT) -> int:
    """Return `value` if it is an int in range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{what} must be an int from {least} to {most:,}, not {value!r}")
    if not least <= value <= most:
        raise InvalidRequest(f"{what} is {value:,}; it must be from {least} to {most:,}")
    return value


def version_of(value: int | None, *, what: str) -> int | None:
    """Return `value` if it can be a version number, or None."""
    return None if value is None else count_of(value, what=what, most=2**31)


def time_of(value: datetime | str | None, *, what: str) -> datetime | None:
    """An aware time in UTC, or None."""
    return None if value is None else utc(value, what=what)


def agent_of(value: Agent | str | None) -> Agent:
    """Who acts: the application unless told; a str is the id of an application."""
    if value is None:
        return APPLICATION
    if isinstance(value, Agent):
        return value
    return Agent(id=check_name(value, what="agent"))


def labels_of(values: Iterable[str], *, what: str) -> tuple[str, ...]:
    """Tags, readers and the like: non-empty strings, in order, each once."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidRequest(f"{what} must be a list of str, not {values!r}")
    return tuple(dict.fromkeys(label_of(value, what=f"an entry of {what}") for value in values))


def label_of(value: str, *, what: str) -> str:
    """A short text such as a title."""
    text = checked_text(value, what=what)
    if not text or text.isspace() or len(text) > MAX_LABEL_CHARACTERS:
        raise InvalidRequest(f"{what} must have 1 to {MAX_LABEL_CHARACTERS:,} characters and say something")
    return text


def choice_of(value: str, kind: type[E], *, what: str) -> E:
    """A member of a closed set, by itself or by its name."""
    if isinstance(value, str):
        for member in kind:
            if value == member.value:
                return member
    raise InvalidRequest(f"{what} is {value!r}; it must be one of {[member.value for member in kind]}")


def choices_of(values: Iterable[str] | str | None, kind: type[E], default: frozenset[E], *, what: str) -> frozenset[E]:
    """Members of a closed set; one may stand alone; None is `default`."""
    if values is None:
        return default
    if not isinstance(values, Iterable):
        raise InvalidRequest(f"{what} is {values!r}; it must be a list of {[member.value for member in kind]}")
    several = [values] if isinstance(values, str) else list(values)
    if not several:
        raise InvalidRequest(f"{what} is empty, so nothing could match; leave it out for the usual ones")
    return frozenset(choice_of(value, kind, what=what) for value in several)


def relation_kind_of(value: RelationKind | str) -> RelationKind:
    """'CONTRADICTS' and the like."""
    return choice_of(value, RelationKind, what="the kind of a relation")


def fingerprint_of(*arguments: JSON) -> str:
    """A short digest of a listing's arguments, by which its cursors are known again."""
    return hashlib.sha256(canonical_json(list(arguments)).encode()).hexdigest()[:16]


def write_cursor(key: tuple[int, str], fingerprint: str) -> str:
    """An opaque name for a place in a listing."""
    return base64.urlsafe_b64encode(json.dumps([*key, fingerprint]).encode()).decode()


def read_cursor(cursor: str | None, fingerprint: str) -> tuple[int, str] | None:
    """Inverse of `write_cursor`; `InvalidRequest` if it is damaged or belongs to a listing with other arguments."""
    if cursor is None:
        return None
    try:
        microseconds, cube_id, found = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        found = microseconds = cube_id = None
    if type(microseconds) is not int or abs(microseconds) >= 2**63 or not isinstance(cube_id, str):
        raise InvalidRequest("this cursor is not one that list() returned; start again without a cursor")
    if found != fingerprint:
        raise InvalidRequest("this cursor belongs to a list() with other arguments; pass the same ones, or no cursor")
    return microseconds, checked_id(cube_id, what="the cursor's place")


def scope_json(scope: Scope) -> Mapping[str, JSON]:
    """A scope as one JSON value, everything told apart from unbound."""
    return {**scope.to_json(), "everything": scope.is_everything}


def _tenanted(scope: Scope, tenant: str) -> Scope:
    if not isinstance(scope, Scope):
        raise InvalidRequest(f"scope must be a Scope, not {type(scope).__name__}")
    if scope.tenant == tenant:
        return scope
    if scope.tenant != "default":
        raise InvalidRequest(f"scope names the tenant {scope.tenant!r}, but this store is open for {tenant!r}")
    if scope.is_everything:
        return Scope.everything(tenant)
    return Scope(tenant=tenant, user_id=scope.user_id, agent_id=scope.agent_id, session_id=scope.session_id)


@lru_cache(maxsize=4096)
def _scope(tenant: str, user_id: str | None, agent_id: str | None, session_id: str | None) -> Scope:
    return Scope(tenant=tenant, user_id=user_id, agent_id=agent_id, session_id=session_id)
