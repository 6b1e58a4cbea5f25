# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hub that checks signatures, with real certificates."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmsg.crypto
from fedmsg.exceptions import RefusedAtStart
from fedmsg.hub import Hub
from fedmsg.testing import wait_until
from tests.certificates import Bench, Holder, authority
from tests.hubs import PREFIX, Feed, Taker, envelope, taker


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    folder = tmp_path / "pki"
    folder.mkdir()
    return Bench(folder)


@pytest.fixture
def feed(bench: Bench) -> Iterator[Feed]:
    with Feed(**bench.config, validate_signatures=True) as made:
        yield made


def signed(bench: Bench, word: str = "shop", msg: Any = None, **fields: Any) -> dict[str, Any]:
    """Give a message with a signature."""
    return fedmsg.crypto.sign(envelope(word, msg, **fields), **bench.config)


def forged(bench: Bench, **changes: Any) -> dict[str, Any]:
    """Give a signed message that was changed afterwards."""
    return {**signed(bench, msg="forged"), **changes}


def test_the_signed_are_handled_and_the_others_refused(
    feed: Feed, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = authority("Somebody else")
    (bench.folder / "other").mkdir()
    name = Holder("shell.test", stranger).write(bench.folder / "other")
    by_stranger = fedmsg.crypto.sign(
        envelope("shop", "stranger"), **{**bench.config, "ssldir": str(bench.folder / "other"), "certname": name}
    )
    with Hub(feed.config, [taker(), taker(jsonify=False)], []) as hub:
        feed.wait()
        good = [signed(bench, msg={"n": number, "é": [None, 1.5]}) for number in range(5)]
        bad = [envelope("shop", "unsigned"), forged(bench, msg="other"), forged(bench, signature="AAAA"), by_stranger]
        feed.publish(good[0], *bad, *good[1:])
        wait_until(lambda: all(len(consumer.taken) == 5 for consumer in hub.consumers))
        assert [message["body"] for message in hub.consumers[0].taken] == good
        assert [json.loads(message.body) for message in hub.consumers[1].taken] == good
        assert [consumer.totals()["rejected"] for consumer in hub.consumers] == [4, 4]
        assert hub.rejections.counts == {"invalid": 8}
    assert "Failed to authn message." in caplog.text


def test_a_key_twice_is_rejected_where_the_body_goes_on_as_it_came(
    feed: Feed, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = [taker(jsonify=False), taker(jsonify=False, validate_signatures=False), taker()]
    with Hub(feed.config, kinds, []) as hub:
        feed.wait()
        good = signed(bench, msg="good")
        text = json.dumps(good)
        twice = text.replace('"msg": "good"', '"msg": "EVIL", "msg": "good"')
        deep = json.dumps(signed(bench, msg={"a": {"b": 1}})).replace('"b": 1', '"b": 0, "b": 1')
        assert json.loads(twice) == good
        for body in (twice, deep, text):  # the last of them has blanks, and is good
            feed.raw(good["topic"].encode(), body.encode())
        wait_until(lambda: [len(consumer.taken) for consumer in hub.consumers] == [1, 3, 3])
        assert hub.consumers[0].taken[0].body == text
        assert hub.consumers[2].taken[0]["body"] == good  # decoded once, for the check and for the consumer
    assert "A key of the message appears twice" in caplog.text


def test_the_topic_that_was_signed_has_to_be_that_of_the_frame(feed: Feed, bench: Bench) -> None:
    with Hub(feed.config, [taker()], []) as hub:
        feed.wait()
        message = signed(bench, "shop")
        feed.raw(f"{PREFIX}.other".encode(), json.dumps(message).encode())
        feed.publish(message)
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.rejections.counts == {"topic": 1}
        assert len(hub.consumers[0].taken) == 1


@pytest.mark.parametrize(
    ("configured", "own", "taken"),
    [
        (True, None, ["signed"]),
        (True, False, ["unsigned", "signed"]),
        (True, True, ["signed"]),
        (False, None, ["unsigned", "signed"]),
        (False, False, ["unsigned", "signed"]),
        (False, True, ["signed"]),
    ],
)
def test_a_class_may_say_never_or_always(
    feed: Feed, bench: Bench, configured: bool, own: bool | None, taken: list[str]
) -> None:
    kind = taker(validate_signatures=own)
    with Hub({**feed.config, "validate_signatures": configured}, [kind], []) as hub:
        feed.wait()
        feed.publish(envelope("shop", "unsigned"), signed(bench, msg="signed"))
        wait_until(lambda: hub.consumers[0].said[-1:] == ["signed"])
        assert hub.consumers[0].said == taken
        assert hub.consumers[0].validate_signatures is (configured if own is None else own)


def test_the_policy_is_kept(feed: Feed, bench: Bench) -> None:
    policy = {f"{PREFIX}.shop": ["somebody.else"]}
    with Hub({**feed.config, "routing_policy": policy}, [taker()], []) as hub:
        feed.wait()
        feed.publish(signed(bench, "shop", "not allowed"), signed(bench, "news", "allowed"))
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.consumers[0].said == ["allowed"]


@pytest.mark.parametrize("own", [None, True])
def test_without_an_authority_it_does_not_start(feed: Feed, tmp_path: Path, own: bool | None) -> None:
    settings = {**feed.config, "ca_cert_location": str(tmp_path / "none"), "validate_signatures": own is None}
    hub = Hub(settings, [taker(validate_signatures=own)], [])
    with pytest.raises(RefusedAtStart, match="none"):
        hub.start()
    assert not hub.running


def test_where_no_consumer_checks_no_authority_is_needed(feed: Feed, tmp_path: Path) -> None:
    settings = {**feed.config, "ca_cert_location": str(tmp_path / "none")}
    with Hub(settings, [taker(validate_signatures=False)], []) as hub:
        feed.wait()
        feed.send("shop")
        wait_until(lambda: hub.consumers[0].taken)


def test_what_checks_is_looked_up_when_it_is_needed(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def validate(message: Any, **config: Any) -> bool:
        asked.append((message, config["certname"]))
        return True

    with Hub(feed.config, [taker()], []) as hub:
        feed.wait()
        monkeypatch.setattr(fedmsg.crypto, "validate", validate)
        sent = feed.send("shop", "unsigned")
        wait_until(lambda: hub.consumers[0].taken)
    assert asked == [(sent, "shell.test")]


def test_headers_are_passed_along_and_are_not_signed(feed: Feed, bench: Bench) -> None:
    with Hub(feed.config, [taker()], []) as hub:
        (consumer,) = hub.consumers
        message = signed(bench)
        consumer._consume({"topic": message["topic"], "body": dict(message), "headers": {"sent-at": "noon"}})
        wait_until(lambda: consumer.taken)
        assert consumer.taken[0]["body"] == {**message, "headers": {"sent-at": "noon"}}


# ---------------------------------------------------------------- what comes again


def test_each_consumer_gets_a_message_once(feed: Feed, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    kinds = [taker(), taker(jsonify=False), taker(topic=f"{PREFIX}.shop"), taker(validate_signatures=False)]
    with Hub({**feed.config, "max_seen_ids": 3}, kinds, []) as hub:
        feed.wait()
        first, *others = (signed(bench, msg=number) for number in range(4))
        feed.publish(first, first, forged(bench, msg_id=others[0]["msg_id"]), others[0], first, *others[1:])
        # By now it has been forgotten.
        feed.publish(first, signed(bench, msg="last"))
        wait_until(lambda: len(hub.consumers[3].taken) == 9)
        wait_until(lambda: all(len(consumer.taken) == 6 for consumer in hub.consumers[:3]))
        expected = [0, 1, 2, 3, 0, "last"]
        assert hub.consumers[0].said == hub.consumers[2].said == expected
        assert [json.loads(message.body)["msg"] for message in hub.consumers[1].taken] == expected
        assert [consumer.totals()["rejected"] for consumer in hub.consumers] == [3, 3, 3, 0]
        assert hub.rejections.counts == {"duplicate": 6, "invalid": 3}
    assert "came before" in caplog.text


def test_seen_ids_are_not_used_up_by_another_signer(feed: Feed, bench: Bench) -> None:
    Holder("other.test", bench.ca).write(bench.folder)
    with Hub({**feed.config, "max_seen_ids": 10}, [taker()], []) as hub:
        feed.wait()
        real = signed(bench, msg="real")
        copied = {**fedmsg.crypto.strip_credentials(real), "msg": "copied"}
        feed.publish(fedmsg.crypto.sign(copied, **{**bench.config, "certname": "other.test"}), real, real)
        wait_until(lambda: hub.rejections.counts)
        assert hub.consumers[0].said == ["copied", "real"]
        assert hub.rejections.counts == {"duplicate": 1}


def test_a_message_that_is_tried_again_has_not_been_seen(feed: Feed, bench: Bench) -> None:
    def consume(self: Taker, message: Any) -> None:
        self.taken.append(message)
        if len(self.taken) < 3:
            raise ValueError("not yet")

    settings = {"max_seen_ids": 10, "consume_retries": 5, "consume_retry_delay": 0}
    with Hub({**feed.config, **settings}, [taker(consume=consume)], []) as hub:
        feed.wait()
        feed.publish(signed(bench))
        wait_until(lambda: hub.consumers[0].totals()["handled"] == 1)
        assert len(hub.consumers[0].taken) == 3


# ---------------------------------------------------------------- what has waited in a file


def test_time_in_a_file_makes_no_message_too_old(feed: Feed, bench: Bench, tmp_path: Path) -> None:
    def never(self: Taker, message: Any) -> None:
        raise ValueError("no")

    settings = {
        **feed.config,
        "max_message_age": 100,
        "state_directory": str(tmp_path / "state"),
        "stop_timeout": 0.1,
        "consume_retries": 9,
        "consume_retry_delay": 50.0,
    }
    with Hub(settings, [taker(consume=never)], []) as hub:
        feed.wait()
        feed.publish(signed(bench, msg="fresh"), signed(bench, msg="old", timestamp=int(time.time()) - 50))
        wait_until(lambda: hub.consumers[0].incoming.received == 2)
        assert hub.stop().kept
    feed.wait_until_gone()
    (path,) = tmp_path.rglob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["checked"] for row in rows} == {False}
    # As if the hub had been down for an hour, and one of these had been too old when it came.
    hour = [{**row, "since": row["since"] - 3600} for row in rows]
    fresh, old = (
        signed(bench, msg=word, timestamp=int(time.time()) - 3600 - age) for word, age in (("a", 90), ("b", 200))
    )
    for row, message in zip(hour, (fresh, old), strict=True):
        row["body"] = json.dumps(message)
    path.write_text("".join(json.dumps(row) + "\n" for row in hour))
    with Hub({**settings, "stop_timeout": 5}, [taker()], []) as hub:
        wait_until(lambda: hub.consumers[0].taken and hub.consumers[0].totals()["rejected"] == 1)
        assert hub.consumers[0].said == ["a"]


def test_a_dead_letter_was_good_when_it_came(feed: Feed, bench: Bench, tmp_path: Path) -> None:
    def never(self: Taker, message: Any) -> None:
        raise ValueError("no")

    settings = {**feed.config, "dead_letter_directory": str(tmp_path / "dead")}
    with Hub(settings, [taker(consume=never)], []) as hub:
        feed.wait()
        message = signed(bench, msg="late")
        feed.publish(message)
        wait_until(lambda: hub.consumers[0].totals()["dead"] == 1)
    # Its certificate is revoked afterwards.
    bench.crl_path.write_text(bench.ca.crl(bench.leaf))
    fedmsg.crypto.utils.load_certificates(str(bench.ca_path), str(bench.crl_path), invalidate_cache=True)
    assert not fedmsg.crypto.validate(message, **bench.config)
    with Hub(settings, [taker()], [], retry_dead_letters=True) as hub:
        wait_until(lambda: hub.consumers[0].taken)
        assert hub.consumers[0].taken == [{"topic": message["topic"], "body": message}]
