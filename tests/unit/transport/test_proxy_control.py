# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both ends of the control of a loop: what is asked is answered, and a loop that is gone does no harm."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq

from fedmsg.exceptions import FedmsgError, TransportError
from fedmsg.transport.zmq.proxy_control import LoopEnd, ProxyControl


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyControl]:
    """Give the owner's end, with little patience."""
    monkeypatch.setattr("fedmsg.transport.zmq.proxy_control._REPLY_TIMEOUT_MS", 300)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = ProxyControl(context)
    made._context = context  # type: ignore[attr-defined]
    yield made
    made.close()
    context.term()


def loop(context: zmq.Context[zmq.Socket[bytes]], control: ProxyControl, returns: list[list[int]]) -> None:
    """Count to a number of its own in each round, until told to stop."""
    end = LoopEnd(context)
    while not control.stopping:
        end.counts[:] = [1, 10, 1, 10]
        while not end.must_return():
            end.socket.poll(20)
        returns.append(list(end.counts))
    end.socket.close(0)


def test_counts_are_carried_from_round_to_round(control: ProxyControl) -> None:
    returns: list[list[int]] = []
    thread = threading.Thread(target=loop, args=(control._context, control, returns))  # type: ignore[attr-defined]
    thread.start()
    assert control.counts() == [1, 10, 1, 10]
    for rounds in (2, 3, 4):
        control.interrupt()
        assert control.counts() == [rounds, 10 * rounds, rounds, 10 * rounds]
    control.stop()
    thread.join()
    # Each round leaves zeros behind.
    assert returns == [[0, 0, 0, 0]] * 4
    control.interrupt()


def test_a_loop_that_does_not_answer(control: ProxyControl) -> None:
    for ask in (control.counts, control.interrupt):
        with pytest.raises(FedmsgError, match="does not answer"):
            ask()
    control.stop()


def test_after_closing_there_is_nobody_to_ask(control: ProxyControl) -> None:
    control.close()
    control.close()
    for ask in (control.counts, control.interrupt):
        with pytest.raises(TransportError, match="not running"):
            ask()
    control.stop()
