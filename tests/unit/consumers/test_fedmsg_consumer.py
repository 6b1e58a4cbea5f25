# SPDX-License-Identifier: LGPL-2.1-or-later
"""FedmsgConsumer on a stand-in for a hub, as in the tests of those who write consumers."""

from __future__ import annotations

import json
import logging
from typing import Any, ClassVar

import pytest

import fedmsg.crypto
from fedmsg.consumers import FedmsgConsumer
from fedmsg.consumers.dummy import DummyConsumer
from fedmsg.hub import Consumer, ZMQMessage


class Hub:
    """Has what a consumer needs, and notes what is subscribed to."""

    def __init__(self, **config: Any) -> None:
        self.config: dict[str, Any] = {"door.enabled": True, **config}
        self.subscribed: list[tuple[str, Any]] = []
        self.sent: list[tuple[Any, Any]] = []

    def subscribe(self, topic: str, callback: Any) -> None:
        """Note it."""
        self.subscribed.append((topic, callback))

    def send_message(self, topic: Any, message: Any, jsonify: bool = True) -> None:
        """Note it."""
        self.sent.append((topic, message))


class Door(FedmsgConsumer):
    """Keeps what it is handed."""

    topic = "org.example.dev.door"
    config_key = "door.enabled"

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.taken: list[Any] = []

    def consume(self, message: Any) -> None:
        """Keep it, or fail."""
        self.taken.append(message)
        if "boom" in str(message):
            raise ValueError("boom")


def message(msg: Any = None, topic: str = Door.topic, **more: Any) -> dict[str, Any]:
    """Give a message as `consume` gets it."""
    return {"topic": topic, "body": {"topic": topic, "msg": msg}, **more}


# ---------------------------------------------------------------- who is enabled


def test_it_needs_a_config_key() -> None:
    class Keyless(FedmsgConsumer):
        topic = "x"

    with pytest.raises(ValueError, match="^" + __name__.replace(".", r"\.") + ":Keyless must declare a 'config_key'$"):
        Keyless(Hub())


