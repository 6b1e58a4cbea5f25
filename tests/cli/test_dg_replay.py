# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-dg-replay with a real datagrepper, a real relay and without."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from fedmsg.testing import Bus, Process, free_address, free_port
from tests import inside
from tests.datagrepper_server import DatagrepperServer, Handler, Query, message

ID = "2026-1"
OLD = message(
    1, 1_600_000_000, "org.fedoraproject.prod.bodhi.update.comment", msg={"text": "é\n\x1b"}, username="ann",
    certificate="old", signature="old", headers={"a": "b"},
)  # fmt: skip


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    with Bus() as found:
        found.start_relay()
        yield found


@pytest.fixture(scope="module")
def tail(bus: Bus) -> Iterator[Process]:
    with bus.tail("--json") as found:
        yield found


@pytest.fixture
def server() -> Iterator[DatagrepperServer]:
    with DatagrepperServer([OLD]) as found:
        yield found


def replay(bus: Bus, server: DatagrepperServer, *arguments: str, msg_id: str = ID) -> Any:
    return inside.run(
        ["fedmsg-dg-replay", "--msg-id", msg_id, "--datagrepper-url", server.url, *arguments], env=bus.environ
    )


def heard(tail: Process) -> dict[str, Any]:
    envelope: dict[str, Any] = json.loads(tail.wait_for("bodhi.update.comment"))
    del tail.out[:]
    return envelope


@pytest.mark.parametrize("arguments", [[], ["--no-confirm"]])
def test_it_is_a_new_message(bus: Bus, tail: Process, server: DatagrepperServer, arguments: list[str]) -> None:
    done = replay(bus, server, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Retrieving '{ID}'\nBroadcasting '{ID}'\nOK.\n"
    assert server.asked == [("id", {"id": [ID]})]
    envelope = heard(tail)
    assert envelope["topic"] == "org.fedoraproject.dev.bodhi.update.comment"
    assert (envelope["msg"], envelope["i"]) == (OLD["msg"], 1)
    assert envelope["msg_id"] != ID
    assert envelope["timestamp"] > OLD["timestamp"]
    assert envelope["username"] != "ann"
    assert set(envelope) == {"topic", "msg", "i", "msg_id", "timestamp", "username"}


@pytest.mark.parametrize("suffix", ["/", "/raw", "/raw/"])
def test_the_address_of_a_hub_will_do(bus: Bus, tail: Process, server: DatagrepperServer, suffix: str) -> None:
    server.url += suffix
    assert replay(bus, server).returncode == 0
    assert heard(tail)["msg"] == OLD["msg"]


def test_the_configured_datagrepper(server: DatagrepperServer) -> None:
    with Bus({"datagrepper_url": f"{server.url}/raw"}) as other:
        other.start_relay()
        assert other.run("fedmsg-dg-replay", "--msg-id", ID).stdout.endswith("OK.\n")


def test_without_an_id(bus: Bus) -> None:
    done = bus.run("fedmsg-dg-replay")
    assert (done.returncode, done.stdout, done.stderr) == (1, "--msg-id is required\n", "")


def test_an_id_that_is_not_there(bus: Bus, server: DatagrepperServer) -> None:
    done = replay(bus, server, msg_id="2026-7'\x1b[31m")
    shown = "2026-7'\\x1b[31m"
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == f"Retrieving '{shown}'\ndatagrepper request of '{shown}' failed. Status: 404\n"


def test_a_datagrepper_that_is_not_there(bus: Bus) -> None:
    done = bus.run("fedmsg-dg-replay", "--msg-id", ID, "--datagrepper-url", f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (3, f"Retrieving '{ID}'\n")
    assert "Connection refused" in done.stderr
    assert done.stderr.count("\n") == 1


DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<html>", 3), (b"null", 3), ([], 3), ({}, 3), ({"topic": 3, "msg": {}}, 3), ({"topic": "a.b.c.d.e"}, 3),
        ({"topic": "a.b.c.d.e", "msg": DEEP}, 2),
    ],
)  # fmt: skip
def test_what_is_no_message(bus: Bus, server: DatagrepperServer, content: Any, status: int) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        handler.answer(200, content)
        return True

    server.misbehave = misbehave
    done = replay(bus, server)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)
    assert "OK." not in done.stdout


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("a.b.c.d", "it has fewer than five parts, or an empty one"),
        ("a.b.c..e", "it has fewer than five parts, or an empty one"),
        ("a.b.c.d.\ud800", "it is not printable"),
    ],
)
def test_a_topic_that_can_not_be_used_again(bus: Bus, server: DatagrepperServer, topic: str, reason: str) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        handler.answer(200, {"topic": topic, "msg": {}})
        return True

    server.misbehave = misbehave
    done = replay(bus, server)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"can't be used again: {reason}" in done.stderr


