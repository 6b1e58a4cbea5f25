# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-stream with real relays, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq.auth

from fedmsg.exceptions import StoreError
from fedmsg.stream import asking, protocol
from fedmsg.stream.log import Cursor, Incoming, StreamLog
from fedmsg.stream.subscription import Subscription
from fedmsg.testing import command_path, free_address, run, wait_until
from tests import inside
from tests.integration.streams import FrameClient, serving, take
from tests.stream_memory import MemoryLog
from tests.stream_relays import Flow, Raw, StreamBus, filled, leave_name, number_of, publish, running, sqlite_url


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with filled(sqlite_url(tmp_path)) as made:
        yield made


@pytest.fixture
def each_bus(database_url: str) -> Iterator[StreamBus]:
    with filled(database_url) as made:
        yield made


def done(bus: StreamBus, *arguments: str) -> str:
    ended = inside.run(["fedmsg-stream", *arguments], env=bus.environ)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def done_json(bus: StreamBus, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(bus, *arguments, "--json"))
    return found


def failed(bus: StreamBus, status: int, *arguments: str) -> str:
    ended = inside.run(["fedmsg-stream", *arguments], env=bus.environ)
    assert (ended.returncode, ended.stdout) == (status, ""), ended
    assert len(ended.stderr.splitlines()) == 1
    return ended.stderr


# ---------------------------------------------------------------- info


def test_info(each_bus: StreamBus) -> None:
    shown = dict(line.split(maxsplit=1) for line in done(each_bus, "info").splitlines())
    found = done_json(each_bus, "info")
    assert shown["stream"] == found["stream"]
    assert shown["positions"] == "1 to 5"
    assert (found["first"], found["newest"], found["messages"]) == (1, 5, 5)
    assert shown["messages"] == "5"
    assert shown["bytes"].split()[0] == str(found["bytes"])
    assert found["bytes"] == sum(len(entry.topic) + len(entry.body) for entry in each_bus.entries())
    assert found["per_second"] > 0
    assert shown["retention"] == "7 days"
    assert found["retention"] == {"age": 604800, "max_bytes": 0, "messages": 0}


def test_info_of_an_empty_stream_and_of_other_retention(tmp_path: Path) -> None:
    settings = {"relay_retention_age": 5400, "relay_retention_bytes": 3 << 20, "relay_retention_messages": 7}
    with running(StreamBus(sqlite_url(tmp_path), **settings)) as bus:
        lines = done(bus, "info").splitlines()
    assert "positions      none yet" in lines
    assert "retention      90 minutes, 3.0 MiB, 7 messages" in lines


def test_info_asks_the_first_relay_or_the_one_that_is_named(tmp_path: Path) -> None:
    log = MemoryLog()
    with serving(log) as server, filled(sqlite_url(tmp_path)) as bus:
        assert done_json(bus, "info", "--stream", server.addresses[0])["stream"] == log.stream
        assert done_json(bus, "info")["newest"] == 5


# ---------------------------------------------------------------- subscriptions


def test_subscriptions(each_bus: StreamBus) -> None:
    assert done(each_bus, "subscriptions") == "There is no durable subscription.\n"
    assert done_json(each_bus, "subscriptions") == {"subscriptions": []}
    leave_name(each_bus, "nächtlich", 2)
    with each_bus.context() as context, context.subscribe(durable="shop", after=4) as messages:
        assert next(messages).position == 5
        rows = {row["name"]: row for row in done_json(each_bus, "subscriptions")["subscriptions"]}
        lines = done(each_bus, "subscriptions").splitlines()
    away, connected = rows["nächtlich"], rows["shop"]
    assert (away["cursor"], away["lag"], away["connected"], away["address"]) == (2, 3, False, "127.0.0.1")
    assert (connected["cursor"], connected["lag"], connected["connected"]) == (4, 1, True)
    assert lines[0].split() == ["NAME", "CURSOR", "LAG", "LAST", "SEEN", "FROM", "STATE"]
    shown = {line.split()[0]: line.split() for line in lines[1:]}
    assert (shown["nächtlich"][1:3], shown["nächtlich"][-2:]) == (["2", "3"], ["127.0.0.1", "away"])
    assert (shown["shop"][1:3], shown["shop"][-1]) == (["4", "1"], "connected")
    # In columns.
    assert len({line.index(row[-1]) for line, row in ((line, line.split()) for line in lines[1:])}) == 1


