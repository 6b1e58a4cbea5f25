# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishers against real relays and subscribers: when they send, when they wait, what they report."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zmq

from fedmsg.exceptions import AddressInUse, ConfigError, NotListening
from fedmsg.testing import free_address, wait_until
from fedmsg.transport.zmq import contexts, publisher
from fedmsg.transport.zmq.publisher import Publisher


class FakeRelay:
    """The inbound half of a relay, as plain as can be, in this thread."""

    def __init__(self, address: str, *topics: bytes) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.XSUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(address)
        for topic in topics or (b"",):
            self.socket.send(b"\x01" + topic)

    def wait(self, condition: Any) -> None:
        """Let ZeroMQ work until something is so."""
        wait_until(condition, meanwhile=lambda: self.socket.poll(5))

    def receive(self) -> list[bytes]:
        assert self.socket.poll(5000)
        return self.socket.recv_multipart()

    def close(self) -> None:
        self.socket.close(0)
        self.context.term()


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def opened() -> Iterator[list[Publisher]]:
    """Publishers that a test opened; they are closed behind it."""
    publishers: list[Publisher] = []
    yield publishers
    for each in publishers:
        publisher.close(each)


def connect(opened: list[Publisher], *addresses: str, **config: Any) -> publisher.ConnectedPublisher:
    made = publisher.open_connected({"timeout": 5, **config}, "relay_inbound", list(addresses))
    opened.append(made)
    return made


def in_background(function: Any, *arguments: Any) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def call() -> None:
        try:
            function(*arguments)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, errors


def send(made: Publisher, relay: FakeRelay, topic: bytes = b"t", body: bytes = b"b") -> list[bytes]:
    """Send through a relay in this thread, which has to work for the subscription to get out."""
    thread, errors = in_background(made.send, topic, body)
    received = relay.receive()
    thread.join(10)
    assert not errors
    return received


def test_the_first_message_waits_for_the_relay(address: str, opened: list[Publisher]) -> None:
    made = connect(opened, address)
    thread, errors = in_background(made.send, b"t", b"first")
    thread.join(0.2)
    assert thread.is_alive()
    relay = FakeRelay(address)
    assert relay.receive() == [b"t", b"first"]
    thread.join(10)
    assert not errors
    relay.close()


def test_no_relay_is_an_error_and_the_next_one_comes_at_once(address: str, opened: list[Publisher]) -> None:
    made = connect(opened, address, timeout=0.2)
    with pytest.raises(NotListening, match=rf"nothing listens at {address} within 0.2 s.*'relay_inbound'"):
        made.send(b"t", b"b")
    before = time.process_time()
    for _ in range(100):
        with pytest.raises(NotListening, match=r"listens at \S+, the message was not sent"):
            made.send(b"t", b"b")
    assert time.process_time() - before < 5
    relay = FakeRelay(address)
    relay.wait(lambda: made.sockets[0].subscriptions)
    assert send(made, relay) == [b"t", b"b"]
    relay.close()


def test_a_timeout_of_zero_never_waits(address: str, opened: list[Publisher]) -> None:
    made = connect(opened, address, timeout=0)
    with pytest.raises(NotListening):
        made.send(b"t", b"b")


def test_a_relay_that_wants_other_topics_does_not_count(address: str, opened: list[Publisher]) -> None:
    relay = FakeRelay(address, b"org.a", b"org.b")
    made = connect(opened, address, timeout=0.3)
    relay.wait(lambda: made.sockets[0].subscriptions == {b"org.a", b"org.b"})
    assert send(made, relay, b"org.a.x") == [b"org.a.x", b"b"]
    with pytest.raises(NotListening):
        made.send(b"org.c", b"b")
    assert send(made, relay, b"org.b") == [b"org.b", b"b"]
    relay.close()


def test_a_withdrawn_subscription_makes_it_wait_and_nothing_is_lost(address: str, opened: list[Publisher]) -> None:
    relay = FakeRelay(address)
    made = connect(opened, address)
    send(made, relay)
    relay.socket.send(b"\x00")
    relay.wait(lambda: not made.sockets[0].subscriptions)
    thread, errors = in_background(made.send, b"t", b"held")
    thread.join(0.2)
    assert thread.is_alive()
    relay.close()
    successor = FakeRelay(address)
    assert successor.receive() == [b"t", b"held"]
    thread.join(10)
    assert (errors, made.lost) == ([], 0)
    successor.close()


def test_messages_sent_before_a_withdrawal_is_noticed_still_arrive(address: str, opened: list[Publisher]) -> None:
    relay = FakeRelay(address)
    made = connect(opened, address)
    send(made, relay)
    with made.changed.lock:  # nobody looks while this is held
        relay.socket.send(b"\x00")
        outlet = made.sockets[0]
        relay.wait(lambda: outlet.socket.poll(0))
        outlet.send(b"t", b"in flight", time.monotonic())
    assert relay.receive() == [b"t", b"in flight"]
    relay.close()


