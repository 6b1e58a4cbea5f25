# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hub on real sockets, in this process: who gets which message, and how."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from fedmsg import encoding
from fedmsg.consumers import FedmsgConsumer
from fedmsg.exceptions import ConfigError
from fedmsg.hub import Consumer, Hub, Outcome, PollingProducer, ZMQMessage
from fedmsg.hub.consumer import as_topics
from fedmsg.testing import wait_until
from tests.hubs import ENABLED, PREFIX, Feed, Taker, envelope, taker


@pytest.fixture
def feed() -> Iterator[Feed]:
    with Feed() as made:
        yield made


@contextmanager
def hub_of(feed: Feed, *kinds: type, **settings: Any) -> Iterator[Hub]:
    """Run consumers until the block ends; it begins when messages reach them."""
    words = {one for kind in kinds for one in as_topics(getattr(kind, "topic", ""))}
    with Hub({**feed.config, **settings}, kinds, []) as hub:
        feed.wait(*(word.removeprefix(f"{PREFIX}.") for word in words - {""}))
        if "" in words:
            feed.wait()
        yield hub


# ---------------------------------------------------------------- topics

SENT = ["shop", "shop.order", "shopping", "shop.order.paid", "news", "a.shop"]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (f"{PREFIX}.shop", ["shop", "shop.order", "shopping", "shop.order.paid"]),
        (f"{PREFIX}.shop.*", ["shop.order", "shop.order.paid"]),
        (f"{PREFIX}.sh*", ["shop", "shop.order", "shopping", "shop.order.paid"]),
        (f"{PREFIX}.shop.*order", ["shop.order", "shop.order.paid"]),
        (f"*{PREFIX}.news", ["news"]),
        (f"{PREFIX}.*.order", []),
        ("", SENT),
        ("*", SENT),
        ([f"{PREFIX}.shop", f"{PREFIX}.shop.order", f"{PREFIX}.*"], SENT),
        ([f"{PREFIX}.news", f"{PREFIX}.a"], ["news", "a.shop"]),
        ((f"{PREFIX}.news",), ["news"]),
        ({f"{PREFIX}.news"}, ["news"]),
        ([], []),
    ],
)
@pytest.mark.parametrize("strict", [False, True], ids=["prefix", "strict"])
def test_topics(feed: Feed, topic: Any, expected: list[str], strict: bool) -> None:
    kind, every = taker(topic=topic), taker(topic="")
    if strict:
        topics = [topic] if isinstance(topic, str) else topic
        whole = [one.replace("*", "") for one in topics]
        expected = [word for word in SENT if "" in whole or f"{PREFIX}.{word}" in whole]
    with Hub({**feed.config, "zmq_strict": strict}, [kind, every], []) as hub:
        consumer, last = hub.consumers
        feed.wait()
        for word in SENT:
            feed.send(word)
        wait_until(lambda: len(last.taken) == len(SENT))
        consumer.incoming.join(10)
        # Once each, in order, however many of its topics match.
        assert [message["topic"] for message in consumer.taken] == [f"{PREFIX}.{word}" for word in expected]


@pytest.mark.parametrize("jsonify", [True, False], ids=["dict", "text"])
@pytest.mark.parametrize("configured", [False, True], ids=["class", "setting"])
def test_consumer_gets_what_its_filter_selects(feed: Feed, jsonify: bool, configured: bool) -> None:
    wanted = {"topics": [f"{PREFIX}.*.paid"], "where": ["msg.total>10", "msg.by!=bot"]}
    ignored = {"where": "msg.nothing exists"}
    kind = taker(topic=f"{PREFIX}.shop", only=ignored if configured else wanted, jsonify=jsonify)
    every = taker(topic="", config_key="every.enabled")
    filters = {"test.enabled.only": wanted} if configured else {}
    with Hub({**feed.config, "every.enabled": True, **filters}, [kind, every], []) as hub:
        consumer, last = hub.consumers
        feed.wait()
        for word, total, by in [
            ("shop.paid", 20, "ann"), ("shop.paid", 5, "ann"), ("shop.paid", 30, "bot"), ("shop.sent", 20, "ann"),
            ("shop.b.paid", 11, "ann"),
        ]:  # fmt: skip
            feed.send(word, {"total": total, "by": by})
        wait_until(lambda: len(last.taken) == 5)
        consumer.incoming.join(10)
        bodies = [one["body"] if jsonify else json.loads(one.body) for one in consumer.taken]
        assert [body["msg"]["total"] for body in bodies] == [20, 11]