@pytest.mark.parametrize("value", [True, 1, "yes", "false", [0]])
def test_any_true_value_enables_it(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    consumer = Door(Hub(**{"door.enabled": value}))
    assert consumer._initialized is True
    assert (consumer.log.name, logging.INFO, f"  enabled by config  - {__name__}:Door") in caplog.record_tuples


@pytest.mark.parametrize("value", [False, 0, "", None, []])
def test_otherwise_it_is_off(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    hub = Hub(**{"door.enabled": value})
    consumer = Door(hub)
    assert consumer._initialized is False
    assert hub.subscribed == []
    assert (consumer.log.name, logging.INFO, f"* disabled by config - {__name__}:Door") in caplog.record_tuples


def test_without_the_setting_it_is_off() -> None:
    hub = Hub()
    del hub.config["door.enabled"]
    assert Door(hub)._initialized is False


def test_it_is_initialized_when_the_base_constructor_has_finished() -> None:
    seen = []

    class Late(Door):
        def __init__(self, hub: Any) -> None:
            seen.append(self._initialized)
            super().__init__(hub)
            seen.append(self._initialized)

    Late(Hub())
    assert seen == [False, True]


# ---------------------------------------------------------------- what it has


def test_a_stand_in_needs_only_a_config() -> None:
    class Bare:
        config: ClassVar[dict[str, Any]] = {"door.enabled": True}

    consumer = Door(Bare())
    assert consumer._consume(message(1)) is None
    assert consumer.incoming.get() == message(1)


@pytest.mark.parametrize("topic", ["a", ["a", "b.*"], ("a", "b.*"), ""])
@pytest.mark.parametrize("jsonify", [True, False])
def test_it_subscribes_to_its_topics(topic: Any, jsonify: bool) -> None:
    hub = Hub()
    type("Made", (Door,), {"topic": topic, "jsonify": jsonify})(hub)
    assert [one for one, _ in hub.subscribed] == ([topic] if isinstance(topic, str) else list(topic))


def test_it_has_the_attributes_that_others_look_at() -> None:
    consumer = Door(Hub(**{"moksha.workers_per_consumer": 3}))
    found = {
        name: getattr(consumer, name)
        for name in (
            "validate_signatures", "blocking_mode", "status_directory", "status_filename", "datagrepper_url",
            "skip_last_message", "name_to_seq_id", "headcount_in", "headcount_out", "N", "DBSession", "engine",
            "jsonify", "replay_name", "topic",
        )
    }  # fmt: skip
    assert found == {
        "validate_signatures": False, "blocking_mode": False, "status_directory": None, "status_filename": None,
        "datagrepper_url": None, "skip_last_message": False, "name_to_seq_id": {}, "headcount_in": 0,
        "headcount_out": 0, "N": 3, "DBSession": None, "engine": None, "jsonify": True, "replay_name": None,
        "topic": Door.topic,
    }  # fmt: skip
    with consumer.status_lock:
        assert consumer.incoming.empty()
    assert isinstance(consumer, Consumer)
    for name in ("get_datagrepper_results", "save_status", "send_message", "debug", "stop", "_backlog", "validate"):
        assert callable(getattr(consumer, name)), name


def test_a_service_to_ask_is_remembered_from_before_the_first() -> None:
    kind = type("Replayed", (Door,), {"replay_name": "door.here"})
    consumer = kind(
        Hub(endpoints={"door.here": ["tcp://127.0.0.1:1"]}, replay_endpoints={"door.here": "tcp://127.0.0.1:2"})
    )
    assert consumer.name_to_seq_id == {"door.here": -1}
    consumer.stop()


@pytest.mark.parametrize(
    ("configured", "own", "expected"), [(True, None, True), (False, True, True), (True, False, False)]
)
def test_whether_it_checks(configured: bool, own: bool | None, expected: bool) -> None:
    kind = type("Made", (Door,), {"validate_signatures": own})
    assert kind(Hub(validate_signatures=configured)).validate_signatures is expected


def test_small_helpers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hub = Hub()
    consumer = Door(hub)
    consumer.send_message("a.b", {"n": 1})
    consumer.debug("of no importance")
    assert hub.sent == [("a.b", {"n": 1})]
    assert "of no importance" in caplog.text
    consumer.stop()
    consumer.stop()


def test_one_without_consume_says_so() -> None:
    kind = type("Idle", (FedmsgConsumer,), {"config_key": "door.enabled", "topic": "x"})
    with pytest.raises(NotImplementedError, match="Idle has no consume"):
        kind(Hub()).consume({})


def test_the_dummy_does_nothing() -> None:
    consumer = DummyConsumer(Hub(**{"fedmsg.consumers.dummy.enabled": True}))
    consumer.consume(message())
    assert consumer.topic == ""


# ---------------------------------------------------------------- taking messages by hand


def test_no_worker_runs_and_what_comes_stays_on_the_queue() -> None:
    consumer = Door(Hub())
    assert consumer._consume(message(1)) is None
    consumer._consume_json(ZMQMessage(Door.topic, json.dumps({"topic": Door.topic, "msg": 2})))
    assert consumer.incoming.qsize() == 2
    assert [consumer.incoming.get() for _ in range(2)] == [message(1), message(2)]
    assert consumer.taken == []
    assert consumer.headcount_in == 2


@pytest.mark.parametrize("body", ["no json", "[1]", "", '"text"'])
def test_what_is_no_envelope_is_wrapped(body: str) -> None:
    consumer = Door(Hub())
    consumer._consume_json(ZMQMessage("t", body))
    (expected,) = [json.loads(body) if body[:1] in {"[", '"'} else body]
    assert consumer.incoming.get() == {"topic": "t", "body": {"topic": "t", "msg": expected}}


def test_as_text_it_stays_text() -> None:
    hub = Hub()
    consumer = type("Text", (Door,), {"jsonify": False})(hub)
    ((_, callback),) = hub.subscribed
    sent = ZMQMessage("t", '{"topic": "t", "msg": 1}')
    callback(sent)
    assert consumer.incoming.get() is sent
    callback(ZMQMessage("t", '{"topic": "t", "msg": 1}'))
    assert consumer.incoming.qsize() == 1


def test_in_blocking_mode_it_is_handled_at_once(caplog: pytest.LogCaptureFixture) -> None:
    consumer = Door(Hub(**{"moksha.blocking_mode": True}))
    assert consumer.blocking_mode is True
    assert consumer._consume(message(1)) is True
    assert consumer._consume(message("boom", headers={"a": 1})) is False
    assert consumer._consume({"topic": "t", "body": "text"}) is True
    assert consumer.incoming.qsize() == 0
    assert [one["body"]["msg"] for one in consumer.taken] == [1, "boom", "text"]
    row = consumer.__json__()
    assert len(row.pop("times")) == 3
    totals = row.pop("totals")
    assert (totals["handled"], totals["failed"]) == (2, 1)
    assert row == {
        "name": "Door", "module": __name__, "topic": Door.topic, "initialized": True, "exceptions": 1,
        "jsonify": True, "backlog": 0, "headcount_in": 3, "headcount_out": 3,
    }  # fmt: skip
    # Each report starts again.
    row = consumer.__json__()
    assert (row["exceptions"], row["headcount_in"], row["headcount_out"], row["times"]) == (0, 0, 0, [])


@pytest.mark.parametrize("blocking", [False, True])
def test_an_invalid_one_is_logged_and_left(blocking: bool, caplog: pytest.LogCaptureFixture) -> None:
    consumer = Door(Hub(validate_signatures=True, **{"moksha.blocking_mode": blocking}))
    assert consumer._consume(message(1)) is None
    assert consumer._consume({"topic": "a", "body": {"topic": "b", "msg": 1}}) is None
    assert consumer.incoming.empty()
    assert consumer.taken == []
    assert [text for _, level, text in caplog.record_tuples if text.startswith("Received")] == [
        "Received invalid message Failed to authn message.",
        "Received invalid message Topic envelope mismatch.",
    ]


def test_ctrl_c_is_not_a_failure() -> None:
    def consume(self: Door, message: Any) -> None:
        raise KeyboardInterrupt

    consumer = type("Made", (Door,), {"consume": consume})(Hub(**{"moksha.blocking_mode": True}))
    with pytest.raises(KeyboardInterrupt):
        consumer._consume(message(1))


def test_times_keep_the_last_of_them() -> None:
    consumer = Door(Hub(**{"moksha.blocking_mode": True}))
    for number in range(1100):
        consumer._consume(message(number))
    row = consumer.__json__()
    assert (len(row["times"]), row["headcount_out"]) == (1024, 1100)


# ---------------------------------------------------------------- validate


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"topic": "t", "body": "text"}, {"topic": "t", "body": {"topic": "t", "msg": "text"}}),
        ({"topic": "t", "body": None}, {"topic": "t", "body": {"topic": "t", "msg": None}}),
        ({"topic": "t", "body": [1]}, {"topic": "t", "body": {"topic": "t", "msg": [1]}}),
        ({"topic": "t", "body": {"a": 1}}, {"topic": "t", "body": {"topic": "t", "msg": {"a": 1}}}),
        ({"body": {"a": 1}}, {"body": {"topic": None, "msg": {"a": 1}}}),
        ({"topic": "t", "body": {"topic": "u"}}, {"topic": "t", "body": {"topic": "u"}}),
    ],
)
def test_without_checking_it_wraps_and_no_more(given: dict[str, Any], left: dict[str, Any]) -> None:
    assert Door(Hub()).validate(given) is None  # type: ignore[func-returns-value] # that is what is promised
    assert given == left


