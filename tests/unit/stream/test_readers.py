# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a client of the stream port may be sent."""

from __future__ import annotations

import pytest

from fedmsg.stream.jobs import Part
from fedmsg.stream.readers import Reader
from fedmsg.stream.records import Entry


@pytest.fixture
def reader() -> Reader:
    reader = Reader(b"i", "client", "127.0.0.1", 0.0)
    reader.add_credit(3, 1000)
    reader.open(0)
    return reader


def test_one_message_fits_whatever_its_size_where_none_is_in_flight(reader: Reader) -> None:
    assert reader.may_take(5000)
    assert not reader.may_take(5000, 2)
    reader.sent(1, 400)
    assert not reader.may_take(5000)


def test_messages_together_have_no_more_than_the_credit(reader: Reader) -> None:
    reader.sent(1, 400)
    assert reader.may_take(600, 2)
    assert not reader.may_take(601, 2)
    assert not reader.may_take(3, 3)


def test_reader_goes_on_with_what_was_read_while_the_store_is_read_for_it(reader: Reader) -> None:
    reader.is_reading = True
    assert not reader.can_go_on(10)
    reader.set_part(Part(None, [Entry(4, 1.0, b"t", b"", ())], 8, 300))
    assert (reader.at, reader.read_until) == (0, 8)
    assert reader.can_go_on(10)
    reader.step(1)
    assert (reader.at, reader.read_until, reader.has_part) == (8, 8, False)
    assert not reader.can_go_on(10)
    reader.is_reading = False
    assert reader.can_go_on(10)
    assert not reader.can_go_on(8)
