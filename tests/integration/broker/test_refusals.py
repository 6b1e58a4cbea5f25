# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a broker refuses: each is one line that says what, where and what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.exceptions import ConfigError, NotConfirmed, TransportError
from fedmsg.testing import wait_until
from tests.integration.broker.buses import BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")

USER = {"password": "p@ss:/word", "tags": ""}


@pytest.fixture
def limited(bus: BrokerBus) -> str:
    """Return the URL of a user who may do nothing."""
    bus.node.api("PUT", "users/limited", USER)
    bus.node.api("PUT", f"permissions/{bus.vhost}/limited", {"configure": "^$", "write": "^$", "read": "^$"})
    return bus.node.url_of("limited", "p%40ss%3A%2Fword", bus.vhost)


def refused(config: dict[str, Any]) -> list[str]:
    """Return what a listener and a publisher fail with."""
    found = []
    with FedMsgContext(**{"endpoints": {}, "name": "test", "timeout": 1.0, **config}) as context:
        messages = context.tail_messages()
        with pytest.raises(TransportError) as listening:
            next(messages)
        found.append(str(listening.value))
        with pytest.raises(NotConfirmed) as publishing:
            context.publish("t", {}, modname="m")
        found.append(str(publishing.value))
    assert all("\n" not in text for text in found)
    return found


def check(texts: list[str], pattern: str) -> None:
    """Check that each text says the same."""
    for text in texts:
        assert re.search(pattern, text), text
        assert "p@ss" not in text


def test_wrong_password(bus: BrokerBus) -> None:
    url = bus.node.url_of("guest", "wrong", bus.vhost)
    check(refused({"broker_url": url}), r"refuses the login of 'guest': correct user and password in broker_url")


def test_missing_vhost(bus: BrokerBus) -> None:
    url = bus.node.url_of(vhost="nowhere")
    check(refused({"broker_url": url}), r"no vhost 'nowhere', or 'guest' may not use it.*add_vhost")


def test_missing_permission(bus: BrokerBus, limited: str) -> None:
    pattern = r"'limited' has no permission for the .*set_permissions -p test"
    context = FedMsgContext(broker_url=limited, endpoints={}, mute=True)
    with context, pytest.raises(TransportError, match=pattern):
        next(context.tail_messages())


def test_publisher_without_permission_to_write(bus: BrokerBus, limited: str) -> None:
    pattern = r"'limited' has no permission for the exchange 'amq.topic'"
    context = FedMsgContext(broker_url=limited, endpoints={}, name="test", timeout=1.0)
    with context, pytest.raises(NotConfirmed, match=pattern):
        context.publish("t", {}, modname="m")


def test_user_who_may_not_make_exchanges_publishes_all_the_same(bus: BrokerBus) -> None:
    bus.node.api("PUT", "users/limited", USER)
    bus.node.api("PUT", f"permissions/{bus.vhost}/limited", {"configure": "^$", "write": ".*", "read": ".*"})
    url = bus.node.url_of("limited", "p%40ss%3A%2Fword", bus.vhost)
    with bus.listening() as listener, FedMsgContext(**{**bus.config, "broker_url": url, "name": "x"}) as context:
        context.publish("t", {"n": 1}, modname="m")
        assert listener.wait(1)[0][3]["msg"] == {"n": 1}


def test_exchange_of_another_type(bus: BrokerBus) -> None:
    config = {**bus.config, "broker_exchange": "amq.direct", "timeout": 1.0}
    check(refused(config), r"the exchange 'amq\.direct' at .* is not of the type topic: set broker_exchange")


def test_exchange_that_is_not_there_is_made(bus: BrokerBus) -> None:
    bus.config["broker_exchange"] = "ours"
    with bus.context() as context:
        context.publish("t", {}, modname="m")
    assert bus.node.api("GET", f"exchanges/{bus.vhost}/ours")["type"] == "topic"


def test_alarm_of_the_broker(bus: BrokerBus) -> None:
    with bus.context(timeout=2.0) as context:
        context.publish("t", {}, modname="m")
        bus.node.control("set_vm_memory_high_watermark", "0.0001")
        try:
            # The first of them may still get through.
            many = ({"topic": "t", "modname": "m", "msg": {"n": n}} for n in range(100_000))
            with pytest.raises(NotConfirmed, match="its alarm for memory or disk space is set"):
                list(context.publish_many(many))
        finally:
            bus.node.control("set_vm_memory_high_watermark", "0.4")
    with bus.context() as context:
        context.publish("t", {}, modname="m")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://user:secret@host/", "does not begin with amqp://"),
        ("amqp://", "no host"),
        ("amqp://user:secret@host:x/", "no valid port"),
        ("amqp://user:secret@host/?heartbeat=5", "something after the vhost"),
    ],
    ids=["scheme", "host", "port", "query"],
)
def test_url_that_is_none_is_a_configuration_error_without_the_password(url: str, reason: str) -> None:
    context = FedMsgContext(broker_url=url, endpoints={}, name="test")
    with context, pytest.raises(ConfigError, match=reason) as caught:
        context.publish("t", {}, modname="m")
    assert "secret" not in str(caught.value)


def test_two_brokers_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="broker_url and stomp_uri"):
        FedMsgContext(broker_url="amqp://host", stomp_uri="host:61613", endpoints={})


def test_listener_that_has_listened_waits_for_the_broker_to_come_back(bus: BrokerBus) -> None:
    with bus.listening() as listener:
        bus.close_connections()
        wait_until(lambda: len(bus.bindings()) == 1)
        bus.publish([1])
        assert listener.wait(1)[-1][3]["msg"] == {"n": 1}
