# SPDX-License-Identifier: LGPL-2.1-or-later
"""The WebSocket server, with a stock client: who gets what, and what nobody can do to it."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import websocket
from websockets.sync.client import connect

from fedmsg.exceptions import AddressInUse, ConfigError, MessageError
from fedmsg.testing import free_port, wait_until
from fedmsg.websocket.server import Limits, Server
from tests.integration.browsing import TOPIC, Client, client, envelope, frame, give, raw, shake_hands

KEY = "moksha.livesocket.websocket"
FOREVER = threading.Event()


def server(inject: Callable[[str, Any], object] | None = None, limits: Limits = Limits(), **settings: Any) -> Server:  # noqa: B008
    options = {f"{KEY}.{name}": value for name, value in {"port": 0, **settings}.items()}
    return Server(options, inject, limits=limits)


# ------------------------------------------------------------------ who gets what


@pytest.mark.parametrize(
    "topic", ["", "*", TOPIC, f"{TOPIC}*", f"{TOPIC}.*", f"{TOPIC}.order.placed", "org.fedoraproject.dev.sh"]
)
def test_a_client_gets_what_it_subscribes_to(topic: str) -> None:
    with server() as running, client(running, topic) as listener:
        give(running, f"{TOPIC}.order.placed", msg={"é": "\ud800\u2028"})
        assert listener.hear() == {
            "topic": f"{TOPIC}.order.placed",
            "body": envelope(f"{TOPIC}.order.placed", msg={"é": "\ud800\u2028"}),
        }


def test_a_client_of_another_library_gets_it_too() -> None:
    with server() as running, connect(f"ws://127.0.0.1:{running.port}") as listener:
        listener.send(json.dumps({"topic": "__topic_subscribe__", "body": TOPIC}))
        wait_until(lambda: running._index.prefixes)
        give(running)
        assert json.loads(listener.recv(20)) == {"topic": TOPIC, "body": envelope()}


def test_nobody_gets_anything_else() -> None:
    with server() as running, client(running, f"{TOPIC}.a", "com.*") as listener, client(running):
        for topic in ("org.fedoraproject.dev.sh", f"{TOPIC}.b", TOPIC, "", "co"):
            give(running, topic)
        give(running, f"{TOPIC}.a", i=2)
        assert listener.hear()["body"]["i"] == 2


def test_a_message_that_matches_twice_comes_once() -> None:
    with server() as running, client(running, TOPIC, f"{TOPIC}*", "", f"{TOPIC}.a") as listener:
        give(running, f"{TOPIC}.a", i=1)
        give(running, f"{TOPIC}.b", i=2)
        assert listener.numbers(2) == [1, 2]


def test_client_gets_what_its_filter_selects() -> None:
    wanted = {"topics": [f"{TOPIC}.*.paid", f"{TOPIC}.news"], "where": ["msg.total>10"], "not_where": ["msg.by=bot"]}
    with server() as running, client(running, wanted) as one, client(running, TOPIC) as every:
        sent = [
            ("a.paid", 20, "ann"),
            ("a.paid", 5, "ann"),
            ("a.paid", 30, "bot"),
            ("a.sent", 20, "ann"),
            ("news", 11, ""),
        ]
        for number, (word, total, by) in enumerate(sent):
            give(running, f"{TOPIC}.{word}", i=number, msg={"total": total, "by": by})
        assert one.numbers(2) == [0, 4]
        assert every.numbers(5) == [0, 1, 2, 3, 4]


def test_client_gets_what_its_filter_selects_with_zmq_strict() -> None:
    wanted: dict[str, Any] = {"topics": [f"{TOPIC}.*.paid", f"{TOPIC}.news"]}
    with Server({f"{KEY}.port": 0, "zmq_strict": True}) as running, client(running, wanted) as one:
        for number, word in enumerate(["a.paid", "a.paid.twice", "news", "newspaper", "b.paid"]):
            give(running, f"{TOPIC}.{word}", i=number)
        assert one.numbers(3) == [0, 2, 4]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"where": ["msg.a~(x+x+)+y"]}, "regular expression"),
        ({"users": ["ann"]}, "users"),
        ({"where": ["="]}, "not a condition"),
        ({"where": {"a": 1}}, "neither text nor a list"),
        ({"where": [f"msg.a={number}" for number in range(101)]}, "more than 100 parts"),
        ({"topics": ["x" * 5000]}, "longer than"),
    ],
    ids=["pattern", "users", "nonsense", "dict", "many", "long"],
)
def test_server_rejects_a_filter_that_costs_too_much(
    wanted: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with server() as running, connect(f"ws://127.0.0.1:{running.port}") as listener:
        listener.send(json.dumps({"topic": "__topic_subscribe__", "body": wanted}))
        wait_until(lambda: running.counts)
        assert reason in caplog.text
        assert not running._index.members


def test_only_whole_topics_match_with_zmq_strict() -> None:
    with (
        Server({f"{KEY}.port": 0, "zmq_strict": True}) as running,
        client(running, f"{TOPIC}*") as one,
        client(running, "*") as all_,
    ):
        give(running, f"{TOPIC}.a", i=1)
        give(running, TOPIC, i=2)
        assert one.numbers(1) == [2]
        assert all_.numbers(2) == [1, 2]


def test_messages_come_whole_and_in_order() -> None:
    with server() as running, client(running, "") as one, client(running, TOPIC) as other:
        heard: dict[str, list[int]] = {}
        readers = [
            threading.Thread(target=lambda name, who: heard.update({name: who.numbers(3000)}), args=(name, who))
            for name, who in (("one", one), ("other", other))
        ]
        for reader in readers:
            reader.start()
        for number in range(3000):
            give(running, i=number)
        for reader in readers:
            reader.join()
    assert heard == {"one": [*range(3000)], "other": [*range(3000)]}


def test_numbers_that_json_does_not_have() -> None:
    """A browser's JSON.parse stops at NaN; texts that only look like it stay."""
    with server() as running, client(running, "") as listener:
        give(running, msg={"a": [float("nan"), 1e400, -1e400, 1.5], "NaN": "Infinity"})
        text = listener.connection.recv()
        message = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in {text!r}"))
        assert message["body"]["msg"] == {"a": [None, None, None, 1.5], "NaN": "Infinity"}


