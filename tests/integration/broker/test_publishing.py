# SPDX-License-Identifier: LGPL-2.1-or-later
"""Publishing through RabbitMQ, and listening there: what goes over the wire, and what comes out again."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from fedmsg.core import FedMsgContext
from fedmsg.exceptions import MessageError, NotConfirmed
from fedmsg.testing import free_port, wait_until
from fedmsg.transport.pending import Pending
from tests.integration.broker.buses import PREFIX, BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")


def one_raw(bus: BrokerBus, **publish: Any) -> tuple[Any, Any, bytes]:
    """Publish one message, and return it as the bare library gets it."""
    with bus.raw() as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", "#")
        with bus.context(**publish.pop("settings", {})) as context:
            assert context.publish(**publish) is None
        found: tuple[Any, Any, bytes] = channel.basic_get(queue, auto_ack=True)
        return found


def test_message_on_the_wire_is_that_of_fedora_messaging(bus: BrokerBus) -> None:
    envelopes: list[dict[str, Any]] = []
    method, properties, body = one_raw(
        bus, topic="t", msg={"b": "é", "a": 1}, modname="m", pre_fire_hook=lambda one: envelopes.append(dict(one))
    )
    envelope = envelopes[0]
    assert method.exchange == "amq.topic"
    assert method.routing_key == f"{PREFIX}.m.t"
    assert body == b'{"a":1,"b":"\\u00e9"}' or json.loads(body) == {"a": 1, "b": "é"}
    assert properties.message_id == envelope["msg_id"]
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert properties.delivery_mode == 2
    headers = properties.headers
    assert headers["fedora_messaging_schema"] == "base.message"
    assert headers["fedora_messaging_severity"] == 20
    assert headers["sent-at"].endswith("+00:00")
    assert len(headers["sent-at"]) == len("2026-05-01T12:00:00+00:00")
    rest = json.loads(headers["fedmsg-envelope"])
    assert rest == {key: value for key, value in envelope.items() if key not in {"msg", "msg_id", "topic"}}
    assert headers["fedmsg-envelope"] == json.dumps(rest, sort_keys=True, separators=(",", ":"))


def test_schema_and_severity_of_a_message_are_kept(bus: BrokerBus) -> None:
    def bring(envelope: dict[str, Any]) -> None:
        envelope["headers"] = {"fedora_messaging_schema": "bodhi.update", "fedora_messaging_severity": 30}

    _, properties, _ = one_raw(bus, topic="t", msg={}, modname="m", pre_fire_hook=bring)
    assert properties.headers["fedora_messaging_schema"] == "bodhi.update"
    assert properties.headers["fedora_messaging_severity"] == 30


@pytest.mark.parametrize(
    "msg",
    [{"a": 1}, [1, 2], "text", 7, {"x": 1e16, "z": -0.0, "nul": "\0", "lone": "\udc80", "msg_id": "x"}],
    ids=["dict", "list", "text", "number", "odd"],
)
def test_listener_gets_exactly_the_envelope(bus: BrokerBus, msg: Any) -> None:
    sent: list[dict[str, Any]] = []
    with bus.listening() as listener, bus.context() as context:
        context.publish("t", msg, modname="m", pre_fire_hook=lambda one: sent.append(dict(one)))
        context.publish("t", msg, modname="m")
        messages = listener.wait(2)
    name, address, topic, envelope = messages[0]
    assert (name, topic) == ("broker", f"{PREFIX}.m.t")
    assert address == f"amqp://127.0.0.1:{bus.node.port}/{bus.vhost}"
    assert envelope == sent[0]
    assert json.dumps(envelope["msg"], sort_keys=True) == json.dumps(msg, sort_keys=True)
    # The quick way to take an envelope apart and the general one agree.
    assert messages[1][3]["msg"] == envelope["msg"]
    assert messages[1][3].keys() == envelope.keys()


def test_listener_gets_the_topics_that_begin_with_a_prefix(bus: BrokerBus) -> None:
    with bus.listening(f"{PREFIX}.m.wor") as listener, bus.context() as context:
        for topic in ("other", "world", "wo", "word.more"):
            context.publish(topic, {}, modname="m")
        assert [message[2] for message in listener.wait(2)] == [f"{PREFIX}.m.world", f"{PREFIX}.m.word.more"]


def test_publish_many_keeps_the_order_and_confirms_each(bus: BrokerBus) -> None:
    with bus.listening() as listener, bus.context(publish_window=10) as context:
        found = list(context.publish_many({"topic": "t", "modname": "m", "msg": {"n": one}} for one in range(300)))
        assert found == [0] * 300
        assert [message[3]["msg"]["n"] for message in listener.wait(300)] == list(range(300))


def test_message_that_no_queue_wants_is_confirmed(bus: BrokerBus) -> None:
    with bus.context() as context:
        assert context.publish("t", {}, modname="m", confirm=True) is None
        assert context.publish("t", {}, modname="m", confirm=False) is None


def test_republish_sends_the_same_id(bus: BrokerBus) -> None:
    with bus.listening() as listener, bus.context() as context:
        context.publish("t", {"n": 1}, modname="m")
        first = listener.wait(1)[0][3]
        context.republish(first)
        assert listener.wait(2)[1][3] == first


@pytest.mark.parametrize(
    ("topic", "hook"),
    [("t" * 240, None), ("t", lambda one: one.update(extra="x" * 70_000)), ("t", lambda one: one.update(msg_id=""))],
    ids=["topic", "envelope", "id"],
)
def test_message_without_room_in_amqp_is_rejected_and_nothing_else(bus: BrokerBus, topic: str, hook: Any) -> None:
    with bus.context() as context:
        with pytest.raises(MessageError, match="bytes"):
            context.publish(topic, {}, modname="m", pre_fire_hook=hook)
        context.publish("t", {}, modname="m")


def test_publisher_without_a_broker_learns_where_and_why() -> None:
    port = free_port()
    url = f"amqp://user:secret@127.0.0.1:{port}/"
    context = FedMsgContext(broker_url=url, name="test", endpoints={}, timeout=0.5)
    with context, pytest.raises(NotConfirmed) as caught:
        context.publish("t", {}, modname="m")
    text = str(caught.value)
    assert not caught.value.sent
    assert caught.value.exit_status == 3
    assert f"amqp://127.0.0.1:{port}" in text
    assert "Connection refused" in text
    assert "secret" not in text


def test_publisher_goes_on_with_the_next_url(bus: BrokerBus) -> None:
    urls = [f"amqp://127.0.0.1:{free_port()}/", bus.url]
    with bus.listening() as listener, bus.context(broker_url=urls) as context:
        context.publish("t", {"n": 1}, modname="m")
        assert listener.wait(1)[0][3]["msg"] == {"n": 1}


def test_what_was_not_confirmed_is_sent_again_with_the_same_id(bus: BrokerBus) -> None:
    """Every connection is closed by the broker in the middle of a pipeline, a few times."""
    with bus.raw() as channel:
        channel.queue_declare("all", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind("all", "amq.topic", "#")

    def close_three_times() -> None:
        for _ in range(3):
            bus.close_connections()

    closer = threading.Thread(target=close_three_times)
    numbers = itertools.count()

    def messages() -> Iterator[dict[str, Any]]:
        closer.start()
        # Some are in flight whenever it happens.
        while closer.is_alive():
            closer.join(0.001)
            yield {"topic": "t", "modname": "m", "msg": {"n": next(numbers)}}

    with bus.context(publish_window=200) as context:
        count = len(list(context.publish_many(messages())))
        sink = context._session.confirmed
        assert sink is not None
        statistics = sink.statistics()
    with bus.raw() as channel:
        found = _drain(channel, "all")
    assert {n for n, _ in found} == set(range(count))
    assert len({message_id for _, message_id in found}) == count
    assert statistics["connections"] > 1
    assert statistics["resent"] > 0


def test_late_confirm_of_a_connection_that_was_dropped_confirms_nothing(bus: BrokerBus) -> None:
    """Its numbers are those of other messages by now."""
    with bus.context() as context:
        context.publish("t", {"n": 1}, modname="m")
        sink: Any = context._session.confirmed
        publishing = sink._publishing
        dropped = publishing._channel
        bus.close_connections()
        wait_until(lambda: publishing._channel not in {None, dropped}, 30)
        waiting = Pending(b"t", b"{}", 30)
        publishing._sent[1] = (waiting, None)
        ack = pika.frame.Method(1, pika.spec.Basic.Ack(1, multiple=True))
        publishing._confirmed(dropped, ack)
        assert not waiting.is_settled
        publishing._confirmed(publishing._channel, ack)
        assert waiting.is_settled


def _drain(channel: Any, queue: str) -> list[tuple[int, str]]:
    """Return number and id of every message in a queue."""
    count = channel.queue_declare(queue, passive=True).method.message_count
    messages = itertools.islice(channel.consume(queue, auto_ack=True), count)
    return [(json.loads(body)["n"], properties.message_id) for _, properties, body in messages]


def test_threads_share_a_connection(bus: BrokerBus) -> None:
    errors: list[BaseException] = []

    def publish(number: int) -> None:
        try:
            with bus.context() as context:
                context.publish("t", {"n": number}, modname="m")
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    with bus.listening() as listener, bus.context() as context:
        context.publish("t", {"n": -1}, modname="m")
        connections = context._session.confirmed
        threads = [threading.Thread(target=publish, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert sorted(message[3]["msg"]["n"] for message in listener.wait(11)) == list(range(-1, 10))
        assert connections is not None
        assert connections.statistics()["connections"] == 1
        assert connections.statistics()["sent"] == 11


def test_child_of_a_fork_has_a_connection_of_its_own(bus: BrokerBus) -> None:
    with bus.listening() as listener, bus.context() as context:
        context.publish("t", {"n": 1}, modname="m")
        child = os.fork()
        if not child:
            status = 1
            try:
                context.publish("t", {"n": 2}, modname="m")
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        context.publish("t", {"n": 3}, modname="m")
        assert [message[3]["msg"]["n"] for message in listener.wait(3)] == [1, 2, 3]
