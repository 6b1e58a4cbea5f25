# SPDX-License-Identifier: LGPL-2.1-or-later
"""The small parts of the hub: topics, addresses, messages, the reactor, who is constructed."""

from __future__ import annotations

import json
import math
import queue
import threading
from typing import Any

import pytest

from fedmsg.exceptions import ConfigError, MessageError
from fedmsg.hub import endpoints
from fedmsg.hub.hooks import ZMQMessage
from fedmsg.hub.hub import _Plugins
from fedmsg.hub.moksha import Reactor, asbool
from fedmsg.transport.base import Delivery
from tests.unit.fresh import python

# ---------------------------------------------------------------- addresses


def test_it_receives_from_all_endpoints() -> None:
    config = {"endpoints": {"a": ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"], "b": "tcp://127.0.0.1:3"}}
    assert endpoints.inbound(config) == (
        [("a", "tcp://127.0.0.1:1"), ("a", "tcp://127.0.0.1:2"), ("b", "tcp://127.0.0.1:3")],
        False,
    )


@pytest.mark.parametrize("value", ["tcp://127.0.0.1:1, tcp://127.0.0.1:2", ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2,"]])
@pytest.mark.parametrize("method", ["bind", "connect", None])
def test_or_from_where_the_settings_of_moksha_say(value: Any, method: str | None) -> None:
    config = {"zmq_subscribe_endpoints": value, "zmq_subscribe_method": method, "endpoints": {"a": "tcp://127.0.0.1:9"}}
    found, bound = endpoints.inbound(config)
    assert [address for _, address in found] == ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]
    assert bound is (method == "bind")


@pytest.mark.parametrize("config", [{"endpoints": {"a": "nowhere"}}, {"zmq_subscribe_endpoints": "nowhere"}])
def test_what_is_no_address_is_said(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        endpoints.inbound(config)


@pytest.mark.parametrize(
    ("config", "addresses"),
    [
        ({}, []),
        ({"name": "a"}, []),
        ({"name": "a", "endpoints": {"a": "tcp://127.0.0.1:1"}}, ["tcp://127.0.0.1:1"]),
        ({"name": "b", "endpoints": {"a": "tcp://127.0.0.1:1"}}, []),
        ({"zmq_publish_endpoints": "tcp://127.0.0.1:1,tcp://127.0.0.1:2"}, ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]),
    ],
)
def test_where_it_publishes(config: dict[str, Any], addresses: list[str]) -> None:
    assert endpoints.outbound({"endpoints": {}, **config}) == addresses


# ---------------------------------------------------------------- messages

STRANGE: list[Any] = [
    {"n": 1, "deep": [[[{"a": None}]]]}, "text \ud800 \x00", [1e999, -0.0, 10**4000], True, None, {"": {"": []}},
]  # fmt: skip


@pytest.mark.parametrize("takers", [1, 2, 5])
@pytest.mark.parametrize("msg", STRANGE)
def test_each_taker_gets_an_envelope_of_its_own(msg: Any, takers: int) -> None:
    body = json.dumps({"topic": "a", "msg": msg}).encode()
    message = Delivery("tcp://127.0.0.1:1", b"a", body, takers)
    copies = [message.envelope() for _ in range(takers)]
    assert [json.dumps(copy).encode() for copy in copies] == [body] * takers
    assert len({id(copy) for copy in copies}) == takers
    assert math.isinf(json.loads(body)["msg"][0]) if isinstance(msg, list) else True
    text = ZMQMessage.of(message)
    assert (text.topic, text.body) == ("a", body.decode())


@pytest.mark.parametrize("takers", [1, 3])
def test_each_taker_is_told_that_it_is_malformed(takers: int) -> None:
    message = Delivery("tcp://127.0.0.1:1", b"a", b"no json", takers)
    for _ in range(takers):
        with pytest.raises(MessageError, match="not JSON"):
            message.envelope()


def test_text_that_is_none_can_be_looked_at() -> None:
    text = ZMQMessage.of(Delivery("tcp://127.0.0.1:1", b"\xff", b"\xfe"))
    assert text.__json__() == {"topic": "\ufffd", "body": "\ufffd"}
    assert ZMQMessage("a", "b").__json__() == {"topic": "a", "body": "b"}


# ---------------------------------------------------------------- the reactor


def test_calls_are_made_elsewhere_and_later() -> None:
    reactor, made = Reactor(), queue.SimpleQueue[Any]()

    def note(word: str, **more: Any) -> None:
        made.put((word, more, threading.current_thread().name))

    reactor.callInThread(note, "thread", n=1)
    assert made.get(timeout=10) == ("thread", {"n": 1}, "fedmsg-call")
    reactor.callLater(0.01, note, "later", n=2)
    assert made.get(timeout=10) == ("later", {"n": 2}, "fedmsg-calls")
    reactor.callFromThread(note, "from", n=3)
    assert made.get(timeout=10) == ("from", {"n": 3}, "fedmsg-calls")


def test_calls_from_threads_are_made_one_after_the_other() -> None:
    reactor, made = Reactor(), queue.SimpleQueue[int]()
    for number in range(1000):
        reactor.callFromThread(made.put, number)
    assert [made.get(timeout=10) for _ in range(1000)] == list(range(1000))


def test_a_call_can_be_taken_back() -> None:
    reactor, made = Reactor(), queue.SimpleQueue[Any]()
    call = reactor.callLater(3600, made.put, "never")
    assert call.active()
    call.cancel()
    assert not call.active()
    reactor.callLater(0, made.put, "now")
    assert made.get(timeout=10) == "now"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)])
