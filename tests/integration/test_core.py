# SPDX-License-Identifier: LGPL-2.1-or-later
"""FedMsgContext and the module functions, on real sockets in this process."""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zmq

import fedmsg
from fedmsg.core import FedMsgContext, ValidationError
from fedmsg.exceptions import AddressInUse, ConfigError, MessageError, NotListening, RefusedAtStart
from fedmsg.testing import free_address
from fedmsg.transport.zmq.forwarder import Forwarder

HOST = socket.gethostname().split(".", 1)[0]


class Subscriber:
    """A plain SUB socket that is connected and keeps what comes."""

    def __init__(self, address: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.set_hwm(0)
        self.socket.subscribe(b"")
        self.socket.connect(address)

    def receive(self) -> dict[str, Any]:
        assert self.socket.poll(10_000), "nothing arrived"
        topic, body = self.socket.recv_multipart()
        envelope: dict[str, Any] = json.loads(body)
        assert envelope["topic"].encode() == topic
        assert body.decode() == json.dumps(envelope, sort_keys=True, separators=(",", ":"))
        return envelope

    def close(self) -> None:
        self.socket.close(0)
        self.context.term()


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
def subscriber(address: str) -> Iterator[Subscriber]:
    subscribed = Subscriber(address)
    yield subscribed
    subscribed.close()


@pytest.fixture
def bound(address: str, subscriber: Subscriber) -> Iterator[FedMsgContext]:
    with FedMsgContext(name="me.here", endpoints={"me.here": address}, post_init_sleep=10) as context:
        yield context


@pytest.fixture
def relay() -> Iterator[Forwarder]:
    with Forwarder({}, [free_address()], [free_address()], limit=200_000) as running:
        yield running


def test_an_envelope(bound: FedMsgContext, subscriber: Subscriber) -> None:
    before = int(time.time())
    bound.publish(topic="update", msg={"title": "nethack"}, modname="bodhi")
    envelope = subscriber.receive()
    assert before <= envelope.pop("timestamp") <= time.time()
    year, _, rest = envelope.pop("msg_id").partition("-")
    assert (year, len(rest)) == (str(time.localtime().tm_year), 36)
    assert envelope == {
        "i": 1,
        "msg": {"title": "nethack"},
        "topic": "org.fedoraproject.dev.bodhi.update",
        "username": getpass.getuser(),
    }


@pytest.mark.parametrize(
    ("arguments", "topic", "msg"),
    [
        ({"modname": "m"}, "org.fedoraproject.dev.m.unspecified", {}),
        ({"modname": "m", "topic": ""}, "org.fedoraproject.dev.m.unspecified", {}),
        ({"modname": "m", "topic": "t", "msg": []}, "org.fedoraproject.dev.m.t", {}),
        ({"modname": "m", "topic": "t", "msg": 0}, "org.fedoraproject.dev.m.t", {}),
        ({"modname": "m", "topic": "t", "msg": "text"}, "org.fedoraproject.dev.m.t", "text"),
        ({"modname": "m", "topic": "t", "msg": [1]}, "org.fedoraproject.dev.m.t", [1]),
        ({"modname": "org", "topic": "fedoraproject.x"}, "org.fedoraproject.x", {}),
        ({"modname": "m", "topic": "ü", "msg": {"ü": "ü"}}, "org.fedoraproject.dev.m.ü", {"ü": "ü"}),
    ],
)
def test_topic_and_msg(
    arguments: dict[str, Any], topic: str, msg: object, bound: FedMsgContext, subscriber: Subscriber
) -> None:
    for _ in range(2):  # the second time the topic is remembered
        bound.publish(**arguments)
        envelope = subscriber.receive()
        assert (envelope["topic"], envelope["msg"]) == (topic, msg)


def test_the_modname_is_the_callers(bound: FedMsgContext, subscriber: Subscriber) -> None:
    caller: dict[str, Any] = {"__name__": "bodhi.views.update", "context": bound}
    exec("def f(n):\n    context.publish(topic='t') if not n else f(n - 1)", caller)
    caller["f"](0)
    caller["f"](100)
    assert [subscriber.receive()["topic"] for _ in range(2)] == ["org.fedoraproject.dev.bodhi.t"] * 2


def test_messages_are_counted(bound: FedMsgContext, subscriber: Subscriber) -> None:
    for _ in range(3):
        bound.publish(topic="t", modname="m")
    assert [subscriber.receive()["i"] for _ in range(3)] == [1, 2, 3]
    assert bound._i == 3


def test_the_hook_sees_the_finished_envelope(bound: FedMsgContext, subscriber: Subscriber) -> None:
    seen: list[dict[str, Any]] = []
    bound.publish(topic="t", msg={"a": 1}, modname="m", pre_fire_hook=seen.append)
    assert seen == [subscriber.receive()]


def test_what_is_given_is_never_changed(address: str) -> None:
    config = {"name": "me.here", "endpoints": {"me.here": address}, "post_init_sleep": 0}
    msg = {"nested": {"list": [1, {"a": 2}]}}
    before = json.dumps([config, msg])
    with FedMsgContext(**config) as context:
        context.publish(topic="t", msg=msg, modname="m")
        context.publish(topic="t", msg=msg, modname="m", pre_fire_hook=lambda envelope: None)
        assert context.c["endpoints"] == {"me.here": [address]}
    assert json.dumps([config, msg]) == before


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"msg": {"a": object()}}, TypeError, "object"),
        ({"msg": {"a": b"bytes"}}, TypeError, "bytes"),
        ({"msg": {1: 2, "a": 3}}, TypeError, "<"),
        ({"topic": "\ud800"}, MessageError, "UTF-8"),
        ({"topic": "t" * 5000}, MessageError, "more than the 4096"),
        ({"msg": {"a": "x" * 1000}}, MessageError, r"max_message_size allows \(1000\)"),
    ],
)
def test_what_receivers_would_refuse_is_an_error_here(
    arguments: dict[str, Any], error: type[Exception], match: str, address: str, subscriber: Subscriber
) -> None:
    config = {"name": "me.here", "endpoints": {"me.here": address}, "max_message_size": 1000}
    with FedMsgContext(**config) as context:
        with pytest.raises(error, match=match):
            context.publish(modname="m", **arguments)
        context.publish(topic="t", modname="m")  # and it goes on
        assert subscriber.receive()["i"] == 1


