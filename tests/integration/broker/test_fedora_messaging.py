# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedora-messaging at the other end: it reads what we publish, and we read what it publishes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Process, run, wait_until
from tests import requirements
from tests.integration.broker.buses import PREFIX, BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")

PROGRAMS = Path(__file__).parent / "programs"

CONFIGURATION = """
amqp_url = "{url}"
topic_prefix = ""
[queues.theirs]
durable = false
auto_delete = true
exclusive = true
arguments = {{}}
[[bindings]]
queue = "theirs"
exchange = "amq.topic"
routing_keys = ["#"]
"""


@pytest.fixture(scope="session")
def messaging(repository: Path) -> Path:
    """Return the Python of the environment in which fedora-messaging is installed."""
    folder = Path(os.environ.get("FEDMSG_MESSAGING_VENV", repository / ".venv-messaging")) / "bin"
    if not (folder / "fedora-messaging").exists():
        requirements.is_missing(f"fedora-messaging in {folder} (make test, which installs it there)")
    return folder / "python"


@pytest.fixture
def environ(bus: BrokerBus, tmp_path: Path) -> dict[str, str]:
    """Return the environment of its programs."""
    path = tmp_path / "messaging.toml"
    path.write_text(CONFIGURATION.format(url=bus.url))
    return {"FEDORA_MESSAGING_CONF": str(path)}


def test_fedora_messaging_reads_what_we_publish(bus: BrokerBus, messaging: Path, environ: dict[str, str]) -> None:
    sent: list[dict[str, Any]] = []

    def bring(envelope: dict[str, Any]) -> None:
        envelope["headers"] = {"fedora_messaging_severity": 40}
        sent.append(dict(envelope))

    with Process([str(messaging), str(PROGRAMS / "messaging_consume.py"), "2"], env=environ) as theirs:
        wait_until(bus.bindings, 60)
        with bus.context() as context:
            context.publish("one", {"n": 1}, modname="m", pre_fire_hook=sent.append)
            # Its consumers reject a content that is no object, and go on.
            context.publish("list", [1, 2], modname="m")
            context.publish("two", {"n": 2}, modname="m", pre_fire_hook=bring)
        wait_until(lambda: len(theirs.out) == 2, 60)
        rows = [json.loads(line) for line in theirs.out]
    assert [row["body"] for row in rows] == [{"n": 1}, {"n": 2}]
    assert [row["topic"] for row in rows] == [f"{PREFIX}.m.one", f"{PREFIX}.m.two"]
    assert [row["id"] for row in rows] == [envelope["msg_id"] for envelope in sent]
    assert [row["severity"] for row in rows] == [20, 40]
    assert {row["schema"] for row in rows} == {"fedora_messaging.message:Message"}


def test_we_read_what_fedora_messaging_publishes(bus: BrokerBus, messaging: Path, environ: dict[str, str]) -> None:
    with bus.listening() as listener:
        program = str(PROGRAMS / "messaging_publish.py")
        ended = run([str(messaging), program, f"{PREFIX}.m", "3"], env=environ, timeout=60)
        assert ended.returncode == 0, ended.stderr
        ids = ended.stdout.split()
        envelopes = [message[3] for message in listener.wait(3)]
    assert [envelope["msg"] for envelope in envelopes] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [envelope["msg_id"][5:] for envelope in envelopes] == ids
    assert {envelope["topic"] for envelope in envelopes} == {f"{PREFIX}.m.t"}
    assert {envelope["username"] for envelope in envelopes} == {"amqp-bridge"}
    headers = envelopes[0]["headers"]
    assert (headers["fedora_messaging_severity"], headers["fedora_messaging_schema"]) == (30, "base.message")


def test_schema_and_severity_of_a_foreign_message_survive_being_published_again(
    bus: BrokerBus, messaging: Path, environ: dict[str, str]
) -> None:
    with bus.listening() as listener:
        program = str(PROGRAMS / "messaging_publish.py")
        assert run([str(messaging), program, f"{PREFIX}.m", "1"], env=environ, timeout=60).returncode == 0
        first = listener.wait(1)[0][3]
        with bus.raw() as channel:
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, "amq.topic", "#")
            with bus.context() as context:
                context.republish(first)
            _, properties, _ = channel.basic_get(queue, auto_ack=True)
        assert properties.headers["fedora_messaging_severity"] == 30
        assert listener.wait(2)[1][3] == first
