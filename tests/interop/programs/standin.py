# SPDX-License-Identifier: LGPL-2.1-or-later
"""Consumers on a stand-in for a hub, as in the tests of those who write them: prints what they do, as JSON lines."""

from __future__ import annotations

import json
import logging
import sys
import types
import warnings
from typing import Any

from fedmsg.consumers import FedmsgConsumer

LOGGED: list[list[str]] = []


class Keep(logging.Handler):
    """Keeps what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        # The lines that others look for.
        text = record.getMessage()
        if record.name == "fedmsg.consumers" and text.startswith(("  enabled", "* disabled", "Received")):
            LOGGED.append([record.levelname, text])


class Hub:
    """Has a configuration, and notes what is subscribed to."""

    def __init__(self, **config: Any) -> None:
        self.config = {"validate_signatures": False, **config}
        self.topics: list[str] = []

    def subscribe(self, topic: str, callback: Any) -> None:
        """Note it."""
        self.topics.append(topic)


class Door(FedmsgConsumer):
    """Fails when told to."""

    topic = "a.b"
    config_key = "door.enabled"

    def consume(self, message: Any) -> None:
        """Handle it."""
        if "boom" in str(message):
            raise ValueError("boom")


class Text:
    """A message as a hub hands it over."""

    def __init__(self, topic: str, body: Any) -> None:
        self.topic = topic
        self.body = body

    def __json__(self) -> dict[str, Any]:
        return {"topic": self.topic, "body": self.body}


def kind(**members: Any) -> Any:
    """Make a class of consumers."""
    return types.new_class("Made", (Door,), exec_body=lambda body: body.update({"__module__": __name__, **members}))


def made(hub: Hub, **members: Any) -> Any:
    """Make a consumer."""
    return kind(**members)(hub)


def result(function: Any, *arguments: Any) -> Any:
    """Call something; what it returns, or how it fails."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - that is what is looked at
        return [type(error).__name__, str(error)]


def queued(consumer: Any) -> list[Any]:
    """Give what waits."""
    return [consumer.incoming.get() for _ in range(consumer.incoming.qsize())]


def say(what: str, *values: Any) -> None:
    """Print a line."""
    told = list(LOGGED)
    del LOGGED[:]
    print(json.dumps([what, *values, told], sort_keys=True, default=lambda one: ["object", type(one).__name__]))


def construction() -> None:
    """Who is enabled, and what is subscribed to."""
    say("keyless", result(kind(config_key=None), Hub()))
    for value in (True, 1, "no", 0, "", None):
        hub = Hub(**{"door.enabled": value})
        say("enabled", value, made(hub)._initialized, hub.topics)
    for topic in ("", "*", ["a", "b.*"], ("a", "b")):
        for jsonify in (True, False):
            hub = Hub(**{"door.enabled": True})
            made(hub, topic=topic, jsonify=jsonify)
            say("topics", topic, jsonify, hub.topics)


def attributes() -> None:
    """What a consumer has."""
    consumer = made(Hub(**{"door.enabled": True, "moksha.workers_per_consumer": 3}))
    names = (
        "validate_signatures", "blocking_mode", "status_directory", "status_filename", "datagrepper_url",
        "headcount_in", "headcount_out", "N", "DBSession", "engine", "jsonify", "topic", "config_key",
    )  # fmt: skip
    say("attributes", {name: getattr(consumer, name) for name in names})
    say("false", [bool(consumer.skip_last_message), bool(getattr(consumer, "name_to_seq_id", None))])
    say("log", consumer.log.name)


def taking() -> None:
    """What is put on the queue, and what is handled at once."""
    good = {"topic": "a.b", "msg": 1}
    for jsonify in (True, False):
        consumer = made(Hub(**{"door.enabled": True}), jsonify=jsonify)
        for way in (consumer._consume, consumer._consume_json):
            for text in (json.dumps(good), "[1]", "null"):
                say("text", jsonify, way.__name__, result(way, Text("a.b", text)), queued(consumer))
    consumer = made(Hub(**{"door.enabled": True}))
    say("no json", result(consumer._consume_json, Text("a.b", "no json")), queued(consumer))
    for blocking in (False, True):
        consumer = made(Hub(**{"door.enabled": True, "moksha.blocking_mode": blocking}))
        for body in (good, {"topic": "a.b", "msg": "boom"}, "text", None, {"topic": "other", "msg": 1}):
            say("dict", blocking, result(consumer._consume, {"topic": "a.b", "body": body}), queued(consumer))
        row = consumer.__json__()
        say("row", {name: row[name] for name in sorted(row) if name not in {"times", "totals"}}, len(row["times"]))
        row = consumer.__json__()
        say("row again", row["exceptions"], row["headcount_in"], row["headcount_out"], row["times"])


def validating() -> None:
    """What validate does to a message, and what it raises."""
    off = made(Hub(**{"door.enabled": True}))
    on = made(Hub(**{"door.enabled": True}), validate_signatures=True)
    say("as configured", on.validate_signatures, off.validate_signatures)
    dicts: list[Any] = [
        {"topic": "t", "body": "text"}, {"topic": "t", "body": None}, {"topic": "t", "body": {"a": 1}},
        {"topic": "t", "body": [1]}, {"body": {"a": 1}}, {"topic": "t", "body": {"topic": "u", "msg": 1}},
        {"topic": "t", "body": {"topic": "t", "msg": 1}},
    ]  # fmt: skip
    for consumer in (off, on):
        for message in dicts:
            message = json.loads(json.dumps(message))  # noqa: PLW2901 - it is changed
            answer = result(consumer.validate, message)
            say("validate", answer, message)
        for body in (
            '{"topic": "t", "msg": 1}',
            b'{"topic": "t", "msg": 1}',
            b"\xff",
            "[]",
            '{"topic": "u", "msg": 1}',
        ):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                answer = result(consumer.validate, Text("t", body))
            deprecated = [str(one.message) for one in caught if "Message body" in str(one.message)]
            say("validate text", answer, deprecated)
    say("invalid", result(on._consume, {"topic": "t", "body": {"topic": "u", "msg": 1}}), queued(on))


def main() -> None:
    """Print it all."""
    logging.getLogger("fedmsg.consumers").addHandler(Keep())
    logging.getLogger("fedmsg.consumers").setLevel(logging.DEBUG)
    for part in (construction, attributes, taking, validating):
        part()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
