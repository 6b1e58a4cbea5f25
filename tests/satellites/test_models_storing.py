# SPDX-License-Identifier: LGPL-2.1-or-later
"""Storing: what goes in comes out."""

from __future__ import annotations

from typing import Any

from tests.satellites.messages import START, message


def test_add_and_grep(history: Any) -> None:
    history.add(message(timestamp=START, username="me", msg={"a": [1, 2.5, None, "é"]}))
    total, pages, (found,) = history.Message.grep()
    assert (total, pages) == (1, 1)
    assert found.as_dict() == {
        "certificate": None, "crypto": None, "headers": None, "i": 0, "msg": {"a": [1, 2.5, None, "é"]},
        "msg_id": found.msg_id, "signature": None, "source_name": "datanommer",
        "source_version": found.source_version, "timestamp": float(START), "topic": "org.fedoraproject.dev.shop.order",
        "username": "me",
    } | {"i": found.i}  # fmt: skip


def test_add_many_skips_what_is_there(history: Any) -> None:
    first, second = message(), message()
    assert history.add_many([first, second, first]) == 2
    assert history.add_many([second, message()]) == 1
    assert history.Message.grep()[0] == 3
