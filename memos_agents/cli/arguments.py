"""What people type, turned into values: times, lifespans, metadata, filters."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from memos_agents.errors import InvalidRequest

if TYPE_CHECKING:
    from memos_agents.cube.canonical import JSON

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def moment(value: str | None, *, option: str) -> datetime | None:
    """Read a date or time; without an offset it is in this computer's time zone."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value.strip()).astimezone()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{option} {value[:40]!r} is no time; write it as 2026-05-01 or 2026-05-01T14:30+02:00"
        ) from None


def seconds(value: str | None, *, option: str) -> float | None:
    """Read a lifespan: seconds, or a number with s, m, h, d or w."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", value.strip().lower())
    if match is None:
        raise InvalidRequest(f"{option} {value[:40]!r} is no lifespan; write it as 3600, 90m, 12h, 30d or 2w")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def metadata(pairs: Sequence[str], *, option: str = "--meta") -> dict[str, JSON] | None:
    """Read KEY=VALUE pairs and JSON objects; a value that is JSON is taken as JSON, else as text. None: none given."""
    if not pairs:
        return None
    found: dict[str, JSON] = {}
    for pair in pairs:
        if pair.lstrip().startswith("{"):
            found |= json_object(pair, option=option)
            continue
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"{option} takes KEY=VALUE or a JSON object; for example {option} city=Lisbon")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def json_object(value: str, *, option: str) -> dict[str, JSON]:
    """Read one JSON object."""
    try:
        parsed: object = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidRequest(f"""{option} takes a JSON object in single quotes, e.g. {option} '{{"city": "Lisbon"}}'""")
    return cast("dict[str, JSON]", parsed)
