# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer that stores every message, in a hub of this process."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fedmsg import meta
from fedmsg.datanommer.consumer import Nommer
from fedmsg.hub import Hub
from fedmsg.testing import HubRunner, wait_until
from tests.hubs import Feed, install
from tests.satellites.messages import message
from tests.satellites.nommers import Stored, storing, totals


def test_nommer_stores_what_passes(history: Any, history_url: str) -> None:
    with HubRunner(Nommer, config={"datanommer.sqlalchemy.url": history_url}) as hub:
        for number in range(20):
            hub.publish("org.example.dev.shop.order", {"id": number})
        hub.wait_until_handled()
    assert [message.msg["id"] for message in history.Message.grep()[2]] == list(range(20))
    assert hub.failures == []


@pytest.mark.parametrize("topic", ["org.fedoraproject.dev.shop", ["org.fedoraproject.dev.shop", "org.nothing"]])
def test_nommer_stores_only_topics_that_are_configured(topic: Any, history: Any, history_url: str) -> None:
    with Feed() as feed, storing(feed.config, **{"datanommer.topic": topic}), Stored(history_url) as stored:
        feed.wait("shop")
        feed.send("post", {"n": 1})
        feed.send("shop", {"n": 2})
        stored.wait_for([2])


REJECTING = {
    "sqlite": """CREATE TRIGGER rejecting BEFORE INSERT ON messages WHEN NEW.username = 'bad'
        BEGIN SELECT RAISE(ABORT, 'nothing of this user'); END""",
    "postgresql": """ALTER TABLE messages ADD CONSTRAINT rejecting CHECK (username <> 'bad')""",
}
ACCEPTING = {"sqlite": "DROP TRIGGER rejecting", "postgresql": "ALTER TABLE messages DROP CONSTRAINT rejecting"}


def test_message_that_can_not_be_stored_goes_to_the_dead_letters(
    history: Any, history_url: str, tmp_path: Path
) -> None:
    with Feed() as feed, Stored(history_url) as stored:
        kind = stored.engine.dialect.name
        with stored.engine.begin() as connection:
            connection.execute(sa.text(REJECTING[kind]))
        try:
            with storing(feed.config, dead_letter_directory=str(tmp_path)) as hub:
                feed.wait()
                for number in range(10):
                    feed.send("test", {"n": number}, username="bad" if number == 5 else "good")
                stored.wait_for([0, 1, 2, 3, 4, 6, 7, 8, 9])
                wait_until(lambda: totals(hub)["dead"] == 1)
        finally:
            with stored.engine.begin() as connection:
                connection.execute(sa.text(ACCEPTING[kind]))
    (path,) = (one for one in tmp_path.rglob("*.jsonl"))
    row = json.loads(path.read_text())
    assert json.loads(row["body"])["msg"] == {"n": 5}
    assert "can't be written" in row["reason"]


def test_nommer_does_not_start_beside_the_published_one(
    history: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, "datanommer.consumer", {"datanommer/__init__.py": "", "datanommer/consumer.py": ""})
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with caplog.at_level(logging.WARNING), Hub({"datanommer.enabled": True}, [Nommer], []) as hub:
            assert hub.consumers == []
    finally:
        # To look for a module is to import its package.
        sys.modules.pop("datanommer", None)
    assert "the published datanommer.consumer is installed" in caplog.text


class Careless(meta.DefaultProcessor):
    """Names somebody who has no name."""

    def usernames(self, msg: Any, **config: Any) -> Any:
        return {None, "ralph"}


def test_none_among_names_is_logged_and_left_out(
    history: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(meta, "processors", [Careless(lambda text: text, topic_prefix_re="")])
    monkeypatch.setattr(meta, "names", lambda envelope, config: ({None, "ralph"}, set(), None))
    with caplog.at_level(logging.INFO):
        history.add(message())
    assert history.Message.grep(users=["ralph"])[0] == 1
    assert "it is left out" in caplog.text


def test_texts_are_put_into_the_index_while_there_is_time(history: Any, history_url: str) -> None:
    with Feed() as feed, storing(feed.config), Stored(history_url) as stored:
        feed.wait()
        feed.send("test", {"n": 1, "text": "a needle in a haystack"})
        stored.wait_for([1])
        wait_until(lambda: stored.count("waiting_texts") == 0)
        assert history.Message.grep(contains=["needle"])[0] == 1