def test_consumer_filter_that_makes_no_sense_is_named() -> None:
    with pytest.raises(ConfigError, match=r"test\.enabled\.only.*unknown key 'nonsense'"):
        taker()(SimpleNamespace(config={**ENABLED, "test.enabled.only": {"nonsense": 1}}))


# ---------------------------------------------------------------- what a consumer gets


def test_a_message_is_a_dict_of_topic_and_envelope(feed: Feed) -> None:
    with hub_of(feed, taker()) as hub:
        sent = feed.send("shop", {"n": 1, "deep": [{"a": None}]}, unknown=[1], headers={"sent-by": "me"})
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.consumers[0].taken == [{"topic": f"{PREFIX}.shop", "body": sent}]


def test_as_text_it_is_an_object(feed: Feed) -> None:
    with hub_of(feed, taker(jsonify=False)) as hub:
        sent = feed.send("shop", {"n": "\u00e9"})
        wait_until(lambda: hub.consumers[0].taken)
        (message,) = hub.consumers[0].taken
        assert message.topic == f"{PREFIX}.shop"
        assert type(message.body) is str
        assert json.loads(message.body) == sent
        assert message.__json__() == {"topic": message.topic, "body": message.body}


def test_nobody_sees_what_another_changes(feed: Feed) -> None:
    def consume(self: Taker, message: Any) -> None:
        self.taken.append(json.dumps(message))
        message["body"]["msg"]["list"].append("changed")
        del message["body"]["msg_id"]
        message.clear()

    kind = taker(consume=consume)
    with hub_of(feed, kind, taker(consume=consume), taker(), taker(jsonify=False)) as hub:
        sent = feed.send("shop", {"list": [1]})
        wait_until(lambda: all(consumer.taken for consumer in hub.consumers))
        seen = [consumer.taken[0] for consumer in hub.consumers]
    as_it_was = {"topic": sent["topic"], "body": sent}
    assert [json.loads(one) for one in seen[:2]] == [as_it_was] * 2
    assert seen[2] == as_it_was
    assert json.loads(seen[3].body) == sent


