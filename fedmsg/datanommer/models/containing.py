# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filters by text: ``contains``, text of keys and values or a fragment of JSON, and ``search``, words and phrases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext import compiler

from fedmsg.datanommer.models import values

__all__ = ["alternatives", "conditions", "has_words", "needed_words"]

_BLANKS = re.compile(r"([:,])\s*")
# Numbers and words of JSON with something of its structure around them. A number is taken whole: in parts, there would
# be as many ways to take a long one as there are parts of it.
_FRAGMENT = re.compile(
    r"(?=.*[\[\]{}:,])[\[\]{}:,\s]*(?:(?:-?\d[\d.eE+-]*(?![\d.eE+-])|true|false|null)[\[\]{}:,\s]*)*", re.DOTALL
)
# Colons and commas that are of the structure, not of a text.
_COLON, _COMMA = "\x01", "\x02"
_SPACED = {_COLON: ": ", _COMMA: ", "}
# Of words: a quoted phrase or a word, perhaps with a minus in front.
_TERM = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')
# What stands for a character between words.
_ESCAPE = r"\\[bfnrt]"


def conditions(column: Any, contains: Iterable[str], search: Iterable[str]) -> list[Any]:
    """Return the conditions that the JSON in a column has all texts, and what is searched for."""
    found: list[Any] = [_HasText(column, *(sa.literal(one, _Pattern()) for one in _marked(text))) for text in contains]
    for text in search:
        for is_wanted, words in _terms(text):
            has = _HasWords(column, sa.literal(words, _Words()))
            found.append(has if is_wanted else ~has)
    return found


class _HasText(sa.sql.functions.GenericFunction[bool]):
    """Whether the JSON of a message has one of some texts in it."""

    type = sa.Boolean()
    name = "fedmsg_has_text"
    inherit_cache = True


class _HasWords(sa.sql.functions.GenericFunction[bool]):
    """Whether the JSON of a message has some words in it, one after the other."""

    type = sa.Boolean()
    name = "fedmsg_has_words"
    inherit_cache = True


@compiler.compiles(_HasText, "postgresql")
def _text_in_postgresql(element: Any, made: Any, **kwargs: Any) -> str:
    column, *texts = _written(element, made, kwargs)
    return _any_of([f"CAST({column} AS TEXT) LIKE {one}" for one in texts])


@compiler.compiles(_HasText, "sqlite")
def _text_in_sqlite(element: Any, made: Any, **kwargs: Any) -> str:
    column, *texts = _written(element, made, kwargs)
    # LIKE would not see the difference between large and small letters.
    return _any_of([f"instr({column}, {one}) > 0" for one in texts])


@compiler.compiles(_HasWords, "postgresql")
def _words_in_postgresql(element: Any, made: Any, **kwargs: Any) -> str:
    column, words = _written(element, made, kwargs)
    return f"(CAST({column} AS TEXT) ~* {words})"


@compiler.compiles(_HasWords, "sqlite")
def _words_in_sqlite(element: Any, made: Any, **kwargs: Any) -> str:
    column, words = _written(element, made, kwargs)
    return f"(fedmsg_has_words({column}, {words}) = 1)"


def _written(element: Any, made: Any, kwargs: Any) -> list[str]:
    return [made.process(one, **kwargs) for one in element.clauses]


def _any_of(terms: list[str]) -> str:
    return f"({' OR '.join(terms)})"


# ---------------------------------------------------------------- contains


def _spelled(text: str, dialect: str) -> str:
    """Return a marked text as a kind of database writes it."""
    if dialect != "postgresql":
        return text.replace(_COLON, ":").replace(_COMMA, ",")
    # At the end of a fragment the blank may be missing.
    return (
        re.sub(f"[{_COLON}{_COMMA}]", lambda found: _SPACED[found[0]], text.rstrip(" ")) if _is_marked(text) else text
    )


def _is_marked(text: str) -> bool:
    return _COLON in text or _COMMA in text


class _Pattern(sa.TypeDecorator[str]):
    """A text in the form in which the JSON of a kind of database is searched."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return a pattern of LIKE for PostgreSQL."""
        text = _spelled(value or "", dialect.name)
        if dialect.name != "postgresql":
            return text
        if _is_marked((value or "")[-1:]):
            text = text.rstrip(" ")
        return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def alternatives(text: str, dialect: str) -> list[str]:
    """Return what a text may look like in the JSON of a kind of database."""
    return [_spelled(one, dialect) for one in _marked(text)]


def _marked(text: str) -> list[str]:
    """Return what a text may look like in JSON: as a text in it, or as a fragment of it, whose structure is marked."""
    text = (values.column_text(text) or "").replace(_COLON, "").replace(_COMMA, "")
    found = [json.dumps(text, ensure_ascii=False)[1:-1]]
    if '"' in text:
        # It may begin outside of a text or inside of one.
        found += [_fragment(text, 0), _fragment(text, 1)]
    elif _FRAGMENT.fullmatch(text):
        found.append(_fragment(text, 0))
    return list(dict.fromkeys(found))


def _fragment(text: str, first_inside: int) -> str:
    """Mark what is of the structure of a fragment, and remove its blanks."""
    parts = re.split(r'((?<!\\)(?:\\\\)*")', text)
    for place in range(0, len(parts), 2):
        if (place // 2 + first_inside) % 2 == 0:
            parts[place] = _BLANKS.sub(lambda found: _COLON if found[1] == ":" else _COMMA, parts[place])
    return "".join(parts)


# ---------------------------------------------------------------- search


def _terms(text: str) -> list[tuple[bool, str]]:
    """Return the words and phrases of a search, and whether they are wanted."""
    text = values.column_text(text) or ""
    found = [(not minus, " ".join((phrase or word).split())) for minus, phrase, word in _TERM.findall(text)]
    return [(is_wanted, words) for is_wanted, words in found if re.search(r"\w", words)]


def needed_words(text: str) -> list[str]:
    """Return the words that a message must have to be found by a search, as JSON writes them."""
    return [
        json.dumps(word, ensure_ascii=False)[1:-1]
        for is_wanted, words in _terms(text)
        if is_wanted
        for word in words.split()
    ]


def _expression(words: str, first: str, last: str) -> str:
    """Return a regular expression for words, with what stands for the first and the last place of a word."""
    parts = [json.dumps(word, ensure_ascii=False)[1:-1] for word in words.split()]
    # A blank, or whatever else is between words.
    text = rf"(?:{_ESCAPE}|\W)+".join(map(re.escape, parts))
    # What PostgreSQL takes for a letter beyond ASCII is a matter of its locale.
    begin = f"(?:{first}|{_ESCAPE})" if re.match(r"\w", parts[0], re.ASCII) else ""
    return begin + text + (last if re.search(r"\w\Z", parts[-1], re.ASCII) else "")


class _Words(sa.TypeDecorator[str]):
    """Words as the regular expression of PostgreSQL, or as they are."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return the expression."""
        return _expression(value or "", r"\m", r"\M") if dialect.name == "postgresql" else value


@lru_cache(256)
def _finder(words: str) -> Callable[[str], Any]:
    return re.compile(_expression(words, r"\b", r"\b"), re.IGNORECASE).search


def has_words(text: str | None, words: str) -> bool:
    """Return whether a text has some words, one after the other: the function that SQLite calls."""
    return text is not None and _finder(words)(text) is not None
