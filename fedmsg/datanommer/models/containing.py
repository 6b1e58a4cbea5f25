# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter ``contains``: text of a message's keys and values, or a fragment of its JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext import compiler

from fedmsg.datanommer.models import values

__all__ = ["condition"]

_BLANKS = re.compile(r"([:,])\s*")
# Numbers and words of JSON with something of its structure around them.
_FRAGMENT = re.compile(r"(?=.*[\[\]{}:,])[\[\]{}:,\s]*(?:(?:-?\d[\d.eE+-]*|true|false|null)[\[\]{}:,\s]*)*", re.DOTALL)


class has_text(sa.sql.functions.GenericFunction[bool]):  # noqa: N801 it is a function of SQL
    """Whether the JSON of a message has one of some texts in it."""

    type = sa.Boolean()
    inherit_cache = True


@compiler.compiles(has_text, "postgresql")
def _for_postgresql(element: Any, made: Any, **kwargs: Any) -> str:
    column, *texts = element.clauses
    return _any_of(
        [f"CAST({made.process(column, **kwargs)} AS TEXT) LIKE {made.process(one, **kwargs)}" for one in texts]
    )


@compiler.compiles(has_text, "sqlite")
def _for_sqlite(element: Any, made: Any, **kwargs: Any) -> str:
    column, *texts = element.clauses
    # LIKE would not see the difference between large and small letters.
    return _any_of([f"instr({made.process(column, **kwargs)}, {made.process(one, **kwargs)}) > 0" for one in texts])


def _any_of(terms: list[str]) -> str:
    return f"({' OR '.join(terms)})"


class _Pattern(sa.TypeDecorator[str]):
    """A text in the form in which the JSON of a kind of database is searched."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return a pattern of LIKE for PostgreSQL, which writes blanks after colons and commas."""
        text = value or ""
        if dialect.name != "postgresql":
            return text.replace(_COLON, ":").replace(_COMMA, ",")
        text = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        # At the end of a fragment the blank may be missing.
        return "%" + re.sub(f"[{_COLON}{_COMMA}]", lambda found: _SPACED[found[0]], text).removesuffix(" ") + "%"


# Colons and commas that are of the structure, not of a text.
_COLON, _COMMA = "\x01", "\x02"
_SPACED = {_COLON: ": ", _COMMA: ", "}


def condition(column: Any, text: str) -> sa.ColumnElement[bool]:
    """Return the condition that the JSON in a column contains a text."""
    return has_text(column, *(sa.literal(one, _Pattern()) for one in _alternatives(text)))


def _alternatives(text: str) -> list[str]:
    """Return what a text may look like in JSON: as a text in it, or as a fragment of it."""
    text = values.column_text(text) or ""
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
            parts[place] = _BLANKS.sub(
                lambda found: _COLON if found[1] == ":" else _COMMA, parts[place].replace("\x01", "")
            )
    return "".join(parts)