def test_it_is_decoded_once_for_all_consumers(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = encoding.decode

    def count(body: bytes) -> Any:
        decoded.append(body)
        return decode(body)

    monkeypatch.setattr(encoding, "decode", count)
    with hub_of(feed, *(taker() for _ in range(5))) as hub:
        for number in range(20):
            feed.send("shop", {"n": number})
        wait_until(lambda: all(len(consumer.taken) == 20 for consumer in hub.consumers))
        assert all(consumer.said == [{"n": number} for number in range(20)] for consumer in hub.consumers)
    assert len(decoded) == 20


def test_the_order_is_kept(feed: Feed) -> None:
    with hub_of(feed, taker(), taker(jsonify=False)) as hub:
        for number in range(5000):
            feed.send("shop", number)
        wait_until(lambda: all(len(consumer.taken) == 5000 for consumer in hub.consumers))
        assert hub.consumers[0].said == list(range(5000))
        assert [json.loads(one.body)["msg"] for one in hub.consumers[1].taken] == list(range(5000))


def test_the_hooks_come_before_and_after(feed: Feed) -> None:
    def noting(word: str) -> Any:
        return lambda self, message: self.taken.append((word, message["body"]["msg"]))

    kind = taker(pre_consume=noting("pre"), consume=noting("consume"), post_consume=noting("post"))
    with hub_of(feed, kind) as hub:
        feed.send("shop", 1)
        feed.send("shop", 2)
        wait_until(lambda: len(hub.consumers[0].taken) == 6)
        assert hub.consumers[0].taken == [(word, n) for n in (1, 2) for word in ("pre", "consume", "post")]


def test_a_consumer_needs_not_be_one_of_fedmsg(feed: Feed) -> None:
    class Plain(Consumer):
        topic = f"{PREFIX}.shop"

        def __init__(self, hub: Any) -> None:
            super().__init__(hub)
            self.taken: list[Any] = []

        def consume(self, message: Any) -> None:
            self.taken.append(message)

    with hub_of(feed, Plain) as hub:
        sent = feed.send("shop")
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.consumers[0].taken == [{"topic": sent["topic"], "body": sent}]


OLD = {"_backlog", "_consume", "_consume_json", "_do_work", "_exception_count", "_initialized", "_last_ran", "_poll"}


@pytest.mark.parametrize("kind", [FedmsgConsumer, PollingProducer])
def test_subclasses_share_their_private_names_with_nothing_but_those_of_1_x(kind: type) -> None:
    stand_in = SimpleNamespace(config={"my.key": True})
    made = type("Made", (kind,), {"config_key": "my.key", "topic": []})(stand_in)
    names = {name for place in (made, *kind.__mro__[:-1]) for name in vars(place)}
    # Names of Python's own kind for this carry the name of the class that has them.
    hidden = tuple(f"_{one.__name__}__" for one in kind.__mro__)
    assert {name for name in names if name.startswith("_") and not name.startswith(("__", *hidden))} <= OLD
    made.stop()


def test_what_a_consumer_has_of_its_own_is_in_nobodys_way(feed: Feed) -> None:
    mine = ("_handle", "_open", "_close", "_end", "_try", "_prepare", "_start", "_run", "_wait", "_memory", "totals")
    kind = taker(topic=f"{PREFIX}.shop", **dict.fromkeys(mine, "mine"))
    with hub_of(feed, kind) as hub:
        feed.send("shop")
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.report()["consumers"][0]["totals"]["received"] == 1


@pytest.mark.parametrize("name", ["_consume", "_consume_json"])
def test_a_consumer_may_take_messages_its_own_way(feed: Feed, name: str) -> None:
    def own(self: Any, message: Any) -> None:
        self.own.append(message)
        getattr(Taker, name)(self, message)

    kind = taker(own=[], **{name: own})
    with hub_of(feed, kind) as hub:
        sent = feed.send("shop")
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.consumers[0].taken == [{"topic": sent["topic"], "body": sent}]
        assert len(hub.consumers[0].own) == 1


# ---------------------------------------------------------------- what goes wrong in a consumer


class Boom(Exception):
    """What consumers raise here."""


@pytest.mark.parametrize(
    "error",
    [Boom("no"), SystemExit(3), GeneratorExit(), KeyError("\x1b[2J"), RecursionError(), asyncio.CancelledError()],
)
def test_an_exception_is_logged_with_the_id_and_counted(
    feed: Feed, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def consume(self: Taker, message: Any) -> None:
        if message["body"]["msg"] == "bad":
            raise error
        self.taken.append(message)

    with hub_of(feed, taker(consume=consume, name="Fragile"), taker()) as hub:
        bad = feed.send("shop", "bad")
        feed.send("shop", "good")
        wait_until(lambda: hub.consumers[0].taken and len(hub.consumers[1].taken) == 2)
        hub.consumers[0].incoming.join(5)
        row = hub.consumers[0].__json__()
        assert row["exceptions"] == 1
        assert (row["headcount_in"], row["headcount_out"], len(row["times"])) == (2, 2, 2)
        totals = hub.consumers[0].totals()
        assert (totals["received"], totals["handled"], totals["failed"]) == (2, 1, 1)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == f"Fragile failed in consume() on message {bad['msg_id']}"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize("hook", ["pre_consume", "post_consume"])
def test_a_hook_that_raises_keeps_no_message_from_being_handled(feed: Feed, hook: str) -> None:
    def fail(self: Taker, message: Any) -> None:
        raise Boom(hook)

    with hub_of(feed, taker(**{hook: fail})) as hub:
        feed.send("shop", 1)
        feed.send("shop", 2)
        wait_until(lambda: len(hub.consumers[0].taken) == 2)
        hub.consumers[0].incoming.join(5)
        assert hub.consumers[0].__json__()["exceptions"] == 2
        assert hub.consumers[0].totals()["handled"] == 2


def test_a_validate_of_its_own_may_refuse_and_may_fail(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    def validate(self: Taker, message: Any) -> None:
        if message["body"]["msg"] == "refuse":
            raise RuntimeWarning("I don't like it")
        if message["body"]["msg"] == "fail":
            raise Boom("no")

    with hub_of(feed, taker(validate=validate)) as hub:
        for word in ("refuse", "fail", "good"):
            feed.send("shop", word)
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.consumers[0].said == ["good"]
        assert hub.consumers[0].totals()["rejected"] == 2
        assert hub.rejections.counts["invalid"] == 2
    assert "I don't like it" in caplog.text


def test_one_that_is_slow_does_not_keep_another_waiting(feed: Feed) -> None:
    go = threading.Event()
    slow = taker(consume=lambda self, message: go.wait(20))
    with hub_of(feed, slow, taker()) as hub:
        for number in range(100):
            feed.send("shop", number)
        wait_until(lambda: len(hub.consumers[1].taken) == 100)
        go.set()
        wait_until(lambda: hub.consumers[0].totals()["handled"] == 100)


# ---------------------------------------------------------------- threads and queues


@pytest.mark.parametrize("count", [1, 4])
def test_so_many_workers_work_at_once(feed: Feed, count: int) -> None:
    barrier = threading.Barrier(count)

    def consume(self: Taker, message: Any) -> None:
        # Goes on when so many threads are here.
        barrier.wait(10)
        self.taken.append(threading.current_thread().name)

    with hub_of(feed, taker(consume=consume), **{"moksha.workers_per_consumer": count}) as hub:
        for number in range(3 * count):
            feed.send("shop", number)
        wait_until(lambda: len(hub.consumers[0].taken) == 3 * count)
        assert len(set(hub.consumers[0].taken)) == count
        assert count == hub.consumers[0].N


def test_in_blocking_mode_each_is_handled_before_the_next_is_received(feed: Feed) -> None:
    def consume(self: Any, message: Any) -> None:
        self.most = max(self.most, self.incoming.qsize())
        self.taken.append(message)

    kinds = [taker(consume=consume, most=0) for _ in range(2)]
    with hub_of(feed, *kinds, **{"moksha.blocking_mode": True, "moksha.workers_per_consumer": 4}) as hub:
        for number in range(200):
            feed.send("shop", number)
        wait_until(lambda: all(len(consumer.taken) == 200 for consumer in hub.consumers))
        assert all(consumer.said == list(range(200)) for consumer in hub.consumers)
        assert [consumer.most for consumer in hub.consumers] == [0, 0]
        assert all(consumer.blocking_mode for consumer in hub.consumers)


def test_what_is_put_on_the_queue_by_hand_is_handled(feed: Feed) -> None:
    with hub_of(feed, taker()) as hub:
        (consumer,) = hub.consumers
        consumer.incoming.put({"topic": "by.hand", "body": {"topic": "by.hand", "msg": 1}})
        wait_until(lambda: consumer.taken)
        assert consumer.taken == [{"topic": "by.hand", "body": {"topic": "by.hand", "msg": 1}}]
        assert consumer.incoming.join(5)


# ---------------------------------------------------------------- callbacks


def test_a_callback_gets_text(feed: Feed) -> None:
    got: list[Any] = []
    with hub_of(feed, taker()) as hub:
        hub.subscribe(f"{PREFIX}.shop", got.append)
        assert hub.topics[f"{PREFIX}.shop"] == [got.append]
        sent = feed.send("shop", {"n": 1})
        feed.send("news")
        wait_until(lambda: got and len(hub.consumers[0].taken) == 2)
        (message,) = got
        assert isinstance(message, ZMQMessage)
        assert (message.topic, json.loads(message.body)) == (sent["topic"], sent)
        assert message.__json__() == {"topic": message.topic, "body": message.body}
        hub.unsubscribe(got.append)
        assert f"{PREFIX}.shop" not in hub.topics
        feed.send("shop")
        wait_until(lambda: len(hub.consumers[0].taken) == 3)
        assert len(got) == 1


def test_topics_are_subscribed_to_and_withdrawn_while_it_runs(feed: Feed) -> None:
    got: list[Any] = []
    with Hub(feed.config, [], []) as hub:
        hub.subscribe(f"{PREFIX}.one", got.append)
        feed.wait("one")
        hub.subscribe(f"{PREFIX}.two*", got.append)
        feed.wait("one", "two")
        feed.send("one")
        feed.send("two.more")
        feed.send("three")
        wait_until(lambda: len(got) == 2)
        hub.unsubscribe(got.append)
        feed.wait_until_gone()
        assert hub.topics == {}


def test_a_callback_that_fails_is_logged_and_called_again(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []

    def fail(message: Any) -> None:
        calls.append(message)
        raise (SystemExit if len(calls) == 1 else Boom)("no")

    with hub_of(feed, taker()) as hub:
        hub.subscribe("", fail)
        feed.send("shop")
        feed.send("shop")
        wait_until(lambda: len(calls) == 2 and len(hub.consumers[0].taken) == 2)
        assert hub.running
    assert caplog.text.count("a callback failed") == 2


def test_a_callback_that_withdraws_itself_is_called_no_more(feed: Feed) -> None:
    got: list[Any] = []

    def once(message: Any) -> None:
        got.append(message)
        hub.unsubscribe(once)

    with hub_of(feed, taker()) as hub:
        hub.subscribe("", once)
        for number in range(100):
            feed.send("shop", number)
        wait_until(lambda: len(hub.consumers[0].taken) == 100)
        assert len(got) == 1


def test_the_callback_of_a_topic_that_two_subscriptions_match_is_called_once(feed: Feed) -> None:
    got: list[Any] = []
    with hub_of(feed, taker()) as hub:
        for topic in ("", f"{PREFIX}.shop", f"{PREFIX}.*"):
            hub.subscribe(topic, got.append)
        feed.send("shop")
        feed.send("last")
        wait_until(lambda: len(hub.consumers[0].taken) == 2 and got[-1].topic.endswith("last"))
        assert len(got) == 2


# ---------------------------------------------------------------- who runs


def test_a_constructor_that_raises_is_logged_and_left_out(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    def early(self: Any, hub: Any) -> None:
        raise Boom("before")

    def late(self: Any, hub: Any) -> None:
        Taker.__init__(self, hub)
        hub.subscribe(f"{PREFIX}.more", self.taken.append)
        raise Boom("after")

    kinds = [taker(__init__=early), taker(__init__=late, queue_limit=5), taker()]
    with hub_of(feed, kinds[2]), Hub(feed.config, kinds, []) as hub:
        assert [type(one) for one in hub.consumers] == kinds[2:]
        assert len(hub.failed) == 2
        assert caplog.text.count("can't be started") == 2
        # Nothing waits for one that does not run.
        assert hub.topics == {"": [hub.consumers[0]._consume_json]}
        feed.wait(count=2)
        for number in range(50):
            feed.send("shop", number)
        wait_until(lambda: len(hub.consumers[0].taken) == 50)


def test_disabled_ones_are_not_kept(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    off = taker(config_key="test.off", name="Off")
    with Hub(feed.config, [off, taker()], []) as hub:
        assert hub.num_consumers == 1
        assert off not in map(type, hub.consumers)
        assert hub.failed == []
    assert "* disabled by config - tests.hubs:Off" in caplog.text


def test_a_consumer_finds_what_is_promised_on_its_hub(feed: Feed) -> None:
    with hub_of(feed, taker()) as hub:
        seen = hub.consumers[0].hub
        assert seen is hub
        assert seen.config["test.enabled"] is True
        assert (seen.num_consumers, seen.num_producers) == (1, 0)
        assert list(seen.topics) == [""]
        assert all(map(callable, (seen.subscribe, seen.unsubscribe, seen.send_message, seen.close, seen.stop)))


# ---------------------------------------------------------------- what is not to be trusted


def test_what_is_malformed_is_refused_and_counted(feed: Feed, caplog: pytest.LogCaptureFixture) -> None:
    with hub_of(feed, taker(), taker(), taker(jsonify=False)) as hub:
        good = envelope("shop")
        frame, body = good["topic"].encode(), json.dumps(good).encode()
        bad = [
            (frame, b"no json"),
            (frame, b"\xff"),
            (frame, b"[]"),
            (frame + b"x", body),
            (frame,),
            (frame, body, b""),
        ]
        for frames in bad:
            feed.raw(*frames)
        feed.publish(good)
        wait_until(lambda: all(consumer.taken for consumer in hub.consumers))
        assert [len(consumer.taken) for consumer in hub.consumers] == [1, 1, 1]
        # The first four are told apart when each consumer decodes them.
        assert [consumer.totals()["rejected"] for consumer in hub.consumers] == [4, 4, 4]
        assert hub.rejections.counts == {"frames": 2, "json": 6, "utf-8": 3, "topic": 3}
    warnings = [record for record in caplog.records if "rejected a message" in record.getMessage()]
    assert len(warnings) == 4
    assert all(feed.address in record.getMessage() for record in warnings)


def test_what_is_too_big_is_refused(feed: Feed) -> None:
    with hub_of(feed, taker(), max_message_size=1000) as hub:
        feed.send("shop", "x" * 1000)
        feed.send("shop", "small")
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.consumers[0].said == ["small"]
        assert hub.rejections.counts == {"size": 1}


# ---------------------------------------------------------------- its life


def test_it_can_be_stopped_twice_and_not_started_again(feed: Feed) -> None:
    hub = Hub(feed.config, [taker()], [])
    states = [hub.running]
    with hub:
        states.append(hub.running)
        assert hub.start() is hub
        assert threading.active_count() >= 3
    states.append(hub.running)
    assert states == [False, True, False]
    assert hub.stop() == hub.close() == Outcome({}, kept=True, stuck=[])
    with pytest.raises(ConfigError, match="has stopped"):
        hub.start()


def test_one_that_was_never_started_can_be_stopped(feed: Feed) -> None:
    def stop(self: Taker) -> None:
        self.taken.append("stopped")

    hub = Hub(feed.config, [taker(stop=stop)], [])
    hub.stop()
    assert hub.consumers[0].taken == ["stopped"]


@pytest.mark.parametrize("way", ["consumer", "callback", "producer"])
def test_it_may_be_closed_from_within(feed: Feed, way: str) -> None:
    outcomes: list[Any] = []

    def close(self: Any, message: Any) -> None:
        outcomes.append(self.hub.close())

    class Closer(PollingProducer):
        def poll(self) -> None:
            if not outcomes:
                outcomes.append(self.hub.close())

    kinds = [taker(consume=close)] if way == "consumer" else [taker()]
    with Hub(feed.config, kinds, [Closer] if way == "producer" else []) as hub:
        if way == "callback":
            hub.subscribe("", lambda message: outcomes.append(hub.close()))
        if way != "producer":
            feed.wait()
            feed.send("shop")
        wait_until(lambda: outcomes and not hub.running)
        assert hub.stop().stuck == []
    assert outcomes[0].stuck == []


def test_leaving_it_open_is_warned_of(feed: Feed) -> None:
    hub = Hub(feed.config, [taker()], [])
    hub.start()
    with pytest.warns(ResourceWarning, match="unclosed Hub"):
        hub.__del__()
    hub.stop()
