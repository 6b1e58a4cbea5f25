# SPDX-License-Identifier: LGPL-2.1-or-later
"""Relays that hand their stream on to others: in order, each message once, whoever is away or killed meanwhile."""

from __future__ import annotations

import random
import signal
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq.auth

from fedmsg.stream import protocol
from fedmsg.stream.log import StreamLog
from fedmsg.stream.records import HandedOn, Incoming
from fedmsg.stream.upstream import Upstreams
from fedmsg.stream.window import Window
from fedmsg.testing import Bus, envelopes, free_address, free_port, wait_until
from tests import certificates
from tests.postgres import Cluster
from tests.stream_relays import FakeRelay, Flow, Raw, StreamBus, body_of, running, sqlite_url


def publish(bus: StreamBus, numbers: Sequence[int], **settings: Any) -> None:
    with bus.confirming(**settings) as context:
        list(context.publish_many({"topic": "t", "modname": "m", "msg": {"n": number}} for number in numbers))


def wait_for_numbers(bus: StreamBus, count: int, timeout: float = 60.0) -> None:
    """Wait until a relay has so many messages."""
    with StreamLog(bus.url) as log:
        wait_until(lambda: log.newest() >= count, timeout, what=lambda: f"{count} messages; there are {log.newest()}")


def upstream(bus: StreamBus, number: int = 0) -> dict[str, Any]:
    """Return the figures of one of the relays that a relay hands on to."""
    found: dict[str, Any] = bus.figures()["upstreams"][number]
    return found


def stream_of(bus: StreamBus) -> str:
    with StreamLog(bus.url) as log:
        return log.stream


class Pair:
    """Two relays, not started: one that hands on, and the one that it hands on to."""

    def __init__(self, folder: Path, url: str = "", *, far: dict[str, Any] | None = None, **near: Any) -> None:
        self.far = StreamBus(sqlite_url(folder, "far.db"), **(far or {}))
        self.near = StreamBus(url or sqlite_url(folder, "near.db"), relay_upstream=[self.far.confirmed], **near)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Pair(tmp_path) as made:
        yield made


def mesh(folder: Path, names: Sequence[str], upstreams: dict[str, str]) -> dict[str, StreamBus]:
    """Return relays that hand on to each other: the names of the others, for each."""
    places = {name: free_address() for name in names}
    return {
        name: StreamBus(
            sqlite_url(folder, f"{name}.db"),
            relay_confirmed=[places[name]],
            relay_upstream=[places[other] for other in upstreams[name]],
        )
        for name in names
    }


# ---------------------------------------------------------------- store and forward


def test_relay_hands_on_in_order_what_was_published_while_the_other_one_was_away(
    database_url: str, tmp_path: Path
) -> None:
    with Pair(tmp_path, database_url) as pair:
        near, far = pair.near, pair.far
        near.start_relay()
        publish(near, range(3000))
        assert not upstream(near)["connected"]
        assert upstream(near)["lag"] == 3000
        far.start_relay()
        wait_for_numbers(far, 3000)
        publish(near, range(3000, 3010))
        wait_for_numbers(far, 3010)
        assert far.stop_relay() == 0
        publish(near, range(3010, 4000))
        # Where it has stopped outlives both of them.
        assert near.stop_relay() == 0
        near.start_relay()
        assert upstream(near)["lag"] == 990
        far.start_relay()
        wait_for_numbers(far, 4000)
        wait_until(lambda: upstream(near)["lag"] == 0)
        assert upstream(near)["handed_on"] == 990
        assert far.figures()["duplicates"] == 0
        assert far.numbers() == list(range(4000))
        assert {entry.via for entry in far.entries()} == {(stream_of(near),)}


def test_relay_keeps_in_postgresql_which_relays_a_message_has_passed(postgresql_url: str, sqlite_url: str) -> None:
    far = StreamBus(postgresql_url)
    with running(far), running(StreamBus(sqlite_url, relay_upstream=[far.confirmed])) as near:
        publish(near, range(10))
        wait_for_numbers(far, 10)
        assert far.numbers() == list(range(10))
        assert {entry.via for entry in far.entries()} == {(stream_of(near),)}


