# SPDX-License-Identifier: LGPL-2.1-or-later
"""Consumers with a ``replay_name``: what they missed, and what they are told when it can't be had."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto
from fedmsg.exceptions import RefusedAtStart
from fedmsg.hub import Hub, Outcome
from fedmsg.hub.consumer import runner_of
from fedmsg.testing import free_address, wait_until
from tests.certificates import Bench
from tests.datagrepper_server import DatagrepperServer
from tests.hubs import PREFIX, Feed, Taker, envelope, taker
from tests.unit.replay.stores import ListStore, serving

NAME = "feed"


class Shop(Feed):
    """A publisher with a store that a server gives out of.

    Attributes:
        store: The store.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(replay_endpoints={NAME: free_address()}, timeout=10, **settings)
        self.store = ListStore()

    def __enter__(self) -> Shop:
        return self

    def miss(self, *said: Any, word: str = "shop") -> None:
        """Store messages that nobody gets."""
        for one in said:
            self.store.add(self.finished(envelope(word, one)))

    def sell(self, *said: Any, word: str = "shop") -> None:
        """Store messages and send them."""
        for one in said:
            self.publish(self.store.add(self.finished(envelope(word, one))))

    def finished(self, message: dict[str, Any]) -> dict[str, Any]:
        """Give a message as it is stored."""
        return message


class SigningShop(Shop):
    """One that signs, as a store does that signs what it has numbered."""

    def __enter__(self) -> SigningShop:
        return self

    def finished(self, message: dict[str, Any]) -> dict[str, Any]:
        numbered = {**message, "seq_id": len(self.store.messages) + 1}
        return crypto.sign(numbered, **self.config)


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as made, serving(made.store, name=NAME, replay_endpoints=made.config["replay_endpoints"]):
        yield made


@contextmanager
def consumer_of(feed: Feed, settings: Mapping[str, Any] = {}, **members: Any) -> Iterator[Any]:
    """Run a consumer that asks the service, from when messages reach it."""
    kind = taker(**{"topic": f"{PREFIX}.shop", "replay_name": NAME, **members})
    with Hub({**feed.config, **settings}, [kind], []) as hub:
        feed.wait()
        yield hub.consumers[0]


def counts(consumer: Any) -> dict[str, int]:
    """Give what became of its messages, as the monitoring tells it."""
    totals = consumer.__json__()["totals"]
    return {kind: totals[kind] for kind in ("handled", "rejected", "replayed", "lost")}


# ---------------------------------------------------------------- gaps


@pytest.mark.parametrize("jsonify", [True, False])
@pytest.mark.parametrize("workers", [1, 4])
def test_what_was_missed_comes_first(shop: Shop, jsonify: bool, workers: int) -> None:
    got: list[Any] = []

    def consume(_self: Taker, message: Any) -> None:
        got.append((message["topic"], message["body"]["msg"]) if jsonify else (message.topic, message.body))

    settings = {"moksha.workers_per_consumer": workers}
    with consumer_of(shop, settings, jsonify=jsonify, consume=consume) as consumer:
        shop.sell(1)
        for number in range(2, 102, 10):
            shop.miss(*range(number, number + 9))
            shop.sell(number + 9)
        # It comes late, and is known already.
        shop.publish(shop.store.messages[50])
        shop.sell(102)
        wait_until(lambda: len(got) >= 102)
        wait_until(lambda: consumer.incoming.unfinished == 0)
        assert counts(consumer) == {"handled": 102, "rejected": 0, "replayed": 90, "lost": 0}
    assert {topic for topic, _ in got} == {f"{PREFIX}.shop"}
    if jsonify:
        assert [said for _, said in got] == [*range(1, 103)]
    else:
        assert [f'"msg":{number},' in body.replace(" ", "") for number, (_, body) in enumerate(got, 1)] == [True] * 102


def test_all_numbers_count_and_some_topics_are_handled(shop: Shop) -> None:
    with consumer_of(shop) as consumer:
        shop.sell(1)
        shop.sell("n", "n", word="news")
        shop.sell(2)
        shop.miss("n", word="news")
        shop.miss(3)
        shop.sell("n", word="news")
        shop.sell(4)
        wait_until(lambda: len(consumer.taken) >= 4)
        assert consumer.said == [1, 2, 3, 4]
        # But for the one gap there was nothing to ask.
        assert counts(consumer) == {"handled": 4, "rejected": 0, "replayed": 2, "lost": 0}