def test_headers_are_copied_into_the_body() -> None:
    given = message(1, headers={"sent": "noon"})
    Door(Hub()).validate(given)
    assert given["body"]["headers"] == {"sent": "noon"}


def test_an_object_with_text_is_looked_at_and_stays() -> None:
    consumer = Door(Hub())
    given = ZMQMessage("t", '{"topic": "t", "msg": 1}')
    consumer.validate(given)
    assert given.body == '{"topic": "t", "msg": 1}'
    with pytest.raises(ValueError, match="Expecting value"):
        consumer.validate(ZMQMessage("t", "no json"))


def test_bytes_are_deprecated() -> None:
    consumer = Door(Hub())
    with pytest.warns(DeprecationWarning, match="^Message body is not unicode$"):
        consumer.validate(ZMQMessage("t", b'{"topic": "t", "msg": 1}'))
    with pytest.warns(DeprecationWarning, match="not unicode"), pytest.raises(UnicodeDecodeError):
        consumer.validate(ZMQMessage("t", b"\xff"))


def test_a_topic_that_differs_is_a_runtime_warning() -> None:
    consumer = Door(Hub(validate_signatures=True))
    for given in (
        {"topic": "t", "body": {"topic": "u", "msg": 1}},
        ZMQMessage("t", '{"topic": "u", "msg": 1}'),
    ):
        with pytest.raises(RuntimeWarning, match=r"^Topic envelope mismatch\.$"):
            consumer.validate(given)


@pytest.mark.parametrize("answer", [True, False])
def test_what_checks_is_looked_up_at_call_time(answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def validate(body: Any, **config: Any) -> bool:
        asked.append((body, config))
        return answer

    consumer = Door(Hub(validate_signatures=True, certname="me"))
    monkeypatch.setattr(fedmsg.crypto, "validate", validate)
    given = message(1)
    if answer:
        consumer.validate(given)
    else:
        with pytest.raises(RuntimeWarning, match=r"^Failed to authn message\.$"):
            consumer.validate(given)
    assert asked == [(message(1)["body"], consumer.hub.config)]


def test_an_unsigned_one_is_a_runtime_warning() -> None:
    consumer = Door(Hub(validate_signatures=True))
    for given in (message(1), {"topic": "t", "body": "text"}, ZMQMessage("t", '{"topic": "t", "msg": 1}')):
        with pytest.raises(RuntimeWarning, match=r"^Failed to authn message\.$"):
            consumer.validate(given)