def test_relay_hands_on_what_comes_unconfirmed(pair: Pair) -> None:
    with running(pair.far) as far, running(pair.near) as near, near.context() as context:
        for number in range(100):
            context.publish(topic="t", modname="m", msg={"n": number})
        wait_for_numbers(far, 100)
        assert far.numbers() == list(range(100))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_relays_killed_again_and_again_lose_and_double_nothing_that_is_handed_on(pair: Pair, full_size: bool) -> None:
    chance = random.Random(7)
    with running(pair.far) as far, running(pair.near) as near, Flow(near, timeout=20) as flow:
        for _ in range(100 if full_size else 3):
            for bus in chance.sample([near, far], 2):
                flow.wait_for(chance.randrange(1, 400))
                bus.kill_relay()
                if chance.random() < 0.5 and bus is far:
                    flow.wait_for(200)
                bus.start_relay()
        flow.wait_for(100)
        flow.__exit__()
        count = len(near.numbers())
        assert near.numbers() == list(range(count))
        wait_for_numbers(far, count)
        wait_until(lambda: upstream(near)["lag"] == 0)
        assert far.numbers() == list(range(count))


def test_relay_that_shows_a_new_stream_gets_everything(pair: Pair, tmp_path: Path) -> None:
    near, far = pair.near, pair.far
    near.start_relay()
    far.start_relay()
    publish(near, range(100))
    wait_for_numbers(far, 100)
    far.kill_relay()
    for path in tmp_path.glob("far.db*"):
        path.unlink()
    publish(near, range(100, 110))
    far.start_relay()
    wait_for_numbers(far, 110)
    assert far.numbers() == list(range(110))


def test_relay_whose_store_was_brought_back_from_a_copy_gets_what_it_has_lost(pair: Pair, tmp_path: Path) -> None:
    near, far = pair.near, pair.far
    near.start_relay()
    far.start_relay()
    publish(near, range(100))
    wait_for_numbers(far, 100)
    assert far.stop_relay() == 0
    copies = {path: path.read_bytes() for path in tmp_path.glob("far.db*")}
    far.start_relay()
    publish(near, range(100, 200))
    wait_for_numbers(far, 200)
    wait_until(lambda: upstream(near)["lag"] == 0)
    assert far.stop_relay() == 0
    for path in tmp_path.glob("far.db*"):
        path.unlink()
    for path, content in copies.items():
        path.write_bytes(content)
    far.start_relay()
    wait_for_numbers(far, 200)
    assert far.numbers() == list(range(200))


def test_relay_goes_on_after_the_other_one_was_frozen(pair: Pair) -> None:
    with running(pair.far) as far, running(pair.near) as near, Flow(near, timeout=20) as flow:
        flow.wait_for(100)
        assert far.relay is not None
        assert near.relay is not None
        far.relay.popen.send_signal(signal.SIGSTOP)
        near.relay.wait_for("it is silent")
        far.relay.popen.send_signal(signal.SIGCONT)
        flow.wait_for(100)
        flow.__exit__()
        count = len(near.numbers())
        wait_for_numbers(far, count)
        assert far.numbers() == list(range(count))


def test_relay_hands_on_after_its_database_was_away(tmp_path: Path) -> None:
    with Cluster() as cluster, Pair(tmp_path, cluster.create()) as pair:
        far, near = pair.far, pair.near
        far.start_relay()
        near.start_relay()
        with Flow(near, timeout=30) as flow:
            flow.wait_for(200)
            cluster.kill()
            assert near.relay is not None
            near.relay.wait_for("messages wait to be stored")
            # What it has confirmed is handed on from memory, or later.
            cluster.start_again()
            flow.wait_for(200)
            flow.__exit__()
            count = len(near.numbers())
            wait_for_numbers(far, count)
            wait_until(lambda: upstream(near)["lag"] == 0)
            assert far.numbers() == near.numbers() == list(range(count))
            # Where it has stopped is stored again, too.
            near.kill_relay()
            near.start_relay()
            publish(near, [count])
            wait_for_numbers(far, count + 1)
            assert far.numbers() == list(range(count + 1))


def test_relay_with_much_to_hand_on_needs_bounded_memory(pair: Pair) -> None:
    with running(pair.near) as near:
        with near.confirming() as context:
            messages = ({"topic": "t", "modname": "m", "msg": {"n": n, "x": "x" * 50_000}} for n in range(3000))
            list(context.publish_many(messages))
        near.stop_relay()
        near.start_relay()
        assert near.relay is not None
        before = near.relay.memory()
        pair.far.start_relay()
        seen: list[int] = []
        with StreamLog(pair.far.url) as log:
            relay = near.relay
            wait_until(lambda: log.newest() >= 3000, meanwhile=lambda: seen.append(relay.memory()))
        # 150 MB went through it: a part that is read, 8 MiB that are not confirmed, and the buffers below.
        assert max(seen) - before < 80 * 1024


