# SPDX-License-Identifier: LGPL-2.1-or-later
"""HubRunner runs consumers for a test, and tells what came of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmsg
import fedmsg.config
from fedmsg.consumers import FedmsgConsumer
from fedmsg.core import FedMsgContext
from fedmsg.exceptions import ConfigError, MessageError, RefusedAtStart, WorkLeft
from fedmsg.hub import PollingProducer, Producer
from fedmsg.testing import HubRunner
from tests import open_files

ORDER = "org.example.dev.shop.order"
BILL = "org.fedoraproject.dev.shop.bill"


class Biller(FedmsgConsumer):
    """Publishes a bill for each order."""

    topic = ORDER
    config_key = "biller.enabled"

    def consume(self, message: Any) -> None:
        """Publish a bill; an order without a number is an error."""
        fedmsg.publish(topic="bill", modname="shop", msg={"order": message["body"]["msg"]["id"]})


class Quiet(FedmsgConsumer):
    """Hears everything and does nothing."""

    topic = ""
    config_key = "quiet.enabled"

    def consume(self, message: Any) -> None:
        """Do nothing."""


class Clock(PollingProducer):
    """Publishes how often it was asked."""

    frequency = 0.01
    now = True
    number = 0

    def poll(self) -> None:
        """Publish the number of this call."""
        self.number += 1
        self.send_message("org.example.dev.clock.tick", {"topic": "org.example.dev.clock.tick", "msg": self.number})


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Compare the threads and descriptors of this process before and after."""
    before = {*threading.enumerate()}
    yield
    # What watches publishers in this process stays for the next.
    assert [one.name for one in {*threading.enumerate()} - before if "watcher" not in one.name] == []


# ---------------------------------------------------------------- what comes of messages


def test_a_consumer_and_what_it_publishes() -> None:
    with HubRunner(Biller) as hub:
        envelope = hub.publish(ORDER, {"id": 1017})
        hub.wait_until_handled()
        assert hub.sent == [(BILL, {"order": 1017})]
        (bill,) = hub.published
        assert {"i", "msg", "msg_id", "timestamp", "topic", "username"} == set(bill) == set(envelope)
        assert (hub.handled, hub.rejected, hub.failures) == (1, {}, [])
        assert type(hub.consumer) is Biller
    assert hub.outcome == ({}, True, [])


def test_a_first_message_and_each_of_a_thousand_is_handled() -> None:
    with HubRunner(Biller) as hub:
        for number in range(1000):
            hub.publish(ORDER, {"id": number})
        hub.wait_until_handled()
        assert hub.sent == [(BILL, {"order": number}) for number in range(1000)]


def test_what_nobody_wants_is_not_waited_for() -> None:
    with HubRunner(Biller) as hub:
        hub.publish("org.example.dev.weather.rain")
        hub.wait_until_handled()
        assert (hub.handled, hub.sent) == (0, [])


def test_nothing_to_run() -> None:
    with HubRunner() as hub:
        hub.publish(ORDER)
        hub.wait_until_handled()
        assert (hub.consumers, hub.producers) == ([], [])


def test_several_consumers_hear_the_same() -> None:
    with HubRunner(Biller, Quiet) as hub:
        hub.publish(ORDER, {"id": 1})
        hub.publish("org.example.dev.weather.rain")
        hub.wait_until_handled()
        assert [consumer.totals()["handled"] for consumer in hub.consumers] == [1, 2]
        assert hub.handled == 3


def test_a_topic_that_is_subscribed_to_later() -> None:
    class Learner(Quiet):
        """Hears of another topic by a message."""

        topic = "org.example.dev.start"
        heard: list[str]

        def consume(self, message: Any) -> None:
            self.heard = []
            self.hub.subscribe("org.example.dev.more", lambda message: self.heard.append(message.topic))

    with HubRunner(Learner) as hub:
        hub.publish("org.example.dev.start")
        hub.wait_until_handled()
        hub.publish("org.example.dev.more.news")
        hub.wait_until_handled()
        assert hub.consumer.heard == ["org.example.dev.more.news"]