def test_a_circular_message_is_a_value_error(bound: FedMsgContext) -> None:
    msg: dict[str, Any] = {}
    msg["self"] = msg
    with pytest.raises(ValueError, match=r"(?i)circular"):
        bound.publish(topic="t", msg=msg, modname="m")


# ------------------------------------------------------------------ opening


def test_a_name_without_endpoint_is_a_warning_and_publishing_an_error() -> None:
    with pytest.warns(UserWarning, match="fedmsg is not configured to send any zmq messages for name 'me.here'"):
        context = FedMsgContext(name="me.here", endpoints={})
    with context, pytest.raises(ConfigError, match=r"endpoints\['me.here'\].*active=True"):
        context.publish(topic="t", modname="m")


def test_the_name_is_the_calling_module_and_the_host(address: str) -> None:
    caller: dict[str, Any] = {"__name__": "bodhi.server", "FedMsgContext": FedMsgContext, "a": address}
    exec(f"context = FedMsgContext(endpoints={{'bodhi.{HOST}': a}})", caller)
    with caller["context"] as context:
        assert context.c["name"] == f"bodhi.{HOST}"
        assert context.publisher.getsockopt_string(zmq.LAST_ENDPOINT).endswith(address.rpartition(":")[2])
        assert context.hostname == HOST
        assert context.log.name == "fedmsg"
        assert isinstance(context.context, zmq.Context)


def test_no_name_when_the_caller_is_called_like_fedmsg() -> None:
    caller: dict[str, Any] = {"__name__": "fedmsg_tool", "FedMsgContext": FedMsgContext}
    with pytest.warns(UserWarning, match="for name None"):
        exec("context = FedMsgContext(endpoints={})", caller)
    with caller["context"] as context:
        assert context.c["name"] is None


