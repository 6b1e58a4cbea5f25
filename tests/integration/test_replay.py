# SPDX-License-Identifier: LGPL-2.1-or-later
"""Contexts with a store: what is stored and sent, and what a listener asks for."""

from __future__ import annotations

import functools
import gc
import os
import signal
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg import crypto, encoding
from fedmsg.core import FedMsgContext
from fedmsg.exceptions import ConfigError, MessageError, NotListening, RefusedAtStart, StoreError
from fedmsg.replay import sqlstore
from fedmsg.testing import Bus, free_address, wait_until
from tests.certificates import Bench, Holder
from tests.integration.faults.ground import Witness
from tests.unit.replay.stores import ListStore, opened, serving

NAME = "shop.here"


def publishing(store: object, **settings: Any) -> dict[str, Any]:
    """Give the settings of a bound publisher with a store."""
    return {
        "name": NAME, "endpoints": {NAME: [free_address()]}, "persistent_store": store, "post_init_sleep": 0,
        **settings,
    }  # fmt: skip


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [message["seq_id"] for message in messages]


class Listener:
    """A thread that listens with ``tail_messages`` until the topic ``end`` comes."""

    def __init__(self, config: dict[str, Any], topic: str = "", **settings: Any) -> None:
        self.got: list[dict[str, Any]] = []
        self.topics: list[str] = []
        self.context = FedMsgContext(**{**config, "mute": True, "persistent_store": None, **settings})
        self._messages = self.context.tail_messages(topic)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with closing(self._messages) as messages:  # type: ignore[type-var] # it is a generator, and so has close
            for _, _, topic, message in messages:
                if topic.endswith(".end"):
                    return
                self.topics.append(topic)
                self.got.append(message)

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.context.destroy()


@contextmanager
def listening(config: dict[str, Any], publisher: FedMsgContext, topic: str = "", **settings: Any) -> Iterator[Listener]:
    """Listen for as long as the block lasts."""
    listener = Listener(config, topic, **settings)
    wait_until(lambda: listener.got, meanwhile=lambda: publisher.publish("hello", modname="shop"))
    try:
        yield listener
    finally:
        publisher.publish("end", modname="shop")
        listener.join()


# ------------------------------------------------------------------ publishing


def test_what_is_sent_is_what_is_stored(database_url: str) -> None:
    config = publishing(database_url)
    with Witness(*config["endpoints"][NAME]) as witness, FedMsgContext(**{**config, "post_init_sleep": 20}) as context:
        for number in range(3):
            context.publish("order", {"n": number}, modname="shop")
        witness.wait_for(3, "order")
        with opened(database_url) as store:
            assert list(store.texts({})) == [frames[1].decode() for frames in witness.frames]
            assert numbers(store.get({})) == [1, 2, 3]


