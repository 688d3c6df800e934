"""ProvDocument: PROV-JSON as records with full URIs, whichever prefixes and notations it was written with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from memos_agents.cube.canonical import JSON, checked_mapping
from memos_agents.cube.moment import utc
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.provenance.prov_json import NAMESPACES

PROV = "http://www.w3.org/ns/prov#"
_BUILT_IN = {"prov": PROV, "xsd": "http://www.w3.org/2001/XMLSchema#"}


@dataclass(frozen=True, slots=True)
class Record:
    """One statement. Attributes are named `prov:…`, `memos:…` or by their URI; `uri` is its own name."""

    document: ProvDocument
    kind: str
    uri: str
    attributes: Mapping[str, JSON]

    def text(self, name: str) -> str | None:
        """The first value of an attribute as text: `1`, `{"$": "1", "type": "xsd:int"}` and `[1]` are the same."""
        value = self.attributes.get(name)
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, Mapping):
            value = value.get("$")
        if isinstance(value, bool):
            return "true" if value else "false"
        return None if value is None else str(value)

    def is_true(self, name: str) -> bool:
        return (self.text(name) or "").lower() in ("true", "1")

    def name(self, attribute: str) -> str:
        """The URI that an attribute names; empty if it is not there."""
        return self.document.uri(self.text(attribute) or "")

    def time(self, name: str) -> datetime | None:
        """A time, or None if there is none; one without a zone cannot be placed and raises `InvalidRequest`."""
        text = self.text(name)
        return None if text is None else utc(text, what=f"{name} of {self.kind} {self.uri}")

    def mapping(self, name: str) -> dict[str, JSON]:
        """JSON that was written as text."""
        try:
            return checked_mapping(json.loads(self.text(name) or "{}"), what=name)
        except ValueError as error:
            raise InvalidRequest(f"{name} of {self.kind} {self.uri} is not a JSON object: {error}") from error


class ProvDocument:
    """Gives a document's records by kind. Raises `InvalidRequest` for what is not shaped like PROV-JSON."""

    def __init__(self, document: Mapping[str, JSON]) -> None:
        content = checked_mapping(document, what="the PROV-JSON document")
        prefixes = _object(content.pop("prefix", {}), "prefix")
        self._prefixes = {**{name: str(uri) for name, uri in prefixes.items()}, **_BUILT_IN}
        self._records = {kind: self._read(kind, _object(value, kind)) for kind, value in content.items()}

    @property
    def kinds(self) -> list[str]:
        return sorted(self._records)

    def records(self, kind: str) -> list[Record]:
        return self._records.get(kind, [])

    def uri(self, name: str) -> str:
        """A qualified name written out; what has no known prefix stays as it is."""
        prefix, colon, local = name.partition(":")
        if colon and prefix in self._prefixes:
            return self._prefixes[prefix] + local
        if name and not colon and "default" in self._prefixes:
            return self._prefixes["default"] + name
        return name

    def _read(self, kind: str, named: Mapping[str, JSON]) -> list[Record]:
        records = []
        for name, value in named.items():
            for record in value if isinstance(value, list) else [value]:
                attributes = {self._short(key): item for key, item in _object(record, f"{kind} {name}").items()}
                records.append(Record(self, kind, self.uri(name), attributes))
        return records

    def _short(self, key: str) -> str:
        uri = self.uri(key)
        for prefix, base in (("prov", PROV), ("memos", NAMESPACES["memos"])):
            if uri.startswith(base):
                return f"{prefix}:{uri.removeprefix(base)}"
        return uri


def _object(value: JSON, what: str) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what!r} is not an object; is this PROV-JSON?")
    return cast("dict[str, JSON]", value)
