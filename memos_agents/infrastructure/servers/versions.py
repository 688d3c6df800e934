"""Which Neo4j versions are started here, and which Java each of them runs on."""

from __future__ import annotations

import re

from memos_agents.errors import InvalidRequest

LONG_TERM = "5.26.31"
NEWEST = "2026.09.0"
_SHORT = {"5": LONG_TERM, "5.26": LONG_TERM, "2026": NEWEST, "2026.09": NEWEST}
_KNOWN = re.compile(r"5\.26\.\d{1,3}|20(?:2[5-9]|[3-9]\d)\.(?:0[1-9]|1[0-2])\.\d{1,3}")


def full_version(asked: str) -> str:
    """The version that `asked` means: "5" is the long-term one, "2026" the newest that we test.

    Any 5.26.x and any version named by year and month is taken as it is; whether it exists, Maven or Docker will say.

    >>> full_version("5")
    '5.26.31'
    """
    version = _SHORT.get(asked, asked)
    if not _KNOWN.fullmatch(version):
        raise InvalidRequest(
            f"Neo4j {asked[:40]!r} is no version that is started here; take {LONG_TERM!r} (or '5'), {NEWEST!r} "
            "(or '2026'), or another 5.26.x or 20YY.MM.x"
        )
    return version


def fitting_java(version: str) -> tuple[int, ...]:
    """The Java releases that a server of `version` supports, oldest first.

    >>> fitting_java("5.26.31"), fitting_java("2025.06.2"), fitting_java("2026.09.0")
    ((17, 21), (21,), (21, 25))
    """
    if version.startswith("5."):
        return (17, 21)
    year, month = version.split(".")[:2]
    return (21, 25) if (int(year), int(month)) >= (2025, 10) else (21,)