def test_a_call_that_fails_is_logged_and_the_next_is_made(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    reactor, made = Reactor(), queue.SimpleQueue[Any]()

    def fail() -> None:
        raise error

    reactor.callInThread(fail)
    reactor.callFromThread(fail)
    reactor.callFromThread(made.put, "next")
    assert made.get(timeout=10) == "next"
    assert "failed" in caplog.text


def test_what_is_beyond_it_says_so() -> None:
    with pytest.raises(AttributeError, match=r"reactor\.listenTCP is Twisted's, and this hub runs without it"):
        _ = Reactor().listenTCP


def test_switches_of_moksha() -> None:
    assert [asbool(word) for word in ("true", "Yes", " on ", "1", True, 2)] == [True] * 6
    assert [asbool(word) for word in ("false", "No", "off", "0", False, 0, None)] == [False] * 7
    with pytest.raises(ValueError, match="String is not true/false: 'perhaps'"):
        asbool("perhaps")


# As the tests of a plugin begin, which imports it before there is a hub.
PROVIDED = """
import importlib.util, sys
import fedmsg.hub
fedmsg.hub.provide_moksha()
before = sys.modules["moksha.hub"]
fedmsg.hub.provide_moksha()
import moksha.hub.reactor
from moksha.hub.api import Consumer
print(Consumer is fedmsg.hub.Consumer, sys.modules["moksha.hub"] is before)
try:
    import moksha.wsgi
except ImportError as error:
    print(error)
"""


def test_the_names_of_moksha_can_be_had_without_a_hub() -> None:
    first, second = python(PROVIDED)
    assert first == "True True"
    assert second.startswith("moksha.wsgi needs moksha and Twisted, and this hub runs without them")


# ---------------------------------------------------------------- who is constructed


def test_a_roster_keeps_what_is_ready(caplog: pytest.LogCaptureFixture) -> None:
    class Ready:
        _initialized = True

    class NotReady:
        _initialized = False

    class Failing:
        def __init__(self) -> None:
            raise SystemExit("not today")

    found = _Plugins()
    found.construct([Ready, NotReady, object, Failing], lambda kind: kind())
    assert [type(one) for one in found.running] == [Ready]
    (line,) = found.failed
    assert line.endswith("Failing: SystemExit: not today")
    assert "can't be started" in caplog.text