def test_no_relay(server: DatagrepperServer) -> None:
    with Bus({"timeout": 0.2}) as lonely:
        done = replay(lonely, server)
    assert (done.returncode, done.stdout) == (3, f"Retrieving '{ID}'\nBroadcasting '{ID}'\n")
    assert done.stderr.count("\n") == 1


def test_it_is_not_ok_when_it_does_not_come_by(bus: Bus, tail: Process, server: DatagrepperServer) -> None:
    elsewhere = {**bus.config, "endpoints": {"relay_outbound": [free_address()]}, "timeout": 0.5}
    with Bus(elsewhere) as blind:
        done = replay(blind, server)
        assert (done.returncode, done.stdout) == (4, f"Retrieving '{ID}'\nBroadcasting '{ID}'\n")
        assert done.stderr.count("\n") == 1
        assert "did not come by" in done.stderr
        assert heard(tail)["msg"] == OLD["msg"]
        assert replay(blind, server, "--no-confirm").returncode == 0
        assert heard(tail)["msg"] == OLD["msg"]


def test_a_relay_that_takes_it_and_passes_nothing_on(server: DatagrepperServer) -> None:
    inbound, outbound = free_address(), free_address()
    with (
        Bus({"relay_inbound": [inbound], "endpoints": {"relay_outbound": outbound}, "timeout": 1}) as bus,
        zmq.Context() as context,
        context.socket(zmq.SUB) as sink,
        context.socket(zmq.PUB) as silent,
    ):
        sink.subscribe(b"")
        sink.bind(inbound)
        silent.bind(outbound)
        argv = ["fedmsg-dg-replay", "--msg-id", ID, "--datagrepper-url", server.url]
        with Process(argv, env=bus.environ) as process:
            # A socket takes in who has connected when it is asked for messages.
            assert sink.poll(20_000)
            assert sink.recv_multipart()[0] == b"org.fedoraproject.dev.bodhi.update.comment"
            assert process.wait() == 4
            assert "OK." not in process.out


def test_it_is_not_known_where_it_should_come_by(bus: Bus, server: DatagrepperServer) -> None:
    with Bus({"relay_inbound": bus.config["relay_inbound"], "endpoints": {}}) as blind:
        done = replay(blind, server)
        assert (done.returncode, done.stderr.count("\n")) == (5, 1)
        assert "--no-confirm" in done.stderr
        assert replay(blind, server, "--no-confirm").returncode == 0


def test_it_is_stopped_while_it_waits(bus: Bus, server: DatagrepperServer) -> None:
    def misbehave(handler: Handler, query: Query, number: int) -> bool:
        return server.stopped.wait()

    server.misbehave = misbehave
    argv = ["fedmsg-dg-replay", "--msg-id", ID, "--datagrepper-url", server.url]
    with Process(argv, env=bus.environ) as process:
        process.wait_for("Retrieving")
        assert process.stop(signal.SIGINT) == 8
        assert len(process.err) == 1