@pytest.mark.parametrize(
    ("topic", "body", "kind"),
    [
        (TOPIC, b"no json", "json"),
        (TOPIC, b'{"topic": "another", "msg": {}}', "topic"),
        (TOPIC, b"\xff", "utf-8"),
        (TOPIC, "\ud800", "utf-8"),
        (TOPIC, b"[" * 100_000, "depth"),
        (TOPIC, "{}", "topic"),
    ],
)
def test_what_is_no_message_goes_to_nobody(topic: str, body: str | bytes, kind: str) -> None:
    with server() as running, client(running, "") as listener:
        running.deliver(topic, body)
        give(running, i=2)
        assert listener.numbers(1) == [2]
        assert running.rejections.counts == {kind: 1}


def test_without_subscribers_nothing_is_taken_over() -> None:
    with server() as running, client(running):
        give(running)
        assert not running._queue


def test_the_hub_is_told_when_messages_are_wanted() -> None:
    told: list[bool] = []
    with Server({f"{KEY}.port": 0}, wanted=told.append) as running:
        with client(running):
            assert told == []
        with client(running, "a", "b"), client(running, "a"):
            assert told == [True]
        wait_until(lambda: told == [True, False])
        with client(running, ""):
            assert told == [True, False, True]
    assert told == [True, False, True, False]


# ------------------------------------------------------------------ what clients may say

NONSENSE: list[tuple[str | bytes, str]] = [
    (b"\x00\x01", "frame"),
    ("", "frame"),
    ("no json", "frame"),
    ("[]", "frame"),
    ("null", "frame"),
    ("[" * 5000, "frame"),
    ("9" * 5000, "frame"),
    ("{}", "frame"),
    ('{"topic": "a"}', "frame"),
    ('{"topic": 1, "body": "a"}', "frame"),
    ('{"topic": "__topic_subscribe__", "body": 1}', "frame"),
    ('{"topic": "__topic_subscribe__", "body": null}', "frame"),
    (json.dumps({"topic": "__topic_subscribe__", "body": "x" * 513}), "frame"),
    ('{"topic": "a.topic", "body": {"msg": 1}}', "unwanted"),
]