def test_what_is_put_in_by_hand_is_wanted_whatever_its_topic(shop: Shop) -> None:
    with consumer_of(shop) as consumer:
        shop.sell(1)
        wait_until(lambda: consumer.taken)
        shop.miss(2)
        for made in (
            envelope("elsewhere", 3, seq_id=3),
            {"topic": None, "msg": 4},
            envelope("elsewhere", "old", seq_id=3),
        ):
            consumer._consume({"topic": made["topic"], "body": made})
        wait_until(lambda: consumer.incoming.unfinished == 0)
        assert consumer.said == [1, 2, 3, 4]


def test_with_strict_topics_it_is_the_whole_topic(shop: Shop) -> None:
    with consumer_of(shop, {"zmq_strict": True}) as consumer:
        shop.sell(1)
        shop.miss("o", word="shop.order")
        shop.miss(2)
        shop.sell(3)
        wait_until(lambda: len(consumer.taken) >= 3)
        assert consumer.said == [1, 2, 3]


def test_another_consumer_gets_what_it_wants_and_no_more(shop: Shop) -> None:
    asking, other = taker(topic=f"{PREFIX}.shop", replay_name=NAME), taker(name="Other", topic=f"{PREFIX}.news")
    with Hub(shop.config, [asking, other], []) as hub:
        shop.wait("news")
        shop.sell(1)
        shop.sell("n", word="news")
        shop.miss("lost", word="news")
        shop.sell(2)
        wait_until(lambda: len(hub.consumers[0].taken) >= 2)
        shop.sell("m", word="news")
        wait_until(lambda: len(hub.consumers[1].taken) >= 2)
        assert hub.consumers[0].said == [1, 2]
        assert hub.consumers[1].said == ["n", "m"]


def test_other_services_have_numbers_of_their_own(shop: Shop) -> None:
    with Feed() as other:
        endpoints = {**shop.config["endpoints"], "other": [other.address]}
        with consumer_of(shop, {"endpoints": endpoints}) as consumer:
            other.wait("shop")
            for number in range(1, 4):
                shop.sell(number)
                other.send("shop", f"other {number}", seq_id=1000 * number)
                wait_until(lambda count=2 * number: len(consumer.taken) >= count)  # type: ignore[misc]
            # As low as the first of ours was, and nobody's repetition.
            other.send("shop", "other again", seq_id=2)
            shop.miss(4)
            shop.sell(5)
            wait_until(lambda: len(consumer.taken) >= 9)
            assert [one for one in consumer.said if isinstance(one, int)] == [1, 2, 3, 4, 5]
            assert counts(consumer) == {"handled": 9, "rejected": 0, "replayed": 1, "lost": 0}


# ---------------------------------------------------------------- what can't be had


