# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.commands._relayed: publishing through the relay, for commands that publish and end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedmsg.commands import _relayed
from fedmsg.exceptions import MissingEndpoint, NotListening, PossiblyLost, UsageError
from fedmsg.testing import Bus


@pytest.fixture
def bus() -> Iterator[Bus]:
    with Bus({"timeout": 5}) as found:
        found.start_relay()
        yield found


def test_it_publishes(bus: Bus) -> None:
    with bus.tail("--query", "topic,msg.log") as tail:
        with _relayed.publishing(bus.config, topic="a.b", modname="m") as publish:
            for number in range(100):
                publish({"log": number}, f"line {number}")
        tail.wait_for(", 99")
        assert tail.out == [f"org.fedoraproject.dev.m.a.b, {number}" for number in range(100)]


def test_what_is_not_fit_to_be_sent_is_named(bus: Bus) -> None:
    with (
        pytest.raises(UsageError, match=r"line 7 can't be sent: .*max_message_size"),
        _relayed.publishing({**bus.config, "max_message_size": 200}, topic="a", modname="m") as publish,
    ):
        publish({"log": "x" * 1_000}, "line 7")


def test_nobody_listens() -> None:
    with (
        Bus({"timeout": 0.1}) as bus,
        pytest.raises(NotListening),
        _relayed.publishing(bus.config, topic="a", modname="m") as publish,
    ):
        publish({}, "line 1")


def test_no_address_of_a_relay() -> None:
    with pytest.raises(MissingEndpoint), _relayed.publishing({"relay_inbound": []}, topic="a", modname="m"):
        pytest.fail("there is nothing to publish through")


def lose(bus: Bus, error: BaseException | None) -> None:
    """Publish a message to a relay that dies, and leave with an error."""
    with _relayed.publishing(bus.config, topic="a", modname="m") as publish:
        publish({}, "line 1")
        assert bus.relay is not None
        bus.relay.close()
        # Waits until the loss of the connection is known, since nobody listens any more.
        with pytest.raises(NotListening):
            publish({}, "line 2")
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), NotListening("nobody is there")])
def test_what_is_lost_is_not_kept_quiet(bus: Bus, error: BaseException | None) -> None:
    bus.config["timeout"] = 1
    with pytest.raises(PossiblyLost, match=f"about 1 messages may be lost.*{bus.config['relay_inbound'][0]}"):
        lose(bus, error)


def test_what_could_not_be_sent_after_it_is_told_too(bus: Bus) -> None:
    bus.config["timeout"] = 1
    with pytest.raises(PossiblyLost, match=r"about 1 messages may be lost.*; then nobody is there"):
        lose(bus, NotListening("nobody is there"))


def interrupt(bus: Bus) -> None:
    """Publish a message that arrives, and be interrupted then."""
    with _relayed.publishing(bus.config, topic="a", modname="m") as publish:
        publish({}, "line 1")
        raise KeyboardInterrupt


def test_an_interruption_without_loss_stays_one(bus: Bus) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(bus)