def test_relay_hands_on_to_each_of_several(tmp_path: Path) -> None:
    one, two = (StreamBus(sqlite_url(tmp_path, name)) for name in ("one.db", "two.db"))
    near = StreamBus(sqlite_url(tmp_path), relay_upstream=[one.confirmed, two.confirmed])
    with two, running(one), running(near):
        publish(near, range(100))
        # One that is away holds up no other.
        wait_for_numbers(one, 100)
        two.start_relay()
        wait_for_numbers(two, 100)
    assert one.numbers() == two.numbers() == list(range(100))


def test_relay_uses_one_of_two_addresses_of_the_same_stream(tmp_path: Path) -> None:
    places = [free_address(), free_address()]
    far = StreamBus(sqlite_url(tmp_path, "far.db"), relay_confirmed=places)
    near = StreamBus(sqlite_url(tmp_path), relay_upstream=places)
    with running(far), running(near):
        assert near.relay is not None
        near.relay.wait_for("and is not used")
        publish(near, range(100))
        wait_for_numbers(far, 100)
        assert sorted(one["used"] for one in near.figures()["upstreams"]) == [False, True]
        assert sum(one["handed_on"] for one in near.figures()["upstreams"]) == 100
        assert far.figures()["duplicates"] == 0


def test_relay_does_not_hand_on_to_itself(tmp_path: Path) -> None:
    mine = free_address()
    with running(StreamBus(sqlite_url(tmp_path), relay_confirmed=[mine], relay_upstream=[mine])) as bus:
        assert bus.relay is not None
        bus.relay.wait_for(f"relay_upstream: {mine} leads to this relay itself, and is not used")
        publish(bus, range(10))
        assert bus.numbers() == list(range(10))
        assert (bus.figures()["duplicates"], upstream(bus)["used"], upstream(bus)["lag"]) == (0, False, 0)


def test_relay_binds_what_is_its_own_in_the_lists_of_two_relays(tmp_path: Path) -> None:
    # An address that is kept for documentation, which no machine has.
    other = "tcp://192.0.2.1:9"
    mine = [free_address() for _ in range(3)]
    shared = {"relay_confirmed": [other, mine[0]], "relay_stream": [other, mine[1]], "relay_upstream": [other, mine[0]]}
    with running(StreamBus(sqlite_url(tmp_path), **shared, endpoints={"relay_outbound": [other, mine[2]]})) as bus:
        assert bus.relay is not None
        bus.relay.wait_for(f"relay_upstream: {mine[0]} leads to this relay itself, and is not used")
        publish(bus, [1], relay_confirmed=mine[0])
        assert bus.relay.wait_for("to tcp://").split(" to ")[1].split(",")[0] == mine[2]


def test_relay_without_a_store_can_not_hand_on(tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path), relay_store=None, relay_upstream=[free_address()]) as bus:
        result = bus.run("fedmsg-relay")
        assert result.returncode == 5
        assert "relay_upstream is set" in result.stderr
        assert "Traceback" not in result.stderr


# ---------------------------------------------------------------- against a relay that answers as the test wants


@contextmanager
def handing_on(folder: Path, relay: FakeRelay, count: int, **settings: Any) -> Iterator[Upstreams]:
    """Hand a stream with some numbers on to a relay."""
    with StreamLog(sqlite_url(folder)) as log:
        log.append([Incoming(b"org.test", body_of(number)) for number in range(count)])
        config = {"relay_upstream": relay.address, "timeout": 20, **settings}
        with Upstreams(config, log, Window(log.newest())) as upstreams:
            upstreams.start()
            yield upstreams


