# SPDX-License-Identifier: LGPL-2.1-or-later
"""Relays that hand their stream on to others: in order, each message once, whoever is away or killed meanwhile."""

from __future__ import annotations

import random
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq.auth

from fedmsg.stream.log import StreamLog
from fedmsg.testing import free_address, free_port, wait_until
from tests import certificates
from tests.integration.faults.ground import freeze
from tests.postgres import Cluster
from tests.stream_relays import (
    Flow,
    StreamBus,
    publish,
    running,
    sqlite_url,
    stream_of,
    upstream,
    wait_for_numbers,
)


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
        for _ in range(100 if full_size else 2):
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
        freeze(far.relay.popen.pid)
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
            messages = ({"topic": "t", "modname": "m", "msg": {"n": n, "x": "x" * 200_000}} for n in range(1000))
            list(context.publish_many(messages))
        near.stop_relay()
        near.start_relay()
        assert near.relay is not None
        before = near.relay.memory()
        pair.far.start_relay()
        seen: list[int] = []
        with StreamLog(pair.far.url) as log:
            relay = near.relay
            wait_until(lambda: log.newest() >= 1000, 120, meanwhile=lambda: seen.append(relay.memory()))
        # 200 MB went through it, all within its window: what is read at once, 8 MiB unconfirmed, and buffers.
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


def test_relay_without_a_store_can_not_hand_on(tmp_path: Path) -> None:
    with StreamBus(sqlite_url(tmp_path), relay_store=None, relay_upstream=[free_address()]) as bus:
        result = bus.run("fedmsg-relay")
        assert result.returncode == 5
        assert "relay_upstream is set" in result.stderr
        assert "Traceback" not in result.stderr


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
        assert (figures["handed_on"], figures["rejected"], figures["lost"]) == (3, 2, 0)
        assert pair.near.relay is not None
        pair.near.relay.wait_for("rejects the message at position 2")


def test_relay_goes_on_after_a_message_that_is_rejected(tmp_path: Path) -> None:
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
        assert (figures["handed_on"], figures["rejected"]) == (3, 2)
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


# ---------------------------------------------------------------- what is said of it


def test_upstreams_are_in_the_metrics(tmp_path: Path) -> None:
    port = free_port()
    with Pair(tmp_path, metrics_port=port) as pair, running(pair.far), running(pair.near) as near:
        publish(near, range(10))
        wait_until(lambda: upstream(near)["lag"] == 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
    label = f'{{upstream="{pair.far.confirmed}"}}'
    for line in ("handed_on_total", "connected", "lag", "lost_total", "rejected_total"):
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