def test_a_broken_connection_is_counted_and_said(
    address: str, opened: list[Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    relay = FakeRelay(address)
    made = connect(opened, address)
    send(made, relay)
    for _ in range(9):
        made.send(b"t", b"b")
    relay.close()
    deadline = time.monotonic() + 10
    while not made.lost:
        assert time.monotonic() < deadline
        with made.changed.lock:
            waiter = made.changed.expect()
        made.changed.wait(waiter, 0.05)
    assert made.lost == 10
    assert f"about 10 messages may be lost: the connection to {address} broke" in caplog.text


def test_several_relays_the_first_that_answers(opened: list[Publisher]) -> None:
    first, second = free_address(), free_address()
    made = connect(opened, first, second)
    standby = FakeRelay(second)
    assert send(made, standby, body=b"1") == [b"t", b"1"]
    preferred = FakeRelay(first)
    preferred.wait(lambda: made.sockets[0].subscriptions)
    assert send(made, preferred, body=b"2") == [b"t", b"2"]
    preferred.close()
    standby.wait(lambda: not made.sockets[0].subscriptions)
    assert send(made, standby, body=b"3") == [b"t", b"3"]
    standby.close()


def test_the_same_relay_is_connected_once(address: str, opened: list[Publisher]) -> None:
    assert connect(opened, address) is connect(opened, address)
    assert connect(opened, address) is not connect(opened, address, zmq_linger=7)


def bind(opened: list[Publisher], *addresses: str, **config: Any) -> publisher.BoundPublisher:
    made = publisher.open_bound({"post_init_sleep": 5.0, **config}, "me.here", list(addresses))
    opened.append(made)
    return made


@pytest.fixture
def subscriber() -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"")
    yield socket
    socket.close(0)
    context.term()


def test_the_first_message_waits_for_a_subscriber(
    address: str, opened: list[Publisher], subscriber: zmq.Socket[bytes]
) -> None:
    made = bind(opened, address)
    subscriber.connect(address)
    made.send(b"t", b"first")
    assert subscriber.poll(5000)
    assert subscriber.recv_multipart() == [b"t", b"first"]


def test_no_subscriber_is_no_error_and_is_waited_for_once(address: str, opened: list[Publisher]) -> None:
    made = bind(opened, address, post_init_sleep=0.2)
    start = time.monotonic()
    made.send(b"t", b"b")
    assert time.monotonic() - start >= 0.2
    made._wait_limit = 1000.0  # a second wait would be noticed
    made.send(b"t", b"b")


def test_who_binds_again_waits_for_the_subscribers_it_had(
    address: str, opened: list[Publisher], subscriber: zmq.Socket[bytes]
) -> None:
    subscriber.connect(address)
    subscriber.setsockopt(zmq.RCVTIMEO, 20_000)
    # ZeroMQ subscribes anew after a lost connection only while the subscriber is at its socket.
    with ThreadPoolExecutor(1) as pool:
        for number in range(5):
            received = pool.submit(subscriber.recv_multipart)
            made = publisher.open_bound({"post_init_sleep": 10.0}, "me.here", [address])
            made.send(b"t", b"%d" % number)
            publisher.close(made)
            assert received.result() == [b"t", b"%d" % number]


def test_threads_share_a_bound_address(address: str, opened: list[Publisher]) -> None:
    assert bind(opened, address) is bind(opened, address)
    assert opened[0].users == 2


def test_the_next_free_address_of_the_list(opened: list[Publisher]) -> None:
    taken, free = free_address(), free_address()
    context = zmq.Context()
    with context.socket(zmq.PUB) as holder:
        holder.bind(taken.replace("127.0.0.1", "*"))
        assert bind(opened, taken, free).names == (free,)
        with pytest.raises(AddressInUse, match=r"^Couldn't find an available endpoint for name 'me.here'.*active=True"):
            publisher.open_bound({}, "me.here", [taken])
    context.term()


def test_an_address_that_can_not_be_bound() -> None:
    with pytest.raises(ConfigError, match=r"endpoints: ipc:///nowhere/x can't be bound"):
        publisher.open_bound({}, "me.here", ["ipc:///nowhere/x"])


def test_an_idle_publisher_reads_what_subscribers_send(
    address: str, opened: list[Publisher], subscriber: zmq.Socket[bytes]
) -> None:
    made = bind(opened, address)
    subscriber.set_hwm(0)
    subscriber.connect(address)
    for number in range(5000):
        subscriber.subscribe(b"%d" % number)
    deadline = time.monotonic() + 20
    while made.sockets[0].subscribed < 5001:
        assert time.monotonic() < deadline
        with made.changed.lock:
            waiter = made.changed.expect()
        made.changed.wait(waiter, 0.05)


def assert_both_arrive(made: Publisher, subscriber: zmq.Socket[bytes]) -> None:
    """Check that a second message, for which the socket is replaced, arrives after the first."""
    thread, errors = in_background(made.send, b"t", b"2")  # the subscriber has to work to connect again
    received: list[list[bytes]] = []
    while len(received) < 2:
        assert subscriber.poll(5000)
        received.append(subscriber.recv_multipart())
    thread.join(10)
    assert (received, errors) == ([[b"t", b"1"], [b"t", b"2"]], [])


def test_an_interrupted_message_is_rolled_back(
    address: str, opened: list[Publisher], subscriber: zmq.Socket[bytes]
) -> None:
    made = bind(opened, address)
    subscriber.connect(address)
    made.send(b"t", b"1")
    with made.changed.lock:  # as a signal handler that raises leaves it
        made.sockets[0].socket.send(b"half", zmq.SNDMORE)
        made.sockets[0].broken = True
    assert_both_arrive(made, subscriber)


def test_a_replaced_socket_waits_for_its_subscribers_although_counting_was_disturbed(
    address: str, opened: list[Publisher], subscriber: zmq.Socket[bytes]
) -> None:
    made = bind(opened, address, post_init_sleep=20.0)
    subscriber.connect(address)
    made.send(b"t", b"1")
    with made.changed.lock:
        # As a signal handler leaves it that raises between reading an event and counting it.
        made.sockets[0].connections, made.sockets[0]._counting, made.sockets[0].broken = 0, True, True
    assert_both_arrive(made, subscriber)


def test_a_connection_whose_event_was_not_read_yet_counts(
    address: str, opened: list[Publisher], subscriber: zmq.Socket[bytes]
) -> None:
    made = bind(opened, address)
    with made.changed.lock:  # so that no other thread reads it
        subscriber.connect(address)
        assert made.sockets[0].socket.poll(5000)
        made.sockets[0]._read_subscriptions()
        assert made.sockets[0].connections == 0
        assert made.sockets[0].followers(time.monotonic()) == 1


@pytest.fixture
def lagging(subscriber: zmq.Socket[bytes], address: str) -> zmq.Socket[bytes]:
    """Return a subscriber in whose buffers next to nothing has room."""
    subscriber.setsockopt(zmq.RCVHWM, 1)
    subscriber.setsockopt(zmq.RCVBUF, 4096)
    subscriber.setsockopt(zmq.RCVTIMEO, 20_000)
    subscriber.connect(address)
    return subscriber


LAG = [[b"t", b"%d" % number * 10_000] for number in range(1000)]


def test_a_socket_is_replaced_when_slow_subscribers_have_what_it_held(
    address: str, opened: list[Publisher], lagging: zmq.Socket[bytes]
) -> None:
    made = bind(opened, address, zmq_linger=1)
    for topic, body in LAG:
        made.send(topic, body)
    with made.changed.lock:
        made.sockets[0].broken = True
    thread, errors = in_background(made.send, b"t", b"last")
    thread.join(0.3)  # much longer than zmq_linger
    assert [lagging.recv_multipart() for _ in range(1001)] == [*LAG, [b"t", b"last"]]
    thread.join(10)
    assert errors == []


@pytest.mark.parametrize("in_time", [True, False])
def test_what_subscribers_do_not_take_before_the_end_is_logged(
    in_time: bool, address: str, lagging: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    made = publisher.open_bound(
        {"post_init_sleep": 20.0, "zmq_linger": 20_000 if in_time else 50}, "me.here", [address]
    )
    for topic, body in LAG:
        made.send(topic, body)
    thread, errors = in_background(publisher.close, made)
    if in_time:
        assert [lagging.recv_multipart() for _ in LAG] == LAG
    thread.join(20)
    expected = f"messages may be lost: not all subscribers of {address} took them in time"
    assert ([record.message for record in caplog.records], errors) == ([] if in_time else [expected], [])


def test_opening_and_closing_leaves_nothing_behind(address: str) -> None:
    for _ in range(50):
        made = publisher.open_bound({}, "me.here", [address])
        assert made.socket is not None
        publisher.close(made)
        assert made.socket is None
    assert contexts._users == 0


def test_to_wait_sends_nothing(address: str) -> None:
    connected = publisher.open_connected({"timeout": 0.1}, "relay_inbound", [address])
    with pytest.raises(NotListening):
        connected.wait(b"a.b")
    publisher.close(connected)
    relay = FakeRelay(address)
    connected = publisher.open_connected({"timeout": 10}, "relay_inbound", [address])
    waiter = threading.Thread(target=connected.wait, args=(b"a.b",))
    waiter.start()
    relay.wait(lambda: not waiter.is_alive())
    waiter.join()
    connected.send(b"a.b", b"body")
    assert relay.receive() == [b"a.b", b"body"]
    publisher.close(connected)
    relay.close()
