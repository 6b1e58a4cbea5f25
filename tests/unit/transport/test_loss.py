# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many messages were sent lately."""

from __future__ import annotations

from fedmsg.transport.zmq.publishing_socket import SendLog


def test_nothing_was_sent() -> None:
    assert SendLog(2.0).recent(100.0) == 0


def test_only_the_window_counts() -> None:
    log = SendLog(2.0)
    for second in range(10):
        for _ in range(5):
            log.add(100.0 + second)
    assert log.recent(109.5) == 10  # those of seconds 108 and 109
    assert log.recent(112.0) == 0
    assert log.count == 50


def test_a_message_of_long_ago_is_not_recent() -> None:
    log = SendLog(2.0)
    log.add(100.0)
    assert log.recent(100.1) == 1
    assert log.recent(102.04) == 1
    assert log.recent(102.06) == 0


def test_entries_do_not_pile_up() -> None:
    log = SendLog(2.0)
    for step in range(100_000):
        log.add(100.0 + step / 1000)
    assert len(log._entries) < 60
    assert 2000 <= log.recent(199.999) <= 2100


def test_what_is_accounted_for_is_forgotten() -> None:
    log = SendLog(2.0)
    log.add(100.0)
    log.forget()
    assert log.recent(100.1) == 0
    assert log.count == 0
