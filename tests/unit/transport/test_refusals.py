# SPDX-License-Identifier: LGPL-2.1-or-later
"""Refused messages are all counted, and told of now and then."""

from __future__ import annotations

import logging

import pytest

from fedmsg._util.ratelimit import RejectionLog
from fedmsg.exceptions import MessageError, ValidationError


def test_a_flood_is_one_line_for_each_kind_and_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    rejections = RejectionLog(logging.getLogger("test"))
    for _ in range(1000):
        rejections.add("tcp://a:1", MessageError("it is not UTF-8", "utf-8"))
        rejections.add("tcp://b:1", MessageError("it is not UTF-8", "utf-8"))
        rejections.add("tcp://a:1", MessageError("deep", "depth"))
    assert rejections.counts == {"utf-8": 2000, "depth": 1000}
    assert [record.getMessage() for record in caplog.records] == [
        "rejected a message from tcp://a:1: it is not UTF-8",
        "rejected a message from tcp://b:1: it is not UTF-8",
        "rejected a message from tcp://a:1: deep",
    ]


def test_what_went_unsaid_is_said_with_the_next(caplog: pytest.LogCaptureFixture) -> None:
    rejections = RejectionLog(logging.getLogger("test"), every=0.0)
    rejections.add("x", MessageError("a", "k"))
    rejections._every = 1000.0
    for _ in range(5):
        rejections.add("x", MessageError("a", "k"))
    rejections._quiet_until.clear()
    rejections.add("x", MessageError("a", "k"))
    assert caplog.messages[-1] == "rejected a message from x: a (and 4 more like it)"


def test_a_quoted_message_can_not_steer_the_terminal_or_fill_the_disk(caplog: pytest.LogCaptureFixture) -> None:
    RejectionLog(logging.getLogger("test")).add("x", MessageError("bad \x1b[2J\n" + "y" * 10_000))
    assert "\x1b" not in caplog.text
    assert len(caplog.messages[0]) < 400
    assert "\n" not in caplog.messages[0]


def test_an_invalid_one_is_told_of_as_before(caplog: pytest.LogCaptureFixture) -> None:
    RejectionLog(logging.getLogger("test")).add("tcp://a:1", ValidationError({}))
    assert caplog.messages == ["!! invalid message received: from tcp://a:1: the message is not valid"]