def test_a_mute_one_opens_nothing_and_says_nothing() -> None:
    with FedMsgContext(mute=True, name="me.here", endpoints={"me.here": "tcp://127.0.0.1:1"}) as context:
        assert context.publisher is None
        with pytest.raises(ConfigError, match="mute"):
            context.publish(topic="t", modname="m")


@pytest.mark.parametrize("config", [{}, {"relay_inbound": None}, {"relay_inbound": []}])
def test_active_without_a_relay_address(config: dict[str, Any]) -> None:
    with pytest.raises(KeyError) as caught:
        FedMsgContext(active=True, endpoints={}, **config)
    assert str(caught.value) == "Could not find endpoint for fedmsg-relay. Try installing fedmsg-relay."


def test_active_with_a_name_of_its_own_reports_that_the_name_is_the_reason() -> None:
    with pytest.raises(KeyError, match=r"^Could not find endpoint for fedmsg-relay\..* The reason is the name 'zz'"):
        FedMsgContext(active=True, name="zz", endpoints={}, relay_inbound="tcp://127.0.0.1:1")


def test_active_publishes_through_a_relay(relay: Forwarder) -> None:
    subscribed = Subscriber(relay.outbound)
    with FedMsgContext(active=True, relay_inbound=relay.inbound) as context:
        assert context.c["name"] == "relay_inbound"
        greeted = threading.Event()

        def greet() -> None:
            while not greeted.wait(0.02):
                context.publish(topic="hello", modname="m")

        greeter = threading.Thread(target=greet)
        greeter.start()
        subscribed.receive()
        greeted.set()
        greeter.join()
        context.publish(topic="t", modname="m", msg={"a": 1})
        while subscribed.receive()["msg"] != {"a": 1}:
            pass
        assert context.lost == 0
    subscribed.close()


def test_active_under_another_name(relay: Forwarder) -> None:
    with FedMsgContext(active=True, name="my_relay", my_relay=relay.inbound[0]) as context:
        context.publish(topic="t", modname="m")
    assert context.lost == 0


def test_no_relay_is_an_error_that_says_where(address: str) -> None:
    with FedMsgContext(active=True, relay_inbound=address, timeout=0) as context:
        with pytest.raises(NotListening, match=address):
            context.publish(topic="t", modname="m")
        assert context._i == 0


def test_all_addresses_taken_by_another_process(address: str) -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", int(address.rpartition(":")[2])))
        holder.listen()
        with pytest.raises(AddressInUse, match=r"^Couldn't find an available endpoint for name 'me.here'"):
            FedMsgContext(name="me.here", endpoints={"me.here": [address]})


def test_an_unresolvable_host_does_not_hurt() -> None:
    endpoints = {"bad": "tcp://no-such-host.invalid:1"}
    with FedMsgContext(mute=True, endpoints=endpoints) as context:
        assert context.c["endpoints"] == {"bad": ["tcp://no-such-host.invalid:1"]}
    relay = "tcp://no-such-host.invalid:1"
    with FedMsgContext(active=True, relay_inbound=relay, timeout=0) as context, pytest.raises(NotListening):
        context.publish(topic="t", modname="m")


def test_a_broker_instead_of_zeromq() -> None:
    with FedMsgContext(zmq_enabled=False, name="me.here", endpoints={}) as context:
        with pytest.raises(ValueError, match="zmq_enabled"):
            context.tail_messages()
        with pytest.raises(AttributeError) as caught:
            context.publish(topic="t", modname="m")
        assert str(caught.value) == "Unable to publish non-zeromq msg without moksha-hub initialization."


# ------------------------------------------------------------------ closing


def test_a_closed_context_says_so_and_closes_twice(address: str) -> None:
    context = FedMsgContext(name="me.here", endpoints={"me.here": address})
    context.destroy()
    context.destroy()
    assert context.publisher is None
    with pytest.raises(ConfigError, match="closed"):
        context.publish(topic="t", modname="m")


def test_a_forgotten_one_warns_and_closes(address: str) -> None:
    config = {"name": "me.here", "endpoints": {"me.here": address}}
    context = FedMsgContext(**config)
    with pytest.warns(ResourceWarning, match="unclosed FedMsgContext"):
        del context
    with FedMsgContext(**config):
        pass