def test_subscriptions_of_ten_thousand_names_come_in_pages(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    # As long as a name may be, and as long as JSON makes it.
    names = ["\N{PILE OF POO}" * 60 + f"{number:05}" for number in range(10_000)]
    with StreamLog(url) as log:
        log.save_cursors([Cursor(name, 0, 1.0, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff") for name in names])
    with running(StreamBus(url)) as bus:
        assert [row["name"] for row in done_json(bus, "subscriptions")["subscriptions"]] == names
        # A reader that has seen enough is no failure.
        ended = run(
            ["bash", "-c", f"set -o pipefail; {command_path('fedmsg-stream')} subscriptions | head -n 1"],
            env=bus.environ,
        )
        assert (ended.returncode, ended.stdout.split()[0], ended.stderr) == (0, "NAME", "")
        with Raw(bus.config["relay_stream"][0]) as client:
            client.greet()
            client.send(protocol.SUBSCRIPTIONS, b"1", {})
            answer = client.receive()
    assert answer.fields[1]["more"] is True
    assert len(answer.fields[1]["subscriptions"]) == 500


def test_what_a_relay_says_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    log = MemoryLog()
    log.add(b'{"x": "\x1b[31m", "y": "\\u202e\\u009b"}', b"\x1b[31m\x9b\xff no JSON", topic=b"t\x1b[31m")
    log.save_cursors([Cursor("\x1b[31m\u202ename", 0, 1e300, "\x1b[0m")])
    with serving(log) as server, StreamBus(sqlite_url(tmp_path)) as bus:
        bus.environ["PYTHONIOENCODING"] = "utf-8"
        for command in (["subscriptions"], ["info"], ["get", "1"], ["get", "2"]):
            for form in ([], ["--json"]):
                ended = bus.run("fedmsg-stream", *command, *form, "--stream", server.addresses[0])
                assert ended.returncode == 0, ended
                assert all(line.isprintable() for line in ended.stdout.splitlines()), ended.stdout


# ---------------------------------------------------------------- get


def test_get(each_bus: StreamBus) -> None:
    entry = each_bus.entries()[2]
    envelope = json.loads(entry.body)
    for wanted in ("3", envelope["msg_id"]):
        found = done_json(each_bus, "get", wanted)
        assert found == {
            "position": 3, "stored": entry.stored, "topic": entry.topic.decode(), "via": [], "envelope": envelope,
        }  # fmt: skip
        head, _, shown = done(each_bus, "get", wanted).partition("\n\n")
        assert [line.split()[0] for line in head.splitlines()] == ["position", "stored", "topic"]
        assert head.endswith(entry.topic.decode())
        assert json.loads(shown) == envelope


def test_get_of_what_is_not_there_is_status_1(bus: StreamBus) -> None:
    for wanted in ("6", "9223372036854775807", "2026-no-such-id"):
        assert "the stream has no such message" in failed(bus, 1, "get", wanted)


def test_get_of_a_body_that_is_no_json(tmp_path: Path) -> None:
    log = MemoryLog()
    log.add(b"no JSON \xff")
    with serving(log) as server, StreamBus(sqlite_url(tmp_path)) as bus:
        found = done_json(bus, "get", "1", "--stream", server.addresses[0])
        assert (found["envelope"], found["body"]) == (None, "no JSON \ufffd")
        assert done(bus, "get", "1", "--stream", server.addresses[0]).endswith("\nno JSON \ufffd\n")


# ---------------------------------------------------------------- remove


def test_remove_while_the_relay_runs(each_bus: StreamBus) -> None:
    leave_name(each_bus, "shop", 2)
    assert done(each_bus, "remove", "shop") == "Removed shop, whose cursor was 2.\n"
    # What the relay remembers does not bring it back, not even when it ends.
    each_bus.stop_relay()
    each_bus.start_relay()
    assert done_json(each_bus, "subscriptions") == {"subscriptions": []}
    assert "no durable subscription 'shop'" in failed(each_bus, 1, "remove", "shop")


def test_remove_while_no_relay_runs(each_bus: StreamBus) -> None:
    leave_name(each_bus, "shop", 2)
    each_bus.stop_relay()
    assert done_json(each_bus, "remove", "shop") == {"removed": "shop", "cursor": 2}
    with StreamLog(each_bus.url) as log:
        assert log.cursor("shop") is None


def test_remove_of_a_name_that_begins_anew(bus: StreamBus) -> None:
    leave_name(bus, "shop", 4)
    done(bus, "remove", "shop")
    with bus.context() as context, context.subscribe(durable="shop", after="first") as messages:
        assert [next(messages).position for _ in range(5)] == [1, 2, 3, 4, 5]


def test_remove_of_a_name_that_is_being_read_is_status_1_and_says_who(each_bus: StreamBus) -> None:
    with each_bus.context() as context, context.subscribe(durable="shop", after="first") as messages:
        next(messages)
        text = failed(each_bus, 1, "remove", "shop")
        assert text == "fedmsg-stream: 'shop' is being read, by a client at 127.0.0.1: stop that first\n"
        next(messages)
    wait_until(lambda: inside.run(["fedmsg-stream", "remove", "shop"], env=each_bus.environ).returncode == 0)


def test_remove_finds_the_relay_of_the_store_among_several(tmp_path: Path) -> None:
    with serving(MemoryLog()) as other, filled(sqlite_url(tmp_path)) as bus:
        config = tmp_path / "several.py"
        places = [other.addresses[0], bus.config["relay_stream"][0]]
        config.write_text(f"config = {{'relay_store': {bus.url!r}, 'relay_stream': {places!r}}}\n")
        with bus.context() as context, context.subscribe(durable="shop", after="first") as messages:
            next(messages)
            text = failed(bus, 1, "--config-filename", str(config), "remove", "shop")
            assert "is being read" in text


def test_remove_is_status_3_when_the_relay_of_the_store_does_not_answer(bus: StreamBus) -> None:
    leave_name(bus, "shop", 1)
    text = failed(bus, 3, "remove", "shop", "--stream", free_address(), "--timeout", "0.3")
    assert "a relay has the store, but does not answer" in text
    assert [row["name"] for row in done_json(bus, "subscriptions")["subscriptions"]] == ["shop"]


def stored_position(log: StreamLog) -> int | None:
    cursor = log.cursor("shop")
    return None if cursor is None else cursor.position


def test_name_that_comes_into_use_while_it_is_removed_is_kept(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    with filled(url) as bus, bus.context() as context, StreamLog(url) as log:
        address = bus.config["relay_stream"][0]
        with context.subscribe(durable="shop", after="first", ack_mode="manual") as messages:
            next(messages).ack()
            wait_until(lambda: stored_position(log) == 1)
            # As the command does where the reader has come right after the question.
            assert log.remove_cursor("shop")
            next(messages).ack()
            wait_until(lambda: stored_position(log) == 2)
            assert asking.subscriptions(bus.config, address, name="shop")[0]["connected"]


# ---------------------------------------------------------------- prune


def test_prune_while_the_relay_serves_a_reader(each_bus: StreamBus) -> None:
    publish(each_bus, range(95))
    with FrameClient(each_bus.config["relay_stream"][0]) as reader:
        reader.open(1, 1 << 20, after=0, durable="slow")
        assert reader.expect(protocol.MSG).fields[0] == 1
        assert done(each_bus, "prune", "--until", "60").startswith("Messages removed: 60; kept: 61 to 100, ")
        assert done_json(each_bus, "prune", "--keep-messages", "10")["first"] == 91
        # Of what the relay has in memory nothing would be lost.
        each_bus.stop_relay()
        each_bus.start_relay()
    with Subscription(each_bus.config, each_bus.config["relay_stream"], durable="slow") as slow:
        assert [delivery.position for delivery in take(slow, 10)] == list(range(91, 101))
        assert slow.statistics()["lost"] == 90
        publish(each_bus, [0])
        assert take(slow, 1)[0].position == 101


def test_prune_informs_a_reader_that_the_relay_serves_from_the_store(database_url: str) -> None:
    with filled(database_url, 200):
        pass
    # The memory of this relay begins after these.
    with running(StreamBus(database_url)) as bus, FrameClient(bus.config["relay_stream"][0]) as reader:
        reader.open(10, 1 << 20, after=0)
        assert [reader.expect(protocol.MSG).fields[0] for _ in range(10)] == list(range(1, 11))
        assert done_json(bus, "prune", "--until", "150")["removed"] == 150
        reader.send(protocol.CREDIT, 100, 1 << 20)
        first, last = reader.expect(protocol.LOST).fields
        # What the relay had read for it already has come before.
        assert (first <= 31, last) == (True, 150)
        assert reader.expect(protocol.MSG).fields[:2] == (151, first - 1)


@pytest.mark.parametrize(
    ("arguments", "first"),
    [(["--until", "4"], 5), (["--keep-messages", "3"], 8), (["--before", "0s"], 11), (["--before", "1h"], 1),
     (["--keep-bytes", "1"], 11), (["--until", "2", "--keep-messages", "6"], 5), (["--until", "99"], 11)],
)  # fmt: skip
def test_prune_while_no_relay_runs(arguments: list[str], first: int, database_url: str) -> None:
    with StreamLog(database_url) as log:
        log.append([Incoming(b"t", b"%d" % number) for number in range(10)])
    with StreamBus(database_url) as bus:
        found = done_json(bus, "prune", *arguments)
    assert (found["first"], found["newest"], found["removed"]) == (first, 10, first - 1)
    assert found["messages"] == 11 - first


def test_relay_goes_on_after_a_prune_without_it(each_bus: StreamBus) -> None:
    each_bus.stop_relay()
    done(each_bus, "prune", "--until", "99")
    each_bus.start_relay()
    publish(each_bus, [0])
    assert done_json(each_bus, "info")["newest"] == 6


def test_prune_while_publishers_are_busy_loses_nothing_else(database_url: str) -> None:
    with running(StreamBus(database_url)) as bus:
        with Flow(bus) as flow:
            for _ in range(2):
                flow.wait_for(300)
                found = done_json(bus, "prune", "--keep-messages", "100")
                # Others came in after the last step.
                assert found["first"] > 1
                assert found["messages"] >= 100
        kept = bus.entries()
        assert flow.unconfirmed == 0
    assert [entry.position for entry in kept] == list(range(found["first"], max(flow.confirmed.values()) + 1))
    numbers = {position: number for number, position in flow.confirmed.items()}
    assert [number_of(entry.body) for entry in kept] == [numbers[entry.position] for entry in kept]


def test_prune_without_flags_removes_what_is_beyond_retention(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    with filled(url, 10):
        pass
    with StreamBus(url, relay_retention_messages=4) as bus:
        assert done_json(bus, "prune")["first"] == 7
    limits = {"relay_retention_age": 0}
    with StreamBus(url, **limits) as bus:
        assert "retention has no limit" in failed(bus, 2, "prune")


# ---------------------------------------------------------------- wrong uses


@pytest.mark.parametrize(
    "arguments",
    [[], ["bogus"], ["get"], ["get", ""], ["get", "0"], ["get", "9223372036854775808"], ["get", "9" * 5000],
     ["get", "1", "2"], ["remove"], ["info", "x"], ["info", "--timeout", "0"], ["prune", "--until", "0"],
     ["prune", "--keep-messages", "-1"], ["prune", "--before", "yesterday"], ["--bogus", "info"]],
)  # fmt: skip
def test_what_makes_no_sense_is_status_2(arguments: list[str], tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path)) as bus:
        ended = inside.run(["fedmsg-stream", *arguments], env=bus.environ)
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", [["info"], ["subscriptions"], ["get", "1"]])
def test_relay_that_is_away_is_status_3(command: list[str], tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path)) as bus:
        assert "did not answer within 0.3 s" in failed(bus, 3, *command, "--timeout", "0.3")


@pytest.mark.parametrize("command", [["remove", "shop"], ["prune", "--until", "1"]])
def test_store_that_is_not_there_is_not_made(command: list[str], tmp_path: Path, postgresql_url: str) -> None:
    with StreamBus(sqlite_url(tmp_path)) as bus:
        assert "there is no stream in sqlite:///" in failed(bus, 3, *command)
        assert not (tmp_path / "stream.db").exists()
        assert "there is no stream in postgresql" in failed(bus, 3, *command, "--store", postgresql_url)
        assert "there is no stream in postgresql" in failed(bus, 3, *command, "--store", postgresql_url)
    with StreamBus(sqlite_url(tmp_path), relay_store=None) as bus:
        assert "relay_store is not set" in failed(bus, 5, *command)
        assert failed(bus, 5, *command, "--store", "nonsense")


def test_what_does_not_answer_like_a_relay_is_status_3(tmp_path: Path) -> None:
    class Odd(MemoryLog):
        def statistics(self) -> dict[str, Any]:
            return {"first": 1, "newest": None, "messages": [], "bytes": 0}

    with serving(Odd()) as server, StreamBus(sqlite_url(tmp_path)) as bus:
        text = failed(bus, 3, "info", "--stream", server.addresses[0])
    assert "does not answer like a relay" in text


def test_relay_with_names_without_end_is_status_3(tmp_path: Path) -> None:
    class Endless(MemoryLog):
        def cursors(self, after: str = "", limit: int = 1000) -> list[Cursor]:
            return [Cursor(f"{int(after or 0) + number:020}", 0, 1.0, "") for number in range(1, limit + 1)]

    with serving(Endless()) as server, StreamBus(sqlite_url(tmp_path)) as bus:
        text = failed(bus, 3, "subscriptions", "--stream", server.addresses[0])
    assert "more than 10000 durable subscriptions: raise relay_durable_max" in text


def test_relay_whose_store_is_away_is_status_3(tmp_path: Path) -> None:
    log = MemoryLog()
    with serving(log) as server, StreamBus(sqlite_url(tmp_path), relay_stream=server.addresses) as bus:
        log.fail = StoreError("away")
        for command in (["info"], ["subscriptions"], ["get", "1"]):
            assert "the store can't be read at the moment" in failed(bus, 3, *command)
        log.fail = None
        done(bus, "info")


def test_keys_for_curve_are_found_as_for_other_readers(tmp_path: Path) -> None:
    (tmp_path / "readers").mkdir()
    for name in ("relay", "reader"):
        zmq.auth.create_certificates(tmp_path, name)
        (tmp_path / f"{name}.key_secret").chmod(0o600)
    (tmp_path / "readers" / "reader.key").write_bytes((tmp_path / "reader.key").read_bytes())
    log = MemoryLog()
    relay = {"curve_key": str(tmp_path / "relay.key_secret"), "curve_subscribers": str(tmp_path / "readers")}
    reader = {
        "curve_key": str(tmp_path / "reader.key_secret"),
        "curve_servers": {"relay_outbound": str(tmp_path / "relay.key")},
    }
    with serving(log, relay) as server:
        with StreamBus(sqlite_url(tmp_path), relay_stream=server.addresses, **reader) as bus:
            assert done_json(bus, "info")["stream"] == log.stream
        with StreamBus(sqlite_url(tmp_path), relay_stream=server.addresses) as bus:
            failed(bus, 3, "info", "--timeout", "0.5")
        with StreamBus(sqlite_url(tmp_path), relay_stream=server.addresses, **{**reader, "curve_key": "/none"}) as bus:
            failed(bus, 7, "info", "--timeout", "0.5")
