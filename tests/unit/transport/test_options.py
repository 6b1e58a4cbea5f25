# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sockets have the options that the configuration says, asked of the sockets themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from fedmsg.exceptions import ConfigError
from fedmsg.transport.zmq import sockets
from fedmsg.transport.zmq.sockets import Context, Socket

Make = Callable[[Context, Mapping[str, Any]], Socket]
Attach = Callable[[Socket, str, str], object]

LIMIT = 77

MAKERS: dict[str, Make] = {
    "connected publisher": lambda context, config: sockets.publisher(context, config, bound=False),
    "bound publisher": lambda context, config: sockets.publisher(context, config, bound=True),
    "subscriber": sockets.subscriber,
    "passive subscriber": lambda context, config: sockets.subscriber(context, config, bound=True),
    "stream port": sockets.stream_port,
    "stream client": sockets.stream_client,
    "confirmed port": sockets.confirmed_port,
}
# Of these some options are fixed.
SPECIAL: dict[str, Make] = {
    "confirmed client": sockets.confirmed_client,
    "answerer": sockets.answerer,
    "asker": sockets.asker,
}

every_kind = pytest.mark.parametrize("kind", MAKERS)


class Workshop:
    """Makes sockets, and closes them with the block."""

    def __init__(self) -> None:
        self._context: Context = zmq.Context()
        self._sockets = ExitStack()

    def make(self, kind: str, config: Mapping[str, Any]) -> Socket:
        """Make a socket of a kind."""
        return self._sockets.enter_context({**MAKERS, **SPECIAL}[kind](self._context, config))

    def make_pair(self, config: Mapping[str, Any]) -> tuple[Socket, Socket]:
        """Make the sockets of a forwarder."""
        inbound, outbound = sockets.forwarder_pair(self._context, config, LIMIT)
        return self._sockets.enter_context(inbound), self._sockets.enter_context(outbound)

    def close(self) -> None:
        """Close everything."""
        self._sockets.close()
        self._context.term()


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    made = Workshop()
    yield made
    made.close()


def marks(socket: Socket) -> tuple[object, object]:
    """Give the limits for sending and for receiving."""
    return socket.getsockopt(zmq.SNDHWM), socket.getsockopt(zmq.RCVHWM)


@pytest.mark.parametrize(
    ("kind", "config", "mark"),
    [
        # Left alone, ZeroMQ would have 1,000, and 0 means without limit only when it is really set.
        ("connected publisher", {}, 0),
        ("connected publisher", {"high_water_mark": 0}, 0),
        ("connected publisher", {"high_water_mark": 5}, 5),
        ("bound publisher", {}, 200_000),
        ("bound publisher", {"high_water_mark": 0}, 200_000),
        ("bound publisher", {"publish_high_water_mark": 6}, 6),
        ("bound publisher", {"publish_high_water_mark": 6, "high_water_mark": 5}, 5),
        ("subscriber", {}, 100_000),
        ("subscriber", {"high_water_mark": 0}, 100_000),
        ("subscriber", {"receive_high_water_mark": 6}, 6),
        ("subscriber", {"receive_high_water_mark": 6, "high_water_mark": 5}, 5),
        ("passive subscriber", {}, 100_000),
    ],
)
def test_how_many_messages_it_may_hold(workshop: Workshop, kind: str, config: dict[str, int], mark: int) -> None:
    # A publisher receives subscriptions, of which it takes a few at a time.
    received = sockets._SUBSCRIPTIONS_AT_ONCE if "publisher" in kind else mark
    assert marks(workshop.make(kind, config)) == (mark, received)


def test_how_many_messages_a_forwarder_may_hold(workshop: Workshop) -> None:
    inbound, outbound = workshop.make_pair({"receive_high_water_mark": 6})
    assert (marks(inbound), marks(outbound)) == ((6, 6), (LIMIT, sockets._SUBSCRIPTIONS_AT_ONCE))