@pytest.mark.parametrize(("said", "kind"), NONSENSE)
def test_anything_else_is_ignored_with_a_log_line(
    said: str | bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with server() as running, client(running, TOPIC) as speaker:
        for _ in range(3):
            speaker.connection.send(said, websocket.ABNF.OPCODE_BINARY if isinstance(said, bytes) else 1)
        speaker.subscribe("another")
        give(running, i=1)
        assert speaker.numbers(1) == [1]
        assert running.counts == {kind: 3}
    assert [record.message[:24] for record in caplog.records if "ignored" in record.message] == [
        "ignored what the client "
    ]


def test_who_says_too_much_of_it_is_sent_away() -> None:
    with server(limits=Limits(rejected=5)) as running, client(running, TOPIC) as speaker:
        for _ in range(5):
            speaker.connection.send("nonsense")
        assert speaker.ending() == (1008, "too many frames that have to be ignored")
        wait_until(lambda: running.clients == 0)


def test_what_a_log_line_quotes_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    def inject(topic: str, body: Any) -> None:
        raise ValueError(topic)

    with server(inject, client2server=True) as running, client(running) as speaker:
        speaker.say("\x1b[31m\n\u202e" + "x" * 5000, 1)
        wait_until(lambda: running.counts)
    (line,) = [record.getMessage() for record in caplog.records if "ignored" in record.message]
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 350


@pytest.mark.parametrize("allowed", [True, False])
def test_what_clients_say_is_passed_on_only_where_that_is_configured(allowed: bool) -> None:
    taken: list[tuple[str, Any]] = []
    with server(lambda *message: taken.append(message), client2server=allowed) as running, client(running) as speaker:
        speaker.say(TOPIC, {"a": [1]})
        speaker.say("another", None)
        speaker.subscribe("third")
    assert taken == ([(TOPIC, {"a": [1]}), ("another", None)] if allowed else [])


@pytest.mark.parametrize("error", [RuntimeError("no"), MessageError("no"), KeyError("x")])
def test_what_the_hub_does_not_take_is_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def inject(topic: str, body: Any) -> None:
        raise error

    with server(inject, client2server=True) as running, client(running, TOPIC) as speaker:
        speaker.say(TOPIC, 1)
        speaker.subscribe("a")
        give(running, i=1)
        assert speaker.numbers(1) == [1]
    assert "ignored what the client" in caplog.text
    assert repr(error.args[0])[1:-1] in caplog.text


def test_a_defect_is_told_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def wanted(yes: bool) -> None:
        raise RuntimeError("out of order" if yes else "and again")

    def check(envelope: Any) -> bool:
        if envelope["i"] == 1:
            raise ZeroDivisionError
        return True

    with Server({f"{KEY}.port": 0}, wanted=wanted) as running:
        with client(running, TOPIC) as listener:
            give(running, i=1)
            assert listener.numbers(1) == [1]
        wait_until(lambda: running.clients == 0)
        assert running.counts == {"defect": 2}
    assert "out of order" in caplog.text
    with server() as running, client(running, TOPIC) as listener:
        running._check = check
        give(running, i=1)
        give(running, i=2)
        assert listener.numbers(1) == [2]
        assert running.counts == {"defect": 1}


# ------------------------------------------------------------------ limits


def test_too_many_clients_are_turned_away() -> None:
    with server(limits=Limits(clients=2)) as running, client(running), client(running):
        with pytest.raises(websocket.WebSocketBadStatusException, match="503"):
            Client(running)
        assert running.counts == {"crowd": 1}
    with server(limits=Limits(clients=1)) as running:
        for _ in range(3):
            with client(running, TOPIC) as listener:
                give(running)
                listener.hear()
            wait_until(lambda: running.clients == 0)


def test_server_admits_clients_while_strangers_hold_all_handshakes() -> None:
    with server(limits=Limits(clients=1, handshake=600)) as running:
        silent = [raw(running.port) for _ in range(60)]
        wait_until(lambda: running.counts == {"crowd": 10})
        # The oldest were cut at once; the new client takes the place of another one.
        assert [connection.recv(1) for connection in silent[:10]] == [b""] * 10
        with client(running, TOPIC) as listener:
            give(running, i=1)
            assert listener.numbers(1) == [1]
        for connection in silent:
            connection.close()


def test_server_ends_handshakes_that_take_too_long() -> None:
    with server(limits=Limits(handshake=0.5)) as running, raw(running.port) as silent:
        assert silent.recv(1) == b""
        assert not running.counts


def test_server_cuts_an_idle_client_when_another_needs_its_place() -> None:
    with server(limits=Limits(clients=2, handshake=0.5)) as running, client(running, TOPIC) as busy:
        with client(running) as idle:
            with pytest.raises(websocket.WebSocketBadStatusException, match="503"):
                Client(running)  # not yet idle for long enough: the control
            wait_until(lambda: admitted(running))
            with pytest.raises((websocket.WebSocketException, ConnectionError)):
                idle.hear()
        give(running, i=1)
        assert busy.numbers(1) == [1]
        assert running.counts["idle"] == 1


def admitted(running: Server) -> bool:
    """Return whether a new client gets in, and have it leave again."""
    try:
        Client(running).close()
    except websocket.WebSocketBadStatusException:
        return False
    return True


def test_server_keeps_a_place_for_other_addresses() -> None:
    with server(limits=Limits(clients=3), interface="0.0.0.0") as running:
        crowd = [Client(running) for _ in range(3)]
        for each in crowd:
            each.subscribe(TOPIC)
        with pytest.raises(websocket.WebSocketBadStatusException, match="503"):
            Client(running)
        other = websocket.create_connection(
            f"ws://127.0.0.1:{running.port}/", timeout=20, suppress_origin=True,
            socket=socket.create_connection(("127.0.0.1", running.port or 0), source_address=("127.0.0.2", 0)),
        )  # fmt: skip
        wait_until(lambda: running.counts.get("share") == 1)
        other.close()
        for each in crowd:
            each.close()


def test_server_logs_little_for_a_client_that_pings_and_resets(caplog: pytest.LogCaptureFixture) -> None:
    with server() as running:
        for _ in range(20):
            with raw(running.port) as pinging:
                shake_hands(pinging)
                pinging.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(ConnectionError):
                    pinging.sendall(frame(9, b"x") * 20_000)
        wait_until(lambda: running.clients == 0)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_a_frame_that_is_too_large_ends_the_connection() -> None:
    with server() as running, client(running) as speaker:
        speaker.connection.send("x" * 8193)
        assert speaker.ending()[0] == 1009


def test_too_many_subscriptions_end_the_connection() -> None:
    with server(limits=Limits(topics=3)) as running, client(running, "a", "b", "c", "a", "b*") as listener:
        listener.say("__topic_subscribe__", "d")
        assert listener.ending()[0] == 1008
        assert running.counts == {"subscriptions": 1}


def test_many_topics_cost_the_hub_no_more_than_a_few() -> None:
    with server() as running:
        listeners = [Client(running) for _ in range(5)]
        for number, listener in enumerate(listeners):
            listener.subscribe(*(f"{number}.{topic}." for topic in range(90)))
        assert running._index.prefixes == ("",)
        give(running, "3.77.x", i=7)
        give(running, "3.99.x", i=8)
        assert listeners[3].numbers(1) == [7]
        for listener in listeners:
            listener.close()


BIG = "x" * 20_000


def test_server_cuts_a_slow_client_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with (
        server(limits=Limits(buffer_bytes=500_000)) as running,
        client(running, TOPIC) as quick,
        client(running, TOPIC, sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]) as slow,
    ):
        number = 0
        while running.clients == 2:
            give(running, i=number, msg=BIG)
            assert quick.numbers(1) == [number]
            number += 1
            assert number < 3000
        heard: list[int] = []
        with contextlib.suppress(websocket.WebSocketException, ConnectionError):
            while len(heard) < number:
                heard += slow.numbers(1)
        # What it got before is whole and in order.
        assert heard == [*range(len(heard))]
        assert len(heard) < number
        assert running.counts == {"slow": 1}
    assert "it is too slow" in caplog.text


