# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hub of one side goes on where one of the other side has stopped."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import wait_until
from tests.datagrepper_server import DatagrepperServer, message
from tests.hubs import Feed
from tests.interop.sides import NAMES, Side, write_config

CONFIG = {
    "environment": "dev",
    "sign_messages": False,
    "validate_signatures": False,
    "zmq_enabled": True,
    "relay_inbound": [],
    "interop.keeper.enabled": True,
}

# An application's consumer, the way it is written for fedmsg 1.x.
CONSUMER = """
import json, os
from fedmsg.consumers import FedmsgConsumer

class Keeper(FedmsgConsumer):
    topic = "org.fedoraproject.dev.interop.*"
    config_key = "interop.keeper.enabled"

    def consume(self, message):
        line = json.dumps(["handled", message["topic"], message["body"]], sort_keys=True)
        # In one go, since the log goes there too.
        os.write(1, f"{line}\\n".encode())
"""


TOPIC = "org.fedoraproject.dev.interop.keep"


def read(path: Path) -> Any:
    """Read what there is of a status."""
    with suppress(ValueError):
        return json.loads(path.read_bytes())
    return None


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("second", NAMES)
def test_one_goes_on_after_the_other(sides: dict[str, Side], tmp_path: Path, first: str, second: str) -> None:
    folder, status, begin = tmp_path / "bus", tmp_path / "status", int(time.time()) - 5000
    greeting, last = (message(number, begin, TOPIC) for number in (-1, -2))
    missed = [message(number, begin + 1 + number // 3, TOPIC) for number in range(150)]
    hub = ("fedmsg-hub", "--with-consumers", "keeping:Keeper")
    with DatagrepperServer([greeting, last, *missed]) as server, Feed() as feed:
        settings = {"status_directory": str(status), "datagrepper_url": f"{server.url}/raw"}
        write_config(folder, {**feed.config, **CONFIG, **settings})
        (folder / "keeping.py").write_text(CONSUMER)
        with sides[first].start(folder, *hub) as one:
            one.wait_for('["handled"', meanwhile=lambda: feed.publish(greeting))
            feed.publish(last)
            one.wait_for(last["msg_id"])
            noted = {"message": {"topic": TOPIC, "body": last}, "status": "post"}
            path = status / "fedmsg-hub" / "Keeper"
            # The peer writes it piece by piece.
            wait_until(lambda: path.exists() and read(path) == noted)
        # What is handled again at the peer's start is the greeting, which was of the same second.
        with sides[second].start(folder, *hub) as two:
            two.wait_for('"number": 149')
    handled = [json.loads(line)[2] for line in two.out if line.startswith('["handled"')]
    again = [greeting] if second == "peer" or first == "peer" else []
    assert [envelope for envelope in handled if envelope not in again] == missed
    assert last not in handled