def option_values(socket: Socket) -> dict[str, object]:
    """Give the options that are the same for every kind of socket, under the names of their settings."""
    return {
        "zmq_linger": socket.getsockopt(zmq.LINGER),
        "zmq_tcp_keepalive": socket.getsockopt(zmq.TCP_KEEPALIVE),
        "zmq_tcp_keepalive_cnt": socket.getsockopt(zmq.TCP_KEEPALIVE_CNT),
        "zmq_tcp_keepalive_idle": socket.getsockopt(zmq.TCP_KEEPALIVE_IDLE),
        "zmq_tcp_keepalive_intvl": socket.getsockopt(zmq.TCP_KEEPALIVE_INTVL),
        "zmq_reconnect_ivl": socket.getsockopt(zmq.RECONNECT_IVL),
        "zmq_reconnect_ivl_max": socket.getsockopt(zmq.RECONNECT_IVL_MAX),
    }


# Each is another one than the default.
OTHERS = {
    "zmq_linger": 4322,
    "zmq_reconnect_ivl": 4323,
    "zmq_reconnect_ivl_max": 4324,
    "zmq_tcp_keepalive": 0,
    "zmq_tcp_keepalive_cnt": 11,
    "zmq_tcp_keepalive_idle": 2,
    "zmq_tcp_keepalive_intvl": 3,
}


@every_kind
def test_what_is_configured_is_set(workshop: Workshop, kind: str) -> None:
    assert option_values(workshop.make(kind, OTHERS)) == OTHERS


def heartbeats(socket: Socket) -> tuple[object, object]:
    """Give how often the other end is asked for a sign of life, and how long it waits for one."""
    return socket.getsockopt(zmq.HEARTBEAT_IVL), socket.getsockopt(zmq.HEARTBEAT_TTL)


# `set_tcp_keepalive` and its like set what is configured; whoever loads a configuration has the defaults in it.
@every_kind
def test_without_configuration(workshop: Workshop, kind: str) -> None:
    assert workshop.make(kind, {}).getsockopt(zmq.LINGER) == 1000


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        ("connected publisher", {}, (5000, 0)),
        ("bound publisher", {}, (5000, 10_000)),
        ("bound publisher", {"zmq_heartbeat_ivl": 300}, (300, 600)),
        ("bound publisher", {"zmq_heartbeat_ivl": 0}, (0, 0)),
        ("bound publisher", {"zmq_heartbeat_ivl": 10_000_000}, (10_000_000, 6_553_500)),
        # Whoever may stop reading leaves it to the other end, and to TCP.
        ("subscriber", {}, (0, 0)),
        ("passive subscriber", {}, (0, 0)),
        ("stream port", {}, (0, 0)),
        ("stream client", {}, (0, 0)),
        ("confirmed port", {}, (0, 0)),
        ("confirmed client", {}, (0, 0)),
        ("answerer", {}, (0, 0)),
        ("asker", {}, (0, 0)),
    ],
)
def test_who_asks_for_signs_of_life(
    workshop: Workshop, kind: str, config: dict[str, int], expected: tuple[int, int]
) -> None:
    assert heartbeats(workshop.make(kind, config)) == expected


def test_a_forwarder_asks_its_subscribers(workshop: Workshop) -> None:
    assert [heartbeats(socket) for socket in workshop.make_pair({})] == [(0, 0), (5000, 10_000)]


@every_kind
@pytest.mark.parametrize(
    ("heartbeat", "expected"),
    [(1000, (1, 1)), (12_001, (13, 13)), (40_000, (40, 20)), (0, (60, 20))],
)
def test_tcp_asks_as_often(workshop: Workshop, kind: str, heartbeat: int, expected: tuple[int, int]) -> None:
    config = {
        "zmq_heartbeat_ivl": heartbeat,
        "zmq_tcp_keepalive": 1,
        "zmq_tcp_keepalive_idle": 60,
        "zmq_tcp_keepalive_intvl": 20,
    }
    values = option_values(workshop.make(kind, config))
    assert (values["zmq_tcp_keepalive_idle"], values["zmq_tcp_keepalive_intvl"]) == expected