def test_a_client_that_takes_nothing_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with server(limits=Limits(ping=0.2)) as running, raw(running.port, window=4096) as stuck:
        shake_hands(stuck)
        wait_until(lambda: running.clients == 1)
        wait_until(lambda: running.clients == 0)


def test_memory_for_all_is_bounded() -> None:
    limits = Limits(buffer_bytes_total=3_000_000, buffer_bytes=2_500_000)
    with server(limits=limits) as running, client(running, TOPIC) as quick:
        stuck = [Client(running, sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]) for _ in range(3)]
        for each in stuck:
            each.subscribe(TOPIC)
        number = 0
        while running.counts["memory"] < 2:
            give(running, i=number, msg=BIG)
            assert quick.numbers(1) == [number]
            assert sum(each.buffered for each in list(running._clients._admitted)) <= 4_500_000
            number += 1
        wait_until(lambda: running.clients == 2)
        for each in stuck:
            each.close()


def test_the_hub_never_waits_for_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """Here the server's thread is held up, and the hub goes on."""
    go_on = threading.Event()
    held = threading.Event()

    def inject(topic: str, body: Any) -> None:
        held.set()
        go_on.wait(20)

    limits = Limits(queue=100, queue_bytes=100_000)
    with server(inject, limits, client2server=True) as running, client(running, TOPIC) as listener:
        listener.say("wait", 1)
        assert held.wait(20)
        for number in range(1000):
            give(running, i=number)
        give(running, i=1000, msg="x" * 99_000)
        go_on.set()
        heard = listener.numbers(1)
        while heard[-1] != 1000:
            heard += listener.numbers(1)
        assert len(heard) < 100
        assert running.counts == {"overrun": 1}
    assert f"{1001 - len(heard)} messages came faster than they can be sent" in caplog.text


