"""Times: always aware, always UTC, microseconds, in one spelling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from memos_agents.errors import InvalidRequest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc(value: object, *, what: str) -> datetime:
    """Accept an aware datetime or an ISO 8601 string with an offset; return it in UTC.

    Raises `InvalidRequest` for naive times (whose zone would be a guess) and for anything else.
    """
    if isinstance(value, str):
        written = value
        try:
            value = datetime.fromisoformat(written)
        except ValueError as error:
            raise InvalidRequest(
                f"{what} is {written[:80]!r}, which is not an ISO 8601 time; write it like '2026-05-01T12:00:00Z'"
            ) from error
        if value.utcoffset() is None:
            raise InvalidRequest(
                f"{what} is {written[:80]!r}, which has no time zone; write it like '2026-05-01T12:00:00Z' or '+02:00'"
            )
    if not isinstance(value, datetime):
        raise InvalidRequest(f"{what} must be an aware datetime or an ISO 8601 string, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise InvalidRequest(
            f"{what} is {value.isoformat()!r}, which has no time zone; add one, e.g. .replace(tzinfo=timezone.utc)"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequest(f"{what} is {value.isoformat()!r}, which is out of range in UTC") from error


def to_microseconds(value: datetime) -> int:
    """Exact microseconds since 1970 (may be negative)."""
    return (value - EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Inverse of `to_microseconds`."""
    return EPOCH + timedelta(microseconds=value)


def iso(value: datetime) -> str:
    """Our one spelling of a time: UTC, microseconds, 'Z' (sorts as text).

    >>> iso(datetime(2026, 5, 1, 12, tzinfo=UTC))
    '2026-05-01T12:00:00.000000Z'
    """
    if value.year < 1000:
        return value.isoformat()
    return value.isoformat(timespec="microseconds")[:26] + "Z"  # a quarter of what strftime costs