@pytest.mark.parametrize(
    "settings", [{"moksha.blocking_mode": True}, {"moksha.workers_per_consumer": 4}, {"zmq_strict": True}]
)
def test_other_ways_of_working(settings: dict[str, Any]) -> None:
    with HubRunner(Biller, config=settings) as hub:
        for number in range(20):
            hub.publish(ORDER, {"id": number})
        # With zmq_strict it is not wanted, though the sockets let it pass.
        hub.publish(f"{ORDER}.x", {"id": 20})
        hub.wait_until_handled()
        wanted = 20 if "zmq_strict" in settings else 21
        assert sorted(msg["order"] for _, msg in hub.sent) == list(range(wanted))


def test_a_full_queue_that_drops() -> None:
    go_on = threading.Event()

    class Slow(Quiet):
        """Handles nothing before it is told to."""

        queue_limit = 5
        queue_policy = "drop"

        def consume(self, message: Any) -> None:
            assert go_on.wait(10)

    with HubRunner(Slow) as hub:
        for _ in range(100):
            hub.publish(ORDER)
        go_on.set()
        hub.wait_until_handled()
        totals = hub.consumer.totals()
        assert totals["handled"] + totals["dropped"] == 100


@pytest.mark.parametrize(
    "settings", [{}, {"active": True}, {"active": True, "name": "relay_inbound"}], ids=["bound", "active", "named"]
)
def test_a_context_of_its_own_publishes_into_the_test(settings: dict[str, Any]) -> None:
    class Old(Quiet):
        """Makes a context, as consumers for 1.x do."""

        def consume(self, message: Any) -> None:
            with FedMsgContext(**{**self.hub.config, **settings}) as context:
                context.publish("bill", {"order": 1}, modname="shop")

    with HubRunner(Old) as hub:
        hub.publish(ORDER)
        hub.wait_until_handled()
        assert hub.sent == [(BILL, {"order": 1})]


def test_what_is_published_at_the_start_and_at_the_end_is_caught() -> None:
    class Polite(Quiet):
        """Says hello and good-bye."""

        def __init__(self, hub: Any) -> None:
            super().__init__(hub)
            fedmsg.publish(topic="hello", modname="polite")

        def stop(self) -> None:
            fedmsg.publish(topic="goodbye", modname="polite")

    with HubRunner(Polite) as hub:
        assert [topic.rpartition(".")[2] for topic, _ in hub.sent] == ["hello"]
    assert [topic.rpartition(".")[2] for topic, _ in hub.sent] == ["hello", "goodbye"]


# ---------------------------------------------------------------- signatures and hostile input


def test_signed_messages() -> None:
    with HubRunner(Biller, sign="shop.app1", config={"routing_policy": {ORDER: ["shop.app1"]}}) as hub:
        hub.publish(ORDER, {"id": 1})
        hub.publish(ORDER, {"id": 2}, sign=False)
        hub.wait_until_handled()
        assert hub.sent == [(BILL, {"order": 1})]
        assert (hub.handled, hub.rejected) == (1, {"invalid": 1})
        assert fedmsg.crypto.validate(hub.published[0], **hub.config)


def test_a_certificate_that_may_not_say_this() -> None:
    with HubRunner(Biller, sign=True, config={"routing_policy": {ORDER: ["shop.app1"]}}) as hub:
        hub.publish(ORDER, {"id": 1})
        hub.wait_until_handled()
        assert (hub.handled, hub.rejected) == (0, {"invalid": 1})


def test_a_consumer_that_checks_nothing_hears_unsigned_messages() -> None:
    class Trusting(Biller):
        """Checks no signatures."""

        validate_signatures = False

    with HubRunner(Trusting, sign=True) as hub:
        hub.publish(ORDER, {"id": 1}, sign=False)
        hub.wait_until_handled()
        assert hub.handled == 1


def test_malformed_messages() -> None:
    with HubRunner(Quiet) as hub:
        hub.publish_raw(ORDER, "no JSON")
        hub.publish_raw(b"\xff", b"{}")
        hub.publish_envelope({"topic": ORDER, "msg": {}})
        hub.wait_until_handled()
        assert (hub.handled, hub.rejected) == (1, {"json": 1, "utf-8": 1})
        with pytest.raises(MessageError):
            hub.publish_envelope({"topic": ORDER})
        with pytest.raises(MessageError):
            hub.publish(ORDER, timestamp="yesterday")


