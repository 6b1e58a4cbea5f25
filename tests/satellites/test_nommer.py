# SPDX-License-Identifier: LGPL-2.1-or-later
"""The consumer that stores every message, in a hub of this process."""

from __future__ import annotations

from typing import Any

from fedmsg.datanommer.consumer import Nommer
from fedmsg.testing import HubRunner


def test_nommer_stores_what_passes(history: Any, history_url: str) -> None:
    with HubRunner(Nommer, config={"datanommer.sqlalchemy.url": history_url}) as hub:
        for number in range(20):
            hub.publish("org.example.dev.shop.order", {"id": number})
        hub.wait_until_handled()
    assert [message.msg["id"] for message in history.Message.grep()[2]] == list(range(20))
    assert hub.failures == []