@contextmanager
def mute() -> Iterator[str]:
    """Give the address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"tcp://127.0.0.1:{silent.getsockname()[1]}"


@contextmanager
def refusing() -> Iterator[str]:
    """Give the address of a server whose store can't be read."""

    class Broken(ListStore):
        def get(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
            raise ValueError("I do not like you")

    address = free_address()
    with serving(Broken(), name=NAME, replay_endpoints={NAME: address}):
        yield address


@pytest.mark.parametrize(
    ("server", "reason"),
    [(mute, "did not answer within"), (refusing, "I do not like you")],
)
def test_a_gap_that_stays_is_told_of_and_the_stream_goes_on(
    server: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Shop() as shop, server() as address:
        settings = {"replay_endpoints": {NAME: address}, "timeout": 0.3}
        with consumer_of(shop, settings) as consumer:
            shop.sell(1)
            shop.miss(*range(2, 10))
            shop.sell(10, 11)
            wait_until(lambda: len(consumer.taken) >= 3)
            assert consumer.said == [1, 10, 11]
            assert counts(consumer) == {"handled": 3, "rejected": 0, "replayed": 0, "lost": 8}
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == 1
    assert "8 messages of feed are lost, of the numbers 2 to 9" in lines[0]
    assert reason in lines[0]


def test_hub_passes_on_messages_that_the_server_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    """Their numbers may be those of another service, so they do not count, and nothing is lost by that."""
    address = free_address()
    with (
        Shop() as shop,
        serving(ListStore(), name=NAME, replay_endpoints={NAME: address}),
        consumer_of(shop, {"replay_endpoints": {NAME: address}}) as consumer,
    ):
        shop.sell(1)
        shop.miss(*range(2, 10))
        shop.sell(10, 11)
        wait_until(lambda: len(consumer.taken) >= 3)
        assert consumer.said == [1, 10, 11]
        assert counts(consumer) == {"handled": 3, "rejected": 0, "replayed": 0, "lost": 0}
    assert "its number does not count" in caplog.text


def test_a_part_of_a_gap_that_is_gone_is_told_of(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    with consumer_of(shop) as consumer:
        shop.sell(1)
        shop.miss(*range(2, 8))
        del shop.store.messages[2:4]
        shop.publish({**envelope("shop", 8), "seq_id": 8})
        wait_until(lambda: len(consumer.taken) >= 6)
        assert consumer.said == [1, 2, 5, 6, 7, 8]
        assert counts(consumer) == {"handled": 6, "rejected": 0, "replayed": 4, "lost": 2}
    assert "2 messages of feed are lost, of the numbers 2 to 7" in caplog.text


# ---------------------------------------------------------------- what is replayed is not trusted


def test_replayed_messages_are_checked_like_any_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    settings = {**bench.config, "validate_signatures": True, "max_seen_ids": 100}
    with (
        SigningShop(**settings) as shop,
        serving(shop.store, name=NAME, replay_endpoints=shop.config["replay_endpoints"]),
        consumer_of(shop) as consumer,
    ):
        shop.sell(1)
        shop.miss(2)
        shop.store.add(envelope("shop", "forged"))
        shop.miss(4)
        shop.sell(5)
        wait_until(lambda: len(consumer.taken) >= 4)
        assert consumer.said == [1, 2, 4, 5]
        assert counts(consumer)["lost"] == 1
        assert consumer.hub.rejections.counts == {"invalid": 1}
    assert "the replay server of feed" in caplog.text


def test_a_consumers_own_look_counts_for_replayed_ones_too(shop: Shop) -> None:
    def validate(self: Taker, message: Any) -> None:
        super(Taker, self).validate(message)
        if message["body"]["msg"] == "odd":
            raise RuntimeWarning("I do not take that")
        if message["body"]["msg"] == "fatal":
            raise LookupError("a mistake of its author's")

    with consumer_of(shop, validate=validate) as consumer:
        shop.sell(1)
        shop.miss("odd", "fatal", 2)
        shop.sell(3)
        wait_until(lambda: len(consumer.taken) >= 3)
        assert consumer.said == [1, 2, 3]
        assert consumer.hub.rejections.counts == {"invalid": 2}


# ---------------------------------------------------------------- what comes out of files


def test_dead_letters_that_are_tried_again_open_no_gap(shop: Shop, tmp_path: Path) -> None:
    failing = threading.Event()
    failing.set()
    settings = {"dead_letter_directory": str(tmp_path)}

    def consume(self: Taker, message: Any) -> None:
        if failing.is_set() and message["body"]["msg"] in (2, 5):
            raise ValueError(message)
        Taker.consume(self, message)

    kind = taker(topic=f"{PREFIX}.shop", replay_name=NAME, consume=consume)
    with Hub({**shop.config, **settings}, [kind], []) as hub:
        shop.wait()
        shop.sell(*range(1, 9))
        wait_until(lambda: hub.consumers[0].totals()["failed"] == 2 and hub.consumers[0].totals()["handled"] == 6)
    shop.wait_until_gone()
    failing.clear()
    with Hub({**shop.config, **settings}, [kind], [], retry_dead_letters=True) as hub:
        shop.wait()
        shop.sell(9, 10)
        wait_until(lambda: len(hub.consumers[0].taken) >= 4)
        wait_until(lambda: hub.consumers[0].incoming.unfinished == 0)
        assert hub.consumers[0].said == [2, 5, 9, 10]


def test_what_a_catch_up_has_brought_is_no_gap(shop: Shop, tmp_path: Path) -> None:
    kind = taker(topic=f"{PREFIX}.shop", replay_name=NAME)
    with DatagrepperServer() as server:
        config = {**shop.config, "status_directory": str(tmp_path), "datagrepper_url": server.url}
        with Hub(config, [kind], []) as hub:
            shop.wait("shop")
            shop.sell(1)
            wait_until(lambda: hub.consumers[0].totals()["handled"] == 1)
        shop.wait_until_gone()
        shop.miss(2, 3, 4)
        server.messages += shop.store.messages[2:3]
        with Hub(config, [kind], []) as hub:
            shop.wait()
            wait_until(lambda: len(hub.consumers[0].taken) >= 1)
            # The second of them has been brought. Numbers begin with the first.
            shop.publish(*shop.store.messages[1:4])
            wait_until(lambda: len(hub.consumers[0].taken) >= 3)
            wait_until(lambda: hub.consumers[0].incoming.unfinished == 0)
            assert hub.consumers[0].said == [3, 2, 4]


# ---------------------------------------------------------------- stopping


def test_a_stop_in_the_middle_of_a_gap_keeps_or_tells(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    def consume(self: Taker, message: Any) -> None:
        Taker.consume(self, message)
        if message["body"]["msg"] == 5:
            go_on.wait()

    kind = taker(topic=f"{PREFIX}.shop", replay_name=NAME, consume=consume)
    config = {**shop.config, "state_directory": str(tmp_path)}
    with Hub(config, [kind], []) as hub:
        shop.wait()
        shop.sell(1)
        shop.miss(*range(2, 60))
        shop.sell(60, 61)
        consumer = hub.consumers[0]
        wait_until(lambda: len(consumer.taken) >= 5)
        outcomes: list[Outcome] = []
        stopping = threading.Thread(target=lambda: outcomes.append(hub.stop(1.0)))
        stopping.start()
        wait_until(lambda: runner_of(consumer).handler.cut)
        go_on.set()
        stopping.join()
        assert outcomes == [Outcome({"Made": 3}, True, [])]
        assert consumer.said == [1, 2, 3, 4, 5]
        assert consumer.totals()["lost"] == 53
    assert "53 messages of feed are lost, of the numbers 7 to 59: the hub stopped" in caplog.text
    with Hub(config, [kind], []) as hub:
        wait_until(lambda: len(hub.consumers[0].taken) >= 3)
        assert hub.consumers[0].said == [6, 60, 61]


def test_a_replayed_message_that_waits_for_another_try_is_kept(shop: Shop, tmp_path: Path) -> None:
    failing = threading.Event()
    failing.set()

    def consume(self: Taker, message: Any) -> None:
        if message["body"]["msg"] == 2 and failing.is_set():
            raise ValueError
        Taker.consume(self, message)

    kind = taker(topic=f"{PREFIX}.shop", replay_name=NAME, consume=consume)
    config = {**shop.config, "state_directory": str(tmp_path), "consume_retries": 3, "consume_retry_delay": 60}
    with Hub(config, [kind], []) as hub:
        shop.wait()
        shop.sell(1)
        shop.miss(2)
        shop.sell(3)
        wait_until(lambda: hub.report()["consumers"][0]["exceptions"])
    failing.clear()
    with Hub(config, [kind], []) as hub:
        wait_until(lambda: len(hub.consumers[0].taken) >= 2)
        assert hub.consumers[0].said == [2, 3]


# ---------------------------------------------------------------- settings


def test_without_an_address_to_ask_it_says_so_and_works(caplog: pytest.LogCaptureFixture) -> None:
    with Feed() as feed:
        kind = taker(topic=f"{PREFIX}.shop", replay_name=NAME)
        with Hub(feed.config, [kind], []) as hub:
            feed.wait("shop")
            consumer = hub.consumers[0]
            for number in (1, 5, 3):
                feed.send("shop", number, seq_id=number)
            wait_until(lambda: len(consumer.taken) >= 3)
            assert consumer.name_to_seq_id == {}
    assert "Made does not notice what is missing from feed: replay_endpoints has no address for it" in caplog.text


def test_a_service_that_nobody_listens_to_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with Feed(replay_endpoints={"web": free_address()}) as feed, consumer_of(feed, topic="", replay_name="web") as one:
        for number in (1, 5, 3):
            feed.send("shop", number, seq_id=number)
        wait_until(lambda: len(one.taken) >= 3)
        assert one.said == [1, 5, 3]
    assert "Made does not notice what is missing from web: it is not in endpoints" in caplog.text


def test_an_address_that_is_none_is_refused() -> None:
    with Feed(replay_endpoints={NAME: "nonsense"}) as feed:
        kind = taker(topic=f"{PREFIX}.shop", replay_name=NAME)
        hub = Hub(feed.config, [kind], [])
        assert "replay_endpoints['feed']" in hub.failed[0]
        with pytest.raises(RefusedAtStart):
            hub.start()