# ---------------------------------------------------------------- what fails


def test_an_exception_is_raised_again_with_its_traceback() -> None:
    with HubRunner(Biller) as hub:
        hub.publish(ORDER, {"number": 1})
        hub.publish(ORDER, {"id": 2})
        with pytest.raises(KeyError, match="id") as caught:
            hub.wait_until_handled()
        assert caught.traceback[-1].name == "consume"
        # It has been told, and the rest was handled.
        hub.wait_until_handled()
        assert hub.sent == [(BILL, {"order": 2})]
    (failure,) = hub.failures
    assert (failure.who, failure.where, failure.message["body"]["msg"]) == (hub.consumer, "consume", {"number": 1})


def test_an_exception_that_nobody_waited_for_is_raised_at_the_end() -> None:
    hub = HubRunner(Biller)
    with pytest.raises(KeyError, match="id"), hub:
        hub.publish(ORDER, {"number": 1})
    hub.close()


def test_what_fails_in_the_block_itself_is_not_hidden() -> None:
    def test() -> None:
        with HubRunner(Biller) as hub:
            hub.publish(ORDER, {"number": 1})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        test()


def test_exceptions_can_be_looked_at_instead() -> None:
    with HubRunner(Biller, reraise=False) as hub:
        hub.publish(ORDER, {"number": 1})
        hub.wait_until_handled()
        assert [(failure.where, type(failure.error)) for failure in hub.failures] == [("consume", KeyError)]
        assert hub.handled == 0


@pytest.mark.parametrize("method", ["pre_consume", "post_consume", "validate", "stop"])
def test_every_method_is_watched(method: str) -> None:
    def fail(self: Any, *args: Any) -> None:
        raise ZeroDivisionError(method)

    failing = type("Failing", (Quiet,), {method: fail})
    hub = HubRunner(failing)
    with pytest.raises(ZeroDivisionError, match=method), hub:
        hub.publish(ORDER)
    assert [failure.where for failure in hub.failures] == ["fail"]


def test_a_try_that_fails_before_one_that_does_not_is_no_failure() -> None:
    class Weak(Quiet):
        """Succeeds in the second try."""

        tries = 0

        def consume(self, message: Any) -> None:
            self.tries += 1
            if self.tries % 2:
                raise ZeroDivisionError

    with HubRunner(Weak, config={"consume_retries": 1, "consume_retry_delay": 0.0}) as hub:
        hub.publish(ORDER)
        hub.publish(ORDER)
        hub.wait_until_handled()
        assert (hub.handled, hub.consumer.totals()["retried"]) == (2, 2)


def test_a_constructor_that_fails() -> None:
    class Broken(Quiet):
        """Can't be made."""

        def __init__(self, hub: Any) -> None:
            super().__init__(hub)
            raise ZeroDivisionError

    for reraise in (True, False):
        with pytest.raises(ZeroDivisionError), HubRunner(Broken, Quiet, reraise=reraise):
            pass
    with pytest.raises(ValueError, match="must declare a 'config_key'"), HubRunner(FedmsgConsumer):
        pass


def test_a_hub_that_can_not_start() -> None:
    with pytest.raises(RefusedAtStart), HubRunner(Quiet, sign=True, config={"ca_cert_location": "/nowhere/ca.crt"}):
        pass
    with pytest.raises(ConfigError, match="consumer_queue_limit"), HubRunner(config={"consumer_queue_limit": "few"}):
        pass


def test_a_consumer_that_does_not_come_back() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Stuck(Quiet):
        """Waits for ever."""

        def consume(self, message: Any) -> None:
            begun.set()
            go_on.wait(30)

    hub = HubRunner(Stuck, config={"stop_timeout": 0.1}).start()
    hub.publish(ORDER)
    hub.publish(ORDER)
    hub._wait_until_received(time.monotonic() + 10)
    assert begun.wait(10)
    where = r"(?s)Stuck has not handled 2 messages in time.*in consume.*go_on\.wait"
    with pytest.raises(TimeoutError, match=where):
        hub.wait_until_handled(0.1)
    with pytest.raises(WorkLeft, match="Stuck has worked for"):
        hub.close()
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("fedmsg-Stuck"):
            thread.join(10)