def test_the_old_name_of_publish(bound: FedMsgContext, subscriber: Subscriber) -> None:
    with pytest.warns(DeprecationWarning, match=r"^\.send_message is deprecated\. Use \.publish$"):
        bound.send_message("t", {"a": 1}, "m")
    assert subscriber.receive()["topic"] == "org.fedoraproject.dev.m.t"


# ------------------------------------------------------------------ listening


def test_listening(address: str) -> None:
    endpoints = {"me.here": [address]}
    with FedMsgContext(mute=True, endpoints=endpoints) as listener:
        messages = listener.tail_messages(topic="org.fedoraproject.dev.m")
        with FedMsgContext(name="me.here", endpoints=endpoints, post_init_sleep=10) as context:

            def send() -> None:
                for modname, topic in (("m", "1"), ("other", "2"), ("mm", "3")):
                    context.publish(topic=topic, modname=modname)

            thread = threading.Thread(target=send)
            thread.start()
            received = [next(messages), next(messages)]
            thread.join()
        messages.close()  # type: ignore[attr-defined]
    assert [(name, where, topic, envelope["i"]) for name, where, topic, envelope in received] == [
        ("me.here", address, "org.fedoraproject.dev.m.1", 1),
        ("me.here", address, "org.fedoraproject.dev.mm.3", 3),
    ]


def test_what_can_not_work_fails_at_the_call() -> None:
    with (
        FedMsgContext(mute=True, endpoints={"x": "nonsense"}) as context,
        pytest.raises(ConfigError, match=r"endpoints\['x'\]"),
    ):
        context.tail_messages()
    with (
        FedMsgContext(mute=True, endpoints={}, validate_signatures=True, ca_cert_location="/nowhere/ca.crt") as context,
        pytest.raises(RefusedAtStart, match=r"ca\.crt.*ca_cert_location"),
    ):
        context.tail_messages()


def test_a_validation_error_keeps_its_message() -> None:
    error = ValidationError({"topic": "x"})
    assert error.msg == {"topic": "x"}


# ------------------------------------------------------------------ the module functions


@pytest.fixture
def initialized(address: str, subscriber: Subscriber) -> Iterator[FedMsgContext]:
    context = fedmsg.init(name="me.here", endpoints={"me.here": [address]}, post_init_sleep=10)
    yield context
    fedmsg.destroy()


def test_init_keeps_the_context_for_the_thread(initialized: FedMsgContext) -> None:
    assert fedmsg.__dict__["__local"].__dict__["__context"] is initialized
    with pytest.raises(ValueError, match=r"^fedmsg already initialized$"):
        fedmsg.init()


def test_publish_uses_it(initialized: FedMsgContext, subscriber: Subscriber) -> None:
    fedmsg.publish(topic="t", msg={"a": 1}, modname="m")
    assert subscriber.receive()["msg"] == {"a": 1}
    with pytest.warns(DeprecationWarning, match="send_message"):
        old = fedmsg.send_message
    assert old is fedmsg.publish


def test_publish_guesses_past_the_module_function(initialized: FedMsgContext, subscriber: Subscriber) -> None:
    exec("fedmsg.publish(topic='t')", {"__name__": "pkgdb.app", "fedmsg": fedmsg})
    assert subscriber.receive()["topic"] == "org.fedoraproject.dev.pkgdb.t"


def test_publish_initialises_and_destroy_starts_afresh(address: str) -> None:
    config: dict[str, Any] = {"name": "me.here", "endpoints": {"me.here": [address]}, "post_init_sleep": 10}
    for _ in range(2):
        subscriber = Subscriber(address)
        fedmsg.publish(topic="t", modname="m", **config)
        assert subscriber.receive()["i"] == 1
        fedmsg.destroy()
        subscriber.close()
    fedmsg.destroy()


def test_a_thread_has_a_context_of_its_own_that_ends_with_it(
    initialized: FedMsgContext, address: str, subscriber: Subscriber
) -> None:
    contexts = []

    def work() -> None:
        contexts.append(fedmsg.init(name="me.here", endpoints={"me.here": [address]}))
        fedmsg.publish(topic="t", modname="m")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert contexts[0] is not initialized
    assert subscriber.receive()["i"] == 1
    fedmsg.publish(topic="t", modname="m")
    assert subscriber.receive()["i"] == 1


