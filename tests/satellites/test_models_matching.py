# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one filter language: the history finds what the filter matches in live messages."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg import meta
from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from fedmsg.exceptions import UsageError
from fedmsg.filters import MessageFilter
from tests.satellites.messages import Knowing, message

VALUES: list[Any] = ["testing", "5", 5, 5.5, -1, True, False, None, "true", "", [], ["testing", 7], {"b": "testing"},
                     {}, [{"b": 5}, {"b": "x"}], {"0": "five"}, "é", 'say "hi"', "a\\b", [["testing"]]]  # fmt: skip
CORPUS = [
    message(
        f"org.fedoraproject.dev.{category}.new", msg={"a": value, "users": [category]} if n % 7 else {"other": value}
    )
    for n, (value, category) in enumerate((value, category) for value in VALUES for category in ("git", "shop"))
]
TERMS = [
    "msg.a=testing", "msg.a!=testing", "msg.a=5", "msg.a!=5", "msg.a=5.5", "msg.a=true", "msg.a=null", "msg.a=",
    "msg.a>4", "msg.a>=5", "msg.a<0", "msg.a<=5", "msg.a>t", "msg.a<t", "msg.a exists", "msg.a", "msg.a.b=testing",
    "msg.a.b=5",
    "msg.a.b exists", "msg.a.0=five", "msg.a.0=testing", "msg.a.1=7", "msg.a.1!=7", "msg.a=é", 'msg.a=say "hi"',
    "msg.a=a\\b", "msg.missing exists", "msg.missing!=1", "topic=org.fedoraproject.dev.git.new", "username=tester",
    "username!=tester", "i>3", "nothing=1", "msg exists", "msg.a.b!=5",
]  # fmt: skip


@pytest.fixture(scope="module")
def stored(history_engine: sa.Engine) -> Iterator[Any]:
    """Return the module of models, with the corpus stored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta, "processors", [Knowing(), meta.DefaultProcessor(lambda text: text, topic_prefix_re="")])
        models.add_many(CORPUS)
    yield models
    models.session.remove()
    empty(history_engine)


def names(envelope: Any) -> list[str]:
    """Return the users of a message."""
    found: list[str] = envelope["msg"].get("users", [])
    return found


def check(stored: Any, wanted: MessageFilter) -> None:
    expected = [one["body"]["msg_id"] for one in CORPUS if wanted.matches(one["body"])]
    total, _, found = stored.Message.grep(matching=wanted, rows_per_page=None)
    assert ([one.msg_id for one in found], total) == (expected, len(expected)), wanted
    found = stored.session.scalars(stored.Message.make_query(matching=wanted)).all()
    assert {one.msg_id for one in found} == set(expected)


@pytest.mark.parametrize("term", TERMS)
def test_a_condition_finds_what_it_matches(stored: Any, term: str) -> None:
    check(stored, MessageFilter(where=[term]))
    check(stored, MessageFilter(not_where=[term]))


def test_filters_find_what_they_match(stored: Any) -> None:
    chance = random.Random(1)
    topics = ["org.fedoraproject.dev.git", "org.*.shop", "*new", "*", "org.x", "org.fedoraproject.dev.git.new"]
    for _ in range(40):
        given: dict[str, Any] = {"strict": chance.random() < 0.3, "users_of": names}
        for part, choices in (("topics", topics), ("users", ["git", "shop", "no"]), ("where", TERMS)):
            if chance.random() < 0.5:
                given[f"not_{part}" if chance.random() < 0.4 else part] = chance.sample(choices, chance.choice((1, 2)))
        check(stored, MessageFilter(**given))


def test_a_regular_expression_is_rejected(stored: Any) -> None:
    with pytest.raises(UsageError, match="regular expression"):
        stored.Message.grep(matching=MessageFilter(where=["msg.a~(a+)+$"]))
