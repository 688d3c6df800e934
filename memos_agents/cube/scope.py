"""Scope: whose memory it is."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from memos_agents.errors import InvalidRequest

MAX_NAME_BYTES = 512
FIELDS = ("tenant", "user_id", "agent_id", "session_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Who a cube belongs to, or whose cubes a read may see.

    On a write an omitted field means unbound. On a read an omitted field matches any value and a given one must be
    equal, byte for byte: no prefix, case or look-alike ever matches. `tenant` is bound when the store is opened.
    """

    tenant: str = "default"
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    is_everything: bool = False

    def __post_init__(self) -> None:
        for field in FIELDS:
            value = getattr(self, field)
            if value is not None or field == "tenant":
                check_name(value, what=field)
        if self.is_everything and (self.user_id or self.agent_id or self.session_id):
            raise InvalidRequest("Scope.everything() names no user, agent or session")

    @classmethod
    def everything(cls, tenant: str = "default") -> Scope:
        """The whole tenant: for administration. Never build it from a request."""
        return cls(tenant=tenant, is_everything=True)

    def admits(self, owner: Scope) -> bool:
        """Whether a read in this scope sees what belongs to `owner`."""
        return (
            self.tenant == owner.tenant
            and self.user_id in (None, owner.user_id)
            and self.agent_id in (None, owner.agent_id)
            and self.session_id in (None, owner.session_id)
        )

    def within(self, outer: Scope) -> Scope:
        """This scope narrowed by `outer`; `InvalidRequest` if the two name different values."""
        merged: dict[str, str | None] = {}
        for field in FIELDS:
            mine, theirs = getattr(self, field), getattr(outer, field)
            if field != "tenant" and mine is not None and theirs is not None and mine != theirs:
                raise InvalidRequest(f"{field}={mine!r} lies outside this view, which is bound to {field}={theirs!r}")
            merged[field] = theirs if theirs is not None else mine
        bound = any(merged[field] for field in FIELDS[1:])
        return Scope(
            tenant=outer.tenant,
            user_id=merged["user_id"],
            agent_id=merged["agent_id"],
            session_id=merged["session_id"],
            is_everything=(self.is_everything or outer.is_everything) and not bound,
        )

    def to_json(self) -> dict[str, str | None]:
        """Only the fields that are set."""
        return {field: value for field in FIELDS if (value := getattr(self, field)) is not None}


def check_name(value: object, *, what: str) -> str:
    """Return `value` if it can name a user, agent, session, tenant, key or collection; else `InvalidRequest`.

    Refused: the empty and the blank string, control and format characters (invisible look-alikes), lone surrogates,
    more than 512 bytes of UTF-8.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} must be a non-empty str, not {type(value).__name__}")
    if not value or value.isspace():
        raise InvalidRequest(f"{what} is {value!r}; give a non-empty name, or leave it out")
    if not (value.isascii() and value.isprintable()):
        for character in value:
            if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
                raise InvalidRequest(f"{what} holds the invisible character U+{ord(character):04X}; remove it")
        if len(value.encode()) > MAX_NAME_BYTES:
            raise InvalidRequest(f"{what} is longer than {MAX_NAME_BYTES} bytes")
    elif len(value) > MAX_NAME_BYTES:
        raise InvalidRequest(f"{what} is longer than {MAX_NAME_BYTES} bytes")
    return value
