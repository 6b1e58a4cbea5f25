# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one filter language as SQL: what a `MessageFilter` matches, the history finds.

Topics are matched by the filter itself, with those that were ever stored. A condition on a field is a path of JSON
in PostgreSQL, and a function that SQLite calls.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext import compiler

from fedmsg.datanommer.models import query, schema
from fedmsg.exceptions import UsageError
from fedmsg.filters import MessageFilter, Term

__all__ = ["CONDITION_KEYS", "conditions"]

#: What conditions are about besides what a message says, of its columns.
CONDITION_KEYS = ("topic", "username", "msg_id", "i", "category", "crypto")


class _Meets(sa.sql.functions.GenericFunction[bool]):
    """Whether an envelope meets a condition."""

    type = sa.Boolean()
    name = "fedmsg_meets"
    inherit_cache = True


@compiler.compiles(_Meets, "postgresql")
def _in_postgresql(element: Any, made: Any, **kwargs: Any) -> str:
    envelope, path = (made.process(one, **kwargs) for one in element.clauses)
    # Null where a strict path does not fit.
    return f"coalesce(jsonb_path_exists({envelope}, CAST({path} AS JSONPATH), '{{}}', true), false)"


@compiler.compiles(_Meets, "sqlite")
def _in_sqlite(element: Any, made: Any, **kwargs: Any) -> str:
    envelope, term = (made.process(one, **kwargs) for one in element.clauses)
    return f"(fedmsg_meets({envelope}, {term}) = 1)"


class _Path(sa.TypeDecorator[str]):
    """A condition as a path of PostgreSQL, or as it is written."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, *, lists: bool = False) -> None:
        super().__init__()
        self.lists = lists

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return the path."""
        return _path(Term(value or ""), self.lists) if dialect.name == "postgresql" else value


def conditions(session: orm.Session, model: Any, wanted: MessageFilter) -> list[Any]:
    """Return a filter as conditions on messages.

    Raises:
        UsageError: It has a regular expression, which can take for ever to search.
    """
    given = wanted.given
    found: list[Any] = []
    if given["topics"] or given["not_topics"]:
        stored = session.scalars(sa.select(schema.topics.c.topic))
        found.append(model.topic.in_([topic for topic in stored if wanted.matches_topic(topic)]))
    of_names = query.Filters(
        users=given["users"], not_users=given["not_users"], packages=given["packages"],
        not_packages=given["not_packages"],
    )  # fmt: skip
    found += query.conditions(model, of_names)
    for part, is_wanted in (("where", True), ("not_where", False)):
        for text in given[part]:
            met = _meets(model, Term(text))
            found.append(met if is_wanted else ~met)
    return found


def _meets(model: Any, term: Term) -> Any:
    if term.is_pattern:
        raise UsageError(f"{term.text!r}: a history can't be searched for a regular expression; use contains")
    pairs = [part for key in CONDITION_KEYS if key == term.path[0] for part in (key, getattr(model, key))]
    envelope = _json_object(*(pairs or ("msg", model.msg)))
    # The opposite also matches where the field is missing.
    equal = f"{'.'.join(term.path)}={term.value}" if term.sign == "!=" else term.text
    met: Any = _Meets(envelope, sa.literal(equal, _Path()))
    if any(map(_is_place, term.path)):
        # A number is a key, or the place in a list.
        met = sa.or_(met, _Meets(envelope, sa.literal(equal, _Path(lists=True))))
    return ~met if term.sign == "!=" else met


def _is_place(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10


class _json_object(sa.sql.functions.GenericFunction[Any]):  # noqa: N801 it is a function of SQL
    """An object with one key."""

    type = sa.Text()
    name = "fedmsg_json_object"
    inherit_cache = True


@compiler.compiles(_json_object, "postgresql")
def _object_in_postgresql(element: Any, made: Any, **kwargs: Any) -> str:
    key, value = (made.process(one, **kwargs) for one in element.clauses)
    return f"jsonb_build_object(CAST({key} AS TEXT), {value})"


@compiler.compiles(_json_object, "sqlite")
def _object_in_sqlite(element: Any, made: Any, **kwargs: Any) -> str:
    key, value = (made.process(one, **kwargs) for one in element.clauses)
    is_json = getattr(list(element.clauses)[1], "name", "") == "msg"
    return f"json_object({key}, {f'json({value})' if is_json else value})"


# ---------------------------------------------------------------- paths


def _path(term: Term, lists: bool) -> str:
    """Return a condition as a path of PostgreSQL: numbers in it are keys, or else the places in lists."""
    test = _test(term)
    if not lists:
        # Of a list the items are tested, but not what is in a list in it.
        return (
            "$"
            + "".join(f".{json.dumps(key)}" for key in term.path)
            + (test and f' ? (@.type() != "array" && ({test}))')
        )
    keys = "".join(f"[{int(key)}]" if _is_place(key) else f".{json.dumps(key)}" for key in term.path)
    # A strict path takes nothing for a list that is none, and does not look into lists by itself.
    return f"strict ${keys}" + (test and f' ? ({test} || (@.type() == "array" && exists(@[*] ? ({test}))))')


def _test(term: Term) -> str:
    """Return the test of one value; empty where it only has to be there."""
    if term.sign is None:
        return ""
    value = json.dumps(term.value)
    if term.sign not in {"=", "!="}:
        return f"@ {term.sign} {value if term.number is None else json.dumps(term.number)}"
    equal = [f"@ == {value}"]
    if term.number is not None:
        equal.append(f"@ == {json.dumps(term.number)}")
    elif term.value in {"true", "false", "null"}:
        equal.append(f"@ == {term.value}")
    return " || ".join(equal)