# ---------------------------------------------------------------- producers


def test_a_polling_producer() -> None:
    with HubRunner(Clock) as hub:
        assert len(hub.wait_until_published(3)) >= 3
        assert hub.sent[:3] == [("org.example.dev.clock.tick", number) for number in (1, 2, 3)]
        hub.wait_until_polled(5)
        assert len(hub.published) >= 5
        assert type(hub.producer) is Clock


def test_a_producer_that_fails() -> None:
    class Broken(Clock):
        """Fails whenever it is asked."""

        def poll(self) -> None:
            raise ZeroDivisionError

    hub = HubRunner(Broken)
    with hub:
        with pytest.raises(ZeroDivisionError):
            hub.wait_until_polled(1000)
        with pytest.raises(ZeroDivisionError):
            hub.wait_until_published()
        hub._reraise = False
    assert all(failure.where == "poll" for failure in hub.failures)


def test_a_producer_that_does_not_poll() -> None:
    class Rare(Clock):
        """Is asked once a day."""

        now = False
        frequency = 86400.0

    with HubRunner(Rare, Producer) as hub:
        with pytest.raises(TimeoutError, match="not every producer has polled 1 times"):
            hub.wait_until_polled(timeout=0.05)
        with pytest.raises(TimeoutError, match="1 messages have not been published"):
            hub.wait_until_published(timeout=0.05)


# ---------------------------------------------------------------- the configuration


@pytest.mark.filterwarnings("ignore:fedmsg.config.load_config is deprecated")
def test_the_configuration_is_that_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "machine.py").write_text("config = {'environment': 'prod', 'of.this.machine': True}")
    monkeypatch.setenv("FEDMSG_CONFIG", str(tmp_path / "machine.py"))
    # Whatever a test before this one has loaded.
    monkeypatch.setitem(vars(fedmsg.config), "__cache", {})

    class Asking(Quiet):
        """Looks at the configuration in each of the ways there are."""

        def consume(self, message: Any) -> None:
            conf = fedmsg.config.conf
            seen = [self.hub.config, fedmsg.config.load_config(), conf]
            self.asked = [(one.get("of.this.test"), one.get("of.this.machine"), one["environment"]) for one in seen]

    assert fedmsg.config.conf["of.this.machine"] is True
    with HubRunner(Asking, config={"of.this.test": 3}) as hub:
        hub.publish(ORDER)
        hub.wait_until_handled()
        assert hub.consumer.asked == [(3, None, "dev")] * 3
    assert fedmsg.config.conf["of.this.machine"] is True
    assert "of.this.test" not in fedmsg.config.conf
    assert fedmsg.config.load_config()["environment"] == "prod"


def test_a_consumer_can_be_disabled(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), HubRunner(Quiet, config={"quiet.enabled": False}) as hub:
        assert hub.consumers == []
    assert "* disabled by config - " in caplog.text


def test_a_context_of_the_test_itself_is_left_alone() -> None:
    context = fedmsg.init(mute=True, environment="dev")
    try:
        with HubRunner(Biller) as hub:
            hub.publish(ORDER, {"id": 1})
            hub.wait_until_handled()
            assert len(hub.published) == 1
        assert getattr(fedmsg.__local, "__context") is context
    finally:
        fedmsg.destroy()


@pytest.mark.soak
def test_many_of_them_leave_nothing_behind(full_size: bool) -> None:
    def once() -> None:
        with HubRunner(Biller, Clock) as hub:
            hub.publish(ORDER, {"id": 1})
            hub.wait_until_handled()

    once()
    before = open_files.descriptors(), threading.active_count()
    for _ in range(50 if full_size else 12):
        once()
    assert (open_files.descriptors(), threading.active_count()) == before