# ------------------------------------------------------------------ whose pages

LOCAL = ["http://localhost", "http://localhost:8000", "https://127.0.0.1:1", "http://[::1]:80", "http://a.localhost"]
FOREIGN = ["http://example.org", "null", "", "file://", "http://localhost.example.org", "http://[::1", "localhost"]


def gets_in(running: Server, origin: str) -> bool:
    try:
        connection = websocket.create_connection(f"ws://127.0.0.1:{running.port}/", origin=origin, timeout=20)
    except websocket.WebSocketBadStatusException as error:
        return error.status_code != 403
    connection.close()
    return True


@pytest.mark.parametrize("interface", [None, "", "127.0.0.1", "localhost"])
def test_this_machine_is_for_its_own_pages(interface: str | None) -> None:
    with server(interface=interface) as running:
        assert [origin for origin in LOCAL if not gets_in(running, origin)] == []
        assert [origin for origin in FOREIGN if gets_in(running, origin)] == []


def test_an_open_interface_is_for_all_pages() -> None:
    with server(interface="0.0.0.0") as running:
        assert [origin for origin in LOCAL + FOREIGN if not gets_in(running, origin)] == []


def test_configured_sites_get_in(caplog: pytest.LogCaptureFixture) -> None:
    with server(origins=["https://Wall.example.org/"], interface="0.0.0.0") as running:
        assert gets_in(running, "https://wall.example.org")
        assert not gets_in(running, "http://wall.example.org")
        assert not gets_in(running, "http://localhost")
    assert "a page of http://wall.example.org was rejected" in caplog.text
    with server(origins=["*"]) as running:
        assert gets_in(running, "http://example.org")
    with server(origins=[]) as running, client(running):
        assert not gets_in(running, "http://localhost")


# ------------------------------------------------------------------ start and end


def test_a_taken_port() -> None:
    port = free_port()
    with server(port=port), pytest.raises(AddressInUse) as caught:
        server(port=port).start()
    assert str(caught.value) == f"{KEY}.port: port {port} of 127.0.0.1 can't be bound: Address already in use"


@pytest.mark.parametrize("interface", ["192.0.2.1", "no-such-host.invalid"])
def test_an_interface_that_is_none_of_this_machine(interface: str) -> None:
    with pytest.raises(ConfigError, match=rf"{KEY}\.port: port 0 of {interface} can't be bound: "):
        server(interface=interface).start()


def test_no_port() -> None:
    with pytest.raises(ConfigError, match=f"{KEY}.port is not set"):
        server(port=None).start()


def test_clients_are_told_of_the_end() -> None:
    with server() as running:
        listener = Client(running)
        running.close()
        running.close()
        give(running)
    assert listener.ending()[0] == 1001
    listener.close()


def test_one_who_does_not_listen_does_not_hold_up_the_end() -> None:
    with server() as running, raw(running.port, window=4096) as stuck, raw(running.port), raw(running.port) as half:
        shake_hands(stuck)
        stuck.sendall(frame(1, b'{"topic":"__topic_subscribe__","body":""}'))
        half.sendall(b"GET / HT")
        wait_until(lambda: running._index.prefixes)
        give(running, msg="x" * 5_000_000)
        running.close()
        assert not running.alive


def test_opening_and_closing_leaves_nothing_behind() -> None:
    def once() -> None:
        with server() as running, client(running, "") as listener:
            give(running)
            listener.hear()

    once()
    before = psutil.Process().num_fds(), threading.active_count()
    for _ in range(50):
        once()
    assert (psutil.Process().num_fds(), threading.active_count()) == before


def test_a_forgotten_one_warns() -> None:
    running = server()
    running.start()
    with pytest.warns(ResourceWarning, match="unclosed Server"):
        running.__del__()