def test_upstream_sends_again_what_was_not_confirmed_and_no_more_than_its_window(tmp_path: Path) -> None:
    with FakeRelay() as relay, handing_on(tmp_path, relay, 10, publish_window=3):
        relay.greet()
        assert relay.take(3) == [0, 1, 2]
        assert not relay.hears(300)
        relay.send(protocol.OK, relay.last[0], 1)
        assert relay.take(1) == [3]
        # Not in the order of the messages: the second one is still awaited.
        third = relay.last[0]
        relay.send(protocol.OK, third, 4)
        assert relay.take(1) == [4]
        relay.send(protocol.NO, third, {"code": "hello", "reason": "begin with HELLO", "retry": True})
        relay.greet(newest=4)
        assert (relay.take(3), relay.again) == ([1, 2, 3], [True] * 3)


def test_upstream_goes_on_where_its_cursor_is(tmp_path: Path) -> None:
    for first in (0, 3):
        with FakeRelay() as relay, handing_on(tmp_path, relay, 10, publish_window=3) as upstreams:
            relay.greet(newest=first)
            assert relay.take(3) == [first, first + 1, first + 2]
            for number, one in enumerate(relay.last, first + 1):
                relay.send(protocol.OK, one, number)
            wait_until(lambda: upstreams.statistics()[0]["cursor"] == first + 3)  # noqa: B023 waited for at once


def test_upstream_survives_a_relay_that_answers_what_it_likes(tmp_path: Path) -> None:
    with FakeRelay() as relay, handing_on(tmp_path, relay, 3) as upstreams:
        relay.receive(protocol.HELLO)
        for frames in ([b""], [b"FM1", b"WELCOME", b"[]"], [b"FM1", b"WELCOME", b"{}", b""], [b"FM1", b"OK", b"1"]):
            relay.socket.send_multipart([relay.identity, *frames])
        relay.send(protocol.WELCOME, {"stream": "s", "newest": "many", "max_message_size": "large"})
        assert relay.take(3) == [0, 1, 2]
        # A second greeting changes nothing.
        relay.send(protocol.WELCOME, {"stream": "t"})
        relay.send(protocol.NO, relay.last[0], {"code": 7, "reason": ["none"]})
        relay.send(protocol.OK, relay.last[1], 2**63 - 1)
        relay.send(protocol.OK, b"another", 5)
        relay.send(protocol.OK, relay.last[2], 3)
        wait_until(lambda: upstreams.statistics()[0]["lag"] == 0)
        figures = upstreams.statistics()[0]
        assert (figures["handed_on"], figures["refused"]) == (2, 1)
        assert upstreams.alive