def test_signed_messages_have_their_number_under_the_signature(database_url: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    config = publishing(database_url, **bench.config, sign_messages=True, certnames={NAME: bench.config["certname"]})
    with FedMsgContext(**config) as context:
        context.publish("order", {"n": 1}, modname="shop")
        context.publish("order", {"n": 2}, modname="shop", pre_fire_hook=lambda envelope: envelope["msg"].update(n=3))
    with opened(database_url) as store:
        stored = store.get({})
    assert [message["msg"]["n"] for message in stored] == [1, 3]
    for message in stored:
        assert crypto.validate(message, **bench.config)
        assert not crypto.validate({**message, "seq_id": 7}, **bench.config)


def test_a_hook_sees_the_number_and_what_it_raises_stores_nothing(sqlite_url: str) -> None:
    seen: list[int] = []

    def hook(envelope: dict[str, Any]) -> None:
        seen.append(envelope["seq_id"])
        if len(seen) == 2:
            raise LookupError

    with FedMsgContext(**publishing(sqlite_url)) as context, opened(sqlite_url) as store:
        context.publish("order", modname="shop", pre_fire_hook=hook)
        with pytest.raises(LookupError):
            context.publish("order", modname="shop", pre_fire_hook=hook)
        context.publish("order", modname="shop", pre_fire_hook=hook)
        assert seen == [1, 2, 2]
        assert [(message["seq_id"], message["i"]) for message in store.get({})] == [(1, 1), (2, 2)]


def test_what_a_receiver_would_refuse_is_not_stored(sqlite_url: str) -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    with FedMsgContext(**publishing(sqlite_url, max_message_size=1000)) as context, opened(sqlite_url) as store:
        for msg in (deep, {"text": "x" * 1000}):
            with pytest.raises(MessageError):
                context.publish("order", msg, modname="shop")
        with pytest.raises(TypeError):
            context.publish("order", {"object": object()}, modname="shop")
        assert store.last_number() == 0


def test_where_nobody_listens_nothing_is_stored(sqlite_url: str) -> None:
    with FedMsgContext(active=True, relay_inbound=free_address(), timeout=0.1, persistent_store=sqlite_url) as context:
        with pytest.raises(NotListening):
            context.publish("order", modname="shop")
        assert context._i == 0
    with opened(sqlite_url) as store:
        assert store.last_number() == 0


def test_through_a_relay(sqlite_url: str) -> None:
    with Bus() as bus, Witness(bus.config["endpoints"]["relay_outbound"][0]) as witness:
        bus.start_relay()
        witness.greet(bus)
        with bus.context(persistent_store=sqlite_url) as context:
            for number in range(5):
                context.publish("order", {"n": number}, modname="shop")
        witness.wait_for(5, "order")
        assert numbers(witness.bodies("order")) == [1, 2, 3, 4, 5]


def test_a_store_that_fails_sends_nothing(sqlite_url: str) -> None:
    config = publishing(sqlite_url, post_init_sleep=20)
    with Witness(*config["endpoints"][NAME]) as witness, FedMsgContext(**config) as context:
        context.publish("order", modname="shop")
        with opened(sqlite_url) as store, store.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE fedmsg_messages RENAME TO elsewhere")
        with pytest.raises(StoreError, match="can't be written"):
            context.publish("order", modname="shop")
        with opened(sqlite_url) as store, store.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE fedmsg_messages")
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO fedmsg_messages")
        context.publish("order", modname="shop")
        witness.wait_for(2, "order")
        assert numbers(witness.bodies("order")) == [1, 2]


def test_a_store_of_somebody_else_may_number_but_not_with_signing(tmp_path: Path) -> None:
    bench, store = Bench(tmp_path), ListStore()
    config = publishing(store, post_init_sleep=20)
    with Witness(*config["endpoints"][NAME]) as witness, FedMsgContext(**config) as context:
        context.publish("order", modname="shop")
        witness.wait_for(1, "order")
        assert numbers(witness.bodies("order")) == [1]
        signing = {**bench.config, "sign_messages": True, "certnames": {NAME: bench.config["certname"]}}
        with pytest.raises(RefusedAtStart, match=r"add\(msg, finish\)"):
            FedMsgContext(**{**config, **signing})
    with pytest.raises(RefusedAtStart, match=r"add\(msg, finish\)"):
        FedMsgContext(**publishing(store, **signing))


def test_what_is_no_store_is_refused() -> None:
    for store, error in ((True, ConfigError), ("nonsense", ConfigError), ("sqlite:////nowhere/at/all.db", StoreError)):
        config = publishing(store)
        with pytest.raises(error):
            FedMsgContext(**config)
        # Its address is free again, and those who only listen need no store.
        FedMsgContext(**{**config, "persistent_store": None}).destroy()
        FedMsgContext(**{**config, "mute": True}).destroy()


def test_threads_send_in_the_order_of_the_numbers(sqlite_url: str) -> None:
    config = publishing(sqlite_url, post_init_sleep=20)

    def publish() -> None:
        with FedMsgContext(**config) as context:
            for _ in range(25):
                context.publish("order", modname="shop")

    with Witness(*config["endpoints"][NAME]) as witness, FedMsgContext(**config):
        threads = [threading.Thread(target=publish) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        witness.wait_for(200, "order")
        assert numbers(witness.bodies("order")) == list(range(1, 201))


def test_a_signal_handler_may_publish_at_any_moment(sqlite_url: str) -> None:
    with FedMsgContext(**publishing(sqlite_url)) as context:
        context.publish("order", modname="shop")
        sent = 0

        def handle(number: int, frame: object) -> None:
            nonlocal sent
            sent += 1
            context.publish("signal", modname="shop")

        before = signal.signal(signal.SIGALRM, handle)
        try:
            for number in range(200):
                # Once for each message, and each time later.
                signal.setitimer(signal.ITIMER_REAL, 0.00001 * (number + 1))
                context.publish("order", modname="shop")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    with opened(sqlite_url) as store:
        stored = store.get({})
    assert sent > 0
    assert len([message for message in stored if message["topic"].endswith(".signal")]) == sent
    assert numbers(stored) == list(range(1, 202 + sent))
    assert [message["i"] for message in stored] == numbers(stored)


def test_a_finaliser_may_publish_in_the_middle_of_storing(sqlite_url: str) -> None:
    class Object:
        """Something that says goodbye."""

    with FedMsgContext(**publishing(sqlite_url)) as context:

        def hook(envelope: dict[str, Any]) -> None:
            dying = Object()
            weakref.finalize(dying, context.publish, "goodbye", modname="shop")
            del dying
            gc.collect()

        context.publish("order", modname="shop", pre_fire_hook=hook)
    with opened(sqlite_url) as store:
        assert [message["topic"].rpartition(".")[2] for message in store.get({})] == ["order", "goodbye"]


def test_a_forked_child_stores_through_connections_of_its_own(database_url: str) -> None:
    config = publishing(database_url)
    config["endpoints"] = {NAME: [free_address(), free_address()]}
    with FedMsgContext(**config) as context:
        context.publish("order", {"who": "parent"}, modname="shop")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            status = 1
            try:
                for _ in range(20):
                    context.publish("order", {"who": "child"}, modname="shop")
                context.destroy()
                status = 0
            finally:
                os._exit(status)
        for _ in range(20):
            context.publish("order", {"who": "parent"}, modname="shop")
        assert os.waitpid(pid, 0)[1] == 0
        context.publish("order", {"who": "parent"}, modname="shop")
    with opened(database_url) as store:
        stored = store.get({})
    assert numbers(stored) == list(range(1, 43))
    assert [message["msg"]["who"] for message in stored].count("child") == 20


# ------------------------------------------------------------------ listening


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[tuple[dict[str, Any], FedMsgContext, sqlstore.SqlStore]]:
    """Give the configuration, a publisher and its store, which a server answers for."""
    config = publishing(sqlite_url, timeout=10, replay_endpoints={NAME: free_address()})
    with (
        opened(sqlite_url) as store,
        serving(store, name=NAME, replay_endpoints=config["replay_endpoints"]),
        FedMsgContext(**config) as publisher,
    ):
        yield config, publisher, store


def miss(publisher: FedMsgContext, store: sqlstore.SqlStore, count: int, topic: str = "order") -> None:
    """Store messages that are not sent."""
    for number in range(count):
        envelope = publisher._session.new_envelope(number, 1.7e9, f"org.fedoraproject.dev.shop.{topic}", {"n": number})
        store.add(envelope, lambda message: publisher._session.finished(message, None))


def test_a_listener_asks_for_what_it_missed(
    shop: tuple[dict[str, Any], FedMsgContext, sqlstore.SqlStore],
) -> None:
    config, publisher, store = shop
    with listening(config, publisher) as listener:
        first = listener.got[0]["seq_id"]
        miss(publisher, store, 2500)
        publisher.publish("order", modname="shop")
    got = numbers(listener.got)
    assert got == list(range(first, first + len(got)))
    assert got[-1] == store.last_number() - 1
    assert listener.context.gaps["replayed"] == 2500


def test_a_listener_to_some_topics_sees_the_gaps_of_all(
    shop: tuple[dict[str, Any], FedMsgContext, sqlstore.SqlStore],
) -> None:
    config, publisher, store = shop
    with listening(config, publisher) as everything:
        listener = Listener(config, "org.fedoraproject.dev.shop.o")
        wait_until(lambda: listener.got, meanwhile=lambda: publisher.publish("offer", modname="shop"))
        for topic in ("order", "hello", "order", "hello"):
            publisher.publish(topic, modname="shop")
        miss(publisher, store, 3, "hello")
        miss(publisher, store, 3, "order")
        publisher.publish("hello", modname="shop")
        wait_until(lambda: listener.topics.count("org.fedoraproject.dev.shop.order") == 5)
        assert listener.context.gaps == {"asked": 1, "replayed": 6}
        # The end is not a topic of its own.
        publisher.publish("o.end", modname="shop")
        listener.join()
    assert {topic.split(".")[4] for topic in listener.topics} == {"offer", "order"}
    assert everything.context.gaps["replayed"] == 6


def test_replayed_messages_are_checked(sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    signing = {**bench.config, "sign_messages": True, "certnames": {NAME: bench.config["certname"]}}
    config = publishing(sqlite_url, timeout=10, replay_endpoints={NAME: free_address()}, **signing)
    with (
        opened(sqlite_url) as store,
        serving(store, name=NAME, replay_endpoints=config["replay_endpoints"]),
        FedMsgContext(**config) as publisher,
        listening(config, publisher, validate_signatures=True) as listener,
    ):
        first = listener.got[0]["seq_id"]
        start = store.last_number()
        miss(publisher, store, 2)
        forged = publisher._session.new_envelope(1, 1.7e9, "org.fedoraproject.dev.shop.order", {"forged": True})
        store.add(forged)
        miss(publisher, store, 2)
        publisher.publish("order", modname="shop")
    got = numbers(listener.got)
    assert got == [number for number in range(first, start + 7) if number != start + 3]
    assert listener.context.gaps["lost"] == 1
    assert listener.context.rejections.counts == {"invalid": 1}
    assert "1 messages of shop.here are lost" in caplog.text


def test_without_a_server_the_stream_goes_on(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Takes connections and says nothing.
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        config = publishing(sqlite_url, timeout=0.2, replay_endpoints={NAME: address})
        with (
            opened(sqlite_url) as store,
            FedMsgContext(**config) as publisher,
            listening(config, publisher) as listener,
        ):
            miss(publisher, store, 7)
            publisher.publish("order", {"n": "after"}, modname="shop")
    assert listener.got[-1]["msg"] == {"n": "after"}
    assert listener.context.gaps["lost"] == 7
    assert "7 messages of shop.here are lost, of the numbers" in caplog.text
    assert "did not answer within" in caplog.text


def test_a_replay_address_that_is_none_is_refused_at_the_call() -> None:
    config = {"endpoints": {"a": free_address()}, "replay_endpoints": {"a": "nonsense"}}
    with FedMsgContext(mute=True, **config) as context, pytest.raises(ConfigError, match=r"replay_endpoints\['a'\]"):
        context.tail_messages()


def test_listener_does_not_follow_the_number_of_another_service(sqlite_url: str, tmp_path: Path) -> None:
    """Another service, whose messages are validly signed, sends numbers of its own at an endpoint of the same name."""
    bench = Bench(tmp_path)
    theirs = {**bench.config, "certname": Holder("bank.test", bench.ca).write(tmp_path)}
    signing = {**bench.config, "sign_messages": True, "certnames": {NAME: bench.config["certname"]}}
    config = publishing(sqlite_url, timeout=10, replay_endpoints={NAME: free_address()}, **signing)
    with ExitStack() as stack:
        stray = stack.enter_context(stack.enter_context(zmq.Context()).socket(zmq.PUB))
        stray.linger = 0
        config["endpoints"][NAME].append(f"tcp://127.0.0.1:{stray.bind_to_random_port('tcp://127.0.0.1')}")
        store = stack.enter_context(opened(sqlite_url))
        stack.enter_context(serving(store, name=NAME, replay_endpoints=config["replay_endpoints"]))
        publisher = stack.enter_context(FedMsgContext(**config))
        listener = stack.enter_context(listening(config, publisher, validate_signatures=True))
        first = listener.got[0]["seq_id"]

        def send(number: int) -> None:
            envelope = publisher._session.new_envelope(1, time.time(), "org.fedoraproject.dev.bank.stray", {})
            signed = crypto.sign({**envelope, "seq_id": number}, **theirs)
            stray.send_multipart([b"org.fedoraproject.dev.bank.stray", encoding.dumps(signed).encode()])

        def has_come(number: int) -> bool:
            return any(one["topic"].endswith("stray") and one["seq_id"] == number for one in [*listener.got])

        for number in (10**9, store.last_number() + 1, 1):
            wait_until(functools.partial(has_come, number), meanwhile=functools.partial(send, number))
        publisher.publish("order", modname="shop")
        miss(publisher, store, 3)
        publisher.publish("order", modname="shop")
        last = store.last_number()
    ours = numbers([one for one in listener.got if not one["topic"].endswith("stray")])
    assert ours == [*range(first, last + 1)]
    assert listener.context.gaps["repeated"] == 0
    assert listener.context.gaps["uncounted"] >= 3
