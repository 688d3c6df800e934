"""Cutting a text file into memories of a paragraph's size."""

from __future__ import annotations

import re
from collections.abc import Iterator

PIECE_CHARACTERS = 1_200
SHORT_CHARACTERS = 200


def split_text(text: str) -> list[str]:
    """Cut a text into pieces of a paragraph's size: whole paragraphs, short ones joined, long ones cut at sentences.

    Pieces have at most about 1,200 characters; a heading or another short paragraph stays with the one that follows.
    """
    pieces: list[str] = []
    pending = ""
    for paragraph in filter(None, map(str.strip, re.split(r"\n\s*\n", text))):
        joined = f"{pending}\n\n{paragraph}" if pending else paragraph
        if len(joined) > PIECE_CHARACTERS and pending:
            pieces.append(pending)
            joined = paragraph
        if len(joined) < SHORT_CHARACTERS:
            pending = joined
            continue
        pending = ""
        pieces.extend([joined] if len(joined) <= PIECE_CHARACTERS else _cut(joined))
    return [*pieces, pending] if pending else pieces


def _cut(paragraph: str) -> Iterator[str]:
    """Sentences (or lines) packed into pieces; a sentence longer than a piece is cut at words."""
    piece = ""
    for sentence in re.split(r"(?<=[.!?。！？])\s+|\n", paragraph):
        for part in _hard_cut(sentence):
            if piece and len(piece) + len(part) + 1 > PIECE_CHARACTERS:
                yield piece
                piece = ""
            piece = f"{piece} {part}" if piece else part
    if piece:
        yield piece


def _hard_cut(sentence: str) -> Iterator[str]:
    while len(sentence) > PIECE_CHARACTERS:
        at = sentence.rfind(" ", SHORT_CHARACTERS, PIECE_CHARACTERS)
        at = at if at > 0 else PIECE_CHARACTERS
        yield sentence[:at].strip()
        sentence = sentence[at:].strip()
    if sentence:
        yield sentence
