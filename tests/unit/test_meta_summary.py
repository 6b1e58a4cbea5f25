# SPDX-License-Identifier: LGPL-2.1-or-later
"""A readable line out of any message."""

from __future__ import annotations

from typing import Any

import pytest

import fedmsg.meta
from tests.unit.plugins import CONFIG, answering, envelope, make


@pytest.mark.parametrize(
    ("topic", "msg", "more", "line"),
    [
        ("shop.sold", {"order": 17, "total": 9.5}, {"username": "ann"}, "shop sold by ann: order=17, total=9.5"),
        ("shop.order", {"user": "bob", "order": 17}, {"username": "apache"}, "shop order by bob: order=17"),
        ("shop.order", {"agent": {"name": "bob", "id": 3}, "x": True}, {}, "shop order by bob: x=True, agent.id=3"),
        ("git.push", {"commits": [{"id": "a"}, {"id": "b"}]}, {}, "git push: commits.0.id=a, commits.1.id=b"),
        ("x.y", {"tags": ["a", "b", "c", "d"], "z": None, "e": ""}, {}, "x y: tags=[a, b, c, …]"),
        ("x.y", {"id": 5, "title": "A  title\nof two lines"}, {}, "x y: title=A title of two lines, id=5"),
        ("x.y", {str(number): number for number in range(9)}, {}, "x y: 0=0, 1=1, 2=2, 3=3, 4=4, 5=5"),
        ("x.y", {"a": {"b": {"c": {"d": 1}}, "e": {}, "f": 2}, "g": 3}, {}, "x y: g=3, a.f=2"),
        ("x.y", "just text", {}, "x y: just text"),
        ("x.y", [1, 2], {}, "x y: [1, 2]"),
        ("x.y", {}, {}, "x y"),
        ("x.y", {"long": "x" * 1000}, {}, f"x y: long={'x' * 59}…"),
        ("x.y", {"s": "\x1b[31m\u202e"}, {"username": "\x07"}, "x y by \\x07: s=\\x1b[31m\\u202e"),
        ("x.y", {"n": 10**5000}, {}, "x y: n=a huge number"),
    ],
)  # fmt: skip
def test_what_nobody_knows(
    topic: str, msg: Any, more: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fedmsg.meta, "processors", [make("unhandled")])
    assert fedmsg.meta.msg2summary(envelope(topic, msg, **more), **CONFIG) == line


@pytest.mark.parametrize("msg", [None, 5, [], {}, {"topic": 5}, {"topic": ""}, {"msg": 5}])
def test_there_is_a_line_for_what_is_no_message(msg: Any) -> None:
    assert fedmsg.meta.msg2summary(msg, processor=make("x")).startswith("message")


def test_a_topic_that_is_too_short_for_a_title_is_used_whole() -> None:
    assert fedmsg.meta.msg2summary({"topic": "a.b", "msg": {}}, processor=make("x")) == "a b"


def test_a_processor_that_knows_is_heard() -> None:
    plugin = make("shop", subtitle=answering("ann bought\na lamp\x1b"), agent=answering("ann"))
    assert fedmsg.meta.msg2summary(envelope("shop.x"), processor=plugin) == "ann bought\\na lamp\\x1b"
    silent = make("shop", agent=answering("ann"), subtitle=answering("  "))
    assert fedmsg.meta.msg2summary(envelope("shop.x", {"user": "root"}), processor=silent) == "shop x by ann: user=root"
