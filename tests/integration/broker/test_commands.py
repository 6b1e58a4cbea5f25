# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands over RabbitMQ, as processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Bus, Process, free_port, run, wait_until
from tests.hubs import taker
from tests.integration.broker.buses import PREFIX, BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.fixture
def configured(bus: BrokerBus) -> BrokerBus:
    """Return a bus that every command in this folder finds."""
    Path("fedmsg.d").mkdir()
    Path("fedmsg.d").chmod(0o700)
    Path("fedmsg.d/bus.py").write_text(f"config = {bus.config!r}\n")
    return bus


def check(*arguments: str) -> Any:
    """Run ``fedmsg-check --broker``."""
    return run(["fedmsg-check", "--broker", *arguments])


def test_piped_logger_and_tail(configured: BrokerBus) -> None:
    with Process(["fedmsg-tail", "--json", "--count", "300"]) as tail:
        wait_until(configured.bindings, 30)
        lines = "".join(f"line {number}\n" for number in range(300))
        logger = run(["fedmsg-logger", "--modname", "m", "--topic", "t"], stdin=lines)
        assert (logger.returncode, logger.stderr) == (0, "")
        announce = run(["fedmsg-announce", "--link", "https://example.org"], stdin="Done.")
        assert (announce.returncode, announce.stderr) == (0, "")
        assert tail.wait(30) == 0
        got = [json.loads(line) for line in tail.out]
    assert [one["msg"]["log"] for one in got] == [f"line {number}" for number in range(300)]
    assert {one["topic"] for one in got} == {f"{PREFIX}.m.t"}


def test_tail_reads_the_stream_until_now(configured: BrokerBus) -> None:
    first = run(["fedmsg-tail", "--first", "--until", "now"])
    assert (first.returncode, first.stdout) == (0, "")
    configured.publish(range(20))
    ended = run(["fedmsg-tail", "--last", "5", "--until", "now", "--query", "msg.n"])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["15", "16", "17", "18", "19"]
    away = run(["fedmsg-tail", "--after", "1000", "--until", "now"])
    assert away.returncode == 1
    assert "has no position 1000" in away.stderr


def test_trigger_runs_its_command(configured: BrokerBus) -> None:
    with Process(["fedmsg-trigger", "--command", "jq -r .msg.n >> ran || cat >> ran"]) as trigger:
        wait_until(configured.bindings, 30)
        configured.publish([7])
        wait_until(lambda: Path("ran").exists() and "7" in Path("ran").read_text())
        assert trigger.stop() == 0


def test_logger_without_a_broker_says_where_it_looked() -> None:
    Path("fedmsg.d").mkdir(mode=0o700)
    port = free_port()
    Path("fedmsg.d/bus.py").write_text(f"config = {{'broker_url': 'amqp://127.0.0.1:{port}', 'timeout': 0.5}}\n")
    ended = run(["fedmsg-logger", "--message", "x"])
    assert ended.returncode == 3
    assert len(ended.stderr.splitlines()) == 1
    assert f"no connection with amqp://127.0.0.1:{port}: Connection refused" in ended.stderr


def test_check_shows_the_queues_of_consumers(configured: BrokerBus) -> None:
    with configured.hub(taker()) as hub:
        running = check("--consumer", "Made")
        assert (running.returncode, running.stderr) == (0, "")
        title, _, text = running.stdout.partition("\n")
        assert title == "All queues are well!"
        found = json.loads(text)
        assert found["node"] == f"amqp://127.0.0.1:{configured.node.port}/{configured.vhost}"
        assert found["cluster"]
        assert found["queues"] == [{"name": "Made", "queue": "fedmsg.Made", "ready": 0, "consumers": 1}]
        samples = {sample.name: sample.value for sample in hub.metrics()}
        assert (samples["consumer_connected"], samples["consumer_unacked"], samples["consumer_queued"]) == (1, 0, 0)
    configured.publish(range(10))
    assert check("--consumer", "Made", "--max-lag", "10").returncode == 0
    behind = check("--consumer", "Made", "--max-lag", "9")
    assert (behind.returncode, behind.stdout) == (1, "")
    assert behind.stderr == '"Made" has 10 messages waiting!\nError: Some queues are too long!\n'
    missing = check("--consumer", "Other")
    assert missing.stderr == '"Other" is not there!\nError: Some consumers have no queue!\n'


def test_check_removes_a_queue(configured: BrokerBus) -> None:
    with configured.hub(taker()):
        pass
    assert check("--remove", "Made").returncode == 0
    assert configured.queues() == set()
    again = check("--remove", "Made")
    assert (again.returncode, again.stdout) == (1, "")
    assert "no consumer and no durable reader has a queue as 'Made'" in again.stderr


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [("amqp://guest:wrong@127.0.0.1:{port}", 3, "refuses the login of 'guest'"), ("", 1, 'please set "broker_url"')],
    ids=["login", "none"],
)
def test_check_says_what_is_wrong(bus: BrokerBus, url: str, status: int, reason: str) -> None:
    Path("fedmsg.d").mkdir(mode=0o700)
    urls = [url.format(port=bus.node.port)] if url else []
    Path("fedmsg.d/bus.py").write_text(f"config = {{'broker_url': {urls!r}}}\n")
    ended = check("--timeout", "5")
    assert ended.returncode == status
    assert reason in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_configuration_check_names_a_bad_url_and_files_that_are_not_there() -> None:
    Path("fedmsg.d").mkdir(mode=0o700)
    Path("fedmsg.d/bus.py").write_text("config = {'broker_url': 'http://a:secret@b', 'broker_ca': '/nowhere/ca.pem'}\n")
    ended = run(["fedmsg-config", "--check"])
    text = ended.stdout + ended.stderr
    assert ended.returncode
    assert "broker_url" in text
    assert "does not begin with amqp://" in text
    assert "/nowhere/ca.pem" in text
    assert "secret" not in text


def test_gateway_in_a_hub_is_a_read_only_feed_of_the_broker(configured: BrokerBus) -> None:
    """Listeners outside need no client of the broker, no login, and get exactly what was published."""
    port = free_port()
    key = "fedmsg.consumers.gateway"
    settings = {f"{key}.enabled": True, f"{key}.port": port, f"{key}.enabled.durable": "outside"}
    Path("fedmsg.d/gateway.py").write_text(f"config = {settings!r}\n")
    outside = Bus({"endpoints": {"gateway": [f"tcp://127.0.0.1:{port}"]}})
    with outside, Process(["fedmsg-hub", "--with-consumers", "fedmsg.consumers.gateway:GatewayConsumer"]):
        wait_until(lambda: "#" in configured.bindings("fedmsg.outside"), 60)
        with Process(["fedmsg-tail", "--json", "--count", "20"], env=outside.environ) as tail:
            sent: list[dict[str, Any]] = []
            with configured.context() as context:

                def arrives() -> bool:
                    msg = {"n": len(sent)}
                    context.publish("t", msg, modname="m", pre_fire_hook=lambda one: sent.append(dict(one)))
                    return tail.popen.poll() is not None

                wait_until(arrives, 60)
            assert tail.wait(30) == 0
            got = [json.loads(line) for line in tail.out]
    assert len(got) == 20
    first = got[0]["msg"]["n"]
    assert got == sent[first : first + 20]
