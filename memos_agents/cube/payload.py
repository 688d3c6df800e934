"""What a cube holds: text, or references to bytes in the blob store with a manifest that explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, cast

from memos_agents.cube.canonical import JSON


class MemoryType(StrEnum):
    """The form in which a cube's memory exists (MemOS, arXiv:2507.03724, memory types)."""

    PLAINTEXT = "plaintext"
    ACTIVATION = "activation"
    PARAMETRIC = "parametric"


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Bytes in the blob store, named by their SHA-256 (64 hexadecimal digits)."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TextPayload:
    """Plaintext memory."""

    text: str

    def to_json(self) -> dict[str, JSON]:
        return {"text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactPayload:
    """Activation or parametric memory: files by name, and what a loader must check before it trusts them."""

    manifest: Mapping[str, JSON] = field(default_factory=dict)
    blobs: Mapping[str, BlobRef] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        files: dict[str, JSON] = {name: [ref.sha256, ref.size_bytes] for name, ref in self.blobs.items()}
        return {"manifest": self.manifest, "blobs": files}


Payload: TypeAlias = TextPayload | ArtefactPayload


def payload_from_json(value: Mapping[str, JSON]) -> Payload:
    """Inverse of `to_json` of either payload."""
    if "text" in value:
        return TextPayload(cast(str, value["text"]))
    files = cast("Mapping[str, tuple[str, int]]", value["blobs"])
    return ArtefactPayload(
        manifest=cast("Mapping[str, JSON]", value["manifest"]),
        blobs={name: BlobRef(sha256, size) for name, (sha256, size) in files.items()},
    )