def test_upstream_leaves_a_relay_that_shows_no_stream(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FakeRelay() as relay, handing_on(tmp_path, relay, 1) as upstreams:
        relay.greet(stream="no id")
        wait_until(lambda: "shows no id of a stream" in caplog.text)
        assert not upstreams.statistics()[0]["connected"]
        assert upstreams.alive


# ---------------------------------------------------------------- what can't be handed on


def test_relay_goes_on_after_a_message_that_is_too_large_there(tmp_path: Path) -> None:
    with Pair(tmp_path, far={"max_message_size": 10_000}) as pair, running(pair.far), running(pair.near):
        with pair.near.confirming() as context:
            # A bit too large is rejected by a relay, far too large would end the connection.
            for number, size in enumerate([1, 20_000, 1, 100_000, 1]):
                context.publish(topic="t", modname="m", msg={"n": number, "x": "x" * size})
        wait_for_numbers(pair.far, 3)
        assert pair.far.numbers() == [0, 2, 4]
        wait_until(lambda: upstream(pair.near)["lag"] == 0)
        figures = upstream(pair.near)
        assert (figures["handed_on"], figures["refused"], figures["lost"]) == (3, 2, 0)
        assert pair.near.relay is not None
        pair.near.relay.wait_for("refuses the message at position 2")


def test_relay_goes_on_after_a_message_that_is_refused(tmp_path: Path) -> None:
    bench = certificates.Bench(tmp_path)
    mine = {f"shell.{socket.gethostname().split('.', 1)[0]}": "shell.test"}
    far = {"relay_validate": True, **bench.config}
    near = {"certnames": mine, **bench.config}
    with Pair(tmp_path, far=far, **near) as pair, running(pair.far), running(pair.near):
        for number in range(5):
            publish(pair.near, [number], sign_messages=number % 2 == 0)
        wait_for_numbers(pair.far, 3)
        wait_until(lambda: upstream(pair.near)["lag"] == 0)
        figures = upstream(pair.near)
        assert (figures["handed_on"], figures["refused"]) == (3, 2)
        assert pair.far.numbers() == [0, 2, 4]


def test_relay_counts_what_retention_has_removed_before_it_was_handed_on(tmp_path: Path) -> None:
    with Pair(tmp_path, relay_retention_messages=50) as pair, running(pair.near) as near:
        pair.far.start_relay()
        publish(near, range(10))
        wait_for_numbers(pair.far, 10)
        wait_until(lambda: upstream(near)["lag"] == 0)
        pair.far.stop_relay()
        # Those that are read from memory are not lost, even where the store has removed them: a new start has none.
        publish(near, range(10, 200))
        wait_until(lambda: near.figures()["first"] == 151)
        assert near.stop_relay() == 0
        near.start_relay()
        pair.far.start_relay()
        wait_for_numbers(pair.far, 60)
        assert pair.far.numbers() == [*range(10), *range(150, 200)]
        wait_until(lambda: upstream(near)["lag"] == 0)
        assert upstream(near)["lost"] == 140
        assert near.relay is not None
        near.relay.wait_for("retention has removed the positions 11 to 150 before they were handed on")


# ---------------------------------------------------------------- relays that name each other


def assert_whole(bus: StreamBus, streams: dict[int, range]) -> None:
    """Check that a relay has all numbers once, those of each origin in order."""
    numbers = bus.numbers()
    assert len(numbers) == sum(map(len, streams.values()))
    for wanted in streams.values():
        assert [number for number in numbers if number in wanted] == list(wanted)


def test_two_relays_that_name_each_other_both_end_up_with_everything(tmp_path: Path) -> None:
    buses = mesh(tmp_path, "ab", {"a": "b", "b": "a"})
    a, b = buses.values()
    with running(a), running(b):
        publish(a, range(500))
        publish(b, range(1000, 1500))
        for bus in (a, b):
            wait_for_numbers(bus, 1000)
        wait_until(lambda: not upstream(a)["lag"] and not upstream(b)["lag"])
        for bus in (a, b):
            # What has come from there does not go back.
            assert bus.figures()["duplicates"] == 0
            assert (upstream(bus)["handed_on"], upstream(bus)["skipped"]) == (500, 500)
        b.kill_relay()
        publish(a, range(500, 600))
        a.kill_relay()
        b.start_relay()
        publish(b, range(1500, 1600))
        a.start_relay()
        for bus in (a, b):
            wait_for_numbers(bus, 1200)
        wait_until(lambda: not upstream(a)["lag"] and not upstream(b)["lag"])
        for bus in (a, b):
            assert_whole(bus, {0: range(600), 1: range(1000, 1600)})


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_relays_in_a_ring_all_end_up_with_everything(tmp_path: Path, full_size: bool) -> None:
    chance = random.Random(3)
    buses = mesh(tmp_path, "abc", {"a": "b", "b": "c", "c": "a"})
    with ExitStack() as stack:
        for bus in buses.values():
            stack.enter_context(running(bus))
        published = dict.fromkeys(buses, 0)
        for _ in range(100 if full_size else 3):
            victim = buses[chance.choice("abc")]
            victim.kill_relay()
            for number, (name, bus) in enumerate(buses.items()):
                if bus is not victim:
                    first = number * 1_000_000 + published[name]
                    publish(bus, range(first, first + 100))
                    published[name] += 100
            victim.start_relay()
        total = sum(published.values())
        for bus in buses.values():
            wait_for_numbers(bus, total)
        wait_until(lambda: not any(upstream(bus)["lag"] for bus in buses.values()))
        ranges = {
            number: range(number * 1_000_000, number * 1_000_000 + published[name]) for number, name in enumerate(buses)
        }
        for bus in buses.values():
            assert_whole(bus, ranges)


def test_confirmed_port_rejects_what_is_no_list_of_streams(postgresql_url: str) -> None:
    with running(StreamBus(postgresql_url)) as bus, Raw(bus.confirmed) as raw:
        raw.greet()
        wrong: list[object] = [["a b"], ["\0"], [""], ["é"], ["a" * 65], ["a"] * 101, [1], "a", {"a": 1}]
        for via in wrong:
            raw.publish(1, via=via)
            answer = raw.receive()
            assert answer.kind == protocol.NO, via
            assert "via" in answer.fields[1]["reason"]
        raw.publish(2, via=["a"] * 100)
        assert raw.receive().kind == protocol.OK
        assert [entry.via for entry in bus.entries()] == [("a",) * 100]


def test_publishing_and_reading_go_on_when_one_of_two_relays_is_gone(tmp_path: Path) -> None:
    # Both have the same list, in which they find themselves.
    buses = mesh(tmp_path, "ab", {"a": "ab", "b": "ab"})
    a, b = buses.values()
    with running(a), running(b):
        relays = [a.confirmed, b.confirmed]
        streams = [bus.config["relay_stream"][0] for bus in (a, b)]
        places = {name: bus.config["endpoints"]["relay_outbound"] for name, bus in buses.items()}
        listening = {"relay_stream": streams, "relay_inbound": a.config["relay_inbound"], "endpoints": places}
        with (
            Bus(listening) as both,
            a.confirming(relay_confirmed=relays, relay_stream=streams, timeout=2) as context,
            both.tail("--json") as tail,
            context.subscribe(after=0) as messages,
        ):
            read = (message[3]["msg"]["n"] for message in messages if "n" in message[3]["msg"])
            for number in range(10):
                context.publish(topic="t", modname="m", msg={"n": number})
            assert [next(read) for _ in range(10)] == list(range(10))
            wait_until(lambda: len(b.numbers()) == 10)
            a.kill_relay()
            for number in range(10, 20):
                # It raises when this takes longer than 2 seconds.
                context.publish(topic="t", modname="m", msg={"n": number})
            assert [next(read) for _ in range(10)] == list(range(10, 20))
            # Those of the first relay were passed on by both of them, and each of them in order.
            tail.wait_for('"n":19')
            heard = [envelope["msg"] for envelope in envelopes(tail.out)]
            assert [msg["n"] for msg in heard if "n" in msg] == list(range(20))
        a.start_relay()
        wait_until(lambda: len(a.numbers()) >= 20)
        assert a.numbers() == b.numbers() == list(range(20))


# ---------------------------------------------------------------- what is said of it


def test_upstreams_are_in_the_metrics(tmp_path: Path) -> None:
    port = free_port()
    with Pair(tmp_path, metrics_port=port) as pair, running(pair.far), running(pair.near) as near:
        publish(near, range(10))
        wait_until(lambda: upstream(near)["lag"] == 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
    label = f'{{upstream="{pair.far.confirmed}"}}'
    for line in ("handed_on_total", "connected", "lag", "lost_total", "refused_total"):
        value = {"handed_on_total": "10.0", "connected": "1.0"}.get(line, "0.0")
        assert f"fedmsg_stream_upstream_{line}{label} {value}" in text


def test_relay_hands_on_to_one_that_admits_known_publishers_alone(tmp_path: Path) -> None:
    (tmp_path / "publishers").mkdir()
    for name in ("far", "near"):
        _, secret = zmq.auth.create_certificates(tmp_path, name)
        Path(secret).chmod(0o600)
    (tmp_path / "publishers" / "near.key").write_bytes((tmp_path / "near.key").read_bytes())
    far = {"curve_key": f"{tmp_path}/far.key_secret", "curve_publishers": f"{tmp_path}/publishers"}
    keys: dict[str, Any] = {
        "curve_key": f"{tmp_path}/near.key_secret",
        "curve_servers": {"relay_confirmed": f"{tmp_path}/far.key"},
    }
    with (
        Pair(tmp_path, far=far, **keys) as pair,
        running(pair.far),
        running(pair.near) as near,
        near.context() as plain,
    ):
        plain.publish(topic="t", modname="m", msg={"n": 1})
        wait_for_numbers(pair.far, 1)
        assert pair.far.numbers() == [1]


def test_log_keeps_where_handing_on_has_stopped(database_url: str) -> None:
    with StreamLog(database_url) as log:
        log.save_handed_on(HandedOn("s", 5, 9, 1.0, "tcp://a:1"))
        log.save_handed_on(HandedOn("s", 7, 11, 3.0, "tcp://b:1"))
        assert log.handed_on() == [HandedOn("s", 7, 11, 3.0, "tcp://b:1")]
        for number in range(150):
            log.save_handed_on(HandedOn(f"s{number}", 1, 1, 10.0 + number, "tcp://a:1"))
        kept = log.handed_on()
        assert len(kept) == 100
        assert kept[-1].stream == "s149"