def test_what_one_thread_tells_init_holds_for_the_others(initialized: FedMsgContext, subscriber: Subscriber) -> None:
    """A consumer says in its constructor how it publishes, and does so in a thread of its hub."""
    names: list[str] = []

    def work() -> None:
        fedmsg.publish(topic="t", modname="m")
        names.append(fedmsg.__dict__["__local"].__dict__["__context"].c["name"])
        fedmsg.destroy()
        names.append(fedmsg.init().c["name"])
        fedmsg.destroy()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert names == ["me.here"] * 2
    assert subscriber.receive()["i"] == 1


def test_what_init_was_told_holds_after_destroy_and_until_it_is_told_something_else(
    initialized: FedMsgContext, address: str, subscriber: Subscriber
) -> None:
    fedmsg.destroy()
    # ZeroMQ subscribes anew after a lost connection only while the subscriber is at its socket.
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(subscriber.receive)
        fedmsg.publish(topic="t", modname="m")
        assert received.result()["i"] == 1
    fedmsg.destroy()
    other = fedmsg.init(name="other.here", endpoints={"other.here": [address]})
    assert other.c["post_init_sleep"] != initialized.c["post_init_sleep"]
    fedmsg.destroy()
    # A configuration that is loaded afresh begins afresh.
    vars(fedmsg.config)["__cache"] = {}
    assert fedmsg.init(mute=True).c["name"] != "other.here"


def test_tail_messages_of_the_module() -> None:
    try:
        with pytest.raises(ConfigError, match="nonsense"):
            fedmsg.tail_messages(mute=True, endpoints={"x": "nonsense"})
    finally:
        fedmsg.destroy()


def test_logging_stays_quiet_when_all_is_well(bound: FedMsgContext, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bound.publish(topic="t", modname="m")
    assert not caplog.records


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"timeout": "x"}, "timeout is 'x': could not convert"),
        ({"endpoints": [1]}, "endpoints is [1]: The 'endpoints' config value must be a dict."),
        ({"topic_prefix": 5}, "topic_prefix is 5"),
        ({"zmq_linger": -1}, "zmq_linger is -1: Integer must be greater than or equal to zero"),
        ({"active": "perhaps"}, "active is 'perhaps'"),
        ({"io_threads": 100_000}, "io_threads is 100000: 100000 is more than 256"),
    ],
)
def test_arguments_that_can_not_work_are_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FedMsgContext(mute=True, **config)
    assert said in str(caught.value)


def test_a_user_without_a_name(address: str) -> None:
    # Only root can become somebody else; for others the list of users is emptied.
    nobody = "os.setuid(4242)" if os.getuid() == 0 else "pwd.getpwuid = {}.__getitem__"
    code = (
        f"import os, pwd\nfrom fedmsg.core import FedMsgContext\n{nobody}\n"
        f"with FedMsgContext(name='me', endpoints={{'me': {address!r}}}, post_init_sleep=0) as context:\n"
        "    context.publish(topic='t', modname='m', pre_fire_hook=lambda envelope: print(envelope['username']))"
    )
    names = {"USER", "LOGNAME", "LNAME", "USERNAME"}
    environ = {name: value for name, value in os.environ.items() if name not in names}
    ended = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert (ended.stdout.strip(), ended.stderr) == (str(os.getuid() or 4242), "")


def test_refused_messages_are_counted_on_the_context(address: str) -> None:
    context = zmq.Context()
    with FedMsgContext(mute=True, endpoints={"x": address}) as listener, context.socket(zmq.XPUB) as publisher:
        publisher.bind(address)

        def publish() -> None:
            publisher.recv()
            publisher.send_multipart([b"t", b"null"])
            publisher.send_multipart([b"t", b'{"topic":"t","msg":1}'])

        thread = threading.Thread(target=publish)
        thread.start()
        messages = listener.tail_messages()
        assert next(messages)[3]["msg"] == 1
        thread.join()
        messages.close()  # type: ignore[attr-defined]
        assert listener.rejections.counts == {"json": 1}
    context.term()