def test_a_forwarder_has_them_on_both_sides(workshop: Workshop) -> None:
    assert [option_values(socket) for socket in workshop.make_pair(OTHERS)] == [OTHERS, OTHERS]


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        # Who only subscribes has no business to send more than a topic.
        ("connected publisher", sockets._LONGEST_SUBSCRIPTION),
        ("bound publisher", sockets._LONGEST_SUBSCRIPTION),
        # Checked after receipt, up to a point: closing the connection would lose what else comes by it.
        ("subscriber", 4 * 5000),
        ("passive subscriber", 5000),
        ("stream client", 4 * 5000),
        ("confirmed port", 4 * 5000),
        ("stream port", sockets._LONGEST_STREAM_REQUEST),
    ],
)
def test_the_socket_itself_limits_the_size_where_others_publish_into_us(
    workshop: Workshop, kind: str, size: int
) -> None:
    assert workshop.make(kind, {"max_message_size": 5000}).getsockopt(zmq.MAXMSGSIZE) == size


def test_so_does_the_inbound_side_of_a_forwarder(workshop: Workshop) -> None:
    inbound, outbound = workshop.make_pair({"max_message_size": 5000})
    sizes = inbound.getsockopt(zmq.MAXMSGSIZE), outbound.getsockopt(zmq.MAXMSGSIZE)
    assert sizes == (5000, sockets._LONGEST_SUBSCRIPTION)


@every_kind
def test_what_is_queued_may_wait_for_a_connection(workshop: Workshop, kind: str) -> None:
    # With ZMQ_IMMEDIATE a lost connection would take along what is queued for it.
    assert workshop.make(kind, {}).getsockopt(zmq.IMMEDIATE) == 0


@pytest.mark.parametrize("attach", [sockets.bind, sockets.connect])
@pytest.mark.parametrize(("address", "ipv6"), [("tcp://127.0.0.1:{}", 0), ("tcp://[::1]:{}", 1)])
def test_ipv6_is_on_for_its_literals_alone(workshop: Workshop, attach: Attach, address: str, ipv6: int) -> None:
    socket = workshop.make("subscriber", {})
    attach(socket, address.format("*" if attach is sockets.bind else 9), "key")
    assert socket.getsockopt(zmq.IPV6) == ipv6


@pytest.mark.parametrize("attach", [sockets.bind, sockets.connect])
def test_what_is_no_address_is_named_with_its_key(workshop: Workshop, attach: Attach) -> None:
    with pytest.raises(ConfigError, match="my_key: 'nonsense' is no address"):
        attach(workshop.make("subscriber", {}), "nonsense", "my_key")


def test_bind_tells_the_port(workshop: Workshop) -> None:
    bound = sockets.bind(workshop.make("subscriber", {}), "tcp://127.0.0.1:*", "key")
    assert int(bound.removeprefix("tcp://127.0.0.1:")) > 0


def test_the_two_ends_of_a_question_hold_little_and_take_what_may_come() -> None:
    with zmq.Context() as context:
        answerer, asker = sockets.answerer(context, {}), sockets.asker(context, {"max_message_size": 5000})
        with answerer, asker:
            assert (answerer.type, asker.type) == (zmq.ROUTER, zmq.DEALER)
            for socket, biggest in ((answerer, 1024 * 1024), (asker, 5000)):
                assert socket.getsockopt(zmq.SNDHWM) == socket.getsockopt(zmq.RCVHWM) == 2
                assert socket.getsockopt(zmq.MAXMSGSIZE) == biggest
            assert answerer.getsockopt(zmq.TCP_MAXRT) == 30_000
            assert answerer.getsockopt(zmq.SNDBUF) == 512 * 1024
            assert asker.getsockopt(zmq.LINGER) == 0
