# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both ends of the control of a loop: what is asked is answered, and a loop that is gone does no harm."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq

from fedmsg.exceptions import FedmsgError, TransportError
from fedmsg.transport.zmq.proxy_control import LoopEnd, Steering


@pytest.fixture
def steering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steering]:
    """Give the owner's end, with little patience."""
    monkeypatch.setattr("fedmsg.transport.zmq.proxy_control._PATIENCE", 300)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = Steering(context)
    made._context = context  # type: ignore[attr-defined]
    yield made
    made.close()
    context.term()


def loop(context: zmq.Context[zmq.Socket[bytes]], steering: Steering, returns: list[list[int]]) -> None:
    """Count to a number of its own in each round, until told to stop."""
    end = LoopEnd(context)
    while not steering.stopping:
        end.counts[:] = [1, 10, 1, 10]
        while not end.told_to_return():
            end.socket.poll(20)
        returns.append(list(end.counts))
    end.socket.close(0)


def test_counts_are_carried_from_round_to_round(steering: Steering) -> None:
    returns: list[list[int]] = []
    thread = threading.Thread(target=loop, args=(steering._context, steering, returns))  # type: ignore[attr-defined]
    thread.start()
    assert steering.counts() == [1, 10, 1, 10]
    for rounds in (2, 3, 4):
        steering.interrupt()
        assert steering.counts() == [rounds, 10 * rounds, rounds, 10 * rounds]
    steering.stop()
    thread.join()
    # Each round leaves zeros behind.
    assert returns == [[0, 0, 0, 0]] * 4
    steering.interrupt()


def test_a_loop_that_does_not_answer(steering: Steering) -> None:
    for ask in (steering.counts, steering.interrupt):
        with pytest.raises(FedmsgError, match="does not answer"):
            ask()
    steering.stop()


def test_after_closing_there_is_nobody_to_ask(steering: Steering) -> None:
    steering.close()
    steering.close()
    for ask in (steering.counts, steering.interrupt):
        with pytest.raises(TransportError, match="not running"):
            ask()
    steering.stop()
