"""Text: what the text index holds for a cube, and what a query looks up in it.

Both sides go through the same folding (case, compatibility forms, accents) and the Snowball English stemmer, so a
change here changes what is stored: raise `TERMS_VERSION` with it and vaults rebuild their index. Scripts written
without spaces are cut into overlapping pairs of characters, which needs no dictionary (Lucene's CJK analysis).
Rejected: the tokenizer of a database engine, because every vault would then find something else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from enum import IntFlag
from functools import lru_cache
from itertools import islice, pairwise
from threading import Lock
from typing import Final

from memos_agents.cube.memcube import MemCube

TERMS_VERSION: Final = 1
"""Changes whenever the same text would give other terms or flags."""

MAX_TERMS: Final = 20_000
MAX_TERM_CHARACTERS: Final = 64
_FLAG_CHARACTERS: Final = 16_384


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STOP_WORDS: Final = _words(
    """a about also am an and are as at be been being but by can could d did do does don for from get got had has have
    he her his how i if in into is it its just ll m me my no not of on or our re s she should so t than that the their
    them then there these they this those to too us ve very was we were what when where which who whom whose why will
    with would you your"""
)
# Thai to Khmer, kana, Han and Hangul: no spaces between words, or none that a reader can rely on.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_ASCII_WORD: Final = re.compile(r"[a-z0-9]+")
_WORD: Final = re.compile(rf"[^\W_{_UNSPACED}]+|(?:(?=\w)[{_UNSPACED}])+")
_HAN: Final = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_IS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
_CLITIC: Final = re.compile(r"(?<=[a-z])['\u2019](?:s|m|d|t|re|ve|ll)\b", re.IGNORECASE)
_THOUSANDS: Final = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


class TextFlag(IntFlag):
    """Cheap facts about a text that a ranker can compare with what a question asks for. At most 16 bits."""

    NONE = 0
    ASKS = 1
    """Ends with a question mark."""
    TIME = 2
    """Names a time: a month, a weekday, 'yesterday', '3 weeks ago'."""
    NUMBER = 4
    """Holds a number, in digits or words up to ten."""
    INSTRUCTION = 8
    """Tells how to behave from now on: 'always ...', 'never ...', 'when I ask about ...'."""
    PREFERENCE = 16
    """States a liking: 'I prefer ...', 'my favourite ...'."""
    FIRST_PERSON = 32
    """Speaks of the speaker: 'I', 'my'."""


_TIME_WORDS: Final = _words(
    """january february march april june july august september october november december jan feb mar apr jun jul aug
    sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday yesterday today tonight tomorrow
    weekend week weeks month months year years ago recently lately night morning afternoon evening last next since
    spring summer autumn fall winter"""
)
_NUMBER_WORDS: Final = _words("one two three four five six seven eight nine ten few couple several dozen once twice")
_SELF_WORDS: Final = _words("i my me mine i'm i've i'd i'll")
_FLAG_WORD: Final = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+")
_INSTRUCTION: Final = re.compile(
    r"\b(?:always|never)\b[^.?!\n]{0,120}\bwhen(?:ever)? i\b"
    r"|\bwhen(?:ever)? i (?:ask|request|inquire|mention|talk|say|bring up|want|need)\b[^.?!\n]{0,120}"
    r"\b(?:always|never|please|make sure|you should|i want you|i'd like you)\b"
    r"|(?:^|[.!?\n]\s*)(?:please,? )?(?:always|never|don't ever|make sure (?:to|you) always)\b"
    r"|\b(?:from now on|going forward|in (?:the )?future,? please)\b|\bplease (?:always|never|remember (?:to|that))\b"
)
_PREFERENCE: Final = re.compile(
    r"\bi(?:'d| would|'m| am|'ve)?(?: \w+){0,2} (?:prefer|like|love|enjoy|hate|dislike|avoid|favou?r|rather)\b"
    r"|\bfavou?rite\b|\bmy preference\b|\bnot (?:a )?fan of\b|\binstead of\b"
)

# One of these is in every text that the pattern finds; looking for them first costs a tenth of the pattern.
_OF_INSTRUCTIONS: Final = (
    "always", "never", "please", "when", "make sure", "don't ever", "from now on", "going forward", "future"
)  # fmt: skip
_OF_PREFERENCES: Final = (
    "prefer", "like", "love", "enjoy", "hate", "avoid", "favo", "rather", "fan of", "instead of"
)  # fmt: skip
_DIGIT: Final = re.compile("[0-9]")
_ASKS, _TIME, _NUMBER, _INSTRUCTS, _PREFERS, _FIRST_PERSON = (flag.value for flag in TextFlag)  # plain: 10 times faster


def index_terms(cube: MemCube) -> list[str]:
    """Everything the text index holds for `cube`, in order, repeated terms repeated: name, title, tags, text.

    Every term is non-empty, lower case, letters and digits only, at most 64 characters. At most 20,000 terms; the rest
    of a longer text is found through its vectors only. Cost: about 30 us for 30 words once their stems are cached.
    """
    header = cube.descriptive
    parts = [part for part in (header.name, header.title) if part]
    parts.extend(header.tags)
    parts.append(cube.text)
    return list(islice(_terms("\n".join(parts), is_query=False), MAX_TERMS))


def query_terms(text: str) -> list[str]:
    """The terms to look up for a question: as `index_terms`, without stop words unless nothing else is left."""
    words = list(islice(_terms(text, is_query=True), MAX_TERMS))
    return [word for word in words if word not in _stop_stems()] or words


def text_flags(text: str) -> TextFlag:
    """The flags of `text`; of a very long one (over 16,384 characters) those of its beginning and its end."""
    if len(text) > _FLAG_CHARACTERS:
        text = f"{text[: _FLAG_CHARACTERS // 2]}\n{text[-_FLAG_CHARACTERS // 2 :]}"
    lowered = text.lower().replace("\u2019", "'")
    words = set(_FLAG_WORD.findall(lowered))
    flags = 0
    if lowered.rstrip(" \n\t\"')").endswith(("?", "\uff1f", "\u061f")):
        flags |= _ASKS
    if not words.isdisjoint(_TIME_WORDS):
        flags |= _TIME
    if not words.isdisjoint(_NUMBER_WORDS) or _DIGIT.search(lowered):
        flags |= _NUMBER
    if not words.isdisjoint(_SELF_WORDS):
        flags |= _FIRST_PERSON
    if any(map(lowered.__contains__, _OF_INSTRUCTIONS)) and _INSTRUCTION.search(lowered):
        flags |= _INSTRUCTS
    if any(map(lowered.__contains__, _OF_PREFERENCES)) and _PREFERENCE.search(lowered):
        flags |= _PREFERS
    return TextFlag(flags)


def _terms(text: str, *, is_query: bool) -> Iterable[str]:
    text = text[: MAX_TERMS * 16]
    if "'" in text or "\u2019" in text:
        text = _CLITIC.sub(" ", text)
    if "," in text:
        text = _THOUSANDS.sub("", text)
    if text.isascii():
        for word in _ASCII_WORD.findall(text.lower()):
            yield _stem(word)
        return
    for run in _WORD.findall(_folded(text)):
        if run.isascii():
            yield _stem(run)
        elif not _IS_UNSPACED.match(run):
            yield run[:MAX_TERM_CHARACTERS]
        else:
            yield from _pairs(run, is_query=is_query)


def _folded(text: str) -> str:
    # Accents go (café = cafe); the voicing marks of kana stay, they make another word.
    parts = unicodedata.normalize("NFKD", text.casefold())
    kept = (sign for sign in parts if sign in "\u3099\u309a" or unicodedata.category(sign)[0] != "M")
    return unicodedata.normalize("NFC", "".join(kept)).casefold()


def _pairs(run: str, *, is_query: bool) -> Iterable[str]:
    if len(run) == 1:
        yield run
        return
    for first, second in pairwise(run):
        yield first + second
    if not is_query:  # a question may be about a single character
        yield from _HAN.findall(run)


_stemming = Lock()  # a Snowball stemmer keeps the word it works on in itself


@lru_cache(maxsize=1)
def _stemmer() -> Callable[[str], str]:
    # Named directly: snowballstemmer.stemmer() hands out PyStemmer where that is installed, of another version.
    from snowballstemmer.english_stemmer import EnglishStemmer

    stem: Callable[[str], str] = EnglishStemmer().stemWord
    return stem


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    if len(word) > MAX_TERM_CHARACTERS:
        return word[:MAX_TERM_CHARACTERS]
    if not word.isalpha():  # numbers and codes have no other forms
        return word
    with _stemming:
        return _stemmer()(word) or word


@lru_cache(maxsize=1)
def _stop_stems() -> frozenset[str]:
    return frozenset(_stem(word) for word in _STOP_WORDS)
